"""lm-eval's answers of both models → sets of items; names of tasks."""

from __future__ import annotations

from typing import Any

import pytest

from components.benchmark.accuracy import add_accuracy
from components.benchmark.overrides import check_overrides
from components.benchmark.recorder import Recorder
from components.benchmark.text_tasks import compare_answers
from components.core.errors import InputError


def told(*scores: float, filter_name: str = "none", kinds: tuple[str, ...] = ("sums",)) -> dict[str, Any]:
    """As tools/lmeval/evaluate.py writes it."""
    items = [
        {
            "id": f"{kind}-{number}", "kind": kind, "prompt": f"{kind} {number}?", "expected": "4", "answer": "4",
            "score": score,
        }
        for kind in kinds for number, score in enumerate(scores)
    ]  # fmt: skip
    one = {
        "name": "sums", "filter": filter_name, "metric": "acc", "value": sum(scores) / len(scores), "stderr": 0.25,
        "shots": 5, "items": items,
    }  # fmt: skip
    return {"version": "0.4.13", "sets": [one]}


def test_both_models_answers_are_compared_item_by_item_with_lm_evals_own_figures_beside() -> None:
    [measured] = compare_answers(told(1, 1, 0, 1, 1, 1, 1, 1), told(1, 0, 0, 0, 1, 1, 1, 1))
    recorder = Recorder("job")
    add_accuracy(recorder, measured, "flipped-w4", "pair/w4", "pair/base", "W4A16")
    found = {record.metric: record for record in recorder.records}
    assert {record.task for record in recorder.records} == {"sums, 5-shot"}
    assert (found["base_score_percent"].value, found["candidate_score_percent"].value) == (87.5, 62.5)
    recovery = found["recovery_percent"]
    assert recovery.value == pytest.approx(500 / 7)
    assert recovery.details["tool"] == "lm-eval 0.4.13"
    assert (recovery.details["base_lm_eval_percent"], recovery.details["candidate_lm_eval_percent"]) == (87.5, 62.5)
    assert recovery.details["base_stderr_points"] == 25
    flipped = found["flipped_items"]
    assert flipped.value == 2
    assert flipped.details["kept"] == "flipped-w4"
    assert [row["question"] for row in flipped.details["items"]] == ["sums 1?", "sums 3?"]


def test_a_filter_is_named_and_a_group_is_told_apart_by_task() -> None:
    kinds = ("sums_de", "sums_en")
    [measured] = compare_answers(
        told(1, 0, filter_name="strict-match", kinds=kinds), told(1, 1, filter_name="strict-match", kinds=kinds)
    )
    assert measured.name == "sums, 5-shot, strict-match"
    recorder = Recorder("job")
    add_accuracy(recorder, measured, "kept", "pair/w4", "pair/base", "W4A16")
    assert {record.details.get("kind") for record in recorder.records} == {"", "sums_de", "sums_en", None}


def test_a_set_that_only_one_model_answered_is_left_out() -> None:
    assert compare_answers(told(1, 0), {"version": "0.4.13", "sets": []}) == []


@pytest.mark.parametrize("name", ["/tmp/task.yaml", "../mine", "a b", "", "x" * 81])
def test_only_names_of_tasks_are_taken(name: str) -> None:
    with pytest.raises(InputError, match="is no name of a task") as caught:
        check_overrides({"lm_eval": [name]})
    assert caught.value.field == "overrides.lm_eval"
    assert check_overrides({"lm_eval": ["mmlu", "mgsm_native_cot_en"]}).lm_eval == ("mmlu", "mgsm_native_cot_en")
