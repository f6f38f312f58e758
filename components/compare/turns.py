"""One turn over several engines: every column streams on its own, every answer is stored. No page, no HTTP."""

from __future__ import annotations

import asyncio
import contextlib
import secrets
from collections import OrderedDict
from collections.abc import AsyncGenerator, Callable, Iterable
from contextlib import aclosing
from dataclasses import dataclass, field, replace
from datetime import datetime
from typing import Protocol

from components import __version__
from components.compare.continuation import Choice, continuation_of, given_steps, source_of
from components.compare.request import Ask, ColumnRequest, check_ask, chosen_answers, messages_for
from components.compare.same_path import path_of, why_not_by_ids
from components.compare.stream_column import ColumnStream, Snapshot
from components.core.alarms import alarms_of
from components.core.answers import Answer, ImageRecord
from components.core.errors import InputError, RecordNotFoundError
from components.core.states import Outcome
from components.core.traces import AnswerSlot, ColumnLabel, Continuation, StoredAnswer, Trace
from components.engines.catalog import Catalog, CatalogEntry
from components.engines.stream import ChatRequest
from components.engines.stream_tokens import TokensRequest
from components.engines.supervisor import EngineHub, EngineStatus
from components.storage.images import ImageStore
from components.storage.traces import TraceRepository

_ENGINES_FIRST_S = 0.25  # packing and writing a turn takes some ms of a core, which the first token needs
# Turns that are over and kept in memory for the next turn's history; the database has them all. A token with its twenty
# alternatives takes 14 kB here: without the second bound 512 turns of two answers of 256 tokens would take 3.5 GB.
_KEPT_TURNS = 512
_KEPT_TOKENS = 8_000


class UtcClock(Protocol):
    """Where records get their times from."""

    def __call__(self) -> datetime:
        """The time now, in UTC."""


@dataclass
class LiveTurn:
    """A turn while its columns are being answered."""

    ask: Ask
    trace: Trace
    parents: tuple[Trace, ...]
    entry: CatalogEntry
    persisted: asyncio.Task[None]
    answering: asyncio.Event  # a first token has come, or a column has ended without one
    streams: dict[str, ColumnStream] = field(default_factory=dict)
    trouble: dict[str, object] | None = None  # what went wrong with keeping it, for the page

    @property
    def tokens(self) -> int:
        """Tokens of all answers that it holds, those of the turns before it too."""
        return sum(len(stored.answer.tokens) for turn in (*self.parents, self.trace) for stored in turn.answers)

    @property
    def is_open(self) -> bool:
        """Whether an answer is still to come."""
        return any(stored.answer.outcome is Outcome.STREAMING for stored in self.trace.latest_answers)

    def slot(self, position: int) -> AnswerSlot | None:
        """The newest place for an answer of that column."""
        mine = [a.slot for a in self.trace.latest_answers if a.slot.position == position]
        return mine[0] if mine else None


