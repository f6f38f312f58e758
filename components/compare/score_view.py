"""A score as JSON: for scripts, for exports, and for the page. Pure."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

from components.core import statistics
from components.core.scores import UNTRIED_ON_GPU, Alternative, Score, TokenScore

ALL_ALTERNATIVES = 64
_SHOWN = 6  # alternatives of each side on the page
_TOKEN_FIELDS = (
    "token_id", "text", "kl_base_to_candidate_nats", "kl_candidate_to_base_nats", "jensen_shannon_nats",
    "total_variation", "base_logprob", "candidate_logprob", "delta_p", "base_rank", "candidate_rank",
    "base_entropy_nats", "candidate_entropy_nats", "base_margin_nats", "candidate_margin_nats", "fork", "covered_mass",
)  # fmt: skip


def score_to_dict(score: Score, k: int) -> dict[str, Any]:
    """The whole score with ``k`` alternatives of each side; a figure that is not known is None."""
    return {
        "id": score.id,
        "trace_id": score.trace_id,
        "answer_id": score.answer_id,
        "path_of": score.path,  # not "path", which Gradio's clients take for a file
        "base": score.base_engine,
        "candidate": score.candidate_engine,
        "method": score.method,
        "precision": score.precision,
        "floor": None if score.floor is None else score.floor.model_dump(mode="json"),
        "first_fork": score.first_fork,
        "forks": list(score.forks),
        "ties_within_noise": list(score.ties),
        **summary(score),
        "tokens": [_token(score, token, k) for token in score.tokens],
        "notes": list(score.notes),
        "seconds": round(score.seconds, 3),
        "created_at": score.created_at.isoformat(),
    }


def summary(score: Score) -> dict[str, Any]:
    """Figures over all tokens that have a value; a tie within the noise counts as the same likeliest token."""
    kl = score.known("kl_base_to_candidate_nats")
    forks = [fork for token in score.tokens if (fork := score.is_fork(token)) is not None]
    delta_p = score.known("delta_p")
    if not kl:
        return {"mean_kl_base_to_candidate_nats": None, "tokens_scored": 0}
    mean = statistics.mean(kl)
    return {
        "tokens_scored": len(kl),
        "mean_kl_base_to_candidate_nats": mean.value,
        "mean_kl_standard_error_nats": mean.standard_error,
        "median_kl_base_to_candidate_nats": statistics.percentile(kl, 50),
        "p95_kl_base_to_candidate_nats": statistics.percentile(kl, 95),
        "max_kl_base_to_candidate_nats": max(kl),
        "sum_kl_base_to_candidate_nats": math.fsum(kl),
        "same_top_p": 1 - sum(forks) / len(forks) if forks else None,
        "delta_p_rms": statistics.root_mean_square(delta_p).value if delta_p else None,
    }


def divergence_markdown(scores: Sequence[Score]) -> str:
    """Scores of one turn as a section of its Markdown export."""
    lines = [_line(score) for score in scores]
    return "\n".join([f"### Divergence of turn `{scores[0].trace_id}`", "", *lines, ""])


def _line(score: Score) -> str:
    figures = summary(score)
    mean = figures["mean_kl_base_to_candidate_nats"]
    if mean is None:
        return f"- {score.candidate_engine}, {score.path}'s answer: no token could be compared ({score.method})."
    bound = "" if score.method == "exact" else "at least "
    floor = f", noise floor {score.floor.mean_nats:.2g}" if score.floor else ", noise floor not measured"
    within = _WITHIN if _is_mean_within_noise(score, figures) else ""
    fork = "no fork" if score.first_fork is None else f"first fork at token {score.first_fork + 1}"
    return (
        f"- {score.candidate_engine} against {score.base_engine}, on the {score.path}'s {figures['tokens_scored']} "
        f"tokens: mean KL(base‖candidate) {bound}{mean:.4g} nats{within}{floor}; {fork} (method {score.method}: "
        f"{score.precision})."
    )


def _token(score: Score, token: TokenScore, k: int) -> dict[str, Any]:
    values = {name: getattr(token, name) for name in _TOKEN_FIELDS}
    tops = {"base_top": token.base_top, "candidate_top": token.candidate_top}
    values["fork"] = score.is_fork(token)
    return values | {name: [item.model_dump(mode="json") for item in top[:k]] for name, top in tops.items()}


def page_view(score: Score, labels: Mapping[str, str], candidates: Sequence[str]) -> dict[str, Any]:
    """What the divergence card draws; ``labels`` are the engines' names, ``candidates`` the turn's, as shown."""
    return {
        "state": "done",
        "turn": score.trace_id,
        "answer": score.answer_id,
        "path_of": score.path,
        "base": score.base_engine,
        "candidate": score.candidate_engine,
        "candidates": [[engine_id, labels.get(engine_id, engine_id)] for engine_id in candidates],
        "method": score.method,
        "method_words": _METHOD_WORDS[score.method]
        + (f"; {UNTRIED_ON_GPU}" if UNTRIED_ON_GPU in score.precision else ""),
        "precision": score.precision,
        "floor": score.floor.max_nats if score.floor else None,
        "floor_words": {unit: _floor_words(score, unit) for unit in _PER_NAT},
        "figures": {unit: _figure_words(score, unit) for unit in _PER_NAT},
        "notes": list(score.notes),
        "tokens": [_page_token(score, token) for token in score.tokens],
    }


_METHOD_WORDS = {
    "exact": "exact, full vocabulary",
    "stock": "lower bound from the base's likeliest ids",
    "top_k": "lower bound from the ids both sides list",
}


_WITHIN = " (within the noise: no difference)"
_PER_NAT = {"nats": 1.0, "bits": 1 / math.log(2)}


def _floor_words(score: Score, unit: str) -> str:
    floor = score.floor
    if floor is None:
        return "noise floor not measured"
    if floor.max_nats == 0:
        return f"noise floor 0: the base repeats itself to the bit over {floor.tokens} tokens"
    mean, most = _in(floor.mean_nats, unit), _in(floor.max_nats, unit)
    return f"noise floor {mean}, at most {most} {unit} over {floor.tokens} tokens"


def _is_mean_within_noise(score: Score, figures: Mapping[str, Any]) -> bool:
    """Whether the base's own mean distance from itself is as large, or no single token stands out of the noise."""
    floor = score.floor
    return floor is not None and (
        figures["mean_kl_base_to_candidate_nats"] <= floor.mean_nats
        or figures["max_kl_base_to_candidate_nats"] <= floor.max_nats
    )


