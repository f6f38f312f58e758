"""Who is calling: the name that the guard found, and what that name may do."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import gradio as gr

from components.core.answers import Sampling
from components.core.errors import InputError, NotPermittedError
from components.storage.images import ImageLimits
from components.ui.guards import USER_KEY
from components.ui.visitors import Visitors, visitor_address

RECORDED = "This page replays recorded turns; nothing can be asked, started or changed here."


@dataclass(frozen=True)
class Access:
    """Rights of callers. On a public page only people who signed in may start, stop or write for others."""

    public: bool
    visitors: Visitors | None = None  # limits of those who did not sign in; None = there are none
    recorded: bool = False  # nobody starts, asks or changes anything; everybody sees the recorded turns
    _costly: set[str] = field(default_factory=set)  # what a visitor is having done

    @contextmanager
    def one_visitor_at_a_time(self, request: gr.Request | None, work: str, *, answers: int = 0) -> Iterator[None]:
        """Work that costs the engines much, in words ("another visitor is …"): of all visitors one piece at a time.

        ``answers``: how many of those that a visitor gets in a minute it counts as.

        Raises:
            InputError: another visitor's is going on. VisitorLimitError: he has had too many answers.
        """
        if self.may_control(request):
            yield
            return
        if work in self._costly:
            raise InputError(f"Another visitor is {work}.", "Try again when that has ended.")
        self.spend(request, [1] * answers)
        self._costly.add(work)
        try:
            yield
        finally:
            self._costly.discard(work)

    def may_control(self, request: gr.Request | None) -> bool:
        """Whether this caller may start, stop and change what belongs to all."""
        if self.recorded:
            return False
        return not self.public or _scope(request).get(USER_KEY) is not None

    def spend(self, request: gr.Request | None, tokens: Sequence[int], key: str = "") -> None:
        """Take answers of these longest lengths from what a visitor may have; ``key`` as for ``Visitors.spend``.

        Raises:
            VisitorLimitError: he has had too many, or one is too long.
        """
        if self.visitors is not None and not self.may_control(request):
            self.visitors.spend(visitor_address(_scope(request)), tokens, key)

    def usual(self, sampling: Sampling) -> Sampling:
        """What a question starts with where nobody says otherwise: a visitor may ask with it as it is."""
        most = self.visitors.rules.max_tokens if self.visitors else sampling.max_tokens
        return sampling.model_copy(update={"max_tokens": min(sampling.max_tokens, most)})

    def picture_limits(self, request: gr.Request | None, limits: ImageLimits) -> ImageLimits:
        """The limits on a caller's pictures, where ``limits`` are those of all."""
        return limits if self.visitors is None or self.may_control(request) else self.visitors.pictures(limits)

    def sees_history(self, request: gr.Request | None) -> bool:
        """Whether this caller may see the list of turns, which belong to whoever asked them."""
        return self.recorded or self.may_control(request)

    def check_control(self, request: gr.Request | None) -> None:
        """Refuse a visitor. Checked in every handler, for a hidden button keeps nobody out (reliability.md 6.1).

        Raises:
            NotPermittedError: the caller did not sign in.
        """
        if not self.may_control(request):
            raise self._refusal("start or stop engines", "Choose one that is ready, or sign in.")

    def check_jobs(self, request: gr.Request | None) -> None:
        """Refuse a visitor who wants to start, end or change a job.

        Raises:
            NotPermittedError: the caller did not sign in.
        """
        if not self.may_control(request):
            raise self._refusal("start or change jobs", "Sign in, or run Diptych yourself.")

    def _refusal(self, what: str, hint: str) -> NotPermittedError:
        if self.recorded:
            return NotPermittedError(RECORDED, "Run Diptych yourself, without --recorded.")
        return NotPermittedError(f"Visitors can't {what}.", hint)


def _scope(request: gr.Request | None) -> Mapping[str, Any]:
    """What the server knows of a call. A view's server function gets FastAPI's own request, not Gradio's around it."""
    own = getattr(request, "request", request)
    return {} if own is None else own.scope
