"""The dialog that publishes what a job made, and the API endpoint ``/publish``."""

from __future__ import annotations

import asyncio
from typing import Any

import gradio as gr

from components.core.errors import AppError, InputError
from components.publish.service import PublishService
from components.publish.view_model import plan_view
from components.ui.access import Access
from components.ui.endpoints import add_endpoint
from components.ui.views import EACH, view


def create_publish_dialog(publishing: PublishService, access: Access) -> None:
    """Build the dialog's view, which stands nowhere until it is asked for, and the endpoint."""

    async def ask(event: gr.EventData, request: gr.Request) -> dict[str, Any]:
        """A dry run, or with ``confirm`` the upload."""
        data = dict(event._data or {})  # noqa: SLF001
        answer: dict[str, Any] = {"key": str(data.pop("key", ""))}
        try:
            access.check_jobs(request)
            return {**answer, **await _do(publishing, data)}
        except AppError as exc:
            return {**answer, "refused": {"field": exc.field or "", "message": exc.message, "hint": exc.hint}}

    dialog = view("publish", {}, events=["ask"], elem_id="dt-publish")
    dialog.ask(ask, None, dialog, **EACH)
    _add_api(publishing, access)


async def _do(publishing: PublishService, wish: dict[str, Any]) -> dict[str, Any]:
    if "confirm" in wish:
        return {"job_id": await asyncio.to_thread(publishing.submit, wish)}
    return {"dry_run": plan_view(await asyncio.to_thread(publishing.plan, wish))}


def _add_api(publishing: PublishService, access: Access) -> None:
    async def publish(spec: Any, request: gr.Request) -> dict[str, Any]:
        access.check_jobs(request)
        if not isinstance(spec, dict):
            raise InputError("The spec is no object.", "Accepted: an object with model and repo_id.", field="spec")
        return await _do(publishing, spec)

    add_endpoint(publish, "publish")
