"""Figures of many tokens: means with standard errors, percentiles, perplexity, and intervals by bootstrap.

Names and formulas are llama.cpp's (tools/perplexity/perplexity.cpp) where it has them. Its standard errors take tokens
for independent, which neighbours are not: ``bootstrap_mean`` draws whole chunks or prompts instead.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from statistics import NormalDist

import numpy as np
from numpy.typing import ArrayLike

from components.core.divergence import Floats
from components.core.errors import InputError

PERCENTILES = (99.9, 99.0, 95.0, 90.0, 75.0, 50.0, 25.0, 10.0, 5.0, 1.0, 0.1)
CONFIDENCE_EDGES = (0.0, 0.25, 0.5, 0.75, 0.95, 1.0)
_FEWEST_FOR_ERROR = 11  # llama.cpp gives no standard error of ten values or fewer


@dataclass(frozen=True)
class Figure:
    """A value with its standard error in the same unit; None where there is not enough data for one."""

    value: float
    standard_error: float | None


@dataclass(frozen=True)
class Interval:
    """A value with a confidence interval."""

    value: float
    low: float
    high: float


def mean(values: ArrayLike) -> Figure:
    """Arithmetic mean with ``sqrt((mean x² - (mean x)²) / (n - 1))``.

    Raises:
        InputError: no value.
    """
    numbers = _numbers(values)
    return Figure(float(numbers.mean()), _standard_error(numbers))


def root_mean_square(values: ArrayLike) -> Figure:
    """Root of the mean square, its error carried over from the squares' mean (llama.cpp's RMS Δp)."""
    squares = mean(_numbers(values) ** 2)
    root = math.sqrt(squares.value)
    if squares.standard_error is None or root == 0.0:
        return Figure(root, None)
    return Figure(root, 0.5 / root * squares.standard_error)


def share(flags: ArrayLike) -> Figure:
    """Share of true values (same top p, flips) with the binomial ``sqrt(s (1 - s) / (n - 1))``."""
    numbers = _numbers(np.asarray(flags, dtype=np.float64))
    value = float(numbers.mean())
    enough = len(numbers) >= _FEWEST_FOR_ERROR
    return Figure(value, math.sqrt(value * (1 - value) / (len(numbers) - 1)) if enough else None)


def wilson(share_of_trials: float, trials: int, *, confidence: float = 0.95) -> Interval:
    """A share of independent trials with Wilson's score interval, which stays within 0..1 and has a width at 0 and 1.

    Source: Wilson 1927; Newcombe 1998, method 3 (without continuity correction).

    Raises:
        InputError: no trial, or a share outside 0..1.
    """
    if trials < 1 or not 0.0 <= share_of_trials <= 1.0:
        raise InputError("A share needs at least one trial and lies within 0..1.", field="share_of_trials")
    z2 = NormalDist().inv_cdf((1 + confidence) / 2) ** 2
    middle = share_of_trials + z2 / (2 * trials)
    spread = math.sqrt(z2 * (share_of_trials * (1 - share_of_trials) / trials + z2 / (4 * trials**2)))
    low, high = (middle - spread) / (1 + z2 / trials), (middle + spread) / (1 + z2 / trials)
    # Rounding must not push a bound past what was seen: at 0 of n the lower bound is 0.
    return Interval(share_of_trials, max(0.0, min(low, share_of_trials)), min(1.0, max(high, share_of_trials)))


def wilson_of_counts(hits: int, total: int) -> Interval:
    """The share ``hits / total`` with its 95 % Wilson interval; see ``wilson``.

    Raises:
        InputError: no trial, or more hits than trials.
    """
    if total < 1 or not 0 <= hits <= total:
        raise InputError("A share needs at least one trial, and no more hits than trials.", field="total")
    return wilson(hits / total, total)


def percentile(values: ArrayLike, percent: float) -> float:
    """Percentile with linear interpolation at ``f (n - 1)``, as llama.cpp and numpy do; 50 is the median."""
    return float(np.percentile(_numbers(values), percent))


def percentiles(values: ArrayLike) -> dict[float, float]:
    """llama.cpp's list of percentiles, percent → value."""
    numbers = _numbers(values)
    return dict(zip(PERCENTILES, np.percentile(numbers, PERCENTILES).tolist(), strict=True))


