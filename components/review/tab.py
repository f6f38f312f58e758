"""The Review tab: batches and queue on the left, the desk where answers are judged, and the report."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Awaitable, Callable, Mapping
from typing import Any

import gradio as gr

from components.core.errors import AppError, InputError
from components.engines.catalog import Catalog
from components.profiles.schema import PairProfile
from components.review.requests import MAX_DRAFT, read_filter, read_judgement, read_new_batch
from components.review.service import ReviewService, as_mapping
from components.review.tab_api import add_review_api
from components.review.tab_people import People
from components.review.view_model import batch_view, created_view, desk_view, item_line
from components.storage.review_given import Given, Wish
from components.ui.views import EACH, PLAIN, Refresh, view

_PAGE = 50


def create_review_tab(
    *, service: ReviewService, catalog: Catalog, pair: PairProfile, people: People
) -> Refresh:  # fmt: skip
    """Build the tab inside the current Blocks context."""
    desk = _Desk(service, people)
    board = _Board(service, catalog, pair, people)
    with gr.Row(elem_id="dt-review", equal_height=False):
        with gr.Column(elem_id="dt-review-side", scale=0, min_width=260):
            side = view(
                "reviewSide", {"batches": None, "may_review": None, "is_owner": False, "user": None},
                events=["act", "form", "create"], elem_id="dt-review-batches",
            )  # fmt: skip
        with gr.Column(elem_id="dt-review-main", scale=1, min_width=300):
            judging = view(
                "reviewDesk", {"item": None, "batch": None, "progress": None, "judged": []},
                events=["next", "open", "submit", "skip", "undo", "draft"], elem_id="dt-review-desk",
            )  # fmt: skip
            found = view("reviewReport", {}, events=["report", "items"], elem_id="dt-review-report")
    judging.next(desk.answering(desk.next), None, judging, **EACH)
    judging.open(desk.answering(desk.open), None, judging, **EACH)
    judging.submit(desk.answering(desk.submit), None, judging, **EACH)
    judging.skip(desk.answering(desk.skip), None, judging, **EACH)
    judging.undo(desk.answering(desk.undo), None, judging, **EACH)
    judging.draft(desk.draft, None, None, **EACH)
    side.act(board.act, None, side, **EACH)
    side.form(board.form, None, side, **EACH)
    side.create(board.create, None, side, **PLAIN)
    found.report(board.report, None, found, **EACH)
    found.items(board.items, None, found, **EACH)
    gr.on(None, board.show, None, side, **PLAIN)
    add_review_api(service, people)
    return Refresh((), (side,), lambda request, _: [board.now(request)])


class _Desk:
    """One reviewer's desk: every handler gives the whole desk, or what was refused with the desk unchanged."""

    def __init__(self, service: ReviewService, people: People) -> None:
        self._service, self._people = service, people

    def answering(self, handler: Callable[[str, Mapping[str, Any]], Awaitable[dict[str, Any]]]) -> Callable[..., Any]:
        """A listener that knows who is there, and turns what is refused into words."""

        async def run(event: gr.EventData, request: gr.Request) -> dict[str, Any]:
            data = as_mapping(event._data)  # noqa: SLF001
            answer: dict[str, Any] = {"key": str(data.get("key"))}
            try:
                reviewer = self._people.reviewer(request, data.get("reviewer"))
                await self._service.ready()
                return {**answer, **await handler(reviewer, data)}
            except AppError as exc:
                return {**answer, "refused": exc.as_record()}

        run.__name__ = f"desk_{handler.__name__}"
        return run

    async def next(self, reviewer: str, data: Mapping[str, Any]) -> dict[str, Any]:
        """The item at hand, or the next one."""
        return await asyncio.to_thread(self._next, reviewer, data)

    def _next(self, reviewer: str, data: Mapping[str, Any]) -> dict[str, Any]:
        wish = _wish(data)
        return self._show(reviewer, wish.batch_id, self._service.queue.next(reviewer, wish))

    async def open(self, reviewer: str, data: Mapping[str, Any]) -> dict[str, Any]:
        """An item that was judged before."""
        given = await asyncio.to_thread(self._service.queue.open, reviewer, str(data.get("item_id")))
        return await asyncio.to_thread(self._show, reviewer, given.item.batch_id, given)

    async def submit(self, reviewer: str, data: Mapping[str, Any]) -> dict[str, Any]:
        """Store a verdict; the next item, or the same one unsealed where an earlier verdict was changed."""
        item_id, judgement = read_judgement(data.get("judgement"))
        given = await asyncio.to_thread(self._service.queue.submit, reviewer, item_id, judgement)
        if data.get("stay"):
            return {"stored": item_id, **await asyncio.to_thread(self._show, reviewer, given.item.batch_id, given)}
        return {"stored": item_id, **await self.next(reviewer, data)}

    async def skip(self, reviewer: str, data: Mapping[str, Any]) -> dict[str, Any]:
        """Give an item back and take the next."""
        await asyncio.to_thread(self._service.queue.skip, reviewer, str(data.get("item_id")))
        return await self.next(reviewer, data)

    async def undo(self, reviewer: str, data: Mapping[str, Any]) -> dict[str, Any]:
        """Take the last verdict back and show its item."""
        batch_id = str(data.get("batch"))
        given = await asyncio.to_thread(self._service.queue.undo, reviewer, batch_id)
        if given is None:
            raise InputError("There is no verdict of yours to undo.")
        return {"undone": given.item.id, **await asyncio.to_thread(self._show, reviewer, batch_id, given)}

    async def draft(self, event: gr.EventData, request: gr.Request) -> None:
        """Keep what is not submitted yet. Silent: the page keeps it too and sends it again."""
        data = as_mapping(event._data)  # noqa: SLF001
        text = json.dumps(data.get("draft"))
        if len(text) > MAX_DRAFT:
            return
        try:
            reviewer = self._people.reviewer(request, data.get("reviewer"))
            await asyncio.to_thread(self._service.queue.save_draft, reviewer, str(data.get("item_id")), text)
        except AppError:
            return

    def _show(self, reviewer: str, batch_id: str, given: Given | None) -> dict[str, Any]:
        service = self._service
        score = service.score_of(given) if given is not None and given.verdict is not None else None
        shown = desk_view(
            given, service.reviews.batch(batch_id), service.reviews.progress(batch_id),
            service.queue.judged(reviewer, batch_id), score,
        )  # fmt: skip
        if given is None:  # only who has nothing at hand is offered the conflicts of others
            shown["own_conflicts"] = service.queue.own_conflicts(reviewer, batch_id)
        return shown


