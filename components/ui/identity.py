"""Who is calling: one function for both ways to sign in, HTTP Basic and Hugging Face. Knows no page and no Gradio.

A name comes from nowhere else: Basic needs the account's password, and the session is a cookie that only the sign-in's
way back writes, signed with a key of the server (``sign_in.py``).
"""

from __future__ import annotations

import base64
import binascii
import hmac
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from components.core.errors import NotPermittedError

PERSON_KEY = "diptych.person"  # where the guard leaves whom it found
SESSION_NAME = "name"  # where the session holds the name at Hugging Face


@dataclass(frozen=True)
class Person:
    """Somebody who signed in.

    Attributes:
        name: the account's, or that at Hugging Face.
        is_owner: sees the work of all.
        may_control: starts and stops engines and jobs, sees the history.
        may_review: judges, and sees the own work.
        by_account: signed in by HTTP Basic; a browser can't be told to forget that.
    """

    name: str
    is_owner: bool = False
    may_control: bool = False
    may_review: bool = False
    by_account: bool = False


@dataclass(frozen=True)
class Roll:
    """Who may sign in, and what for.

    Attributes:
        accounts: passwords by name, for HTTP Basic.
        owners: names that own the page; empty = the first account.
        reviewers: names at Hugging Face that may review.
        anyone_reviews: whether everybody who signs in there may.
        hugging_face: whether one can sign in there.
    """

    accounts: Mapping[str, str] = field(default_factory=dict)
    owners: tuple[str, ...] = ()
    reviewers: tuple[str, ...] = ()
    anyone_reviews: bool = False
    hugging_face: bool = False

    @property
    def signs_in(self) -> bool:
        """Whether anybody can sign in at all."""
        return bool(self.accounts) or self.hugging_face

    def caller(self, authorization: str, session: Mapping[str, Any]) -> Person | None:
        """Who sends a request with this header and this session; None = somebody who did not sign in."""
        return self._account(authorization) or self.of_hugging_face(session.get(SESSION_NAME))

    def _account(self, authorization: str) -> Person | None:
        kind, _, encoded = authorization.partition(" ")
        if kind.lower() != "basic":
            return None
        try:
            name, _, password = base64.b64decode(encoded, validate=True).decode().partition(":")
        except (binascii.Error, UnicodeDecodeError):
            return None
        expected = self.accounts.get(name, "")
        if not hmac.compare_digest(expected.encode(), password.encode()) or not expected:
            return None
        owns = name in (self.owners or tuple(self.accounts)[:1])
        return Person(name, is_owner=owns, may_control=True, may_review=True, by_account=True)

    def of_hugging_face(self, name: Any) -> Person | None:
        """The person of this name there; None where nobody signs in there, or where an account has the same name.

        Two people under one name would see, and undo, each other's verdicts.
        """
        if not self.hugging_face or not isinstance(name, str) or not name or _among(name, tuple(self.accounts)):
            return None
        owns = _among(name, self.owners)
        reviews = owns or self.anyone_reviews or _among(name, self.reviewers)
        return Person(name, is_owner=owns, may_control=owns, may_review=reviews)


def _among(name: str, names: tuple[str, ...]) -> bool:
    """Two names at Hugging Face differ in more than case."""
    return name.casefold() in {each.casefold() for each in names}


def person_of(scope: Mapping[str, Any]) -> Person | None:
    """Whom the guard found behind a request."""
    found = scope.get(PERSON_KEY)
    return found if isinstance(found, Person) else None


def refusal(person: Person | None, what: str, roll: Roll) -> NotPermittedError:
    """Why somebody may not do ``what``, in words such as "start jobs"."""
    if person is not None:
        return NotPermittedError(f"Only the owner of this page can {what}.", f"You are signed in as {person.name}.")
    hint = "Sign in." if roll.signs_in else "Run Diptych yourself."
    return NotPermittedError(f"Visitors can't {what}.", hint)
