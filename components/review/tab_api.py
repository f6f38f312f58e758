"""API endpoints ``/review_next``, ``/review_submit`` and ``/review_export``, through the same service as the page."""

from __future__ import annotations

import asyncio
import base64
from typing import Any

import gradio as gr

from components.review.requests import read_export, read_judgement
from components.review.service import ReviewService
from components.review.tab_people import People
from components.review.view_model import sealed
from components.ui.endpoints import add_endpoint


def add_review_api(service: ReviewService, people: People) -> None:
    """Register the endpoints inside the current Blocks context."""

    async def review_next(request: gr.Request, reviewer: str = "") -> dict[str, Any]:
        name = people.reviewer(request, reviewer)
        await service.ready()
        given = await asyncio.to_thread(service.next_anywhere, name)
        return {"item_id": None, "message": "Nothing is left to review."} if given is None else sealed(given)

    async def review_submit(reviewer: str, verdict: Any, request: gr.Request) -> dict[str, Any]:
        name = people.reviewer(request, reviewer)
        item_id, judgement = read_judgement(verdict)
        given = await asyncio.to_thread(service.queue.submit, name, item_id, judgement)
        return await asyncio.to_thread(service.record, given)

    async def review_export(request: gr.Request, given: Any = None) -> Any:
        only = people.only(request)
        wanted = read_export(given)
        found = await asyncio.to_thread(service.export, wanted, only)
        if isinstance(found, bytes):
            return {"format": wanted.format, "base64": base64.b64encode(found).decode("ascii")}
        return found if isinstance(found, list) else {"format": wanted.format, "text": found}

    add_endpoint(review_next, "review_next")
    add_endpoint(review_submit, "review_submit")
    add_endpoint(review_export, "review_export")
