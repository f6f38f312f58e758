"""Picture reliance as JSON: for scripts, for exports, and for the page. Pure."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

from components.core.errors import AppError
from components.core.reliance import (
    LEANING_NATS,
    PictureChange,
    Reliance,
    SideReliance,
    TokenReliance,
    leaning,
    mean_reliance,
    most_changed,
    share_on,
)
from components.core.scores import Score

_NAMED = 3  # tokens whose reliance changed most


def reliance_to_dict(reliance: Reliance) -> dict[str, Any]:
    """The whole record; nats throughout, change = candidate - base."""
    return {
        "id": reliance.id,
        "trace_id": reliance.trace_id,
        "answer_id": reliance.answer_id,
        "path_of": reliance.path,  # not "path", which Gradio's clients take for a file
        "base": reliance.base_engine,
        "candidate": reliance.candidate_engine,
        "picture": reliance.picture,
        "pictures": [picture.model_dump(mode="json") for picture in reliance.pictures],
        "precision": reliance.precision,
        "floor": None if reliance.floor is None else reliance.floor.model_dump(mode="json"),
        **summary(reliance),
        "tokens": [_token(token) for token in reliance.tokens],
        "seconds": round(reliance.seconds, 3),
        "created_at": reliance.created_at.isoformat(),
    }


def summary(reliance: Reliance) -> dict[str, Any]:
    """Means over all tokens, and which tokens stand out, as indices from 0."""
    names = ("base_reliance", "candidate_reliance", "reliance_change")
    means: dict[str, Any] = {}
    for name, figure in zip(names, mean_reliance(reliance.tokens), strict=True):
        means |= {f"mean_{name}_nats": figure.value, f"mean_{name}_standard_error_nats": figure.standard_error}
    return {
        **means,
        "picture_tokens": list(leaning(reliance.tokens, reliance.floor)),
        "most_changed": list(most_changed(reliance.tokens, reliance.floor, _NAMED)),
    }


def _token(token: TokenReliance) -> dict[str, Any]:
    return {
        "token_id": token.token_id,
        "text": token.text,
        "base_reliance_nats": token.base.nats,
        "candidate_reliance_nats": token.candidate.nats,
        "reliance_change_nats": token.change_nats,
        "base": token.base.model_dump(mode="json"),
        "candidate": token.candidate.model_dump(mode="json"),
    }


def divergence_share(reliance: Reliance, score: Score) -> float | None:
    """Which part of the divergence above the noise lies on the tokens taken from the picture; None = there is none."""
    if score.answer_id != reliance.answer_id or score.method != "exact" or score.floor is None:
        return None
    kl = [token.kl_base_to_candidate_nats for token in score.tokens]
    return share_on(leaning(reliance.tokens, reliance.floor), kl, score.floor.max_nats)


def reliance_markdown(reliances: Sequence[Reliance]) -> str:
    """Reliances of one turn as a section of its Markdown export."""
    lines = [_line(reliance) for reliance in reliances]
    return "\n".join([f"### Picture reliance of turn `{reliances[0].trace_id}`", "", *lines, ""])


def _line(reliance: Reliance) -> str:
    base, candidate, change = mean_reliance(reliance.tokens)
    floor = f"noise {reliance.floor.change_nats:.2g}" if reliance.floor else "noise not measured"
    return (
        f"- Picture {reliance.picture}, on the {reliance.path}'s {len(reliance.tokens)} tokens: mean reliance "
        f"{base.value:.4g} nats for {reliance.base_engine}, {candidate.value:.4g} for {reliance.candidate_engine}, "
        f"change {change.value:+.4g} ({floor}; {reliance.precision})."
    )


# ---- the page -------------------------------------------------------------------------------------------------------


def eyes_page(
    stored: Mapping[PictureChange, Reliance], score: Score, *,
    asked: PictureChange | None = None, busy: bool = False, refused: AppError | None = None,
) -> dict[str, Any]:  # fmt: skip
    """What the card draws of picture reliance: every stored result, and what was just asked."""
    trouble = None if refused is None else {"message": refused.message, "hint": refused.hint}
    results = {name: _result(found, score) for name, found in stored.items() if len(found.tokens) == len(score.tokens)}
    return {"asked": asked, "busy": busy, "refused": trouble, "results": results}


def _result(reliance: Reliance, score: Score) -> dict[str, Any]:
    floor = reliance.floor
    share = divergence_share(reliance, score)
    picked = leaning(reliance.tokens, floor)
    return {
        "pictures": [[item.original_name, item.words, item.shown_sha256] for item in reliance.pictures],
        "floors": None if floor is None else [floor.base_nats, floor.candidate_nats, floor.change_nats],
        "figures": _figure_words(reliance),
        "share": None if share is None else f"{share:.0%}",
        "leaning": list(picked),
        "at_least": LEANING_NATS,
        "most": list(most_changed(reliance.tokens, floor, _NAMED)),
        # Short and in columns: a long answer has thousands of these.
        "base": [token.base.nats for token in reliance.tokens],
        "candidate": [token.candidate.nats for token in reliance.tokens],
        "instead": [[_choice(token.base), _choice(token.candidate)] for token in reliance.tokens],
    }


def _choice(side: SideReliance) -> list[Any] | None:
    """What the model would say without the picture, where that is another token: [text, probability]."""
    changed = side.choice_changed
    return None if changed.token_id == side.choice.token_id else [changed.text, math.exp(changed.logprob)]


def _figure_words(reliance: Reliance) -> list[str]:
    base, candidate, change = mean_reliance(reliance.tokens)
    floor = reliance.floor
    spread = "" if change.standard_error is None else f" ± {change.standard_error:.3f}"
    noise = "noise not measured" if floor is None else f"noise at most {floor.change_nats:.2g} nats a token"
    within = " (within the noise: no difference)" if floor and abs(change.value) <= floor.change_nats else ""
    return [
        f"mean reliance base {_nats(base.value)} nats",
        f"candidate {_nats(candidate.value)}",
        f"change {_signed(change.value)}{spread}{within}",
        noise,
    ]


def _nats(value: float) -> str:
    return f"{value if abs(value) >= 0.0005 else 0.0:.3f}"  # never "-0.000"


def _signed(value: float) -> str:
    return f"{'+' if value >= 0.0005 else ''}{_nats(value)}"
