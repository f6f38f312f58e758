"""Agreement and tests against the worked examples of their sources, and against what holds for any data."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from components.core.agreement import cohen_kappa, krippendorff_alpha, sign_test
from components.core.errors import InputError
from components.core.statistics import wilson_of_counts


def pairs(table: dict[tuple[str, str], int]) -> list[tuple[str, str]]:
    return [labels for labels, count in table.items() for _ in range(count)]


def test_cohen_kappa_of_a_two_by_two_table() -> None:
    """20 + 15 agreed of 50: observed 0.7, expected 0.5, so 0.4."""
    table = {("y", "y"): 20, ("y", "n"): 5, ("n", "y"): 10, ("n", "n"): 15}
    assert cohen_kappa(pairs(table)) == pytest.approx(0.4)


def test_cohen_kappa_of_cohens_own_table() -> None:
    """Cohen 1960, table 1 (shares of 200): observed 0.70, expected 0.41, so 0.492."""
    counts = [[88, 14, 18], [10, 40, 10], [2, 6, 12]]
    table = {(str(i), str(j)): n for i, row in enumerate(counts) for j, n in enumerate(row)}
    assert cohen_kappa(pairs(table)) == pytest.approx(0.29 / 0.59, abs=1e-12)


def test_krippendorff_alpha_of_the_binary_example() -> None:
    """Krippendorff 2011, section A: two observers, ten units, 0.095."""
    one, two = [0, 1, 0, 0, 0, 0, 0, 0, 1, 0], [1, 1, 1, 0, 0, 1, 0, 0, 0, 0]
    assert krippendorff_alpha(list(zip(one, two, strict=True))) == pytest.approx(0.095, abs=5e-4)


def test_krippendorff_alpha_with_four_observers_and_gaps() -> None:
    """Krippendorff 2011, section C: four observers, twelve units, missing data, nominal: 0.743."""
    rows = [
        [1, 2, 3, 3, 2, 1, 4, 1, 2, None, None, None],
        [1, 2, 3, 3, 2, 2, 4, 1, 2, 5, None, 3],
        [None, 3, 3, 3, 2, 3, 4, 2, 2, 5, 1, None],
        [1, 2, 3, 3, 2, 4, 4, 1, 2, 5, 1, None],
    ]
    units = [[value for value in column if value is not None] for column in zip(*rows, strict=True)]
    assert krippendorff_alpha(units) == pytest.approx(0.743, abs=5e-4)


def test_what_is_not_defined_is_none() -> None:
    assert cohen_kappa([]) is None
    assert cohen_kappa([("same", "same")] * 5) is None
    assert krippendorff_alpha([]) is None
    assert krippendorff_alpha([["a"], ["b"]]) is None
    assert krippendorff_alpha([["a", "a"], ["a", "a"]]) is None
    assert sign_test(0, 0) is None


@given(st.lists(st.sampled_from("abcd"), min_size=2, max_size=40).filter(lambda labels: len(set(labels)) > 1))
def test_full_agreement_is_one(labels: list[str]) -> None:
    assert cohen_kappa([(label, label) for label in labels]) == pytest.approx(1.0)
    assert krippendorff_alpha([[label, label] for label in labels]) == pytest.approx(1.0)


@pytest.mark.parametrize(
    ("worse", "better", "p"), [(7, 3, 0.34375), (10, 0, 0.001953125), (1, 0, 1.0), (5, 5, 1.0), (9, 1, 0.021484375)]
)
def test_sign_test_is_exact(worse: int, better: int, p: float) -> None:
    assert sign_test(worse, better) == pytest.approx(p, abs=1e-12)
    assert sign_test(better, worse) == sign_test(worse, better)


def test_wilson_interval() -> None:
    """Newcombe 1998, table I, method 3: 81 of 263 gives 0.2553 to 0.3662; 0 of 20 gives 0 to 0.1611."""
    found = wilson_of_counts(81, 263)
    assert (found.low, found.high) == (pytest.approx(0.2553, abs=5e-5), pytest.approx(0.3662, abs=5e-5))
    found = wilson_of_counts(0, 20)
    assert (found.low, found.high) == (0.0, pytest.approx(0.1611, abs=5e-5))
    with pytest.raises(InputError):
        wilson_of_counts(1, 0)
