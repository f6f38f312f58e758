"""The Benchmarks tab: a form that starts a job, its progress, results, verdicts, and the card."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from typing import Any

import gradio as gr

from components.benchmark.intake import KIND
from components.benchmark.service import BenchmarkService
from components.benchmark.tab_api import CardOf, add_benchmark_api
from components.benchmark.tab_items import Doors, Items
from components.benchmark.verdict import Limit
from components.benchmark.view_model import form_view, results_view
from components.core.errors import AppError, InputError
from components.engines.catalog import Catalog
from components.engines.supervisor import EngineHub
from components.jobs.service import JobService, JobView
from components.ui.access import Access
from components.ui.messages import warn
from components.ui.views import EACH, PLAIN, QUIET, Refresh, view

# (jobs, now, may control) → the value of the view "jobs", which is the Quantize room's
BoardOf = Callable[[Sequence[JobView], datetime, bool], dict[str, Any]]


def create_benchmark_tab(
    *, benchmarks: BenchmarkService, jobs: JobService, catalog: Catalog, hub: EngineHub, card_of: CardOf,
    board_of: BoardOf, limits: tuple[Limit, ...], default: str, access: Access, doors: Doors,
) -> Refresh:  # fmt: skip
    """Build the tab inside the current Blocks context.

    Args:
        card_of: candidate → ``{markdown, missing}``.
        board_of: (job views, now, may control) → the value of the view ``jobs``.
        default: the candidate chosen first.
        doors: into Compare and Review.
    """
    items = Items(benchmarks, doors)
    hands = _Handlers(benchmarks, jobs, catalog, hub, board_of, limits, default, access)

    def card(data: Any) -> dict[str, Any]:
        """The card of a candidate, for the sheet that shows it."""
        try:
            return card_of(str((data or {}).get("model")))
        except AppError as exc:
            return {"refused": str(exc)}

    def question(data: Any) -> dict[str, Any]:
        """An item that flipped, for Compare."""
        return items.question(data)

    with gr.Row(elem_id="dt-benchmarks", equal_height=False):
        with gr.Column(elem_id="dt-benchmarks-new", scale=0, min_width=300):
            wizard = view("benchmarkForm", hands.form(None), events=["start"], elem_id="dt-benchmarks-form")
            listed = view("jobs", {"jobs": [], "may_control": False, "empty": ""},
                          events=["act", "poll"], elem_id="dt-benchmarks-jobs")  # fmt: skip
        with gr.Column(elem_id="dt-benchmarks-results", scale=1, min_width=300):
            shown = view(
                "benchmarkResults", {}, events=["look", "review", "write"], server_functions=[card, question],
                elem_id="dt-results",
            )  # fmt: skip
    wizard.start(hands.start, None, [wizard, listed], **PLAIN)
    listed.act(hands.act, None, listed, **EACH)
    listed.poll(hands.poll, None, listed, **PLAIN)
    shown.look(hands.show, None, shown, **EACH)
    shown.review(hands.with_results("reviewed", items.review), None, shown, **PLAIN)
    shown.write(hands.with_results("written", items.write), None, shown, **PLAIN)
    gr.on(None, hands.form, None, wizard, **QUIET)
    gr.on(None, hands.poll, None, listed, **QUIET)
    gr.on(None, hands.show, None, shown, **QUIET)
    add_benchmark_api(benchmarks, card_of, access)
    return Refresh((), (listed, shown), lambda request, _: [hands.board(request), hands.results(request)])


class _Handlers:
    """What the tab's events do."""

    def __init__(
        self, benchmarks: BenchmarkService, jobs: JobService, catalog: Catalog, hub: EngineHub, board_of: BoardOf,
        limits: tuple[Limit, ...], default: str, access: Access,
    ) -> None:  # fmt: skip
        self._benchmarks, self._jobs, self._catalog, self._access = benchmarks, jobs, catalog, access
        self._hub, self._board_of, self._limits, self._default = hub, board_of, limits, default

    def form(self, request: gr.Request | None) -> dict[str, Any]:
        """What can be chosen."""
        may = self._access.may_control(request) if request else not self._access.public
        return form_view(self._benchmarks.choices(), self._default, may_control=may)

    def board(self, request: gr.Request) -> dict[str, Any]:
        """The list of benchmarks as this caller may see it."""
        views = [found for found in self._jobs.views() if found.job.kind == KIND]
        return self._board_of(views, datetime.now(UTC), self._access.may_control(request))

    def results(self, request: gr.Request) -> dict[str, Any]:
        """All figures."""
        measured, published = (self._benchmarks.results({"source": name}) for name in ("measured", "published"))
        labels = {entry.engine_id: entry.model.label for entry in self._catalog.entries()}
        shown = results_view(measured, published, self._limits, labels)
        return {**shown, "may_control": self._access.may_control(request)}

    async def start(self, event: gr.EventData, request: gr.Request) -> tuple[dict[str, Any], dict[str, Any]]:
        """Queue a job."""
        data = event._data or {}  # noqa: SLF001
        value = self.form(request)
        try:
            self._access.check_jobs(request)
            value["started"] = await asyncio.to_thread(self._benchmarks.submit, spec_of(data))
        except AppError as exc:
            value["refused"] = f"{exc.field}: {exc}" if exc.field else str(exc)
        value["key"] = str(data.get("key"))
        return value, await self.poll(request)

    async def act(self, event: gr.EventData, request: gr.Request) -> dict[str, Any]:
        """Cancel, retry, move a job; stop an engine that is in its way."""
        data = event._data or {}  # noqa: SLF001
        try:
            self._access.check_jobs(request)
            if data.get("action") == "stop":
                await self._hub.stop(self._catalog.find(str(data.get("engine"))).engine_id)
            else:
                await asyncio.to_thread(_act, self._jobs, str(data.get("action")), str(data.get("job")))
        except AppError as exc:
            warn(exc)
        return await self.poll(request)

    async def poll(self, request: gr.Request) -> dict[str, Any]:
        """The list without holding the loop."""
        return await asyncio.to_thread(self.board, request)

    def with_results(self, name: str, act: Callable[..., Any]) -> Callable[..., Any]:
        """What an action tells, under its name, and all figures."""

        async def run(event: gr.EventData, request: gr.Request) -> dict[str, Any]:
            told = await act(event, request)
            return {**await self.show(request), name: told}

        return run

    async def show(self, request: gr.Request) -> dict[str, Any]:
        """Results without holding the loop."""
        return await asyncio.to_thread(self.results, request)


def spec_of(data: dict[str, Any]) -> dict[str, Any]:
    """The form's values as a spec; what is empty is left out."""
    overrides = {name: value for name, value in dict(data.get("overrides") or {}).items() if value not in ("", None)}
    return {"models": [str(data.get("model") or "")], "suite": str(data.get("suite") or "all"), "overrides": overrides}


def _act(jobs: JobService, action: str, job_id: str) -> None:
    if action == "cancel":
        jobs.cancel(job_id)
    elif action == "retry":
        jobs.retry(job_id)
    elif action in ("up", "down"):
        jobs.move(job_id, "up" if action == "up" else "down")
    else:
        raise InputError(f"{action!r} is no action.", "Accepted: cancel, retry, up, down, stop.", field="action")
