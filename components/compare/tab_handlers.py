"""Events of the Compare tab: parse, call one service, make a view. Async, about 25 lines each at most."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Awaitable, Callable, Sequence
from contextlib import AbstractContextManager, ExitStack, aclosing, nullcontext
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from components.compare import view_model
from components.compare.continuation import Choice
from components.compare.request import MAX_COLUMNS, Ask, ColumnRequest, parse_sampling, parse_stop, parse_tools
from components.compare.turns import LiveTurn, TurnService
from components.core.answers import ImageRecord, Sampling
from components.core.errors import AppError, InputError, StorageError
from components.core.states import EngineState
from components.core.traces import AnswerSlot, Trace
from components.engines.catalog import Catalog
from components.engines.supervisor import EngineHub
from components.profiles.schema import PairProfile
from components.storage.images import ImageLimits, ImageStore
from components.storage.traces import TraceRepository

_OWN = ("temperature", "top_p", "max_tokens", "seed")
_SHARED = 8  # controls before the first column's, and controls of each column
_PER_COLUMN = 1 + len(_OWN)


# Takes longest lengths of answers and a question's key from what the caller may have; refuses with an AppError.
Spend = Callable[[Sequence[int], str], None]


@dataclass(frozen=True)
class Setup:
    """What the page's controls say when a question is asked."""

    system: str
    tools: tuple[dict[str, Any], ...]
    columns: tuple[ColumnRequest, ...]


def read_setup(values: Sequence[Any]) -> Setup:
    """Controls in the order of ``CompareParts.setup_inputs``.

    Raises:
        InputError: naming the control and what it accepts.
    """
    count, system, temperature, top_p, max_tokens, seed, stop, tools = values[:_SHARED]
    named = {"temperature": temperature, "top_p": top_p, "max_tokens": max_tokens, "seed": seed}
    shared = parse_sampling({**named, "stop": parse_stop(str(stop or ""))}, Sampling())
    columns = []
    for position in range(min(int(count), MAX_COLUMNS)):
        engine, *own = values[_SHARED + _PER_COLUMN * position :][:_PER_COLUMN]
        sampling = parse_sampling(dict(zip(_OWN, own, strict=True)), shared)
        columns.append(ColumnRequest(position=position, engine_id=str(engine or ""), sampling=sampling))
    return Setup(str(system or ""), parse_tools(str(tools or "")), tuple(columns))


def flush_interval_s(active_streams: int) -> float:
    """Seconds between two page updates of a column: about 12 a second alone, fewer when many columns stream at once.

    Every update costs the event loop about a millisecond, wherever its text goes; with 32 streams at full rate the page
    would take the time that the engines need.
    """
    return max(0.08, 0.02 * active_streams)