def perplexity(nll_nats: ArrayLike) -> Figure:
    """exp of the mean negative log-likelihood; its error is the perplexity times the mean's."""
    average = mean(nll_nats)
    value = math.exp(average.value)
    return Figure(value, None if average.standard_error is None else value * average.standard_error)


def log_perplexity_ratio(candidate_nll_nats: ArrayLike, base_nll_nats: ArrayLike) -> Figure:
    """ln(PPL(candidate) / PPL(base)) on the same tokens; the error takes their covariance into account.

    Raises:
        InputError: not the same number of tokens.
    """
    candidate, base = _numbers(candidate_nll_nats), _numbers(base_nll_nats)
    if len(candidate) != len(base):
        raise InputError(f"The candidate has {len(candidate)} tokens, the base {len(base)}.", field="nll_nats")
    value = float(candidate.mean() - base.mean())
    errors = _standard_error(candidate), _standard_error(base)
    if errors[0] is None or errors[1] is None:
        return Figure(value, None)
    covariance = float((candidate * base).mean() - candidate.mean() * base.mean()) / (len(base) - 1)
    return Figure(value, math.sqrt(max(0.0, errors[0] ** 2 + errors[1] ** 2 - 2 * covariance)))


def bootstrap_mean(
    groups: Sequence[ArrayLike], *, draws: int = 2000, confidence: float = 0.95, seed: int = 0
) -> Interval:
    """Mean over all tokens with a percentile interval; each draw takes whole groups (chunks or prompts) anew.

    Paired comparisons give per-token differences. Source: Efron & Tibshirani 1993, cluster bootstrap.

    Raises:
        InputError: fewer than two groups: nothing can be said about their spread.
    """
    if len(groups) < 2:
        raise InputError("An interval needs at least two chunks or prompts.", field="groups")
    arrays = [_numbers(group) for group in groups]
    sums, counts = np.array([group.sum() for group in arrays]), np.array([len(group) for group in arrays])
    chosen = np.random.default_rng(seed).integers(len(arrays), size=(draws, len(arrays)))
    means = sums[chosen].sum(axis=1) / counts[chosen].sum(axis=1)
    low, high = np.quantile(means, [(1 - confidence) / 2, (1 + confidence) / 2])
    return Interval(float(sums.sum() / counts.sum()), float(low), float(high))


@dataclass(frozen=True)
class Bucket:
    """The tokens whose key lies in [low, high): how many, and their mean (None where there is none)."""

    low: float
    high: float
    tokens: int
    mean: float | None


def by_buckets(keys: ArrayLike, values: ArrayLike, edges: Sequence[float]) -> list[Bucket]:
    """Means per bucket of another figure, such as the base's confidence or the position; the last edge is included.

    Raises:
        InputError: not one key a value, or edges that do not ascend.
    """
    places, numbers = np.asarray(keys, dtype=np.float64), np.asarray(values, dtype=np.float64)
    if places.shape != numbers.shape:
        raise InputError(f"There are {places.size} keys for {numbers.size} values.", field="keys")
    if list(edges) != sorted(set(edges)) or len(edges) < 2:
        raise InputError("The edges must ascend.", field="edges")
    index = np.searchsorted(edges, places, side="right") - 1
    index[places == edges[-1]] = len(edges) - 2
    return [_bucket(low, high, numbers[index == n]) for n, (low, high) in enumerate(pairwise(edges))]


def _bucket(low: float, high: float, values: Floats) -> Bucket:
    return Bucket(low, high, len(values), float(values.mean()) if len(values) else None)


def _standard_error(values: Floats) -> float | None:
    if len(values) < _FEWEST_FOR_ERROR:
        return None
    # The two-pass form of (mean x² - (mean x)²) / (n - 1): the same number without the cancellation.
    return float(math.sqrt(values.var() / (len(values) - 1)))


def _numbers(values: ArrayLike) -> Floats:
    numbers = np.asarray(values, dtype=np.float64)
    if numbers.ndim != 1 or not numbers.size:
        raise InputError("There is no token to take a figure of.", field="values")
    return numbers
