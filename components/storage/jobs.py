"""Jobs in the database: the queue, and the history of every change.

A repository: typed records in, typed records out. States change only along ``JOB_TRANSITIONS``, each change checked and
made in one transaction of the one writer, so a claim and a cancel can't both win. Must not know how a job is run.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from datetime import datetime
from typing import Any, Literal

from pydantic import JsonValue, TypeAdapter
from sqlalchemy import func, select
from sqlalchemy.orm import Session

from components.core.clock import utc_now
from components.core.errors import InputError, JobStateError, RecordNotFoundError
from components.core.jobs import ACTIVE, ENDED, Job, JobChange, JobNeeds, Mark
from components.core.states import JOB_TRANSITIONS, JobState
from components.storage.database import Database
from components.storage.tables import JobEventRow, JobRow

Direction = Literal["up", "down"]
_MARK: TypeAdapter[Mark] = TypeAdapter(Mark)


class JobRepository:
    """All jobs of one state directory. Calls block and may come from several threads."""

    def __init__(self, database: Database, utc_now: Callable[[], datetime] = utc_now) -> None:
        self._database = database
        self._utc_now = utc_now

    def submit(self, job: Job, max_pending: int) -> Job:
        """Store a job at the end of the queue, or give the one that waits or runs with the same fingerprint (F50).

        Raises:
            InputError: so many jobs wait already. StorageError: nothing was stored.
        """

        def insert(session: Session) -> Job:
            same = select(JobRow).where(JobRow.fingerprint == job.fingerprint, JobRow.state.in_(_values(ACTIVE)))
            if (found := session.scalars(same.order_by(JobRow.seq)).first()) is not None:
                return _record(found)
            waiting = select(func.count()).select_from(JobRow).where(JobRow.state == JobState.PENDING)
            if (session.scalar(waiting) or 0) >= max_pending:
                raise InputError(f"{max_pending} jobs wait already.", "Cancel some, or let them run first.")
            last = session.scalar(select(func.max(JobRow.position))) or 0
            row = _row(job, last + 1)
            session.add(row)
            session.flush()
            self._note(session, job.id, JobState.PENDING, "")
            return _record(row)

        return self._database.write(insert)

    def change(
        self,
        job_id: str,
        state: JobState,
        message: str = "",
        *,
        only_from: Iterable[JobState] | None = None,
        result: dict[str, JsonValue] | None = None,
    ) -> Job:
        """Move a job to a state. An end without success keeps ``message`` as its reason.

        Args:
            job_id: which.
            state: where to.
            message: why, in a sentence.
            only_from: refuse unless it is in one of these now; None = any state that may go there.
            result: of a job that succeeded.

        Raises:
            JobStateError: it is in a state that may not go there. RecordNotFoundError: there is no such job.
        """

        def move(session: Session) -> Job:
            row, now = _get(session, job_id), self._utc_now()
            current = JobState(row.state)
            allowed = ACTIVE if only_from is None else frozenset(only_from)
            if current not in allowed or state not in JOB_TRANSITIONS[current]:
                raise JobStateError(f"The job is {current}; it can't become {state}.", "Look at its state again.")
            row.state = state.value
            if state is JobState.RUNNING:
                row.started_at = now
            if state is JobState.PENDING:  # it was never spawned
                row.started_at, row.process = None, None
            if state in ENDED:
                row.ended_at, row.result = now, result
                row.failure_reason = None if state is JobState.SUCCEEDED else message or None
            self._note(session, job_id, state, message)
            session.flush()
            return _record(row)

        return self._database.write(move)

    def set_process(self, job_id: str, process: Mark) -> Job:
        """Remember which process leads the job's group, or which job of a cluster it is."""

        def store(session: Session) -> Job:
            row = _get(session, job_id)
            row.process = process.model_dump()
            session.flush()
            return _record(row)

        return self._database.write(store)

    def swap(self, job_id: str, direction: Direction) -> Job:
        """Let a waiting job change places with its neighbour in the queue; at the end of it nothing happens.

        Raises:
            JobStateError: it does not wait any more. RecordNotFoundError: there is no such job.
        """

        def exchange(session: Session) -> Job:
            row = _get(session, job_id)
            if row.state != JobState.PENDING:
                raise JobStateError(f"The job is {row.state}: only waiting jobs have a place in the queue.")
            others = select(JobRow).where(JobRow.state == JobState.PENDING)
            if direction == "up":
                others = others.where(JobRow.position < row.position).order_by(JobRow.position.desc())
            else:
                others = others.where(JobRow.position > row.position).order_by(JobRow.position)
            if (other := session.scalars(others).first()) is not None:
                row.position, other.position = other.position, row.position
            session.flush()
            return _record(row)

        return self._database.write(exchange)

    def get(self, job_id: str) -> Job:
        """One job.

        Raises:
            RecordNotFoundError: there is no such job.
        """
        return self._database.read(lambda session: _record(_get(session, job_id)))

    def active(self) -> list[Job]:
        """What waits, runs or is being stopped, in the order of the queue."""
        wanted = select(JobRow).where(JobRow.state.in_(_values(ACTIVE))).order_by(JobRow.position)
        return self._database.read(lambda session: [_record(row) for row in session.scalars(wanted)])

    def ended(self, limit: int) -> list[Job]:
        """The newest that have ended, newest first."""
        wanted = select(JobRow).where(JobRow.state.in_(_values(ENDED)))
        newest = wanted.order_by(JobRow.ended_at.desc(), JobRow.seq.desc()).limit(limit)
        return self._database.read(lambda session: [_record(row) for row in session.scalars(newest)])

    def changes(self, job_id: str) -> list[JobChange]:
        """Every change of a job's state, oldest first."""
        wanted = select(JobEventRow).where(JobEventRow.job_id == job_id).order_by(JobEventRow.seq)

        def find(session: Session) -> list[JobChange]:
            _get(session, job_id)
            rows = session.scalars(wanted)
            return [JobChange(state=JobState(row.state), at=row.at, message=row.message) for row in rows]

        return self._database.read(find)

    def _note(self, session: Session, job_id: str, state: JobState, message: str) -> None:
        session.flush()
        session.add(JobEventRow(job_id=job_id, state=state.value, at=self._utc_now(), message=message))


def _values(states: Iterable[JobState]) -> list[str]:
    return [state.value for state in states]


def _get(session: Session, job_id: str) -> JobRow:
    row = session.scalars(select(JobRow).where(JobRow.id == job_id)).one_or_none()
    if row is None:
        shown = job_id[:80]
        raise RecordNotFoundError(
            f"There is no job {shown!r}.", "Accepted: the id that /quantize gave.", field="job_id"
        )
    return row


def _row(job: Job, position: int) -> JobRow:
    values: dict[str, Any] = job.model_dump(exclude={"spec", "needs", "process"})
    return JobRow(
        **{**values, "state": job.state.value, "position": position},
        spec=job.spec,
        needs=job.needs.model_dump(),
        process=None,
    )


def _record(row: JobRow) -> Job:
    return Job(
        id=row.id,
        kind=row.kind,
        title=row.title,
        fingerprint=row.fingerprint,
        spec=row.spec,
        needs=JobNeeds.model_validate(row.needs),
        state=JobState(row.state),
        position=row.position,
        attempt=row.attempt,
        retry_of=row.retry_of,
        process=None if row.process is None else _MARK.validate_python(row.process),
        failure_reason=row.failure_reason,
        result=row.result,
        created_at=row.created_at,
        started_at=row.started_at,
        ended_at=row.ended_at,
    )
