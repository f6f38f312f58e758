"""The divergence card under the columns: where and how far base and candidate part on one answer's tokens."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any

import gradio as gr

from components.compare.case import Case, Wanted
from components.compare.eyes import EyesService
from components.compare.eyes_view import eyes_page
from components.compare.free_run import free_run_of
from components.compare.score_view import page_view
from components.compare.scoring import ScoringService
from components.compare.tab_eyes import wire_eyes
from components.core.errors import AppError
from components.core.scores import Score
from components.engines.catalog import Catalog
from components.ui.access import Access


def wire_divergence(
    card: gr.HTML, scoring: ScoringService, eyes: EyesService, catalog: Catalog, access: Access
) -> None:
    """Give the card its events. The browser asks for a score when a turn has ended.

    Visitors of a public page see a stored score where there is one, also when they ask for it again.
    """

    def drawn(case: Case, score: Score) -> dict[str, Any]:
        labels = {entry.engine_id: entry.model.label for entry in catalog.entries()}
        return {**page_view(score, labels, case.candidates), "free_run": free_run_of(case.sides)}

    async def show_score(event: gr.EventData, request: gr.Request) -> AsyncIterator[dict[str, Any]]:
        asked = event._data or {}  # noqa: SLF001
        turn, path = str(asked.get("turn")), str(asked.get("of") or "base")
        about = {"turn": turn, "path_of": path}
        try:
            case = await scoring.find(turn, Wanted.read({"path": path, "candidate": asked.get("candidate")}))
            anew = asked.get("again") and access.may_control(request)
            stored = None if anew else await scoring.stored(case)
            if stored is None:
                if not asked.get("again") and not scoring.is_ready(case):
                    yield {**about, "state": "idle", "by_turns": scoring.by_turns(case)}
                    return
                yield {**about, "state": "busy"}
                stored = await scoring.score(case)
        except AppError as exc:
            yield {**about, "state": "refused", "message": exc.message, "hint": exc.hint}
            return
        yield {**drawn(case, stored), "eyes": eyes_page(await eyes.stored(case), stored)}

    card.score(
        show_score, None, card, show_progress="hidden", api_visibility="private", concurrency_limit=None,
        preprocess=False, postprocess=False, trigger_mode="always_last",
    )  # fmt: skip
    wire_eyes(card, scoring, eyes, drawn, access)
