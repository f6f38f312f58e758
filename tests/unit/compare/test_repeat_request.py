"""Options of a repeat: what is accepted, what is refused and how."""

from __future__ import annotations

import pytest

from components.compare.repeat_request import RepeatWish
from components.core.answers import Sampling
from components.core.errors import InputError


def test_nothing_means_as_the_turn_was_asked() -> None:
    wish = RepeatWish.read({"n": None, "temperature": "", "seed": None})
    asked = Sampling(temperature=0.3, top_p=0.9, max_tokens=5, seed=11, stop=("x",))
    assert wish == RepeatWish(8, None, None)
    assert list(wish.seeds(11)) == list(range(11, 19))
    assert list(wish.seeds(None)) == list(range(8))
    assert wish.sampling(asked) == asked.model_copy(update={"seed": None})


def test_wishes_win() -> None:
    wish = RepeatWish.read({"n": 3.0, "temperature": 0.7, "seed": 5})
    assert list(wish.seeds(11)) == [5, 6, 7]
    assert wish.sampling(Sampling(top_p=0.5)) == Sampling(temperature=0.7, top_p=0.5)
    assert RepeatWish.read({"temperature": 0}).temperature == 0.0


def test_the_last_seed_is_the_largest_there_is() -> None:
    largest = 2**63 - 1
    assert RepeatWish.read({"n": 2, "seed": largest - 1}).seeds(None)[-1] == largest
    assert RepeatWish(2).seeds(largest)[-1] == largest


@pytest.mark.parametrize(
    ("options", "field", "words"),
    [
        ({"n": 1}, "n", "2 to 64"),
        ({"n": 65}, "n", "2 to 64"),
        ({"n": 2.5}, "n", "2 to 64"),
        ({"n": True}, "n", "2 to 64"),
        ({"n": "no number"}, "n", "2 to 64"),
        ({"temperature": 2.1}, "temperature", "0 to 2"),
        ({"temperature": float("nan")}, "temperature", "0 to 2"),
        ({"temperature": [1]}, "temperature", "0 to 2"),
        ({"seed": -1}, "seed", "whole numbers 0 to"),
        ({"n": 2, "seed": 2**63 - 1}, "seed", "whole numbers 0 to"),
        ({"depth": 1}, "options", "n, temperature, seed"),
    ],
)
def test_what_is_refused_is_named(options: dict[str, object], field: str, words: str) -> None:
    with pytest.raises(InputError) as caught:
        RepeatWish.read(options)
    assert caught.value.field == field
    assert words in caught.value.hint


def test_visitors_get_fewer() -> None:
    assert RepeatWish.read({}, most=4).count == 4
    with pytest.raises(InputError, match="2 to 8"):
        RepeatWish.read({"n": 9}, most=8)
