"""Agreement and tests against the worked examples of their sources, and against what holds for any data."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from components.core.reviews import Choice, Verdict, outcome_of
from components.review.agreement import (
    NO_REPEATS,
    NOTHING_SHARED,
    ONE_OUTCOME,
    agreement,
    cohen_kappa,
    krippendorff_alpha,
)
from components.review.report import sign_test
from tests.data.traces import MOMENT


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


def said(item_id: str, reviewer: str, choice: str, number: int = 1) -> Verdict:
    return Verdict(
        id=f"{item_id}-{reviewer}-{number}", item_id=item_id, reviewer=reviewer, round=number, verdict=Choice(choice),
        a_is="base", created_at=MOMENT, outcome=outcome_of(Choice(choice), "base", None, None),
    )  # fmt: skip


def test_agreement_of_repeats_and_reviewers() -> None:
    verdicts = [
        said("0", "ann", "a"), said("0", "ann", "a", 2), said("1", "ann", "tie"), said("1", "ann", "b", 2),
        said("2", "ann", "a"), said("2", "ben", "a"), said("3", "ann", "tie"), said("3", "ben", "tie"),
        said("4", "cid", "b"),
    ]  # fmt: skip
    found = agreement(verdicts)
    assert (found["repeats"], found["self_agreement"]) == (2, 0.5)
    assert found["self_kappa"] == pytest.approx(1 / 3)
    assert (found["shared_items"], found["krippendorff_alpha"], found["krippendorff_alpha_missing"]) == (2, 1.0, None)
    assert found["pairs"] == [
        {"reviewers": ["ann", "ben"], "items": 2, "cohen_kappa": 1.0, "cohen_kappa_missing": None}
    ]  # fmt: skip


def test_conflicts_and_which_of_them_a_third_reviewer_settled() -> None:
    third = said("0", "cid", "tie").model_copy(update={"settles": True})
    chosen = {"0": "ab", "1": "ab", "2": "aa"}
    verdicts = [
        said(key, who, choice) for key, two in chosen.items() for who, choice in zip(("ann", "ben"), two, strict=True)
    ]
    found = agreement([*verdicts, third])
    assert (found["shared_items"], found["conflicts"], found["conflicts_settled"]) == (3, 2, 1)


@pytest.mark.parametrize(
    ("verdicts", "self_missing", "alpha_missing"),
    [
        ([], NO_REPEATS, NOTHING_SHARED),
        ([said("0", "ann", "a"), said("1", "ann", "b")], NO_REPEATS, NOTHING_SHARED),
        ([said("0", "ann", "a"), said("0", "ann", "a", 2), said("1", "ben", "b")], ONE_OUTCOME, NOTHING_SHARED),
        ([said("0", "ann", "a"), said("0", "ben", "a"), said("1", "ann", "b")], NO_REPEATS, ONE_OUTCOME),
        ([said("0", "ann", "a", 2)], NO_REPEATS, NOTHING_SHARED),
    ],
    ids=["no-verdict", "one-reviewer", "one-outcome-again", "one-outcome-shared", "first-verdict-withdrawn"],
)
def test_what_is_missing_is_said_and_no_nan(verdicts: list[Verdict], self_missing: str, alpha_missing: str) -> None:
    found = agreement(verdicts)
    assert (found["self_kappa"], found["self_kappa_missing"]) == (None, self_missing)
    assert (found["krippendorff_alpha"], found["krippendorff_alpha_missing"]) == (None, alpha_missing)
    assert all(row["cohen_kappa"] is None and row["cohen_kappa_missing"] == ONE_OUTCOME for row in found["pairs"])
    assert json.dumps(found, allow_nan=False)