class _Board:
    """Batches: the list, the form for a new one, the report."""

    def __init__(self, service: ReviewService, catalog: Catalog, pair: PairProfile, people: People) -> None:
        self._service, self._catalog, self._pair, self._people = service, catalog, pair, people

    def now(self, request: gr.Request) -> dict[str, Any]:
        """The list as this caller may see it."""
        reviews = self._service.reviews
        return {
            "batches": [batch_view(batch, reviews.progress(batch.id)) for batch in self._service.batches()],
            "may_review": self._people.may_review(request),
            "is_owner": self._people.is_owner(request),
            "user": self._people.user(request),
        }

    async def show(self, request: gr.Request) -> dict[str, Any]:
        """The same without holding the loop, once the bundled batch is there."""
        await self._service.ready()
        return await asyncio.to_thread(self.now, request)

    async def act(self, event: gr.EventData, request: gr.Request) -> dict[str, Any]:
        """Stop a batch, let it go on, or ask its failed items again."""
        data = as_mapping(event._data)  # noqa: SLF001
        answer: dict[str, Any] = {}
        try:
            self._people.check_owner(request)
            await asyncio.to_thread(self._service.change, str(data.get("batch")), str(data.get("action")))
            self._service.runner.wake()
        except AppError as exc:
            answer["refused"] = exc.as_record()
        return {**await self.show(request), **answer}

    async def form(self, request: gr.Request) -> dict[str, Any]:
        """What a new batch can be made of. Only sent when asked for: it names the models."""
        answer: dict[str, Any] = {}
        try:
            self._people.check_owner(request)
            pairs = [self._pair, *(pair for pair in self._catalog.pairs if pair.id != self._pair.id)]
            answer["form"] = {"pairs": [self._choices(pair) for pair in pairs if pair.candidates]}
        except AppError as exc:
            answer["refused"] = exc.as_record()
        return {**await self.show(request), **answer}

    def _choices(self, pair: PairProfile) -> dict[str, Any]:
        entries = self._catalog.of_pair(pair.id)
        return {
            "id": pair.id,
            "title": pair.title,
            "base": next(entry.engine_id for entry in entries if entry.model.role == "base"),
            "candidates": [
                {"id": entry.engine_id, "label": entry.model.label}
                for entry in entries
                if entry.model.role == "candidate"
            ],
            "max_tokens": pair.sampling.max_tokens,
        }

    async def create(self, event: gr.EventData, request: gr.Request) -> dict[str, Any]:
        """Look at what was given, or make a batch of it."""
        data = as_mapping(event._data)  # noqa: SLF001
        answer: dict[str, Any] = {"key": str(data.get("key"))}
        try:
            self._people.check_owner(request)
            wish = read_new_batch(data)
            if data.get("only_look"):
                answer["looked"] = created_view(await asyncio.to_thread(self._service.look, wish))
            else:
                made = await asyncio.to_thread(self._service.create, wish, self._people.user(request) or "")
                answer["created"] = created_view(made)
        except AppError as exc:
            answer["refused"] = exc.as_record()
        return {**await self.show(request), **answer}

    async def report(self, event: gr.EventData, request: gr.Request) -> dict[str, Any]:
        """What the verdicts add up to: of all for the owner, else the caller's own."""
        data = as_mapping(event._data)  # noqa: SLF001
        try:
            only = await self._readers(data, request)
            return {"report": await asyncio.to_thread(self._service.report, str(data.get("batch")), only)}
        except AppError as exc:
            return {"refused": exc.as_record()}

    async def _readers(self, data: Mapping[str, Any], request: gr.Request) -> str:
        await self._service.ready()
        return "" if self._people.is_owner(request) else self._people.reviewer(request, data.get("reviewer"))

    async def items(self, event: gr.EventData, request: gr.Request) -> dict[str, Any]:
        """A page of a batch's items. Only for the owner: outcomes are other people's work."""
        data = as_mapping(event._data)  # noqa: SLF001
        try:
            self._people.check_owner(request)
            page = data.get("page")
            number = page if isinstance(page, int) and 0 <= page < 10_000 else 0
            found, total = await asyncio.to_thread(
                self._service.reviews.items, str(data.get("batch")), read_filter(as_mapping(data.get("filter"))), _PAGE,
                number * _PAGE,
            )  # fmt: skip
        except AppError as exc:
            return {"refused": exc.as_record()}
        asked = data.get("asked") if isinstance(data.get("asked"), int) else 0  # tells the page which wish this answers
        return {
            "items": [item_line(item) for item in found], "total": total, "page": number, "page_size": _PAGE,
            "asked": asked,
        }  # fmt: skip


def _wish(data: Mapping[str, Any]) -> Wish:
    wanted = dict(as_mapping(data.get("filter")))
    if wanted.pop("outcome", None):
        raise InputError("An outcome can't be a filter of a blind queue.", field="outcome")
    return Wish(str(data.get("batch")), str(data.get("order") or "divergence"), read_filter(wanted))
