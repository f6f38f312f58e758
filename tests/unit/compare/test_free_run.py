"""The first fork of two answers that each model wrote by itself."""

from __future__ import annotations

import math

import pytest

from components.compare.free_run import free_run
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
