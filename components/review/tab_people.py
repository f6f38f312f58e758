"""Who reviews: the name of the sign-in, or the name typed where there is no sign-in; and who may see all."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from components.core.errors import InputError
from components.review.requests import check_reviewer
from components.ui.access import Access, Caller
from components.ui.identity import refusal


@dataclass(frozen=True)
class People:
    """Rights of reviewers. Without any sign-in everybody who reaches the page reviews, and owns it."""

    access: Access

    def user(self, request: Caller) -> str | None:
        """The name of the sign-in."""
        person = self.access.person(request)
        return None if person is None else person.name

    def is_owner(self, request: Caller) -> bool:
        """Whether this caller sees the work of all."""
        person = self.access.person(request)
        return person.is_owner if person is not None else self.access.is_open

    def may_review(self, request: Caller) -> bool:
        """Whether this caller may judge."""
        person = self.access.person(request)
        return person.may_review if person is not None else self.access.is_open

    def reviewer(self, request: Caller, typed: Any) -> str:
        """Under which name this caller reviews.

        Raises:
            NotPermittedError: a visitor of a public page. InputError: no name, or another one's.
        """
        person = self.access.person(request)
        if not self.may_review(request):
            raise refusal(person, "review", self.access.roll)
        if person is None:
            return check_reviewer(typed)
        if typed not in (None, "", person.name):
            raise InputError(f"You are signed in as {person.name}.", "Review under that name.", field="reviewer")
        return person.name

    def check_owner(self, request: Caller) -> None:
        """Refuse who may not see or start for others.

        Raises:
            NotPermittedError: not the owner.
        """
        if not self.is_owner(request):
            raise refusal(self.access.person(request), "start batches and see all verdicts", self.access.roll)

    def only(self, request: Caller) -> str:
        """Whose verdicts this caller may read: everybody's (empty) or those under its own name.

        Raises:
            NotPermittedError: a visitor of a public page.
        """
        return "" if self.is_owner(request) else self.reviewer(request, None)
