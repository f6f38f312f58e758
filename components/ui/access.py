"""What a caller of the page, its API or its routes may do. Asked in every handler: a hidden button keeps nobody out."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any, TypeAlias

import gradio as gr
from fastapi import Request

from components.core.answers import Sampling
from components.core.errors import InputError, NotPermittedError
from components.storage.images import ImageLimits
from components.ui.identity import Person, Roll, person_of, refusal
from components.ui.visitors import Visitors, visitor_address

RECORDED = "This page replays recorded turns; nothing can be asked, started or changed here."


Caller: TypeAlias = "gr.Request | Request | None"


@dataclass(frozen=True)
class Access:
    """Rights of callers. On a page that others reach, only who signed in, and may, starts, stops or writes."""

    public: bool
    visitors: Visitors | None = None  # limits of those who are no owners; None = there are none
    recorded: bool = False  # nobody starts, asks or changes anything; everybody sees the recorded turns
    roll: Roll = field(default_factory=Roll)
    _costly: set[str] = field(default_factory=set)  # what a visitor is having done

    @property
    def is_open(self) -> bool:
        """Whether there is nobody but the one person who runs the app."""
        return not self.public and not self.roll.signs_in

    def person(self, request: Caller) -> Person | None:
        """Who signed in."""
        return None if request is None else person_of(_scope(request))

    @contextmanager
    def one_visitor_at_a_time(self, request: Caller, work: str, *, answers: int = 0) -> Iterator[None]:
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

    def may_control(self, request: Caller) -> bool:
        """Whether this caller may start, stop and change what belongs to all."""
        if self.recorded:
            return False
        person = self.person(request)
        return person.may_control if person is not None else self.is_open

    def spend(self, request: Caller, tokens: Sequence[int], key: str = "") -> None:
        """Take answers of these longest lengths from what a visitor may have; ``key`` as for ``Visitors.spend``.

        Raises:
            VisitorLimitError: he has had too many, or one is too long.
        """
        if self.visitors is not None and not self.may_control(request):
            person = self.person(request)
            self.visitors.spend(person.name if person else visitor_address(_scope(request)), tokens, key)

    def usual(self, sampling: Sampling) -> Sampling:
        """What a question starts with where nobody says otherwise: a visitor may ask with it as it is."""
        most = self.visitors.rules.max_tokens if self.visitors else sampling.max_tokens
        return sampling.model_copy(update={"max_tokens": min(sampling.max_tokens, most)})

    def picture_limits(self, request: Caller, limits: ImageLimits) -> ImageLimits:
        """The limits on a caller's pictures, where ``limits`` are those of all."""
        return limits if self.visitors is None or self.may_control(request) else self.visitors.pictures(limits)

    def sees_history(self, request: Caller) -> bool:
        """Whether this caller may see the list of turns, which belong to whoever asked them."""
        return self.recorded or self.may_control(request)

    def check_control(self, request: Caller) -> None:
        """Refuse who may not start and stop engines.

        Raises:
            NotPermittedError: so it is.
        """
        self.check(request, "start or stop engines")

    def check_jobs(self, request: Caller) -> None:
        """Refuse who may not start, end or change a job.

        Raises:
            NotPermittedError: so it is.
        """
        self.check(request, "start or change jobs")

    def check(self, request: Caller, what: str) -> None:
        """Refuse who may not do ``what``, in words such as "read metrics".

        Raises:
            NotPermittedError: a visitor, or somebody who signed in and is not the owner.
        """
        if self.recorded:
            raise NotPermittedError(RECORDED, "Run Diptych yourself, without --recorded.")
        if not self.may_control(request):
            raise refusal(self.person(request), what, self.roll)


def _scope(request: Caller) -> Mapping[str, Any]:
    """What the server knows of a request; nothing where there is none."""
    if request is None:
        return {}
    found: Mapping[str, Any] = request.scope if isinstance(request, Request) else request.request.scope
    return found
