"""What the Compare tab shows of stored turns and of engines: the page's load, its history, engines from elsewhere."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import gradio as gr

from components.compare import view_model
from components.compare.request import MAX_COLUMNS
from components.compare.tab_handlers import CompareHandlers
from components.compare.tab_layout import CompareParts
from components.core.errors import AppError
from components.engines.catalog import Catalog
from components.ui.access import Access
from components.ui.messages import warn
from components.ui.views import Refresh

QUIET: dict[str, Any] = {"show_progress": "hidden", "api_visibility": "private"}
_EMPTY = "Ask something: the answer of this model appears here, as it is written."


@dataclass(frozen=True)
class Reading:
    """Events that read. ``wire`` joins them to the layout."""

    parts: CompareParts
    handlers: CompareHandlers
    access: Access
    catalog: Catalog
    first: str | None = None  # the turn to open where the address names none

    def wire(self) -> Refresh:
        """Give the parts their events."""
        parts = self.parts
        engines = [column.engine for column in parts.columns]
        heads = [column.head for column in parts.columns]
        views = [*(column.view for column in parts.columns), parts.notices]
        shape = [parts.count, parts.add, parts.remove, *(column.box for column in parts.columns), *engines, *heads]
        inputs = [parts.count, *engines]
        gr.on(None, self.load, inputs, [*views, *shape, parts.recent], **QUIET)
        parts.recent.open(self.open_recent, inputs, [*views, *shape], **QUIET)
        parts.composer.open_engine(self.open_engine, inputs, shape, concurrency_limit=None, **QUIET)
        seen = gr.State(self.catalog.version)
        return Refresh([*engines, seen], [*heads, *engines, seen], self.states)

    async def load(self, request: gr.Request, *now: Any) -> list[Any]:
        """The page, with the turn that its address names."""
        shown = await self._show(request.query_params.get("trace") or self.first, request, now)
        return [*shown, await recent(self.handlers, self.access, request)]

    async def open_recent(self, event: gr.EventData, request: gr.Request, *now: Any) -> list[Any]:
        """A turn of the history."""
        return await self._show(str((event._data or {}).get("turn")), request, now)  # noqa: SLF001

    async def open_engine(self, event: gr.EventData, request: gr.Request, *now: Any) -> list[Any]:
        """Another tab wants an engine to be seen: it becomes a column, and starts if the caller may start one."""
        engine_id = str((event._data or {}).get("engine"))  # noqa: SLF001
        count, engine_ids = int(now[0]), list(now[1:])
        try:
            count, engine_ids = self.handlers.with_engine(engine_id, count, engine_ids)
            for shown in engine_ids[:count]:
                if self.access.may_control(request) and self.handlers.is_idle(shown, again=shown == engine_id):
                    await self.handlers.start(shown)
        except AppError as exc:
            warn(exc)
        return self._shaped(count, engine_ids, request)

    def states(self, request: gr.Request, values: Sequence[Any]) -> list[Any]:
        """Heads of the columns; the choices only when there are new ones, for an open list would close."""
        *engine_ids, seen = values
        choices = gr.skip() if seen == self.catalog.version else gr.update(choices=self.handlers.engine_choices())
        return [*self._heads(engine_ids, request), *[choices] * len(engine_ids), self.catalog.version]

    async def _show(self, trace_id: str | None, request: gr.Request, now: Sequence[Any]) -> list[Any]:
        """Views and shape of the page for a stored turn; the shape stays as it is where there is none."""
        count, engine_ids = now[0], list(now[1:])
        conversation = await self.handlers.open_turn(trace_id)
        if conversation:
            used = self.handlers.columns_of(conversation[-1])
            count, engine_ids = max(len(used), 1), [*used, *engine_ids[len(used) :]]
        columns = [view_model.column_view(i, conversation, _EMPTY) for i in range(MAX_COLUMNS)]
        notices = view_model.notices_view(conversation[-1] if conversation else None)
        return [*columns, notices, *self._shaped(count, engine_ids, request)]

    def _shaped(self, count: int, engine_ids: Sequence[str], request: gr.Request) -> list[Any]:
        """Count, buttons, boxes, engines with all that there are to choose from, heads."""
        choices = self.handlers.engine_choices()
        shown = [gr.update(choices=choices, value=engine_id) for engine_id in engine_ids]
        return [*column_count(count), *shown, *self._heads(engine_ids, request)]

    def _heads(self, engine_ids: Sequence[str], request: gr.Request) -> list[Any]:
        may_start = self.access.may_control(request)
        return [self.handlers.head(i, e, may_start=may_start) for i, e in enumerate(engine_ids)]


async def recent(handlers: CompareHandlers, access: Access, request: gr.Request) -> dict[str, Any]:
    """The history; on a public page a visitor sees nobody's, only what a link leads to."""
    return await handlers.recent() if access.sees_history(request) else {"items": []}


def column_count(count: int) -> list[Any]:
    """Updates for the number of columns: the state, both buttons, the boxes."""
    boxes = (gr.update(visible=i < count) for i in range(MAX_COLUMNS))
    return [count, gr.update(interactive=count < MAX_COLUMNS), gr.update(interactive=count > 1), *boxes]
