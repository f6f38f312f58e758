"""Batches that are answered on a cluster: each part is a job, and what it answers is taken in as it comes.

Calls block. The batch's own records say what is still to be done, so nothing here has to outlive the app: after a
restart the jobs that run are found in the queue, and what they wrote is read once more.
"""

from __future__ import annotations

import hashlib
import logging
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import orjson

from components.core.errors import AppError, EngineError, InputError
from components.core.jobs import Job, JobNeeds
from components.core.reviews import Batch
from components.core.scores import Score
from components.core.states import JobState
from components.engines.catalog import Catalog
from components.engines.specs import cpu_memory_bytes
from components.jobs.queue import JobQueue
from components.jobs.records import JobFolder
from components.profiles.schema import PairProfile
from components.review.shard import KIND, ShardAnswer, ShardQuestion, ShardSpec, read_answers
from components.storage.answer_records import AnswerRecords
from components.storage.reviews import Pending, ReviewRepository
from components.storage.traces import TraceRepository

LEAST_QUESTIONS, MOST_QUESTIONS = 8, 500  # of a part: its engines take a while to start, and its spec is one record
_LOOKED_THROUGH = 200  # ended jobs, for those that ended while no app looked
_LOG = logging.getLogger(__name__)


@dataclass(frozen=True)
class ElsewhereSettings:
    """What the parts of a batch are made with.

    Attributes:
        state_dir, repository: at the same paths on every node.
        jobs_dir: folder of the jobs.
        at_once: how many parts of a batch may run.
    """

    state_dir: Path
    repository: Path
    jobs_dir: Path
    at_once: int