def _figure_words(score: Score, unit: str) -> list[str]:
    figures = summary(score)
    mean = figures["mean_kl_base_to_candidate_nats"]
    if mean is None:
        return ["No token could be compared."]
    error = figures["mean_kl_standard_error_nats"]
    spread = f" ± {_in(error, unit)}" if error is not None else ""
    within = _WITHIN if _is_mean_within_noise(score, figures) else ""
    words = [
        f"mean KL {'≥ ' if score.method != 'exact' else ''}{_in(mean, unit)}{spread} {unit}{within}",
        f"highest {_in(figures['max_kl_base_to_candidate_nats'], unit)}",
    ]
    if figures["same_top_p"] is not None:
        words.append(f"same likeliest token {figures['same_top_p']:.1%}")
    if figures["delta_p_rms"] is not None:
        words.append(f"Δp RMS {figures['delta_p_rms']:.2%}")
    return [*words, f"{figures['tokens_scored']} tokens"]


def _in(nats: float, unit: str) -> str:
    value = nats * _PER_NAT[unit]
    return f"{value:.4f}" if value >= 0.00005 or value == 0 else f"{value:.1e}"


def _page_token(score: Score, token: TokenScore) -> dict[str, Any]:
    """Short names: a long answer has thousands of these."""
    return {
        "id": token.token_id,
        "t": token.text,
        # Half a character has no text of its own: its bytes are shown.
        "b": token.raw.hex(" ").upper() if token.raw is not None and "\ufffd" in token.text else None,
        "kl": token.kl_base_to_candidate_nats,
        "dp": token.delta_p,
        "rb": token.base_rank,
        "rc": token.candidate_rank,
        "hb": token.base_entropy_nats,
        "hc": token.candidate_entropy_nats,
        "f": score.is_fork(token),
        "tie": bool(token.fork) and score.is_within_noise(token),
        "low": score.is_within_noise(token),
        "m": token.covered_mass,
        "top": _joined(token),
    }


def _joined(token: TokenScore) -> list[list[Any]]:
    """Both sides' likeliest ids in one list: [text, base probability, candidate probability, id], base's best first."""
    seen: dict[tuple[int, str], Alternative] = {}
    for item in (*token.base_top[:_SHOWN], *token.candidate_top[:_SHOWN]):
        seen.setdefault((item.token_id, item.text), item)
    found = seen.values()
    return [[i.text, _probability(i.base_logprob), _probability(i.candidate_logprob), i.token_id] for i in found]


def _probability(logprob: float | None) -> float | None:
    return None if logprob is None else math.exp(logprob)
