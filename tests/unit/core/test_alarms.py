"""Alarms: what makes a comparison unfair or meaningless is always said, and nothing else is."""

from __future__ import annotations

from typing import Any

from components.core.alarms import alarms_of
from components.core.answers import Sampling, TokenStep, Usage
from components.core.states import Outcome, Sight
from components.core.traces import StoredAnswer, Trace
from tests.data.traces import answered_turn, label


def codes(trace: Trace) -> set[str]:
    return {alarm.code for alarm in alarms_of(trace)}


def change(
    trace: Trace, position: int, *, answer: dict[str, Any] | None = None, slot: dict[str, Any] | None = None
) -> Trace:
    def changed(stored: StoredAnswer) -> StoredAnswer:
        if stored.slot.position != position:
            return stored
        return stored.model_copy(
            update={
                "answer": stored.answer.model_copy(update=answer or {}),
                "slot": stored.slot.model_copy(update=slot or {}),
            }
        )

    return trace.model_copy(update={"answers": tuple(changed(a) for a in trace.answers)})


def tokens(*logprobs: float | None) -> tuple[TokenStep, ...]:
    return tuple(TokenStep(token_id=i, text="x", logprob=value, at_ms=i) for i, value in enumerate(logprobs))


def fair() -> Trace:
    return change(
        change(answered_turn(), 0, answer={"tokens": tokens(-0.5, -1.0)}), 1, answer={"tokens": tokens(-0.5, -1.1)}
    )


def test_a_fair_comparison_raises_no_alarm() -> None:
    assert codes(fair()) == set()


def test_different_settings_are_named() -> None:
    (alarm,) = alarms_of(change(fair(), 1, slot={"sampling": Sampling(temperature=0.7)}))
    assert alarm.code == "settings_differ"
    assert "temperature" in alarm.message
    assert "top-p" not in alarm.message


def test_bit_identical_logprobs_of_a_candidate_are_an_alarm() -> None:
    trace = change(fair(), 1, answer={"tokens": tokens(-0.5, -1.0)})
    assert codes(trace) == {"identical_logprobs"}


def test_the_base_twice_is_identical_and_no_alarm() -> None:
    trace = change(fair(), 1, answer={"tokens": tokens(-0.5, -1.0)}, slot={"label": label("base")})
    assert codes(trace) == set()


def test_unknown_logprobs_are_identical_to_nothing() -> None:
    trace = change(change(fair(), 0, answer={"tokens": tokens(None, -1.0)}), 1, answer={"tokens": tokens(None, -1.0)})
    assert codes(trace) == set()


def test_an_unfinished_answer_is_not_compared() -> None:
    trace = change(fair(), 1, answer={"tokens": tokens(-0.5, -1.0), "outcome": Outcome.STOPPED})
    assert codes(trace) == set()


def test_different_image_token_counts_are_an_error() -> None:
    trace = change(fair(), 1, answer={"usage": Usage(prompt_tokens=70, image_tokens=36)})
    (alarm,) = alarms_of(trace)
    assert (alarm.code, alarm.severity) == ("image_mismatch", "error")
    assert "64" in alarm.message
    assert "36" in alarm.message


def test_a_picture_that_did_not_arrive_is_said_of_the_column() -> None:
    trace = change(fair(), 1, answer={"usage": Usage(prompt_tokens=6, image_tokens=0)})
    (alarm,) = alarms_of(trace)
    assert (alarm.code, alarm.columns) == ("image_missing", (1,))


def test_unknown_image_token_counts_are_compared_with_nothing() -> None:
    assert codes(change(fair(), 1, answer={"usage": Usage(prompt_tokens=70)})) == set()


def test_the_same_prompt_in_different_tokens_is_an_error() -> None:
    assert codes(change(fair(), 1, answer={"prompt_token_ids": (9, 9)})) == {"prompt_mismatch"}


def test_columns_that_continue_their_own_answers_are_told_apart_from_a_mismatch() -> None:
    trace = change(fair(), 1, answer={"prompt_token_ids": (9, 9)}, slot={"history": ("earlier",)})
    assert codes(trace) == {"histories_differ"}


def test_a_blind_engine_is_an_error_only_when_there_are_pictures() -> None:
    trace = change(fair(), 1, slot={"label": label("candidate", sight=Sight.BLIND)})
    assert codes(trace) == {"blind_engine"}
    assert codes(trace.model_copy(update={"images": ()})) == set()


def test_different_engine_versions_and_pairs_are_conditions() -> None:
    other = label("candidate", engine_version="0.31.0", pair="another")
    (alarm,) = alarms_of(change(fair(), 1, slot={"label": other}))
    assert alarm.code == "conditions_differ"
    assert "version" in alarm.message
    assert "pair" in alarm.message


def test_one_column_has_nothing_to_differ_from() -> None:
    assert codes(answered_turn(texts=("alone",))) == set()
