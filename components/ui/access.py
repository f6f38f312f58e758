"""Who is calling: the name that the guard found, and what that name may do."""

from __future__ import annotations

from dataclasses import dataclass

import gradio as gr

from components.core.errors import NotPermittedError
from components.ui.guards import USER_KEY


@dataclass(frozen=True)
class Access:
    """Rights of callers. On a public page only people who signed in may start, stop or write for others."""

    public: bool

    def may_control(self, request: gr.Request | None) -> bool:
        """Whether this caller may start, stop and change what belongs to all."""
        return not self.public or (request is not None and request.request.scope.get(USER_KEY) is not None)

    def check_control(self, request: gr.Request | None) -> None:
        """Refuse a visitor. Checked in every handler, for a hidden button keeps nobody out (reliability.md 6.1).

        Raises:
            NotPermittedError: the caller did not sign in.
        """
        if not self.may_control(request):
            raise NotPermittedError("Visitors can't start or stop engines.", "Choose one that is ready, or sign in.")

    def check_jobs(self, request: gr.Request | None) -> None:
        """Refuse a visitor who wants to start, end or change a job.

        Raises:
            NotPermittedError: the caller did not sign in.
        """
        if not self.may_control(request):
            raise NotPermittedError("Visitors can't start or change jobs.", "Sign in, or run Diptych yourself.")
