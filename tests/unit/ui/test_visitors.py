"""What one visitor of a public page may take, counted by address."""

from __future__ import annotations

import time
from contextlib import suppress
from types import SimpleNamespace
from typing import Any

import pytest

from components.core.answers import Sampling
from components.core.errors import VisitorLimitError
from components.storage.images import ImageLimits
from components.ui.access import Access
from components.ui.identity import PERSON_KEY, Person
from components.ui.visitors import VisitorRules, Visitors, visitor_address

RULES = VisitorRules(answers_per_minute=4, max_tokens=100, image_max_bytes=1000, image_max_pixels=10_000)


def caller(host: str, user: str | None = None) -> Any:
    person = Person(user, is_owner=True, may_control=True) if user else None
    return SimpleNamespace(request=SimpleNamespace(scope={PERSON_KEY: person, "client": (host, 1234)}))


def public() -> Access:
    return Access(public=True, visitors=Visitors(RULES))


def test_after_so_many_answers_a_visitor_waits_and_another_does_not(monkeypatch: pytest.MonkeyPatch) -> None:
    now = 1_900_000_000.0
    monkeypatch.setattr(time, "time", lambda: now)
    access, ann = public(), caller("203.0.113.5")
    for _ in range(2):
        access.spend(ann, [100, 100])
    with pytest.raises(VisitorLimitError, match="4 answers in a minute") as refused:
        access.spend(ann, [100])
    assert refused.value.hint == "Try again in 60 s, or sign in."
    access.spend(caller("203.0.113.6"), [100] * 4)
    monkeypatch.setattr(time, "time", lambda: now + 61)
    access.spend(ann, [100] * 4)


def test_who_signed_in_and_an_app_that_is_not_public_have_no_limit() -> None:
    owner, access = caller("203.0.113.5", "ann"), public()
    access.spend(owner, [32768] * 40)
    Access(public=False).spend(caller("203.0.113.5"), [32768] * 40)
    limits = ImageLimits()
    assert access.picture_limits(owner, limits) is limits


def test_the_columns_of_one_question_are_let_in_together_or_not_at_all() -> None:
    access, ann = public(), caller("203.0.113.5")
    for key in ("k1", "k2"):
        for _ in range(2):
            access.spend(ann, [100, 100], key)
    for _ in range(2):
        with pytest.raises(VisitorLimitError):
            access.spend(ann, [100, 100], "k3")
    access.spend(ann, [100, 100], "k1")


def test_a_key_that_was_paid_lets_in_nothing_longer_and_no_more_columns() -> None:
    access, ann = public(), caller("203.0.113.5")
    access.spend(ann, [10], "k")
    with pytest.raises(VisitorLimitError, match="at most 100 tokens") as refused:
        access.spend(ann, [101], "k")
    assert refused.value.field == "max_tokens"
    with pytest.raises(VisitorLimitError):
        access.spend(ann, [10] * 4, "k")


def test_more_at_once_than_ever_is_said_so() -> None:
    with pytest.raises(VisitorLimitError, match="That would be 5 answers; a visitor gets 4 in a minute"):
        public().spend(caller("203.0.113.5"), [1] * 5)


def test_no_limit_is_zero() -> None:
    def let_in(answers_per_minute: int) -> int:
        access = Access(public=True, visitors=Visitors(VisitorRules(answers_per_minute=answers_per_minute)))
        questions = 0
        with suppress(VisitorLimitError):
            for _ in range(50):
                access.spend(caller("203.0.113.5"), [512] * 4)
                questions += 1
        return questions

    assert (let_in(0), let_in(20)) == (50, 5)


def test_a_costly_piece_of_work_counts_as_an_answer() -> None:
    access, ann = public(), caller("203.0.113.5")
    access.spend(ann, [1] * 4)
    with pytest.raises(VisitorLimitError), access.one_visitor_at_a_time(ann, "measuring", answers=1):
        pass
    with access.one_visitor_at_a_time(caller("203.0.113.6"), "measuring", answers=1):
        pass


def test_a_visitors_pictures_are_smaller_and_never_larger_than_anybodys() -> None:
    access, ann = public(), caller("203.0.113.5")
    limits = access.picture_limits(ann, ImageLimits())
    assert (limits.max_bytes, limits.max_pixels, limits.max_side) == (1000, 10_000, ImageLimits().max_side)
    assert access.picture_limits(ann, ImageLimits(max_bytes=5, max_pixels=7)).max_bytes == 5


def test_a_question_starts_with_a_length_that_a_visitor_may_ask_for() -> None:
    assert public().usual(Sampling(max_tokens=256)).max_tokens == 100
    assert Access(public=False).usual(Sampling(max_tokens=256)).max_tokens == 256


def test_an_ipv6_visitor_is_his_network() -> None:
    one, other = (visitor_address({"client": (f"2001:db8:1:2::{end}", 1)}) for end in ("7", "8"))
    assert one == other == "2001:db8:1:2::/64"
    assert visitor_address({"client": ("203.0.113.5", 1)}) == "203.0.113.5"
    assert visitor_address({"client": ("testclient", 1)}) == "testclient"
    assert visitor_address({}) == "unknown"
