"""Repeating a turn: the same question several times per column with other seeds. No page, no HTTP.

Every sample goes the way of a turn's answer (``ColumnStream``), without log-probabilities. Closing the iterator closes
the requests. A sample is stored as soon as it has ended.
"""

from __future__ import annotations

import asyncio
import contextlib
import secrets
from collections import defaultdict, deque
from collections.abc import AsyncGenerator, Callable, Sequence
from contextlib import aclosing
from dataclasses import dataclass, field
from datetime import datetime

from components.compare.repeat_request import RepeatWish
from components.compare.stream_column import ColumnStream
from components.compare.turns import TurnService, label_of
from components.core.answers import Answer, Sampling
from components.core.errors import EngineError, EngineNotReadyError, InputError
from components.core.repeats import Repeat, RepeatColumn, Sample
from components.core.states import EngineState, RepeatState, Sight
from components.core.traces import AnswerSlot, ColumnLabel
from components.engines.catalog import Catalog
from components.engines.stream import ChatRequest, has_images
from components.engines.supervisor import EngineHub
from components.storage.repeats import RepeatRepository

AT_ONCE = 4  # requests per engine, of all repeats together: vLLM batches them, and people who ask still get their turn
_HEARTBEAT_S = 1.0
_FLUSH_S = 0.2
_GRACE_S = 5.0
# After one of these the next sample would fare no better.
_ENDING = frozenset({"engine_died", "engine_not_ready", "engine_start", "request_refused", "stream_stalled", "input"})


@dataclass
class _Column:
    """One column while its samples are being made."""

    slot: AnswerSlot
    request: ChatRequest
    label: ColumnLabel
    seeds: deque[int]
    samples: list[Sample] = field(default_factory=list)
    ended_early: str | None = None
    waiting: str = ""

    def record(self) -> RepeatColumn:
        return RepeatColumn(
            position=self.slot.position,
            answer_id=self.slot.id,
            label=self.label,
            sampling=self.request.sampling,
            samples=tuple(sorted(self.samples, key=lambda sample: sample.seed)),
            ended_early=self.ended_early,
        )


@dataclass(frozen=True)
class RepeatProgress:
    """How far it is, and what is being waited for, in words."""

    repeat: Repeat
    waiting: str = ""


@dataclass
class _Run:
    """One repeat while it is going on."""

    begun: Repeat
    columns: tuple[_Column, ...]
    work: list[asyncio.Task[None]] = field(default_factory=list)
    keeping: list[asyncio.Task[None]] = field(default_factory=list)
    changed: asyncio.Event = field(default_factory=asyncio.Event)
    stopped: bool = False

    def progress(self) -> RepeatProgress:
        repeat = self.begun.model_copy(update={"columns": tuple(column.record() for column in self.columns)})
        return RepeatProgress(repeat, next((column.waiting for column in self.columns if column.waiting), ""))

    def ended(self, now: datetime) -> Repeat:
        """The record of the end."""
        state = RepeatState.STOPPED if self.stopped else RepeatState.INCOMPLETE
        if all(len(column.samples) == self.begun.count for column in self.columns):
            state = RepeatState.FINISHED
        columns = tuple(column.record() for column in self.columns)
        return self.begun.model_copy(update={"columns": columns, "state": state, "finished_at": now})


