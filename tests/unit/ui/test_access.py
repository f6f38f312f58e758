"""What visitors of a public page may have done."""

from __future__ import annotations

from contextlib import suppress
from types import SimpleNamespace
from typing import Any

import pytest

from components.core.errors import InputError
from components.ui.access import Access
from components.ui.identity import PERSON_KEY, Person


def caller(user: str | None) -> Any:
    return SimpleNamespace(request=SimpleNamespace(scope={PERSON_KEY: user and Person(user, may_control=True)}))


def test_of_all_visitors_one_piece_of_a_work_at_a_time() -> None:
    access, visitor = Access(public=True), caller(None)
    with access.one_visitor_at_a_time(visitor, "measuring"):
        refused = pytest.raises(InputError, match="Another visitor is measuring")
        with refused, access.one_visitor_at_a_time(visitor, "measuring"):
            pass
        with (
            access.one_visitor_at_a_time(visitor, "going on"),
            access.one_visitor_at_a_time(caller("ann"), "measuring"),
        ):
            pass
    with pytest.raises(KeyError), access.one_visitor_at_a_time(visitor, "measuring"):
        raise KeyError
    with access.one_visitor_at_a_time(visitor, "measuring"):
        pass


def test_an_app_that_is_not_public_has_no_visitors() -> None:
    def at_once(access: Access) -> int:
        entered = 0
        with suppress(InputError), access.one_visitor_at_a_time(caller(None), "measuring"):
            entered += 1
            with access.one_visitor_at_a_time(None, "measuring"):
                entered += 1
        return entered

    assert (at_once(Access(public=False)), at_once(Access(public=True))) == (2, 1)
