"""The card's event *eyes*: score the shown answer again with its pictures changed, under both models."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from typing import Any

import gradio as gr

from components.compare.case import Case, Wanted
from components.compare.eyes import EyesService, read_picture
from components.compare.eyes_view import eyes_page
from components.compare.scoring import ScoringService
from components.core.errors import AppError
from components.core.scores import Score
from components.ui.access import Access

MEASURING = "measuring what is taken from a picture"


def wire_eyes(
    card: gr.HTML, scoring: ScoringService, eyes: EyesService, drawn: Callable[[Case, Score], dict[str, Any]],
    access: Access,
) -> None:  # fmt: skip
    """Give the divergence card the event; ``drawn`` is what it shows of a score.

    Visitors of a public page see a stored result where there is one; of all visitors one is measured at a time.
    """

    async def show_reliance(event: gr.EventData, request: gr.Request) -> AsyncIterator[dict[str, Any]]:
        asked = event._data or {}  # noqa: SLF001
        turn, path = str(asked.get("turn")), str(asked.get("of") or "base")
        try:
            picture = read_picture(asked.get("picture"))
            case = await scoring.find(turn, Wanted.read({"path": path, "candidate": asked.get("candidate")}))
            score = await scoring.stored(case)
        except AppError as exc:
            yield {"turn": turn, "path_of": path, "state": "refused", "message": exc.message, "hint": exc.hint}
            return
        if score is None or picture is None:
            return
        shown, results = drawn(case, score), await eyes.stored(case)
        try:
            if picture not in results or (asked.get("again") and access.may_control(request)):
                with access.one_visitor_at_a_time(request, MEASURING):
                    yield {**shown, "eyes": eyes_page(results, score, asked=picture, busy=True)}
                    results[picture] = await eyes.measure(case, picture)
        except AppError as exc:
            yield {**shown, "eyes": eyes_page(results, score, asked=picture, refused=exc)}
            return
        yield {**shown, "eyes": eyes_page(results, score, asked=picture)}

    card.eyes(
        show_reliance, None, card, show_progress="hidden", api_visibility="private", concurrency_limit=None,
        preprocess=False, postprocess=False, trigger_mode="always_last",
    )  # fmt: skip
