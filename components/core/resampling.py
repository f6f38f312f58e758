"""Uncertainty of paired measurements: bootstrap over whole groups, McNemar's exact test, recovery. Pure.

Groups are chunks, prompts or items: neighbours inside one are not independent, groups are taken to be.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from components.core.divergence import Floats
from components.core.errors import InputError
from components.core.statistics import Interval, wilson_of_counts

Statistic = Callable[[Floats], Floats]
FEWEST_GROUPS = 2


def bootstrap(
    groups: Sequence[Floats], statistic: Statistic, *, draws: int = 1000, confidence: float = 0.95, seed: int = 0
) -> list[Interval | None]:
    """Percentile intervals of several figures of one table at once.

    Args:
        groups: tables (n_i, columns); each draw takes whole groups anew, as many as there are.
        statistic: table (n, columns) → figures (f,).

    Returns:
        One per figure; None where there are fewer than two groups, or a figure that is not finite.

    Source:
        Efron & Tibshirani 1993, cluster bootstrap.
    """
    values = statistic(np.concatenate(list(groups)))
    if len(groups) < FEWEST_GROUPS:
        return [None] * len(values)
    chosen = np.random.default_rng(seed).integers(len(groups), size=(draws, len(groups)))
    drawn = np.array([statistic(np.concatenate([groups[index] for index in row])) for row in chosen])
    low, high = np.quantile(drawn, [(1 - confidence) / 2, (1 + confidence) / 2], axis=0)
    whole = np.isfinite(values) & np.isfinite(low) & np.isfinite(high)
    found = zip(values.tolist(), low.tolist(), high.tolist(), whole.tolist(), strict=True)
    return [Interval(value, one, two) if ok else None for value, one, two, ok in found]


@dataclass(frozen=True)
class PairedResult:
    """Scores of the same items under both models, each from 0 to 1."""

    items: int
    base: float
    candidate: float
    difference: Interval | None  # candidate - base
    recovery_percent: Interval | None  # 100 candidate / base; None where the base has none right
    base_only: int  # items that only the base has right
    candidate_only: int
    mcnemar_p: float
    interval: str  # what the two intervals rest on, in words


def paired(base: Sequence[float], candidate: Sequence[float], *, right_from: float = 0.5) -> PairedResult:
    """Compare item by item; an item counts as right from a score of ``right_from`` on.

    Raises:
        InputError: no item, or not one score each.
    """
    if len(base) != len(candidate) or not base:
        raise InputError(f"The base has {len(base)} scores, the candidate {len(candidate)}.", field="scores")
    table = np.array([base, candidate], dtype=np.float64).T
    groups = [row[None, :] for row in table]
    difference, recovery = bootstrap(groups, _difference_and_recovery)
    words = "95 %, paired bootstrap over items, 1000 draws"
    if difference is not None and np.array_equal(table[:, 0], table[:, 1]):
        difference, recovery = _of_no_change(float(table[:, 0].mean()), len(table))
        words = "95 %, Wilson: no item's score changed"
    right = table >= right_from
    base_only = int((right[:, 0] & ~right[:, 1]).sum())
    candidate_only = int((~right[:, 0] & right[:, 1]).sum())
    means = table.mean(axis=0)
    return PairedResult(
        items=len(base), base=float(means[0]), candidate=float(means[1]), difference=difference,
        recovery_percent=recovery, base_only=base_only, candidate_only=candidate_only,
        mcnemar_p=mcnemar_exact_p(base_only, candidate_only), interval=words,
    )  # fmt: skip


def _of_no_change(base: float, items: int) -> tuple[Interval, Interval | None]:
    """What ``items`` without any change still allow: items drawn anew would all agree too, however few they are."""
    share = wilson_of_counts(0, items).high
    lost, won = min(share, base), min(share, 1 - base)
    recovery = Interval(100.0, 100 * (base - lost) / base, 100 * (base + won) / base) if base else None
    return Interval(0.0, -lost, won), recovery


def _difference_and_recovery(table: Floats) -> Floats:
    base, candidate = table.mean(axis=0)
    return np.array([candidate - base, 100 * candidate / base if base else np.nan])


def mcnemar_exact_p(base_only: int, candidate_only: int) -> float:
    """Two-sided exact p of McNemar's test: of the items that flipped, was one direction likelier? 1 where none did.

    Source:
        McNemar 1947; the exact form is the binomial test with p = 1/2.
    """
    flipped, fewer = base_only + candidate_only, min(base_only, candidate_only)
    if not flipped:
        return 1.0
    tail = sum(math.comb(flipped, k) for k in range(fewer + 1))
    return float(min(1.0, 2 * tail / 2**flipped))


def survival(first_forks: Sequence[int | None], steps: int) -> NDArray[np.float64]:
    """Share of answers that have not parted after each of ``steps`` steps (steps,); None = never parted."""
    forks = np.array([steps if fork is None else fork for fork in first_forks])
    return np.array([(forks > step).mean() for step in range(steps)], dtype=np.float64)
