"""Puts the questions of batches to the engines, one batch at a time, and goes on after a restart.

It runs inside the app, as one background task, and not as a detached job: the engines belong to the app, a second set
would take their memory once more, and only the app may write to its database. What makes it durable is the database:
every question is stored before the first is asked, each one's answers are stored when they come, and the next start
goes on with what is missing. Memory stays bounded: a few questions at a time are held.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import Callable
from dataclasses import dataclass

from components.compare.case import Wanted
from components.compare.request import Ask, ColumnRequest
from components.compare.scoring import ScoringService
from components.compare.turns import TurnService
from components.core.answers import Answer
from components.core.content_tokens import content_divergence, disagreement, matches
from components.core.errors import AppError, EngineError, InputError, RecordNotFoundError, StreamError
from components.core.reviews import Answered, Batch, BatchState
from components.core.states import EngineState, Outcome
from components.core.traces import StoredAnswer, Trace
from components.engines.catalog import Catalog
from components.engines.supervisor import EngineHub
from components.review.elsewhere import Elsewhere
from components.storage.reviews import Pending, ReviewRepository
from components.storage.shared_folder import Bell

_LOG = logging.getLogger(__name__)
_AT_ONCE = 4
_PAUSES_S = (1.0, 5.0)  # before each further try: that an engine has died takes a moment to be noticed
_AT_ONCE_BY_TURNS = 32  # engines that take turns change places a few times for so many
_LOST_IN_A_ROW = 6  # so many questions that no engine could answer: it waits for a person
_LISTEN_S = 0.5  # between two looks at the bell: one call of the kernel, no question to the database
_FOLLOW_S = 1.0
_FLUSH_S = 0.5


@dataclass
class _Run:
    """What is remembered of the batch at hand."""

    batch: Batch
    lost_in_a_row: int = 0


class BatchRunner:
    """One per app. ``run`` until cancelled; ``wake`` when there is a new batch."""

    def __init__(
        self, reviews: ReviewRepository, turns: TurnService, scoring: ScoringService, catalog: Catalog, hub: EngineHub,
        leads: Callable[[], bool] = lambda: True, elsewhere: Elsewhere | None = None, bell: Bell | None = None,
    ) -> None:  # fmt: skip
        """Set up; asks nothing.

        Args:
            reviews, turns, scoring, catalog, hub: the app's.
            leads: whether this app answers the batches; where another one does, it waits to take over.
            elsewhere: who takes batches before the app's own engines are asked; None = nobody.
            bell: tells the other apps of the same records of a new batch, and this one of theirs; None = no others.
        """
        self._elsewhere = elsewhere
        self._reviews, self._turns, self._scoring = reviews, turns, scoring
        self._catalog, self._hub, self.leads = catalog, hub, leads
        self._bell = bell
        self._woken = asyncio.Event()
        self._loop: asyncio.AbstractEventLoop | None = None  # once it runs
        self.version = 0  # moves with every answered question, for the page

    def check_open(self) -> None:
        """Refuse new questions in an app that runs no engine.

        Raises:
            NotPermittedError: so it is.
        """
        self._hub.check_open()

    def wake(self) -> None:
        """Look for work now, here or in the app that leads. Safe from any thread."""
        self.version += 1
        if self._loop is None or self._loop.is_closed():
            self._woken.set()
        else:
            self._loop.call_soon_threadsafe(self._woken.set)
        if self._bell is not None:
            self._bell.ring()

    async def run(self) -> None:
        """Until cancelled. A batch that can't go on is stopped with its reason; the next one is begun."""
        self._loop = asyncio.get_running_loop()
        while True:
            self._woken.clear()
            rung = self._bell.rung() if self._bell else 0
            running = await asyncio.to_thread(self._reviews.batches, BatchState.RUNNING)
            if running and not self.leads():
                self.version += 1  # the other app moves them on
                await asyncio.sleep(_FOLLOW_S)
                continue
            if not running:
                await self._rest(rung)
                continue
            await self._guarded(running[0])

    async def _rest(self, rung: int) -> None:
        """Until there may be a batch: this app has woken it, or another one has rung since."""
        if self._bell is None:
            await self._woken.wait()
            return
        while not self._woken.is_set() and self._bell.rung() == rung:
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(_LISTEN_S):
                    await self._woken.wait()

    async def _guarded(self, batch: Batch) -> None:
        try:
            await self._work(_Run(batch))
        except AppError as exc:
            await self._stop(batch, str(exc))
        except Exception:  # noqa: BLE001  # a bug must not end the task that all batches need
            _LOG.exception("batch %s", batch.id)
            await self._stop(batch, "An unexpected fault stopped it; the log tells more.")

    async def _stop(self, batch: Batch, reason: str) -> None:
        await asyncio.to_thread(self._reviews.set_state, batch.id, BatchState.STOPPED, reason)
        self.version += 1

    async def _work(self, run: _Run) -> None:
        batch = run.batch
        if self._elsewhere is not None and self._elsewhere.takes(batch):
            await self._follow_elsewhere(batch, self._elsewhere)
            return
        await self._start_engines(batch)
        at_once = _AT_ONCE_BY_TURNS if self._hub.takes_turns(batch.base_engine) else _AT_ONCE
        while True:
            now = await asyncio.to_thread(self._reviews.batch, batch.id)
            if now.state is not BatchState.RUNNING:
                return
            questions = await asyncio.to_thread(self._reviews.pending, batch.id, at_once)
            if not questions:
                await asyncio.to_thread(self._reviews.set_state, batch.id, BatchState.SUCCEEDED)
                self.version += 1
                return
            await asyncio.gather(*(self._one(run, question) for question in questions))
            if run.lost_in_a_row >= _LOST_IN_A_ROW:
                raise EngineError(
                    f"The engines failed {run.lost_in_a_row} questions in a row.",
                    "The Models tab tells why; to resume starts them again.",
                )

    async def _follow_elsewhere(self, batch: Batch, elsewhere: Elsewhere) -> None:
        """Until every question was tried or a person stops it. The parts go on when the app ends, as all jobs do."""
        try:
            while not await asyncio.to_thread(elsewhere.advance, batch):
                self.version += 1
                await asyncio.sleep(_FOLLOW_S)
                if (await asyncio.to_thread(self._reviews.batch, batch.id)).state is not BatchState.RUNNING:
                    await asyncio.to_thread(elsewhere.cancel, batch)
                    return
        except AppError:
            await asyncio.to_thread(elsewhere.cancel, batch)
            raise
        await asyncio.to_thread(self._reviews.set_state, batch.id, BatchState.SUCCEEDED)
        self.version += 1

    async def _start_engines(self, batch: Batch) -> None:
        """Those that are off, and once those that were given up: a batch begins or goes on because a person said so."""
        for engine_id in (batch.base_engine, *batch.candidate_engines):
            self._catalog.find(engine_id)
            status = self._hub.status(engine_id)
            if status.is_off or status.state is EngineState.FATAL:
                await self._hub.start(engine_id)

    async def _one(self, run: _Run, question: Pending) -> None:
        """One question, to its end: stored as answered, or as failed with the reason."""
        trace_id = question.trace_id
        for pause_s in (*_PAUSES_S, None):
            try:
                await self._answer(run.batch, question, trace_id)
                run.lost_in_a_row = 0
                break
            except (EngineError, StreamError) as exc:
                if pause_s is not None:
                    trace_id = await asyncio.to_thread(self._reviews.renew_trace, run.batch.id, question.position)
                    await asyncio.sleep(pause_s)
                    continue
                run.lost_in_a_row += 1
                await self._fail(run.batch, question, str(exc))
            except AppError as exc:
                await self._fail(run.batch, question, str(exc))
                break
        self.version += 1

    async def _fail(self, batch: Batch, question: Pending, reason: str) -> None:
        await asyncio.to_thread(self._reviews.set_failed, batch.id, question.position, reason, question.candidates)

    async def _answer(self, batch: Batch, question: Pending, trace_id: str) -> None:
        trace = await self._stored(trace_id) or await self._ask(batch, question, trace_id)
        answered: dict[str, Answered] = {}
        for engine_id in question.candidates:
            answered[engine_id] = await self._measure(trace, question, engine_id)
        await asyncio.to_thread(self._reviews.set_answered, batch.id, question.position, answered)

    async def _stored(self, trace_id: str) -> Trace | None:
        """The turn, where an app that was killed had all its answers already.

        Raises:
            EngineError: it was cut off; it has to be asked anew.
        """
        try:
            trace = (await self._turns.conversation(trace_id))[-1]
        except RecordNotFoundError:
            return None
        if any(stored.answer.outcome is not Outcome.FINISHED for stored in trace.latest_answers):
            raise EngineError("The app ended while this question was being answered.")
        return trace

    async def _ask(self, batch: Batch, question: Pending, trace_id: str) -> Trace:
        engines = (batch.base_engine, *question.candidates)
        columns = tuple(
            ColumnRequest(position=place, engine_id=engine_id, sampling=batch.sampling)
            for place, engine_id in enumerate(engines)
        )
        asked = question.question
        ask = Ask(key=trace_id, prompt=asked.prompt, system=batch.system, images=asked.images, columns=columns)
        live = await self._turns.begin(ask)
        await self._turns.finish(live, [stored.slot for stored in live.trace.latest_answers], _flush_s)
        for stored in live.trace.latest_answers:
            _check_finished(stored)
        return live.trace

    async def _measure(self, trace: Trace, question: Pending, engine_id: str) -> Answered:
        answers = {stored.slot.label.engine_id: stored for stored in trace.latest_answers}
        base = next(stored for stored in trace.latest_answers if stored.slot.label.role == "base")
        candidate = answers[engine_id]
        reference = question.question.reference
        found = Answered(
            trace_id=trace.id, base_answer_id=base.slot.id, candidate_answer_id=candidate.slot.id,
            base_text=base.answer.text, candidate_text=candidate.answer.text,
            disagreement=disagreement(base.answer.text, candidate.answer.text), divergence_nats=None,
            base_matches=matches(base.answer.text, reference),
            candidate_matches=matches(candidate.answer.text, reference),
        )  # fmt: skip
        try:
            score = await self._scoring.score(await self._scoring.find(trace.id, Wanted(candidate=engine_id)))
        except InputError:
            return found  # these engines can't be scored; the answers can still be judged
        known = score.known("kl_base_to_candidate_nats")
        return found.model_copy(
            update={
                "divergence_nats": content_divergence(score.tokens),
                "mean_divergence_nats": sum(known) / len(known) if known else None,
                "method": score.method,
                "floor_nats": score.floor.max_nats if score.floor else None,
            }
        )


def _flush_s() -> float:
    return _FLUSH_S


def _check_finished(stored: StoredAnswer) -> None:
    answer: Answer = stored.answer
    if answer.outcome is Outcome.FINISHED:
        return
    said = answer.error.message if answer.error else f"The answer ended as {answer.outcome}."
    words = f"{stored.slot.label.model}: {said}"
    if answer.error is not None and answer.error.code in ("request_refused", "input"):
        raise InputError(words, field="prompt")
    raise EngineError(words)
