"""API endpoints ``/review_next``, ``/review_submit`` and ``/review_export``, through the same service as the page."""

from __future__ import annotations

import asyncio
import base64
from typing import Any

import gradio as gr

from components.core.errors import AppError
from components.review.requests import read_export, read_judgement
from components.review.service import ReviewService
from components.review.tab_people import People
from components.review.view_model import sealed
from components.ui.messages import as_api_error


def add_review_api(service: ReviewService, people: People) -> None:
    """Register the endpoints inside the current Blocks context."""

    async def review_next(reviewer: str, request: gr.Request) -> dict[str, Any]:
        try:
            name = people.reviewer(request, reviewer)
            await service.ready()
            given = await asyncio.to_thread(service.next_anywhere, name)
        except AppError as exc:
            raise as_api_error(exc) from None
        return {"item_id": None, "message": "Nothing is left to review."} if given is None else sealed(given)

    async def review_submit(reviewer: str, verdict: Any, request: gr.Request) -> dict[str, Any]:
        try:
            name = people.reviewer(request, reviewer)
            item_id, judgement = read_judgement(verdict)
            given = await asyncio.to_thread(service.queue.submit, name, item_id, judgement)
            return await asyncio.to_thread(service.record, given)
        except AppError as exc:
            raise as_api_error(exc) from None

    async def review_export(given: Any, request: gr.Request) -> Any:
        try:
            only = people.only(request)
            wanted = read_export(given)
            found = await asyncio.to_thread(service.export, wanted, only)
            if isinstance(found, bytes):
                return {"format": wanted.format, "base64": base64.b64encode(found).decode("ascii")}
            # Gradio's JSON takes a bare text for JSON and would parse it.
            return found if isinstance(found, list) else {"format": wanted.format, "text": found}
        except AppError as exc:
            raise as_api_error(exc) from None

    with gr.Row(visible=False):
        reviewer = gr.Textbox("", label="reviewer")
        verdict = gr.JSON({}, label="verdict")
        wanted = gr.JSON({}, label="filter")
        result = gr.JSON(label="result")
        for name, handler, inputs in (
            ("review_next", review_next, [reviewer]),
            ("review_submit", review_submit, [reviewer, verdict]),
            ("review_export", review_export, [wanted]),
        ):
            gr.Button(name).click(handler, inputs, result, api_name=name, concurrency_limit=None)