class RepeatService:
    """Repeats turns. One per app; belongs to one event loop."""

    def __init__(
        self, *, turns: TurnService, catalog: Catalog, hub: EngineHub, repeats: RepeatRepository,
        now: Callable[[], datetime],
    ) -> None:  # fmt: skip
        self._turns, self._catalog, self._hub, self._repeats, self._now = turns, catalog, hub, repeats, now
        self._runs: dict[str, _Run] = {}
        self._visitors = 0  # visitors' repeats that are going on
        self._gates: defaultdict[str, asyncio.Semaphore] = defaultdict(lambda: asyncio.Semaphore(AT_ONCE))

    async def run(self, trace_id: str, wish: RepeatWish, *, visitor: bool) -> AsyncGenerator[RepeatProgress, None]:
        """Progress at once and whenever samples have ended; the last one is of the end, and stored.

        Closing the iterator closes the requests and stores the repeat as stopped.

        Args:
            trace_id: the turn.
            wish: how often and how.
            visitor: of a public page: only one repeat of all visitors at a time.

        Raises:
            RecordNotFoundError: there is no such turn. InputError, EngineNotReadyError: it can't be repeated now.
            StorageError: samples could not be stored.
        """
        if visitor and self._visitors:
            raise InputError("Another visitor is repeating a turn.", "Try again when that has ended.")
        self._visitors += visitor
        try:
            run = await self._begin(trace_id, wish)
            async with aclosing(self._run(run)) as progresses:
                async for progress in progresses:
                    yield progress
        finally:
            self._visitors -= visitor

    async def _run(self, run: _Run) -> AsyncGenerator[RepeatProgress, None]:
        await asyncio.to_thread(self._repeats.create, run.begun)
        self._runs[run.begun.id] = run
        workers = min(AT_ONCE, run.begun.count)
        run.work = [asyncio.create_task(self._work(run, column)) for column in run.columns for _ in range(workers)]
        whole = False
        try:
            while not all(task.done() for task in run.work):
                yield run.progress()
                with contextlib.suppress(TimeoutError):
                    async with asyncio.timeout(_HEARTBEAT_S):
                        await run.changed.wait()
                run.changed.clear()
                await asyncio.wait(run.work, timeout=_FLUSH_S)
            whole = True
        finally:
            run.stopped = run.stopped or not whole
            ended = await asyncio.shield(asyncio.create_task(self._end(run)))
        for task in run.work:
            if not task.cancelled():
                task.result()
        yield RepeatProgress(ended)

    def halt(self, repeat_id: str) -> None:
        """Close the requests of a repeat; what has ended is kept."""
        run = self._runs.get(repeat_id)
        if run is not None:
            run.stopped = True
            for task in run.work:
                task.cancel()

    async def of_turn(self, trace_id: str) -> list[Repeat]:
        """All repeats of a turn, oldest first."""
        return await asyncio.to_thread(self._repeats.of_turn, trace_id)

    async def asked_with(self, trace_id: str) -> tuple[float | None, int]:
        """A turn's temperature (None where its columns had different ones) and the first seed a repeat would take.

        Raises:
            RecordNotFoundError: there is no such turn.
        """
        trace = (await self._turns.conversation(trace_id))[-1]
        asked = [stored.slot.sampling for stored in trace.latest_answers]
        hot = {sampling.temperature for sampling in asked}
        return hot.pop() if len(hot) == 1 else None, RepeatWish().seeds(_first_seed(asked)).start

    # ---- beginning and end --------------------------------------------------------------------------------------

    async def _begin(self, trace_id: str, wish: RepeatWish) -> _Run:
        trace, asked = await self._turns.requests_of(trace_id)
        if not asked:
            raise InputError("This turn has no column to repeat.", field="trace_id")
        # One list of seeds for all columns, so that samples can be paired by seed.
        seeds = wish.seeds(_first_seed([slot.sampling for slot, _ in asked]))
        columns = tuple(self._column(slot, request, wish, seeds) for slot, request in asked)
        begun = Repeat(
            id=secrets.token_hex(12), trace_id=trace.id, state=RepeatState.RUNNING, count=wish.count,
            first_seed=seeds.start, created_at=self._now(), columns=tuple(column.record() for column in columns),
        )  # fmt: skip
        return _Run(begun, columns)

    def _column(self, slot: AnswerSlot, request: ChatRequest, wish: RepeatWish, seeds: Sequence[int]) -> _Column:
        engine_id = slot.label.engine_id
        entry, status = self._catalog.find(engine_id), self._hub.status(engine_id)
        if status.state in (EngineState.STOPPED, EngineState.FATAL) and not status.is_asleep:
            raise EngineNotReadyError(f"{entry.model.label} is not running.", "Start it in its column, then repeat.")
        if status.sight is Sight.BLIND and has_images(request):
            raise EngineNotReadyError(f"{entry.model.label} is blind, so it takes no pictures.", status.hint)
        wanted = request.model_copy(update={"sampling": wish.sampling(slot.sampling), "logprobs": 0})
        return _Column(slot, wanted, label_of(entry, status), deque(seeds))

    async def _end(self, run: _Run) -> Repeat:
        for task in run.work:
            task.cancel()
        await asyncio.gather(*run.work, return_exceptions=True)
        await asyncio.gather(*run.keeping, return_exceptions=True)
        del self._runs[run.begun.id]
        ended = run.ended(self._now())
        await asyncio.to_thread(self._repeats.finish, ended)
        return ended

    # ---- samples ------------------------------------------------------------------------------------------------

    async def _work(self, run: _Run, column: _Column) -> None:
        """One of the workers of a column: takes the next seed until none is left."""
        engine_id = column.slot.label.engine_id
        try:
            while column.seeds and column.ended_early is None:
                async with self._gates[engine_id]:
                    await self._next(run, column)
        finally:
            run.changed.set()

    async def _next(self, run: _Run, column: _Column) -> None:
        # At the beginning a loading engine is waited for; one that has ended since then is not.
        if column.samples and not await self._still_answers(column):
            status = self._hub.status(column.slot.label.engine_id)
            column.ended_early = status.reason or status.message or f"The engine is {status.state.value}."
            return
        if not column.seeds or column.ended_early is not None:  # others have gone on meanwhile
            return
        seed = column.seeds.popleft()
        sample = await self._sample(run, column, seed)
        # Shielded: a sample that has ended is stored and counted, even if somebody stops the repeat in this moment.
        kept = asyncio.create_task(self._keep(run, column, sample))
        run.keeping.append(kept)
        await asyncio.shield(kept)
        if sample.error is not None and sample.error.code in _ENDING and column.seeds:
            column.ended_early = f"{sample.error.message} {sample.error.hint}".strip()

    async def _still_answers(self, column: _Column) -> bool:
        """Whether the engine is ready; one that was found silent for a moment gets some seconds."""
        engine_id = column.slot.label.engine_id
        status = self._hub.status(engine_id)
        if status.is_asleep or (status.sight is Sight.BLIND and not has_images(column.request)):
            return True  # it wakes when it is asked; a blind one's text is as good as before
        with contextlib.suppress(EngineError):
            await self._hub.wait_ready(engine_id, _GRACE_S)
            return True
        return False

    async def _keep(self, run: _Run, column: _Column, sample: Sample) -> None:
        await asyncio.to_thread(self._repeats.add_sample, run.begun.id, column.slot.position, sample)
        column.samples.append(sample)
        run.changed.set()

    async def _sample(self, run: _Run, column: _Column, seed: int) -> Sample:
        sampling = column.request.sampling.model_copy(update={"seed": seed})
        slot = column.slot.model_copy(update={"sampling": sampling, "label": column.label})
        stream = ColumnStream(self._hub, slot, column.request.model_copy(update={"sampling": sampling}))
        async with aclosing(stream.run(lambda: _FLUSH_S)) as snapshots:
            async for snapshot in snapshots:
                if snapshot.waiting != column.waiting:
                    column.waiting = snapshot.waiting
                    run.changed.set()
        return _sample_of(stream.answer(), seed)


def _first_seed(asked: Sequence[Sampling]) -> int | None:
    return next((sampling.seed for sampling in asked if sampling.seed is not None), None)


def _sample_of(answer: Answer, seed: int) -> Sample:
    return Sample(
        seed=seed,
        text=answer.text,
        tool_calls=answer.tool_calls,
        outcome=answer.outcome,
        finish_reason=answer.finish_reason,
        error=answer.error,
        output_tokens=answer.usage.output_tokens,
        e2el_ms=answer.timing.e2el_ms,
    )
