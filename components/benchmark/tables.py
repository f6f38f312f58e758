"""Scored tokens as one table, and what is computed from it. Rows are tokens; columns are named here. Pure."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from components.core.divergence import Floats
from components.core.estimators import tail_bucket
from components.core.statistics import CONFIDENCE_EDGES, by_buckets
from components.engines.exact_scoring import ExactResult

_FROM_ENGINE = (
    "kl_base_to_candidate_nats", "kl_candidate_to_base_nats", "jensen_shannon_nats", "total_variation",
    "base_entropy_nats", "candidate_entropy_nats", "base_target_logprob", "candidate_target_logprob",
)  # fmt: skip
COLUMNS = (
    *_FROM_ENGINE,
    "same_top",
    "base_confidence",
    "top20_truncated_kl_nats",
    "top20_lower_bound_nats",
    "target_id",
)
_AT = {name: index for index, name in enumerate(COLUMNS)}
_EXAMPLES, _CONTEXT_TOKENS, _STRETCHES = 4, 12, 16
_HISTOGRAM_EDGES = tuple(10.0 ** (half / 2) for half in range(-14, 3))


def column(table: Floats, name: str) -> Floats:
    """One column of a table (n,)."""
    return table[:, _AT[name]]


def to_table(result: ExactResult, target_ids: Sequence[int]) -> Floats:
    """The scored tokens of one path (n, len(COLUMNS)).

    ``top20_truncated_kl_nats`` is what the cards measured: the sum of p (log p - log q) over the base's 20 likeliest
    ids alone, which is neither a bound nor complete; ``top20_lower_bound_nats`` puts the rest into one bucket.
    """
    log_p, log_q = result.tops["base_top_base_logprobs"], result.tops["base_top_candidate_logprobs"]
    same = result.tops["base_top_ids"][:, 0] == result.tops["candidate_top_ids"][:, 0]
    truncated = (np.exp(log_p) * (log_p - log_q)).sum(axis=1)
    bound = tail_bucket(log_p, log_q).kl_base_to_candidate_nats
    parts = [result.statistics[name] for name in _FROM_ENGINE]
    confidence = np.exp(log_p[:, 0])
    return np.stack([*parts, same, confidence, truncated, bound, np.asarray(target_ids)], axis=1).astype(np.float64)


def rows_to_table(statistics: dict[str, Floats], target_ids: Sequence[int]) -> Floats:
    """The scored tokens against a base's file (n, len(COLUMNS)); what such a file can't tell is NaN."""
    unknown = np.full(len(target_ids), np.nan)
    known = {**statistics, "target_id": np.asarray(target_ids)}
    return np.stack([known.get(name, unknown) for name in COLUMNS], axis=1).astype(np.float64)


@dataclass(frozen=True)
class FigureKind:
    """One figure of a table; ``of_floor`` = the base against itself gives a floor for it."""

    metric: str
    of_floor: bool = False


FIGURES = (
    FigureKind("perplexity_base"),
    FigureKind("perplexity_candidate"),
    FigureKind("perplexity_ratio", True),
    FigureKind("perplexity_change_percent", True),
    FigureKind("mean_kl_base_to_candidate_nats", True),
    FigureKind("median_kl_base_to_candidate_nats", True),
    FigureKind("p90_kl_base_to_candidate_nats", True),
    FigureKind("p95_kl_base_to_candidate_nats", True),
    FigureKind("p99_kl_base_to_candidate_nats", True),
    FigureKind("p999_kl_base_to_candidate_nats", True),
    FigureKind("max_kl_base_to_candidate_nats", True),
    FigureKind("mean_kl_candidate_to_base_nats", True),
    FigureKind("mean_jensen_shannon_nats", True),
    FigureKind("mean_total_variation", True),
    FigureKind("mean_delta_p_percent", True),
    FigureKind("rms_delta_p_percent", True),
    FigureKind("same_top_p_percent", True),
    FigureKind("entropy_shift_nats", True),
    FigureKind("correlation_ln_perplexity"),
    FigureKind("top20_truncated_kl_nats", True),
    FigureKind("top20_lower_bound_kl_nats", True),
)


def figures_of(table: Floats) -> Floats:
    """The values of FIGURES, in order (len(FIGURES),)."""
    base, candidate = -column(table, "base_target_logprob"), -column(table, "candidate_target_logprob")
    kl = column(table, "kl_base_to_candidate_nats")
    delta = 100 * (np.exp(-candidate) - np.exp(-base))
    ratio = float(np.exp(candidate.mean() - base.mean()))
    spread = float(base.std() * candidate.std())
    correlation = float(((base - base.mean()) * (candidate - candidate.mean())).mean() / spread) if spread else 1.0
    values = [
        np.exp(base.mean()), np.exp(candidate.mean()), ratio, 100 * (ratio - 1),
        kl.mean(), *np.percentile(kl, (50, 90, 95, 99, 99.9)), kl.max(),
        column(table, "kl_candidate_to_base_nats").mean(), column(table, "jensen_shannon_nats").mean(),
        column(table, "total_variation").mean(), delta.mean(), np.sqrt((delta**2).mean()),
        100 * column(table, "same_top").mean(),
        (column(table, "candidate_entropy_nats") - column(table, "base_entropy_nats")).mean(), correlation,
        column(table, "top20_truncated_kl_nats").mean(), column(table, "top20_lower_bound_nats").mean(),
    ]  # fmt: skip
    return np.array(values, dtype=np.float64)


def kl_histogram(table: Floats) -> dict[str, list[float]]:
    """Tokens by KL on a logarithmic scale: edges in nats and counts; the first bin holds all that is smaller."""
    kl = np.clip(column(table, "kl_base_to_candidate_nats"), _HISTOGRAM_EDGES[0], _HISTOGRAM_EDGES[-1] * 0.999)
    counts, _ = np.histogram(kl, bins=np.array(_HISTOGRAM_EDGES))
    return {"edges_nats": list(_HISTOGRAM_EDGES), "tokens": [float(count) for count in counts]}


def examples(groups: Sequence[Floats], classes: Sequence[str], piece: Callable[[int], str]) -> list[dict[str, Any]]:
    """Tokens to look at behind each bar: of every step of the histogram, class and stretch those of the largest KL.

    Args:
        classes: of all tokens, in the order of the groups.
        piece: text of one token id.
    """
    place = np.concatenate([np.arange(len(group)) for group in groups])
    index = np.concatenate([np.full(len(group), number) for number, group in enumerate(groups)])
    table = np.concatenate(list(groups))
    kl = column(table, "kl_base_to_candidate_nats")
    edges = np.array(_HISTOGRAM_EDGES)
    bins = np.clip(np.searchsorted(edges, kl, side="right") - 1, 0, len(edges) - 2)
    stretch = place // _stretch(groups)
    order, chosen = np.argsort(-kl, kind="stable"), dict[int, None]()
    for keys in (bins, np.asarray(classes), stretch):
        for key in dict.fromkeys(keys.tolist()):
            chosen |= dict.fromkeys(order[keys[order] == key][:_EXAMPLES].tolist())
    found = []
    for row in sorted(chosen, key=lambda row: -kl[row]):
        group, at = groups[index[row]], int(place[row])
        before = column(group, "target_id")[max(0, at - _CONTEXT_TOKENS) : at]
        found.append({
            "token": piece(int(table[row, _AT["target_id"]])), "before": "".join(piece(int(one)) for one in before),
            "kl_nats": float(kl[row]), "bin": int(bins[row]), "class": classes[row], "stretch": int(stretch[row]),
            "group": int(index[row]) + 1, "position": at,
            "base_percent": 100 * float(np.exp(table[row, _AT["base_target_logprob"]])),
            "candidate_percent": 100 * float(np.exp(table[row, _AT["candidate_target_logprob"]])),
        })  # fmt: skip
    return found


def _stretch(groups: Sequence[Floats]) -> int:
    return max(1, -(-max(len(group) for group in groups) // _STRETCHES))


def kl_by_confidence(table: Floats) -> list[dict[str, float | int | None]]:
    """Mean KL by the probability of the base's likeliest token."""
    buckets = by_buckets(column(table, "base_confidence"), column(table, "kl_base_to_candidate_nats"), CONFIDENCE_EDGES)
    return [{"from": b.low, "to": b.high, "tokens": b.tokens, "mean_kl_nats": b.mean} for b in buckets]


def kl_by_class(table: Floats, classes: Sequence[str]) -> list[dict[str, float | int | str]]:
    """Mean KL by the class of the scored token, the largest group first."""
    kl, names = column(table, "kl_base_to_candidate_nats"), np.asarray(classes)
    found: list[dict[str, float | int | str]] = [
        {"class": str(name), "tokens": int((names == name).sum()), "mean_kl_nats": float(kl[names == name].mean())}
        for name in sorted(set(classes))
    ]
    return sorted(found, key=lambda row: -int(row["tokens"]))


def kl_by_position(groups: Sequence[Floats]) -> list[dict[str, float | int]]:
    """Mean KL by place in the chunk, in 16 equal stretches of the longest group."""
    longest, width = max(len(group) for group in groups), _stretch(groups)
    found: list[dict[str, float | int]] = []
    for start in range(0, longest, width):
        values = [column(group[start : start + width], "kl_base_to_candidate_nats") for group in groups]
        pooled = np.concatenate(values)
        if len(pooled):
            found.append(
                {"from": start, "to": start + width, "tokens": len(pooled), "mean_kl_nats": float(pooled.mean())}
            )
    return found
