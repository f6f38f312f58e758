"""The first fork of two answers that each model wrote by itself."""

from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from components.compare.free_run import aligned, free_run
from components.core.answers import Answer, TokenStep


def answer(*ids: int, prompt: tuple[int, ...] = (1, 2)) -> Answer:
    steps = tuple(TokenStep(token_id=i, text=f"t{i}", logprob=math.log(0.25), at_ms=0.0) for i in ids)
    return Answer(tokens=steps, prompt_token_ids=prompt)


def test_the_fork_names_both_choices_and_their_probabilities() -> None:
    found = free_run(answer(5, 6, 7), answer(5, 8))
    assert found == {
        "fork": 1,
        "base": {"text": "t6", "probability": pytest.approx(0.25)},
        "candidate": {"text": "t8", "probability": pytest.approx(0.25)},
        "aligned": [],
    }


def test_equal_answers_have_no_fork() -> None:
    assert free_run(answer(5, 6), answer(5, 6)) == {"fork": None}


def test_an_answer_that_ends_early_forks_there() -> None:
    found = free_run(answer(5, 6), answer(5))
    assert found is not None and found["fork"] == 1
    assert found["candidate"] == {"text": None, "probability": None}


def test_nothing_is_said_of_different_prompts_or_unknown_ids() -> None:
    assert free_run(answer(5), answer(5, prompt=(1, 3))) is None
    assert free_run(answer(5, prompt=()), answer(5, prompt=())) is None
    unknown = Answer(tokens=(TokenStep(token_id=None, text="a", at_ms=0.0),), prompt_token_ids=(1, 2))
    assert free_run(unknown, answer(5)) is None


def test_two_answers_are_aligned_word_by_word() -> None:
    assert aligned("A red circle at the left.", "A blue circle at the left.") == [
        ["A"],
        [" red", " blue"],
        [" circle at the left."],
    ]
    assert aligned("one two", "one") == [["one"], [" two", ""]]
    assert aligned("", "") == []


@given(st.text(max_size=60), st.text(max_size=60))
def test_nothing_is_lost_by_aligning(base: str, candidate: str) -> None:
    parts = aligned(base, candidate)
    assert "".join(part[0] for part in parts) == base
    assert "".join(part[-1] for part in parts) == candidate


def test_what_is_too_long_to_align_is_still_there() -> None:
    base, candidate = ("word " * 2500, "word " * 2400)
    parts = aligned(base, candidate)
    assert ("".join(part[0] for part in parts), "".join(part[-1] for part in parts)) == (base, candidate)
