"""Who reviews: the name of the sign-in, or the name typed where there is no sign-in; and who may see all."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import gradio as gr

from components.core.errors import InputError, NotPermittedError
from components.review.requests import check_reviewer
from components.ui.access import Access
from components.ui.guards import USER_KEY


@dataclass(frozen=True)
class People:
    """Rights of reviewers. The first account is the owner; without accounts everybody who reaches the page is."""

    access: Access
    accounts: Sequence[str]

    def user(self, request: gr.Request | None) -> str | None:
        """The name of the sign-in."""
        name = None if request is None else request.request.scope.get(USER_KEY)
        return name if isinstance(name, str) else None

    def is_owner(self, request: gr.Request | None) -> bool:
        """Whether this caller sees the work of all."""
        if not self.access.may_control(request):
            return False
        return not self.accounts or self.user(request) == self.accounts[0]

    def reviewer(self, request: gr.Request | None, typed: Any) -> str:
        """Under which name this caller reviews.

        Raises:
            NotPermittedError: a visitor of a public page. InputError: no name, or another one's.
        """
        if not self.access.may_control(request):
            raise NotPermittedError("Visitors can't review.", "Sign in, or run Diptych yourself.")
        user = self.user(request)
        if user is None:
            return check_reviewer(typed)
        if typed not in (None, "", user):
            raise InputError(f"You are signed in as {user}.", "Review under that name.", field="reviewer")
        return user

    def check_owner(self, request: gr.Request | None) -> None:
        """Refuse who may not see or start for others.

        Raises:
            NotPermittedError: not the owner.
        """
        if not self.is_owner(request):
            raise NotPermittedError("Only the owner may do that.", "Sign in as the first account of DIPTYCH_USERS.")

    def only(self, request: gr.Request | None) -> str:
        """Whose verdicts this caller may read: everybody's (empty) or those under its own name.

        Raises:
            NotPermittedError: a visitor of a public page.
        """
        return "" if self.is_owner(request) else self.reviewer(request, None)
