"""Figures of many tokens, against a literal port of llama.cpp's tools/perplexity/perplexity.cpp."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from components.core import statistics as figures
from components.core.errors import InputError

NUMBERS = st.lists(st.floats(-20, 20), min_size=11, max_size=200)


def mean_and_uncertainty(sum_1: float, sum_2: float, count: int) -> tuple[float, float]:
    """llama.cpp's mean_and_uncertainty."""
    average = sum_1 / count
    second = sum_2 / count - average * average
    return average, math.sqrt(second / (count - 1)) if second > 0 else 0.0


def covariance(sum_a: float, sum_b: float, sum_ab: float, count: int) -> float:
    """llama.cpp's covariance."""
    return (sum_ab / count - (sum_a / count) * (sum_b / count)) / (count - 1)


def llama_percentile(values: list[float], fraction: float) -> float:
    """llama.cpp's percentile."""
    values = sorted(values)
    if fraction >= 1:
        return values[-1]
    place = fraction * (len(values) - 1)
    low = int(place)
    rest = place - low
    return (1 - rest) * values[low] + rest * values[min(low + 1, len(values) - 1)]


@given(NUMBERS)
def test_mean_and_root_mean_square(values: list[float]) -> None:
    found = figures.mean(values)
    wanted = mean_and_uncertainty(math.fsum(values), math.fsum(v * v for v in values), len(values))
    assert found.value == pytest.approx(wanted[0], abs=1e-9)
    assert found.standard_error == pytest.approx(wanted[1], abs=1e-6)
    squares = mean_and_uncertainty(math.fsum(v**2 for v in values), math.fsum(v**4 for v in values), len(values))
    rms = figures.root_mean_square(values)
    assert rms.value == pytest.approx(math.sqrt(squares[0]), abs=1e-9)
    if squares[0] > 1e-6:
        assert rms.standard_error == pytest.approx(0.5 / math.sqrt(squares[0]) * squares[1], rel=1e-3, abs=1e-6)


@given(NUMBERS)
def test_percentiles(values: list[float]) -> None:
    found = figures.percentiles(values)
    for percent, value in found.items():
        assert value == pytest.approx(llama_percentile(values, percent / 100), abs=1e-9)
    assert found[50.0] == pytest.approx(figures.percentile(values, 50))


@given(st.lists(st.tuples(st.floats(0, 12), st.floats(0, 12)), min_size=11, max_size=100))
def test_perplexities_and_their_ratio(pairs: list[tuple[float, float]]) -> None:
    candidate, base = [a for a, _ in pairs], [b for _, b in pairs]
    count = len(pairs)
    a = mean_and_uncertainty(math.fsum(candidate), math.fsum(v * v for v in candidate), count)
    b = mean_and_uncertainty(math.fsum(base), math.fsum(v * v for v in base), count)
    shared = covariance(math.fsum(candidate), math.fsum(base), math.fsum(x * y for x, y in pairs), count)
    found = figures.perplexity(candidate)
    assert found.value == pytest.approx(math.exp(a[0]))
    assert found.standard_error == pytest.approx(math.exp(a[0]) * a[1], rel=1e-6, abs=1e-4)
    ratio = figures.log_perplexity_ratio(candidate, base)
    assert ratio.value == pytest.approx(a[0] - b[0], abs=1e-9)
    assert ratio.standard_error == pytest.approx(math.sqrt(max(0, a[1] ** 2 + b[1] ** 2 - 2 * shared)), abs=1e-6)


def test_share_is_llama_cpp_s_same_top_p() -> None:
    found = figures.share([True] * 90 + [False] * 10)
    assert found.value == 0.9
    assert found.standard_error == pytest.approx(math.sqrt(0.9 * 0.1 / 99))


def test_undecidable_values_have_no_error() -> None:
    assert figures.mean([1.0] * 10).standard_error is None
    assert figures.share([True]).standard_error is None
    assert figures.root_mean_square([0.0] * 20).standard_error is None
    with pytest.raises(InputError, match="no token"):
        figures.mean([])


def test_bootstrap_takes_groups_not_tokens() -> None:
    rng = np.random.default_rng(0)
    # Tokens of a group are alike: taking them for independent gives an interval that is far too narrow.
    groups = [level + 0.01 * rng.normal(size=100) for level in rng.normal(size=40)]
    found = figures.bootstrap_mean(groups, seed=1)
    levels = np.array([group.mean() for group in groups])
    spread = levels.std(ddof=1) / math.sqrt(40)
    assert found.value == pytest.approx(levels.mean())
    assert found.high - found.low == pytest.approx(2 * 1.96 * spread, rel=0.15)
    assert figures.bootstrap_mean(groups, seed=1) == found
    with pytest.raises(InputError, match="at least two"):
        figures.bootstrap_mean(groups[:1])


def test_buckets() -> None:
    found = figures.by_buckets([0.0, 0.3, 0.25, 1.0, 0.96], [1.0, 2.0, 4.0, 8.0, 10.0], figures.CONFIDENCE_EDGES)
    assert [(bucket.tokens, bucket.mean) for bucket in found] == [(1, 1.0), (2, 3.0), (0, None), (0, None), (2, 9.0)]
    with pytest.raises(InputError, match="ascend"):
        figures.by_buckets([0.0], [1.0], [1.0, 0.0])


def test_standard_errors_are_those_of_the_port_to_nine_digits() -> None:
    """On values of ordinary size, where the port's differences of sums lose nothing that matters."""
    draw = np.random.default_rng(11)
    base = draw.exponential(1.5, size=2000)
    candidate = base + draw.normal(0.02, 0.2, size=2000)
    count = len(base)

    def uncertain(values: np.ndarray) -> tuple[float, float]:
        return mean_and_uncertainty(math.fsum(values), math.fsum(values**2), count)

    a, b, squares = uncertain(candidate), uncertain(base), uncertain(candidate**2)
    assert figures.mean(candidate).standard_error == pytest.approx(a[1], abs=1e-9)
    rms = figures.root_mean_square(candidate)
    assert rms.standard_error == pytest.approx(0.5 / math.sqrt(squares[0]) * squares[1], abs=1e-9)
    assert figures.perplexity(candidate).standard_error == pytest.approx(math.exp(a[0]) * a[1], abs=1e-9)
    shared = covariance(math.fsum(candidate), math.fsum(base), math.fsum(candidate * base), count)
    wanted = math.sqrt(a[1] ** 2 + b[1] ** 2 - 2 * shared)
    assert figures.log_perplexity_ratio(candidate, base).standard_error == pytest.approx(wanted, abs=1e-9)


def test_wilson_interval() -> None:
    """Newcombe 1998, table I, method 3: 81 of 263 gives 0.2553 to 0.3662; 0 of 20 gives 0 to 0.1611."""
    found = figures.wilson_of_counts(81, 263)
    assert (found.low, found.high) == (pytest.approx(0.2553, abs=5e-5), pytest.approx(0.3662, abs=5e-5))
    found = figures.wilson_of_counts(0, 20)
    assert (found.low, found.high) == (0.0, pytest.approx(0.1611, abs=5e-5))
    with pytest.raises(InputError):
        figures.wilson_of_counts(1, 0)
