"""Going on from a chosen token: what is given, what is refused, and what the column says about how it went on."""

from __future__ import annotations

from typing import Any

import pytest

from components.compare.continuation import Choice, continuation_note, continuation_of, given_steps, source_of
from components.core.answers import Answer, TokenStep
from components.core.errors import InputError
from components.core.states import Outcome
from components.core.traces import Continuation, StoredAnswer, Trace
from components.engines.vocabulary import Vocabulary
from tests.data.traces import MOMENT, slot, turn

WORDS = Vocabulary({10: b"one", 11: b" two", 12: b" three", 13: b"\xe2\x82"}, {2: "</s>"})
BASE, CANDIDATE = (10, 11, 12, 2), (10, 12, 12, 2)


def answer(*ids: int, outcome: Outcome = Outcome.FINISHED) -> Answer:
    steps = tuple(
        TokenStep(token_id=i, text=WORDS.text(i), raw=WORDS.raw(i), logprob=-0.1, at_ms=float(n))
        for n, i in enumerate(ids, start=1)
    )
    return Answer(text="…", tokens=steps, outcome=outcome, prompt_token_ids=(1,))


def stored(name: str, position: int, given: Answer, **changes: Any) -> StoredAnswer:
    return StoredAnswer(slot=slot(name, position, **changes), answer=given, started_at=MOMENT)


def trace(*more: StoredAnswer) -> Trace:
    return turn(answers=(stored("b", 0, answer(*BASE)), stored("c", 1, answer(*CANDIDATE)), *more))


def continued(*ids: int, given: int = 2, of: str = "b", position: int = 1, token: int = 11) -> StoredAnswer:
    choice = Continuation(
        answer_id=of,
        given_tokens=given,
        token_id=token,
        token_text=WORDS.text(token),
        token_raw=WORDS.raw(token) or b"",
    )
    return stored("x", position, answer(*ids), attempt=2, continued=choice)


def note(found: StoredAnswer) -> str:
    return "".join(
        f"`{text}`" if kind == "token" else text for kind, text in continuation_note(trace(found), found) or ()
    )


def chosen(live: Trace, choice: Choice) -> tuple[StoredAnswer, Continuation]:
    source = source_of(live, choice)
    return source, continuation_of(source, choice, WORDS)


def test_the_tokens_before_are_given_and_the_chosen_one() -> None:
    source, choice = chosen(trace(), Choice("b", 2, 11))
    steps = given_steps(source, choice)
    assert [step.token_id for step in steps] == [10, 11, 11]
    assert all(step.logprob is None and step.top == () and step.at_ms == 0 for step in steps)


def test_half_a_character_keeps_its_bytes() -> None:
    source, choice = chosen(trace(), Choice("b", 0, 13))
    assert given_steps(source, choice)[0].raw == b"\xe2\x82"


@pytest.mark.parametrize(
    ("choice", "field"),
    [
        (Choice("nobody", 0, 11), "answer_id"),
        (Choice("b", 4, 11), "index"),
        (Choice("b", 0, 999), "token_id"),
        (Choice("b", 0, 2), "token_id"),
    ],
)
def test_what_can_not_be_gone_on_from_names_its_field(choice: Choice, field: str) -> None:
    with pytest.raises(InputError) as caught:
        chosen(trace(), choice)
    assert caught.value.field == field


def test_an_answer_that_is_being_written_is_no_beginning() -> None:
    live = turn(answers=(stored("b", 0, answer(10, outcome=Outcome.STREAMING)),))
    with pytest.raises(InputError, match="still being written"):
        source_of(live, Choice("b", 0, 11))


@pytest.mark.parametrize("given", [{"index": -1, "token_id": 1}, {"index": True, "token_id": 1}, {"index": 1}, {}])
def test_a_choice_is_two_whole_numbers(given: dict[str, object]) -> None:
    with pytest.raises(InputError, match="whole number"):
        Choice.read(given)


def test_it_recovers_when_it_writes_the_bases_answer() -> None:
    assert note(continued(*BASE)) == (
        "Given 1 token of the base's answer, then ` two`. It recovers: from there on it writes the base's answer."
    )


def test_it_comes_back_to_its_own_answer() -> None:
    assert "comes back to its own answer" in note(continued(*CANDIDATE, given=1, token=10))
    assert note(continued(*CANDIDATE, given=1, token=10)).startswith("Given `one`. ")


def test_it_stays_apart_and_says_where() -> None:
    said = note(continued(10, 11, 11, 2))
    assert said.endswith("It stays apart: again at token 3, base ` three`, here ` two`.")


def test_the_other_side_that_has_ended_is_said() -> None:
    assert note(continued(*BASE[:3], 12, given=2)).endswith("again at token 4, base `</s>`, here ` three`.")


def test_an_alternative_that_neither_wrote_gives_a_third_answer() -> None:
    assert note(continued(10, 10, 11, 2, given=2, token=10)).endswith("It writes a third answer.")


def test_a_free_answer_has_no_note_and_a_stopped_one_no_verdict() -> None:
    assert continuation_note(trace(), trace().answers[0]) is None
    found = continued(10, 11)
    stopped = found.model_copy(update={"answer": answer(10, 11, outcome=Outcome.STOPPED)})
    assert note(stopped) == "Given 1 token of the base's answer, then ` two`. "


def test_a_continued_answer_is_not_the_columns_answer() -> None:
    assert [a.slot.id for a in trace(continued(*BASE)).latest_answers] == ["b", "c"]