class Elsewhere:
    """Gives the questions of batches to jobs."""

    def __init__(
        self, catalog: Catalog, queue: JobQueue, reviews: ReviewRepository, traces: TraceRepository,
        scores: AnswerRecords[Score], settings: ElsewhereSettings,
    ) -> None:  # fmt: skip
        self._catalog, self._queue, self._reviews = catalog, queue, reviews
        self._traces, self._scores, self._settings = traces, scores, settings
        self._read: dict[str, int] = {}  # how far each job's answers were taken in, bytes
        self._watched: dict[str, set[str]] = {}  # by batch: the jobs that ran when last seen
        self._cancelled: set[str] = set()  # jobs whose end says nothing new
        self._asked: tuple[str, set[str]] | None = None  # when questions were last looked for: the batch, its jobs

    def takes(self, batch: Batch) -> bool:
        """Whether its engines can be started on a node: those that run elsewhere already are asked from here."""
        engines = (batch.base_engine, *batch.candidate_engines)
        return all(self._catalog.find(engine_id).model.source.kind != "remote" for engine_id in engines)

    def advance(self, batch: Batch) -> bool:
        """Take in what was answered, hand over what is to be asked; whether the whole batch was tried.

        Raises:
            EngineError: a part failed; says why. InputError, StorageError: a part can't be handed over.
        """
        running = self._running(batch)
        ended = self._ended(batch, running)
        for job in (*ended, *running):
            self._take_in(batch, job)
        self._watched[batch.id] = {job.id for job in running}
        for job in ended:
            if job.id not in self._cancelled:
                _check(job)
        if self._asked == (batch.id, self._watched[batch.id]) or len(running) >= self._settings.at_once:
            return False
        nothing_left = self._hand_over(batch, running)
        self._asked = (batch.id, set(self._watched[batch.id]))
        return nothing_left

    def cancel(self, batch: Batch) -> None:
        """End its jobs; what they have answered stays."""
        for job in self._running(batch):
            self._cancelled.add(job.id)
            self._queue.cancel(job.id)
        self._watched.pop(batch.id, None)  # whoever resumes it looks at what they had written
        self._asked = None

    def _ended(self, batch: Batch, running: Sequence[Job]) -> list[Job]:
        """Its jobs that have ended since the last look; at the first those of an earlier app, for their answers."""
        if batch.id in self._watched:
            return [self._queue.get(job_id) for job_id in self._watched[batch.id] - {job.id for job in running}]
        earlier = [job for job in self._queue.ended(_LOOKED_THROUGH) if _of(job, batch)]
        self._cancelled |= {job.id for job in earlier}  # why they ended is history
        return earlier

    def _running(self, batch: Batch) -> list[Job]:
        return [job for job in self._queue.active() if _of(job, batch)]

    def _take_in(self, batch: Batch, job: Job) -> None:
        folder = JobFolder(self._settings.jobs_dir / job.id)
        while True:
            offset = self._read.get(job.id, 0)
            answers, self._read[job.id] = read_answers(folder, offset)
            for answer in answers:
                self._store(batch, answer)
            if self._read[job.id] == offset:
                return

    def _store(self, batch: Batch, answer: ShardAnswer) -> None:
        """Turn, scores, then the item: one that is interrupted is taken in again."""
        trace = answer.trace
        if trace is not None:
            try:
                self._traces.create_turn(trace)
            except InputError:
                _LOG.debug("turn %s is stored already", trace.id)
            known = {score.id for score in self._scores.of_turn(trace.id)}
            self._scores.add(*(score for score in answer.scores if score.id not in known))
        self._reviews.set_answered(batch.id, answer.position, dict(answer.answered))
        for engine_id, reason in answer.failures.items():
            self._reviews.set_failed(batch.id, answer.position, reason, [engine_id], of_trace=answer.asked_as)

    def _hand_over(self, batch: Batch, running: Sequence[Job]) -> bool:
        """New parts of what nobody is being asked; whether there was nothing and nobody."""
        asked = {position for job in running for position in _positions(job)}
        free = self._settings.at_once - len(running)
        found = self._reviews.pending(batch.id, len(asked) + free * MOST_QUESTIONS)
        left = [question for question in found if question.position not in asked]
        if not left:
            return not running
        size = max(LEAST_QUESTIONS, -(-len(left) // free))
        for start in range(0, len(left), size):
            self._submit(batch, left[start : start + size])
        return False

    def _submit(self, batch: Batch, questions: Sequence[Pending]) -> None:
        pair = self._catalog.find(batch.base_engine).pair
        spec = ShardSpec(
            batch=batch, pair=pair, state_dir=str(self._settings.state_dir),
            repository=str(self._settings.repository),
            questions=tuple(
                ShardQuestion(position=q.position, trace_id=q.trace_id, question=q.question, candidates=q.candidates)
                for q in questions
            ),
        )  # fmt: skip
        names = " ".join([batch.id, *(question.trace_id for question in questions)])
        title = f"{batch.name}, questions {questions[0].position + 1} to {questions[-1].position + 1}"
        fingerprint = hashlib.sha256(names.encode()).hexdigest()
        job = self._queue.submit(KIND, orjson.loads(spec.as_json()), title, _needs(pair, batch), fingerprint)
        self._watched[batch.id].add(job.id)


def _check(job: Job) -> None:
    if job.state is JobState.FAILED:
        raise EngineError(f"A part of it failed on the cluster: {job.failure_reason}", "Resume it to go on.")
    if job.state is JobState.STOPPED:
        raise EngineError("A part of it was cancelled.", "Resume it to go on.")


def _of(job: Job, batch: Batch) -> bool:
    told = job.spec.get("batch")
    return job.kind == KIND and isinstance(told, dict) and told.get("id") == batch.id


def _positions(job: Job) -> set[int]:
    try:
        return {asked.position for asked in ShardSpec.model_validate_json(orjson.dumps(job.spec)).questions}
    except (AppError, ValueError):
        return set()


def _needs(pair: PairProfile, batch: Batch) -> JobNeeds:
    """Memory of the engines that answer."""
    engines = (batch.base_engine, *batch.candidate_engines)
    served = [model for model in pair.models if pair.engine_id(model) in engines]
    return JobNeeds(memory_bytes=sum(cpu_memory_bytes(pair.serve_of(model)) for model in served))
