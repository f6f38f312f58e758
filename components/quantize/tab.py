"""The Quantize tab: a form that plans and starts, the list of jobs, and the API endpoint ``/quantize``."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime
from typing import Any

import gradio as gr

from components.core.errors import AppError, InputError
from components.engines.catalog import Catalog
from components.engines.supervisor import EngineHub
from components.jobs.service import JobService
from components.quantize.form_view import form_view, plan_view, preview_view, read_spec, refusal_view, wish_of
from components.quantize.service import QuantizeService
from components.quantize.tab_job_api import add_job_api
from components.quantize.view_model import board_view
from components.ui.access import Access
from components.ui.endpoints import add_endpoint
from components.ui.messages import warn
from components.ui.views import EACH, PLAIN, QUIET, Refresh, view


def create_quantize_tab(
    *, quantize: QuantizeService, jobs: JobService, catalog: Catalog, hub: EngineHub, access: Access
) -> Refresh:
    """Build the tab inside the current Blocks context."""
    board = _Board(quantize, jobs, catalog, hub, access)

    def form(request: gr.Request) -> dict[str, Any]:
        may = access.may_control(request)
        own_data = quantize.own_data() if may else ()
        return form_view(catalog, quantize.recipes(), own_data, quantize.recipe_errors(), may_control=may)

    async def plan(event: gr.EventData, request: gr.Request) -> dict[str, Any]:
        data = event._data or {}  # noqa: SLF001
        answer: dict[str, Any] = {"key": str(data.get("key"))}
        try:
            access.check_jobs(request)  # it reads the disk and may take a minute
            find = quantize.measure if data.get("measured") else quantize.plan
            found = await asyncio.to_thread(find, read_spec(data))
            answer["plan"] = {**plan_view(found, quantize.recipes()), "measured": bool(data.get("measured"))}
        except AppError as exc:
            answer["refused"] = refusal_view(exc)
        return answer

    async def preview(event: gr.EventData, request: gr.Request) -> dict[str, Any]:
        data = event._data or {}  # noqa: SLF001
        answer: dict[str, Any] = {"key": str(data.get("key"))}
        try:
            access.check_jobs(request)
            answer["preview"] = preview_view(await asyncio.to_thread(quantize.preview, read_spec(data)))
        except AppError as exc:
            answer["refused"] = refusal_view(exc)
        return answer

    with gr.Row(elem_id="dt-quantize", equal_height=False):
        with gr.Column(elem_id="dt-quantize-new", scale=0, min_width=300):
            wizard = view(
                "quantize", form_view(catalog, quantize.recipes(), (), may_control=not access.public),
                events=["plan", "preview", "start"], elem_id="dt-quantize-form",
            )  # fmt: skip
        with gr.Column(elem_id="dt-quantize-jobs", scale=1, min_width=300):
            answers = view("quantizePlan", {}, elem_id="dt-quantize-plan")
            listed = view("jobs", {"jobs": [], "may_control": False}, events=["act", "poll"], elem_id="dt-jobs")
    wizard.plan(plan, None, answers, **EACH)
    wizard.preview(preview, None, answers, **EACH)
    wizard.start(board.start, None, [answers, listed], **PLAIN)
    listed.act(board.act, None, listed, **EACH)
    listed.poll(board.poll, None, listed, **PLAIN)
    gr.on(None, form, None, wizard, **QUIET)
    gr.on(None, board.show, None, listed, **QUIET)
    add_quantize_api(quantize, access)
    add_job_api(jobs, access)
    return Refresh((), (listed,), lambda request, _: [board.now(request)])


class _Board:
    """The list of jobs and what may be done to them."""

    def __init__(
        self, quantize: QuantizeService, jobs: JobService, catalog: Catalog, hub: EngineHub, access: Access
    ) -> None:
        self._quantize, self._jobs, self._catalog, self._hub, self._access = quantize, jobs, catalog, hub, access

    def now(self, request: gr.Request) -> dict[str, Any]:
        """The list as this caller may see it."""
        jobs = self._jobs
        return board_view(
            jobs.views(), datetime.now(UTC), may_control=self._access.may_control(request),
            files=lambda job: jobs.files(job.id), known_engines={entry.engine_id for entry in self._catalog.entries()},
        )  # fmt: skip

    async def show(self, request: gr.Request) -> dict[str, Any]:
        """The same without holding the loop."""
        return await asyncio.to_thread(self.now, request)

    async def poll(self, request: gr.Request) -> dict[str, Any]:
        """The page asks while a job runs and the tab is in sight."""
        return await self.show(request)

    async def start(self, event: gr.EventData, request: gr.Request) -> tuple[dict[str, Any], dict[str, Any]]:
        """Queue what was planned; stop the engines that the person names, so that it has room."""
        data = event._data or {}  # noqa: SLF001
        answer: dict[str, Any] = {"key": str(data.get("key"))}
        try:
            self._access.check_jobs(request)
            stops = [self._catalog.find(str(engine_id)).engine_id for engine_id in data.get("stops") or ()]
            answer["started"] = await asyncio.to_thread(self._quantize.submit, read_spec(data))
            for engine_id in stops:
                await self._hub.stop(engine_id)
        except AppError as exc:
            answer["refused"] = refusal_view(exc)
        return answer, await self.show(request)

    async def act(self, event: gr.EventData, request: gr.Request) -> dict[str, Any]:
        """Cancel, retry, move a job, fill the form with it; stop an engine that is in its way."""
        data = event._data or {}  # noqa: SLF001
        further: dict[str, Any] = {}
        try:
            self._access.check_jobs(request)
            if data.get("action") == "duplicate":
                wish = await asyncio.to_thread(self._wish, str(data.get("job")))
                further = {"wish": {**wish, "key": str(data.get("key"))}}
            else:
                await self._act(str(data.get("action")), str(data.get("job")), str(data.get("engine")))
        except AppError as exc:
            warn(exc)
        return {**await self.show(request), **further}

    def _wish(self, job_id: str) -> dict[str, Any]:
        pairs = {pair.id for pair in self._catalog.pairs}
        return wish_of(self._jobs.queue.get(job_id).spec, self._quantize.recipes(), pairs)

    async def _act(self, action: str, job_id: str, engine_id: str) -> None:
        jobs = self._jobs
        if action == "stop":
            await self._hub.stop(self._catalog.find(engine_id).engine_id)
        elif action in ("cancel", "retry"):
            await asyncio.to_thread(jobs.cancel if action == "cancel" else jobs.retry, job_id)
        elif action == "up":
            await asyncio.to_thread(jobs.move, job_id, "up")
        elif action == "down":
            await asyncio.to_thread(jobs.move, job_id, "down")
        else:
            raise InputError(
                f"{action!r} is no action.", "Accepted: cancel, retry, duplicate, up, down, stop.", field="action"
            )


def add_quantize_api(quantize: QuantizeService, access: Access) -> None:
    """Register the endpoint ``/quantize`` inside the current Blocks context."""

    async def submit(spec: Any, request: gr.Request) -> dict[str, str]:
        access.check_jobs(request)
        return {"job_id": await asyncio.to_thread(quantize.submit, check_spec(spec))}

    add_endpoint(submit, "quantize")


def check_spec(spec: Any) -> dict[str, Any]:
    """An API call's argument.

    Raises:
        InputError: it is no object, or has a field that a spec does not have.
    """
    fields = ("model", "recipe", "overrides")
    if not isinstance(spec, dict):
        raise InputError("The spec is no object.", f"Accepted fields: {', '.join(fields)}.", field="spec")
    unknown = sorted(set(spec) - set(fields))
    if unknown:
        raise InputError(f"{unknown[0]!r} is no field of a spec.", f"Accepted: {', '.join(fields)}.", field="spec")
    return spec