class TurnService:
    """Asks, retries, stops. One per app; safe for concurrent columns on one event loop."""

    def __init__(
        self, *, catalog: Catalog, hub: EngineHub, traces: TraceRepository, images: ImageStore, now: UtcClock,
        on_turn: Callable[[str], None] = lambda _pair: None,
        on_answer: Callable[[str, Answer], None] = lambda _engine_id, _answer: None,
    ) -> None:  # fmt: skip
        """``on_turn`` is told a new turn's pair, ``on_answer`` an answer that has ended and its engine's id."""
        self._on_turn, self._on_answer = on_turn, on_answer
        self._catalog, self._hub, self._traces, self._images, self._now = catalog, hub, traces, images, now
        self._turns: OrderedDict[str, asyncio.Task[LiveTurn]] = OrderedDict()
        self._live: OrderedDict[str, LiveTurn] = OrderedDict()
        self.active_streams = 0

    # ---- asking -------------------------------------------------------------------------------------------------

    async def begin(self, ask: Ask) -> LiveTurn:
        """The turn of that key: the first column to ask makes it, the others get the same.

        Raises:
            InputError: the question is not acceptable. NotPermittedError: this app runs no engine.
        """
        self._hub.check_open()
        task = self._turns.get(ask.key)
        if task is None:
            task = asyncio.create_task(self._make(ask))
            self._turns[ask.key] = task
            while len(self._turns) > _KEPT_TURNS:  # those that were refused are nowhere else
                self._turns.popitem(last=False)
        return await asyncio.shield(task)

    async def _make(self, ask: Ask) -> LiveTurn:
        parents = await self._parents(ask.parent_id)
        entries = [self._catalog.find(column.engine_id) for column in ask.columns]
        if not entries:
            raise InputError("No column has an engine.", "Choose an engine for at least one column.", field="columns")
        before = sum(len(turn.images) for turn in parents)
        limit = min(entry.pair.max_images for entry in entries)
        vision = all(entry.pair.vision for entry in entries)
        check_ask(ask, vision=vision, max_images=limit, images_before=before)
        trace_id = ask.key[:32]
        trace = Trace(
            id=trace_id,
            created_at=self._now(),
            conversation_id=parents[0].conversation_id if parents else trace_id,
            parent_id=ask.parent_id,
            pair=entries[0].pair.id,
            prompt=ask.prompt,
            system=ask.system,
            images=ask.images,
            tools=ask.tools,
            answers=tuple(self._slot(ask, column, parents, attempt=1) for column in ask.columns),
            app_version=__version__,
        )
        # The database commits to disk while the engines already work: neither waits for the other, and no answer
        # is confirmed before its turn is stored (see _finish).
        answering = asyncio.Event()
        persisted = asyncio.create_task(self._persist(trace, answering))
        live = LiveTurn(ask, trace, parents, entries[0], persisted, answering)
        self._remember(live)
        self._on_turn(trace.pair)
        return live

    async def _persist(self, trace: Trace, answering: asyncio.Event) -> None:
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(_ENGINES_FIRST_S):
                await answering.wait()
        await asyncio.to_thread(self._traces.create_turn, trace)

    def _slot(self, ask: Ask, column: ColumnRequest, parents: tuple[Trace, ...], attempt: int) -> StoredAnswer:
        chosen = chosen_answers(parents, column.position, ask.history.get(column.position, ()))
        slot = AnswerSlot(
            id=secrets.token_hex(12),
            position=column.position,
            attempt=attempt,
            label=label_of(self._catalog.find(column.engine_id), self._hub.status(column.engine_id)),
            sampling=column.sampling,
            history=tuple(stored.slot.id for stored in chosen if stored is not None),
        )
        return StoredAnswer(slot=slot, started_at=self._now())

    async def retry(self, trace_id: str, column: ColumnRequest) -> tuple[LiveTurn, AnswerSlot]:
        """A new attempt beside the earlier answers of a column, which stay as they are.

        Raises:
            RecordNotFoundError: there is no such turn.
        """
        live = self._live.get(trace_id) or await self._revive(trace_id)
        slots = [a.slot for a in live.trace.answers if a.slot.position == column.position]
        attempt = max((slot.attempt for slot in slots), default=0) + 1
        return live, await self._add(live, self._slot(live.ask, column, live.parents, attempt))

    async def continue_from(self, trace_id: str, position: int, choice: Choice) -> tuple[LiveTurn, AnswerSlot]:
        """A sibling in a column: its engine is given the beginning of an answer of this turn and a chosen token.

        Raises:
            RecordNotFoundError: there is no such turn. InputError: it can't go on from there; names the field.
            EngineNotReadyError: the column's engine does not run.
        """
        live = self._live.get(trace_id) or await self._revive(trace_id)
        own = next((a for a in live.trace.latest_answers if a.slot.position == position), None)
        if own is None:
            raise InputError("This turn has no answer in that column.", "Ask that column first.", field="position")
        entry = self._catalog.find(own.slot.label.engine_id)
        status, source = self._hub.status(entry.engine_id), source_of(live.trace, choice)
        if reason := why_not_by_ids(entry, status, live.trace, live.parents, source):
            raise InputError(f"It can't go on from a chosen token: {reason}", field="answer_id")
        continued = continuation_of(source, choice, self._hub.vocabulary(entry.engine_id))
        slot = own.slot.model_copy(
            update={
                "id": secrets.token_hex(12),
                "attempt": max(a.slot.attempt for a in live.trace.answers if a.slot.position == position) + 1,
                "label": label_of(entry, status),
                "history": source.slot.history,
                "continued": continued,
            }
        )
        return live, await self._add(live, StoredAnswer(slot=slot, started_at=self._now()))

    async def _add(self, live: LiveTurn, stored: StoredAnswer) -> AnswerSlot:
        live.trace = live.trace.model_copy(update={"answers": (*live.trace.answers, stored)})
        await asyncio.shield(live.persisted)
        await asyncio.to_thread(self._traces.add_answer, live.trace.id, stored.slot)
        return stored.slot

    async def _revive(self, trace_id: str) -> LiveTurn:
        """A stored turn as a live one, so that it can be asked again after a restart."""
        self._hub.check_open()
        chain = await asyncio.to_thread(self._traces.conversation, trace_id)
        trace = chain[-1]
        history: dict[int, tuple[str, ...]] = {}
        for stored in trace.answers:
            history[stored.slot.position] = stored.slot.history
        ask = Ask(
            key=trace.id, prompt=trace.prompt, system=trace.system, tools=trace.tools, images=trace.images,
            columns=(), parent_id=trace.parent_id, history=history,
        )  # fmt: skip
        done = asyncio.create_task(asyncio.sleep(0))
        live = LiveTurn(ask, trace, tuple(chain[:-1]), self._catalog.entries()[0], done, asyncio.Event())
        self._remember(live)
        return live

    async def requests_of(self, trace_id: str) -> tuple[Trace, tuple[tuple[AnswerSlot, ChatRequest], ...]]:
        """A turn, and for each column's newest answer its place and the request it came from, to be asked again.

        Raises:
            RecordNotFoundError: there is no such turn. InputError: it is still being answered.
        """
        self._hub.check_open()
        live = self._live.get(trace_id) or await self._revive(trace_id)
        if live.is_open:
            raise InputError("This turn is still being answered.", "Wait for its end, or stop it.", field="trace_id")
        slots = [stored.slot for stored in live.trace.latest_answers]
        requests = await asyncio.to_thread(lambda: [self._chat_request(live, slot) for slot in slots])
        return live.trace, tuple(zip(slots, requests, strict=True))

    # ---- streaming ----------------------------------------------------------------------------------------------

    async def stream(
        self, live: LiveTurn, slot: AnswerSlot, flush_s: Callable[[], float]
    ) -> AsyncGenerator[Snapshot, None]:
        """Snapshots of one column's answer, at once for the first token, then every ``flush_s()``; the last is final.

        Closing the iterator stops the engine's work and stores the answer as stopped.
        """
        stream = ColumnStream(self._hub, slot, self._request(live, slot))
        live.streams[slot.id] = stream
        self.active_streams += 1
        saver = asyncio.create_task(self._save_partials(live, slot, stream))
        try:
            async with aclosing(stream.run(flush_s)) as snapshots:
                async for snapshot in snapshots:
                    if snapshot.answer.text:
                        live.answering.set()
                    yield snapshot
        finally:
            live.answering.set()
            self.active_streams -= 1
            saver.cancel()
            await asyncio.shield(self._finish(live, slot, stream))
        yield Snapshot(stream.answer(), "")

    async def finish(
        self, live: LiveTurn, slots: Iterable[AnswerSlot], flush_s: Callable[[], float] = lambda: 0.25
    ) -> None:
        """Let columns answer side by side to their end, where nobody watches."""

        async def drain(slot: AnswerSlot) -> None:
            async with aclosing(self.stream(live, slot, flush_s)) as snapshots:
                async for _ in snapshots:
                    pass

        await asyncio.gather(*(drain(slot) for slot in slots))

    def _request(self, live: LiveTurn, slot: AnswerSlot) -> ChatRequest | TokensRequest:
        if slot.continued is not None:
            return self._continuation(live, slot, slot.continued)
        return self._chat_request(live, slot)

    def _chat_request(self, live: LiveTurn, slot: AnswerSlot) -> ChatRequest:
        chosen = chosen_answers(live.parents, slot.position, slot.history)
        return ChatRequest(
            messages=messages_for(live.ask, live.parents, chosen, self.data_url),
            sampling=slot.sampling,
            tools=live.ask.tools,
            # Prefix-cache timing tells nothing about other people's conversations (reliability.md T14).
            cache_salt=live.trace.conversation_id,
        )

    def _continuation(self, live: LiveTurn, slot: AnswerSlot, continued: Continuation) -> TokensRequest:
        source = next(a for a in live.trace.answers if a.slot.id == continued.answer_id)
        path = path_of(live.trace, live.parents, source, self.data_url, salt=live.trace.conversation_id)
        given = given_steps(source, continued)
        ids = tuple(step.token_id for step in given if step.token_id is not None)
        return TokensRequest(replace(path, answer_ids=ids), given, slot.sampling)

    def data_url(self, image: ImageRecord) -> str:
        """The canonical PNG as a ``data:`` URL: the same bytes for every engine."""
        return self._images.data_url(image.sha256)

    async def _save_partials(self, live: LiveTurn, slot: AnswerSlot, stream: ColumnStream) -> None:
        """Every two seconds the text so far goes to disk, so that a killed app loses little of a long answer."""
        # Shielded: this task is cancelled when the answer ends, which must not cancel the storing of the turn.
        await asyncio.shield(live.persisted)
        saved = ""
        while True:
            await asyncio.sleep(2.0)
            if stream.text != saved:
                saved = stream.text
                await asyncio.to_thread(self._traces.save_partial, slot.id, saved)

    async def _finish(self, live: LiveTurn, slot: AnswerSlot, stream: ColumnStream) -> None:
        # In a thread: a long answer has thousands of alternatives, and other columns stream meanwhile.
        answer = await asyncio.to_thread(stream.answer)
        await asyncio.shield(live.persisted)
        ended_at = await asyncio.to_thread(self._traces.finish_answer, slot.id, answer)
        live.streams.pop(slot.id, None)
        self._on_answer(slot.label.engine_id, answer)
        answers = tuple(
            a.model_copy(update={"answer": answer, "finished_at": ended_at}) if a.slot.id == slot.id else a
            for a in live.trace.answers
        )
        live.trace = live.trace.model_copy(update={"answers": answers})
        if live.is_open:
            return
        alarms = alarms_of(live.trace)
        live.trace = live.trace.model_copy(update={"alarms": alarms})
        await asyncio.to_thread(self._traces.set_alarms, live.trace.id, alarms)
        self._forget_oldest()

    def stop(self, trace_id: str, position: int | None = None) -> None:
        """End the answers of a turn (of one column, or of all); what came so far is kept."""
        live = self._live.get(trace_id)
        for stream in list(live.streams.values()) if live else []:
            if position is None or stream.slot.position == position:
                stream.stop()

    # ---- reading ------------------------------------------------------------------------------------------------

    async def conversation(self, trace_id: str) -> tuple[Trace, ...]:
        """A turn with all turns before it, oldest first.

        Raises:
            RecordNotFoundError: there is no such turn.
        """
        live = self._live.get(trace_id)
        if live is not None:
            return (*live.parents, live.trace)
        return tuple(await asyncio.to_thread(self._traces.conversation, trace_id))

    async def _parents(self, parent_id: str | None) -> tuple[Trace, ...]:
        if parent_id is None:
            return ()
        try:
            return await self.conversation(parent_id)
        except RecordNotFoundError as exc:
            raise InputError(
                "The turn before this one is not stored here.", "Start a new conversation.", field="parent"
            ) from exc

    def _remember(self, live: LiveTurn) -> None:
        self._live[live.trace.id] = live
        self._forget_oldest()

    def _forget_oldest(self) -> None:
        """Turns that are over leave memory, oldest first, when there are too many or their answers are too long."""
        held = sum(live.tokens for live in self._live.values())
        for trace_id, live in list(self._live.items())[:-1]:
            if len(self._live) <= _KEPT_TURNS and held <= _KEPT_TOKENS:
                return
            if live.streams or (live.is_open and len(self._live) <= _KEPT_TURNS):
                continue
            held -= live.tokens
            del self._live[trace_id]
            self._turns.pop(live.ask.key, None)


def label_of(entry: CatalogEntry, status: EngineStatus) -> ColumnLabel:
    """What is known about an engine now, to be stored with the answer."""
    serve = entry.pair.serve_of(entry.model)
    remote = entry.model.source.kind == "remote"
    revision = getattr(entry.model.source, "revision", None)
    return ColumnLabel(
        engine_id=entry.engine_id,
        model=entry.model.label,
        pair=entry.pair.id,
        role=entry.model.role,
        scheme=entry.model.scheme,
        revision=revision,
        unquantized=entry.model.unquantized,
        kv_cache_dtype=None if remote else serve.kv_cache_dtype,
        engine_version=status.engine_version,
        max_model_len=None if remote else serve.max_model_len,
        sight=status.sight,
        emulated=entry.model.emulated,
    )
