"""Who may do what: accounts, people of Hugging Face, visitors."""

from __future__ import annotations

import base64
from types import SimpleNamespace
from typing import Any

import pytest

from components.core.errors import InputError, NotPermittedError
from components.review.tab_people import People
from components.ui.access import Access
from components.ui.identity import PERSON_KEY, Person, Roll

BOTH = Roll({"first": "one", "second": "two"}, hugging_face=True, anyone_reviews=True)


def basic(name: str, password: str) -> str:
    return "Basic " + base64.b64encode(f"{name}:{password}".encode()).decode()


def rights(person: Person | None) -> tuple[bool, bool, bool] | None:
    return None if person is None else (person.is_owner, person.may_control, person.may_review)


def request(person: Person | None) -> Any:
    return SimpleNamespace(request=SimpleNamespace(scope={PERSON_KEY: person}))


def test_the_first_account_owns_the_page_unless_owners_are_named() -> None:
    assert rights(BOTH.caller(basic("first", "one"), {})) == (True, True, True)
    assert rights(BOTH.caller(basic("second", "two"), {})) == (False, True, True)
    named = Roll({"first": "one", "second": "two"}, owners=("second", "boss"), hugging_face=True)
    assert rights(named.caller(basic("first", "one"), {})) == (False, True, True)
    assert rights(named.caller(basic("second", "two"), {})) == (True, True, True)
    assert rights(named.caller("", {"name": "BOSS"})) == (True, True, True)


@pytest.mark.parametrize(
    ("roll", "expected"),
    [
        (BOTH, (False, False, True)),
        (Roll(hugging_face=True), (False, False, False)),
        (Roll(hugging_face=True, reviewers=("Rita", "Bo")), (False, False, True)),
        (Roll(hugging_face=True, reviewers=("Bo",)), (False, False, False)),
        (Roll({"first": "one"}), None),
        (Roll({"rita": "one"}, hugging_face=True, anyone_reviews=True), None),
    ],
    ids=["anyone", "nobody-named", "named", "not-named", "no-such-sign-in", "name-of-an-account"],
)
def test_what_a_person_of_hugging_face_may(roll: Roll, expected: tuple[bool, bool, bool] | None) -> None:
    assert rights(roll.caller("", {"name": "Rita"})) == expected


@pytest.mark.parametrize("session", [{}, {"name": ""}, {"name": None}, {"name": 7}, {"other": "Rita"}])
def test_a_session_without_a_name_is_a_visitor(session: dict[str, Any]) -> None:
    assert BOTH.caller("", session) is None


def test_a_wrong_password_is_no_account_and_ends_no_session() -> None:
    assert BOTH.caller(basic("first", "two"), {}) is None
    person = BOTH.caller(basic("first", "two"), {"name": "Rita"})
    assert person is not None
    assert person.name == "Rita"


def test_reviewing_and_starting_are_two_rights() -> None:
    people = People(Access(public=True, roll=BOTH))
    visitor, reviewer = request(None), request(BOTH.of_hugging_face("Rita"))
    owner = request(BOTH.caller(basic("first", "one"), {}))
    assert [people.may_review(each) for each in (visitor, reviewer, owner)] == [False, True, True]
    assert [people.access.may_control(each) for each in (visitor, reviewer, owner)] == [False, False, True]
    assert [people.is_owner(each) for each in (visitor, reviewer, owner)] == [False, False, True]
    assert (people.only(reviewer), people.only(owner)) == ("Rita", "")
    assert people.reviewer(reviewer, "") == "Rita"
    with pytest.raises(InputError, match="You are signed in as Rita"):
        people.reviewer(reviewer, "first")
    with pytest.raises(NotPermittedError, match=r"Visitors can't review. Sign in."):
        people.reviewer(visitor, "first")
    with pytest.raises(NotPermittedError, match="Only the owner of this page can start or change jobs"):
        people.access.check_jobs(reviewer)
    with pytest.raises(NotPermittedError, match="You are signed in as Rita"):
        people.check_owner(reviewer)


def test_where_nobody_signs_in_whoever_is_there_owns_the_page() -> None:
    people = People(Access(public=False))
    assert people.is_owner(request(None))
    assert people.reviewer(request(None), " ann ") == "ann"
    demo = People(Access(public=True))
    assert not demo.is_owner(request(None))
    with pytest.raises(NotPermittedError, match="Run Diptych yourself"):
        demo.reviewer(request(None), "ann")
