"""The Models tab: a board of all engines, with a live log, and the API endpoint ``/models``."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import Any

import gradio as gr

from components.core.errors import AppError, InputError
from components.engines.catalog import Catalog
from components.engines.supervisor import EngineHub
from components.models.memory_plan import MemoryPlanner
from components.models.memory_view import plan_to_dict, plan_view
from components.models.view_model import board_view, models_api_view
from components.ui.access import Access
from components.ui.endpoints import add_endpoint
from components.ui.messages import warn
from components.ui.views import EACH, QUIET, Refresh, view

_LOG_LINES = 200


def create_models_tab(
    *, catalog: Catalog, hub: EngineHub, planner: MemoryPlanner, default: str, access: Access, problems: Sequence[str]
) -> Refresh:
    """Build the tab inside the current Blocks context. ``default``: the model planned first."""

    def board(request: gr.Request) -> dict[str, Any]:
        return board_view(catalog, hub, problems, may_control=access.may_control(request))

    def log(choice: Any, request: gr.Request) -> dict[str, Any]:
        """The end of an engine's log, for the sheet that shows it. It names folders of this machine."""
        engine_id = str(choice.get("engine")) if isinstance(choice, dict) else ""
        try:
            access.check(request, "read the logs of engines")
            return {"lines": hub.log_tail(catalog.find(engine_id).engine_id, _LOG_LINES)}
        except AppError as exc:
            return {"lines": [str(exc)]}

    async def act(event: gr.EventData, request: gr.Request) -> dict[str, Any]:
        data = event._data or {}  # noqa: SLF001
        try:
            access.check_control(request)
            await _act(catalog, hub, str(data.get("action")), str(data.get("engine")))
        except AppError as exc:
            warn(exc)
        return board(request)

    async def models() -> list[dict[str, Any]]:
        """Every engine with its role, scheme, state, readiness and sight."""
        return models_api_view(catalog, hub)

    _memory_plan(planner, default, access)
    start = board_view(catalog, hub, problems, may_control=not access.public)
    parts = view("models", start, events=["act"], server_functions=[log], elem_id="dt-models")
    parts.act(act, None, parts, **EACH)
    gr.on(None, board, None, parts, **QUIET)
    add_endpoint(models, "models")
    return Refresh((), (parts,), lambda request, _: [board(request)])


async def _act(catalog: Catalog, hub: EngineHub, action: str, engine_id: str) -> None:
    actions = {"start": hub.start, "stop": hub.stop, "restart": hub.restart, "wake": hub.wake}
    if action not in actions:
        raise InputError(f"{action!r} is no action.", f"Accepted: {', '.join(actions)}.", field="action")
    await actions[action](catalog.find(engine_id).engine_id)


def _memory_plan(planner: MemoryPlanner, default: str, access: Access) -> None:
    """The plan above the engines, and the API endpoint ``/memory_plan``."""

    def form(request: gr.Request) -> dict[str, Any]:
        return {"choices": planner.choices(), "default": default, "may_read": access.may_control(request)}

    async def plan(event: gr.EventData, request: gr.Request) -> dict[str, Any]:
        data = event._data or {}  # noqa: SLF001
        answer: dict[str, Any] = {"key": str(data.get("key"))}
        try:
            found = await asyncio.to_thread(
                planner.plan, data.get("model") or "", data.get("options") or {},
                default=default, may_read=access.may_control(request),
            )  # fmt: skip
            answer["plan"] = plan_view(found)
        except AppError as exc:
            answer["refused"] = str(exc)
        return answer

    async def memory_plan(request: gr.Request, model: Any = "", options: Any = None) -> dict[str, Any]:
        may_read = access.may_control(request)
        return plan_to_dict(await asyncio.to_thread(planner.plan, model, options, default=default, may_read=may_read))

    asked = view("memoryPlan", {"choices": [], "default": default}, events=["plan"], elem_id="dt-memory-plan")
    answers = view("memoryPlanResult", {}, elem_id="dt-memory-result")
    asked.plan(plan, None, answers, **EACH)  # the page passes over the answer to a question that is not its last
    gr.on(None, form, None, asked, **QUIET)
    add_endpoint(memory_plan, "memory_plan")
