"""The card "Repeat" under the columns, and the API endpoint ``/repeat``: both through one service."""

from __future__ import annotations

import time
from collections.abc import AsyncIterator
from contextlib import aclosing
from typing import Any

import gradio as gr

from components.compare.repeat import RepeatService
from components.compare.repeat_request import USUAL, VISITORS_MOST, RepeatWish
from components.compare.repeat_view import page_view, repeat_to_dict, run_title
from components.core.errors import AppError
from components.core.repeats import MOST
from components.ui.access import Access
from components.ui.endpoints import add_endpoint
from components.ui.views import EACH, PLAIN


def wire_repeat(card: gr.HTML, repeating: RepeatService, access: Access) -> None:
    """Give the card its events. The browser looks for stored repeats when a turn has ended."""

    async def look_for_repeats(event: gr.EventData, request: gr.Request) -> dict[str, Any]:
        asked = event._data or {}  # noqa: SLF001
        shown = _Shown(str(asked.get("turn")), _most(access, request))
        return await shown.stored(repeating, str(asked.get("repeat") or ""))

    async def repeat_turn(event: gr.EventData, request: gr.Request) -> AsyncIterator[dict[str, Any]]:
        asked = event._data or {}  # noqa: SLF001
        most = _most(access, request)
        shown = _Shown(str(asked.get("turn")), most)
        try:
            wish = RepeatWish.read({name: asked.get(name) for name in ("n", "temperature", "seed")}, most=most)
            access.spend(request, [1] * wish.count)
            # Closed at once when the page goes away: the engines must not work for nobody.
            async with aclosing(repeating.run(shown.turn, wish, visitor=most < MOST)) as progresses:
                async for progress in progresses:
                    yield shown.value(state="shown", run=page_view(progress.repeat, progress.waiting))
        except AppError as exc:
            yield shown.value(state="refused", message=exc.message, hint=exc.hint)
            return
        yield await shown.stored(repeating, "")

    async def halt_repeat(event: gr.EventData) -> None:
        repeating.halt(str((event._data or {}).get("repeat")))  # noqa: SLF001

    card.look(look_for_repeats, None, card, trigger_mode="always_last", **PLAIN)
    card.run(repeat_turn, None, card, **EACH)
    card.halt(halt_repeat, None, None, **EACH)


class _Shown:
    """Values of the card for one turn."""

    def __init__(self, turn: str, most: int) -> None:
        self.turn, self._most = turn, most

    def value(self, **values: Any) -> dict[str, Any]:
        """``made_us`` orders them: Gradio's page may put an older value back (see ``view_model.column_view``)."""
        return {
            "turn": self.turn, "most": self._most, "usual": min(USUAL, self._most),
            "made_us": time.monotonic_ns() // 1000, **values,
        }  # fmt: skip

    async def stored(self, repeating: RepeatService, repeat_id: str) -> dict[str, Any]:
        """A stored repeat of the turn, the newest unless one is named, and the list of all."""
        try:
            temperature, seed = await repeating.asked_with(self.turn)
            found = await repeating.of_turn(self.turn)
        except AppError as exc:
            return self.value(state="refused", message=exc.message, hint=exc.hint)
        asked = {"temperature": temperature, "seed": seed}
        if not found:
            return self.value(state="none", asked=asked)
        chosen = next((repeat for repeat in found if repeat.id == repeat_id), found[-1])
        runs = [{"id": repeat.id, "title": run_title(repeat)} for repeat in reversed(found)]
        return self.value(state="shown", run=page_view(chosen), runs=runs, asked=asked)


def add_repeat_api(repeating: RepeatService, access: Access) -> None:
    """Register the endpoint inside the current Blocks context."""

    async def repeat_turn_api(
        trace_id: str, options: dict[str, Any] | None = None, request: gr.Request | None = None
    ) -> dict[str, Any]:
        most = _most(access, request)
        wish = RepeatWish.read(options, most=most)
        access.spend(request, [1] * wish.count)
        async with aclosing(repeating.run(trace_id, wish, visitor=most < MOST)) as progresses:
            ended = [progress.repeat async for progress in progresses][-1]
        return repeat_to_dict(ended)

    add_endpoint(repeat_turn_api, "repeat")


def _most(access: Access, request: gr.Request | None) -> int:
    """How many samples per column this caller may ask for."""
    return MOST if access.may_control(request) else VISITORS_MOST
