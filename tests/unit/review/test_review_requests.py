"""What callers send: refusals name the field and say what is accepted."""

from __future__ import annotations

from typing import Any

import pytest

from components.core.errors import InputError
from components.core.reviews import Choice, ReviewOutcome
from components.review.requests import check_reviewer, read_export, read_judgement, read_new_batch


@pytest.mark.parametrize("name", ["", "  ", None, 7, "x" * 81, "a\nb", "zero\u200bwidth"])
def test_a_reviewer_has_a_name_that_can_be_seen(name: Any) -> None:
    with pytest.raises(InputError) as caught:
        check_reviewer(name)
    assert caught.value.field == "reviewer"


@pytest.mark.parametrize(
    ("verdict", "field"),
    [
        (None, "verdict"),
        ("a", "verdict"),
        ({"item_id": "i", "verdict": "c"}, "verdict"),
        ({"item_id": "i"}, "verdict"),
        ({"verdict": "a"}, "item_id"),
        ({"item_id": "i", "verdict": "a", "speed": 1}, "verdict"),
        ({"item_id": "i", "verdict": "a", "a_right": "yes"}, "a_right"),
        ({"item_id": "i", "verdict": "a", "outcome": "worse"}, "outcome"),
        ({"item_id": "i", "verdict": "a", "note": ["x"]}, "note"),
        ({"item_id": "i", "verdict": "a", "claims": "x"}, "claims"),
        ({"item_id": "i", "verdict": "a", "claims": [{"answer": "c", "error_type": "spatial"}]}, "claims"),
        ({"item_id": "i", "verdict": "a", "claims": [{"answer": "a", "error_type": "ugly"}]}, "claims"),
    ],
)
def test_a_bad_verdict_names_its_field(verdict: Any, field: str) -> None:
    with pytest.raises(InputError) as caught:
        read_judgement(verdict)
    assert caught.value.field == field
    assert "ccepted" in str(caught.value)


def test_a_whole_verdict() -> None:
    claim = {"answer": "b", "error_type": "wrong_count", "severity": "minor", "text": "two", "start": 4,
             "box": {"x": 1, "y": 2, "width": 3, "height": 4}}  # fmt: skip
    item_id, found = read_judgement(
        {"item_id": "i", "verdict": "both_bad", "a_right": False, "b_right": None, "claims": [claim], "note": "n",
         "outcome": "both_wrong"}
    )  # fmt: skip
    assert item_id == "i"
    assert (found.verdict, found.outcome, found.a_right) == (Choice.BOTH_BAD, ReviewOutcome.BOTH_WRONG, False)
    assert found.claims[0].box is not None


@pytest.mark.parametrize(
    ("wanted", "field"),
    [("x", "filter"), ({"who": 1}, "filter"), ({"batch": 3}, "batch"), ({"history": "yes"}, "history")],
)
def test_a_bad_filter_names_its_field(wanted: Any, field: str) -> None:
    with pytest.raises(InputError) as caught:
        read_export(wanted)
    assert caught.value.field == field


def test_an_empty_filter_means_all() -> None:
    for wanted in (None, {}):
        found = read_export(wanted)
        assert (found.reviewer, found.batch, found.history) == ("", "", False)


@pytest.mark.parametrize(
    ("changes", "field"),
    [
        ({"candidates": []}, "candidates"),
        ({"candidates": ["a", "b", "c", "d"]}, "candidates"),
        ({"overlap": 2}, "overlap"),
        ({"max_tokens": "many"}, "max_tokens"),
        ({"max_tokens": "0"}, "max_tokens"),
    ],
)
def test_a_bad_form_names_its_field(changes: dict[str, Any], field: str) -> None:
    with pytest.raises(InputError) as caught:
        read_new_batch({"candidates": ["embedded/coarse"], "base": "embedded/base", **changes})
    assert caught.value.field == field