class CompareHandlers:
    """Handlers of one app; they hold no state of a page."""

    def __init__(
        self, *, turns: TurnService, catalog: Catalog, hub: EngineHub, images: ImageStore, traces: TraceRepository,
        pair: PairProfile, assets: Path, uploads: Path, recorded: tuple[str, ...] | None = None,
    ) -> None:  # fmt: skip
        """``recorded``: ids of the only turns that the history lists; None = it lists the newest."""
        self._recorded = recorded
        self._turns, self._catalog, self._hub = turns, catalog, hub
        self._images, self._traces, self._pair = images, traces, pair
        self._assets, self._uploads = assets, uploads

    # ---- asking: one stream per column, none waits for another ---------------------------------------------------

    async def ask(
        self, position: int, event: dict[str, Any], values: Sequence[Any], spend: Spend
    ) -> AsyncGenerator[tuple[Any, Any], None]:
        """(column view, notices) pairs for one column of a new turn; nothing for a column that is not shown."""
        try:
            setup = read_setup(values)
            if position >= len(setup.columns):
                return
            spend([column.sampling.max_tokens for column in setup.columns], str(event.get("key", "")))
            live = await self._turns.begin(await self._read_ask(event, setup))
        except AppError as exc:
            if position == 0:
                yield None, view_model.notices_view(None, _refused(exc))
            return
        slot = live.slot(position)
        if slot is not None:
            async with aclosing(self._stream(live, slot)) as updates:
                async for update in updates:
                    yield update

    def retry(
        self, position: int, event: dict[str, Any], values: Sequence[Any], spend: Spend
    ) -> AsyncGenerator[tuple[Any, Any], None]:
        """(column view, notices) pairs for one more attempt of a column."""

        async def begin() -> tuple[LiveTurn, AnswerSlot]:
            column = read_setup(values).columns[position]
            spend([column.sampling.max_tokens], "")
            return await self._turns.retry(str(event.get("turn")), column)

        return self._sibling(begin, nullcontext())

    def go_on(
        self, position: int, event: dict[str, Any], gate: AbstractContextManager[None]
    ) -> AsyncGenerator[tuple[Any, Any], None]:
        """(column view, notices) pairs for a sibling that goes on from a chosen token, with the column's settings.

        ``gate`` is held meanwhile; it may refuse.
        """

        async def begin() -> tuple[LiveTurn, AnswerSlot]:
            return await self._turns.continue_from(str(event.get("turn")), position, Choice.read(event))

        return self._sibling(begin, gate)

    async def _sibling(
        self, begin: Callable[[], Awaitable[tuple[LiveTurn, AnswerSlot]]], gate: AbstractContextManager[None]
    ) -> AsyncGenerator[tuple[Any, Any], None]:
        """One more answer beside a column's earlier ones."""
        with ExitStack() as held:
            try:
                held.enter_context(gate)
                live, slot = await begin()
            except AppError as exc:
                yield None, view_model.notices_view(None, _refused(exc))
                return
            async with aclosing(self._stream(live, slot)) as updates:
                async for update in updates:
                    yield update

    async def _stream(self, live: LiveTurn, slot: AnswerSlot) -> AsyncGenerator[tuple[Any, Any], None]:
        position = slot.position
        column = view_model.column_view(position, (*live.parents, live.trace))
        turn = column["turns"][-1]
        index = next(i for i, answer in enumerate(turn["answers"]) if answer["id"] == slot.id)
        stored = next(a for a in live.trace.answers if a.slot.id == slot.id)

        def flush_s() -> float:
            return flush_interval_s(self._turns.active_streams)

        final = column
        try:
            async with aclosing(self._turns.stream(live, slot, flush_s)) as snapshots:
                async for snapshot in snapshots:
                    answers = list(turn["answers"])
                    now = stored.model_copy(update={"answer": snapshot.answer})
                    answers[index] = view_model.answer_view(live.trace, now, snapshot.waiting)
                    # A new value each time: Gradio sends the difference to the one before. The notices go along
                    # unchanged: a skipped output makes Gradio build the component anew at every update.
                    final = {**column, "turns": [*column["turns"][:-1], {**turn, "answers": answers}]}
                    yield final, view_model.notices_view(live.trace, live.trouble)
        except StorageError as exc:
            # The answer is on the page, but not on disk: that must be said (F55), whichever column ends last.
            live.trouble = _refused(exc)
        yield final, view_model.notices_view(live.trace, live.trouble)

    async def _read_ask(self, event: dict[str, Any], setup: Setup) -> Ask:
        names = event.get("names") or []
        hashes = [str(item) for item in event.get("images") or []]
        images = await asyncio.to_thread(self._image_records, hashes, [str(name) for name in names])
        history = {int(k): tuple(map(str, v)) for k, v in (event.get("history") or {}).items() if str(k).isdigit()}
        return Ask(
            key=str(event.get("key", "")), prompt=str(event.get("prompt", "")), system=setup.system, tools=setup.tools,
            images=images, columns=setup.columns, parent_id=event.get("parent"), history=history,
        )  # fmt: skip

    def _image_records(self, hashes: list[str], names: list[str]) -> tuple[ImageRecord, ...]:
        found = [self._images.record(sha256) for sha256 in hashes]
        return tuple(
            record.model_copy(update={"name": name})
            for record, name in zip(found, names or [r.name for r in found], strict=True)
        )

    def stop(self, event: dict[str, Any]) -> None:
        """Stop one column of a turn, or all."""
        self._turns.stop(str(event.get("turn")), event.get("position"))

    # ---- pictures -----------------------------------------------------------------------------------------------

    def ingest(self, upload: Any, limits: ImageLimits | None = None) -> dict[str, Any]:
        """Canonicalise an uploaded file: ``{"image": …}`` or ``{"error": …}``. Blocks; Gradio calls it in a thread.

        Args:
            upload: ``{"path": …, "name": …}`` as the browser sends it, so trusted in nothing.
            limits: narrower ones for this caller; None = those of all.
        """
        try:
            path = Path(str(upload["path"])).resolve()
            if not path.is_relative_to(self._uploads.resolve()) or not path.is_file():
                raise InputError("That is not an uploaded file.", "Upload the picture again.", field="images")
            return {"image": view_model.image_view(self._images.ingest(path, str(upload["name"]), limits))}
        except AppError as exc:
            return {"error": exc.as_record()}
        except (KeyError, TypeError, ValueError):
            return {"error": InputError("The upload names no file.", "Upload the picture again.").as_record()}

    def example(self, choice: Any) -> dict[str, Any]:
        """Canonicalise the picture of one of the pair's examples: ``{"index": 0}``."""
        examples = self._pair.examples
        index = choice.get("index") if isinstance(choice, dict) else None
        image = examples[index].image if isinstance(index, int) and 0 <= index < len(examples) else None
        if image is None:
            return {"error": InputError("There is no such example.", field="example").as_record()}
        try:
            path = self._assets.parent / image
            return {"image": view_model.image_view(self._images.ingest(path, path.name))}
        except AppError as exc:
            return {"error": exc.as_record()}

    # ---- reading ------------------------------------------------------------------------------------------------

    async def open_turn(self, trace_id: str | None) -> tuple[Trace, ...]:
        """A stored conversation; empty when there is none of that id."""
        if not trace_id:
            return ()
        try:
            return await self._turns.conversation(trace_id)
        except AppError:
            return ()

    async def recent(self) -> dict[str, Any]:
        """The newest turns."""
        summaries = await asyncio.to_thread(self._traces.recent, 20, only=self._recorded)
        return view_model.recent_view(summaries, datetime.now(UTC))

    def engine_choices(self) -> list[tuple[str, str]]:
        """What a column may show: (label, engine id), those of other pairs with the pair's name."""
        return [
            (e.model.label if e.pair.id == self._pair.id else f"{e.pair.title} · {e.model.label}", e.engine_id)
            for e in self._catalog.entries()
        ]

    def with_engine(self, engine_id: str, count: int, engine_ids: Sequence[str]) -> tuple[int, list[str]]:
        """Columns that show this engine too: the next one, or the last where there is no room for one more.

        Beside the engine of another pair nothing can be compared; then its base stands in the first column.

        Raises:
            InputError: there is no such engine.
        """
        wanted, columns = self._catalog.find(engine_id), list(engine_ids)
        shown = [self._catalog.find(each).pair.id for each in columns[:count]]
        if wanted.pair.id not in shown:
            return 2, [self._catalog.of_pair(wanted.pair.id)[0].engine_id, engine_id, *columns[2:]]
        if engine_id in columns[:count]:
            return count, columns
        count = min(count + 1, MAX_COLUMNS)
        columns[count - 1] = engine_id
        return count, columns

    def head(self, position: int, engine_id: str, *, may_start: bool) -> dict[str, Any]:
        """A column's head."""
        entry = self._catalog.find(engine_id)
        head = view_model.head_view(position, entry, self._hub.status(engine_id))
        return {**head, "can_start": head["can_start"] and may_start}

    def columns_of(self, turn: Trace) -> list[str]:
        """Engines of a stored turn's columns, from the left; one that is no longer in a profile is left out."""
        known = {entry.engine_id for entry in self._catalog.entries()}
        shown = [stored.slot.label.engine_id for stored in turn.latest_answers]
        return [engine_id for engine_id in shown if engine_id in known]

    def is_idle(self, engine_id: str, *, again: bool = False) -> bool:
        """Whether showing an engine should start it. A FATAL one only when a person says so (``again``)."""
        status = self._hub.status(engine_id)
        stopped = status.is_off
        return stopped or (again and status.state is EngineState.FATAL)

    async def start(self, engine_id: str) -> None:
        """Start an engine."""
        await self._hub.start(engine_id)

    async def start_idle(self, position: int, values: Sequence[Any]) -> None:
        """Start the engine of a column that is asked while it is stopped. What is wrong is said by the asking."""
        engine_id = str(values[_SHARED + _PER_COLUMN * position])
        known = any(entry.engine_id == engine_id for entry in self._catalog.entries())
        if position < int(values[0]) and known and self.is_idle(engine_id):
            await self._hub.start(engine_id)

    def status_line(self, engine_ids: Sequence[str]) -> dict[str, str]:
        """The page's corner."""
        return {
            "text": view_model.status_line(self._pair.title, [self._hub.status(e) for e in dict.fromkeys(engine_ids)])
        }


def _refused(exc: AppError) -> dict[str, Any]:
    return {**exc.as_record(), "at": datetime.now(UTC).isoformat()}
