"""The Compare tab: layout joined to handlers, and the tab's named API endpoints."""

from __future__ import annotations

from collections.abc import AsyncGenerator, AsyncIterator, Callable, Sequence
from contextlib import aclosing
from typing import Any

import gradio as gr

from components.compare.eyes import EyesService
from components.compare.repeat import RepeatService
from components.compare.request import MAX_COLUMNS
from components.compare.scoring import ScoringService
from components.compare.tab_continue_api import GOING_ON
from components.compare.tab_divergence import wire_divergence
from components.compare.tab_handlers import CompareHandlers
from components.compare.tab_layout import ColumnParts, CompareParts, build_layout
from components.compare.tab_reading import QUIET, Reading, column_count, recent
from components.compare.tab_repeat import wire_repeat
from components.core.errors import AppError
from components.engines.catalog import Catalog
from components.profiles.schema import PairProfile
from components.storage.images import ImageLimits
from components.ui.access import RECORDED, Access
from components.ui.messages import warn
from components.ui.views import Refresh, view

# Values as they come: Gradio would hand each of some thirty controls to a thread and back before the engines are asked,
# and every update of the answer after it. ``read_setup`` checks them all.
_STREAMED: dict[str, Any] = {**QUIET, "concurrency_limit": None, "preprocess": False, "postprocess": False}


def create_compare_tab(
    *, handlers: CompareHandlers, scoring: ScoringService, eyes: EyesService, repeating: RepeatService,
    catalog: Catalog, pair: PairProfile, limits: ImageLimits, example_urls: list[str | None], access: Access,
    first_turn: str | None = None,
) -> Refresh:  # fmt: skip
    """Build the tab inside the current Blocks context. ``first_turn`` is shown where the address names no turn."""
    of_pair = [entry.engine_id for entry in catalog.of_pair(pair.id)]
    chosen = [of_pair[min(i, len(of_pair) - 1)] for i in range(MAX_COLUMNS)]

    def ingest(upload: Any, request: gr.Request) -> dict[str, Any]:
        return handlers.ingest(upload, access.picture_limits(request, limits))

    def example(choice: Any) -> dict[str, Any]:
        return handlers.example(choice)

    composer = view(
        "composer",
        {"recorded": RECORDED} if access.recorded else _composer_value(pair, limits.max_bytes, example_urls),
        # One event a column: the browser runs the listeners of one event one after the other.
        events=[*(f"ask{i}" for i in range(MAX_COLUMNS)), "halt", "open_engine"],
        server_functions=[ingest, example],
        elem_id="dt-composer",
    )
    composer.unrender()
    parts = build_layout(
        handlers.engine_choices(), chosen, access.usual(pair.sampling), composer, min(2, len(of_pair)),
        asking=not access.recorded,
    )  # fmt: skip
    _wire_asking(parts, handlers, access)
    _wire_columns(parts, handlers, access)
    wire_divergence(parts.divergence, scoring, eyes, catalog, access)
    wire_repeat(parts.repeat, repeating, access)
    return Reading(parts, handlers, access, catalog, first_turn).wire()


def _composer_value(pair: PairProfile, max_file_bytes: int, urls: list[str | None]) -> dict[str, Any]:
    examples = [
        {"prompt": example.prompt, "image": example.image, "url": url}
        for example, url in zip(pair.examples, urls, strict=True)
    ]
    return {
        "examples": examples,
        "max_images": pair.max_images,
        "vision": pair.vision,
        "max_file_bytes": max_file_bytes,
    }


def _or_skip(update: tuple[Any, Any]) -> tuple[Any, Any]:
    column, notices = update
    return (gr.skip() if column is None else column, notices)


def _streaming(
    handler: Callable[..., AsyncGenerator[tuple[Any, Any], None]],
    position: int,
    handlers: CompareHandlers,
    access: Access,
) -> Callable[..., Any]:
    """One function object per column: Gradio runs events of one function one after the other (gradio.md P2)."""

    async def run(event: gr.EventData, request: gr.Request, *values: Any) -> AsyncIterator[tuple[Any, Any]]:
        if access.may_control(request):
            await handlers.start_idle(position, values)
        # Closed at once when the page goes away: the engine must not work for nobody (F61).

        def spend(tokens: Sequence[int], key: str) -> None:
            access.spend(request, tokens, key)

        async with aclosing(handler(position, event._data or {}, values, spend)) as updates:  # noqa: SLF001
            async for update in updates:
                yield _or_skip(update)

    run.__name__ = f"{handler.__name__}_{position}"
    return run


def _going_on(position: int, handlers: CompareHandlers, access: Access) -> Callable[..., Any]:
    async def run(event: gr.EventData, request: gr.Request) -> AsyncIterator[tuple[Any, Any]]:
        gate = access.one_visitor_at_a_time(request, GOING_ON, answers=1)
        async with aclosing(handlers.go_on(position, event._data or {}, gate)) as updates:  # noqa: SLF001
            async for update in updates:
                yield _or_skip(update)

    run.__name__ = f"go_on_{position}"
    return run


def _wire_asking(parts: CompareParts, handlers: CompareHandlers, access: Access) -> None:
    inputs = parts.setup_inputs()

    async def halt(event: gr.EventData) -> None:
        handlers.stop(event._data or {})  # noqa: SLF001

    async def history(request: gr.Request) -> dict[str, Any]:
        return await recent(handlers, access, request)

    for position, column in enumerate(parts.columns):
        outputs = [column.view, parts.notices]
        asked = getattr(parts.composer, f"ask{position}")(
            _streaming(handlers.ask, position, handlers, access), inputs, outputs, **_STREAMED
        )
        column.view.retry(_streaming(handlers.retry, position, handlers, access), inputs, outputs, **_STREAMED)
        column.view.force(_going_on(position, handlers, access), None, outputs, **_STREAMED)
        column.view.stop(halt, None, None, concurrency_limit=None, **QUIET)
        if position == 0:
            asked.then(history, None, parts.recent, concurrency_limit=None, **QUIET)
    parts.composer.halt(halt, None, None, concurrency_limit=None, **QUIET)


def _wire_columns(parts: CompareParts, handlers: CompareHandlers, access: Access) -> None:
    for position, column in enumerate(parts.columns):
        _wire_engine(position, column, handlers, access)

    def set_count(change: int) -> Callable[[int], Any]:
        return lambda count: column_count(max(1, min(MAX_COLUMNS, count + change)))

    boxes = [column.box for column in parts.columns]
    outputs = [parts.count, parts.add, parts.remove, *boxes]
    parts.add.click(set_count(1), parts.count, outputs, queue=False, **QUIET)
    parts.remove.click(set_count(-1), parts.count, outputs, queue=False, **QUIET)


def _wire_engine(position: int, column: ColumnParts, handlers: CompareHandlers, access: Access) -> None:
    def start(*, again: bool) -> Callable[..., Any]:
        async def run(engine_id: str, request: gr.Request) -> dict[str, Any]:
            try:
                if handlers.is_idle(engine_id, again=again):
                    access.check_control(request)
                    await handlers.start(engine_id)
            except AppError as exc:
                warn(exc)
            return handlers.head(position, engine_id, may_start=access.may_control(request))

        return run

    # Only a person's choice starts an engine; opening a stored turn changes the choice too.
    column.engine.input(start(again=False), column.engine, column.head, **QUIET)
    column.head.start(start(again=True), column.engine, column.head, **QUIET)
