"""The durable queue: what a page, the API or a capability may ask of jobs. Stores and tells; the runner runs them.

Calls block for a moment (a database write); an async caller uses ``asyncio.to_thread``.
"""

from __future__ import annotations

import hashlib
import json
import secrets
import threading
from collections.abc import Callable, Mapping
from datetime import UTC, datetime

from pydantic import JsonValue

from components.core.errors import InputError, JobStateError
from components.core.jobs import Job, JobChange, JobNeeds
from components.core.states import JobState
from components.storage.jobs import Direction, JobRepository

MAX_PENDING = 100
MAX_TITLE_CHARACTERS = 200


def fingerprint_of(kind: str, spec: Mapping[str, JsonValue]) -> str:
    """Equal for equal work: a hash of the spec, whatever the order of its fields."""
    text = json.dumps([kind, spec], sort_keys=True, ensure_ascii=False, allow_nan=False)
    return hashlib.sha256(text.encode()).hexdigest()


class JobQueue:
    """All jobs of this state directory."""

    def __init__(self, repository: JobRepository) -> None:
        self._repository = repository
        self._listeners: list[Callable[[], None]] = []
        self.version = 0  # moves on every change of any job's state or place
        # Holds the invariant "no change is lost from version": pages and the runner call from several threads.
        self._lock = threading.Lock()

    def submit(
        self,
        kind: str,
        spec: dict[str, JsonValue],
        title: str,
        needs: JobNeeds | None = None,
        fingerprint: str | None = None,
    ) -> Job:
        """Queue a job. Equal work that waits or runs already is not queued again: its job is given back.

        Args:
            kind: which driver runs it.
            spec: the driver's input as JSON values.
            title: one line for a person.
            needs: memory and disk; a job waits until they are there.
            fingerprint: equal for equal work; None = the whole spec's.

        Raises:
            InputError: too many wait. StorageError: nothing was stored.
        """
        job = Job(
            id=f"{kind}-{secrets.token_hex(6)}",
            kind=kind,
            title=title[:MAX_TITLE_CHARACTERS],
            fingerprint=fingerprint or fingerprint_of(kind, spec),
            spec=spec,
            needs=needs or JobNeeds(),
            created_at=datetime.now(UTC),
        )
        return self._changed(self._repository.submit(job, MAX_PENDING))

    def cancel(self, job_id: str) -> Job:
        """End a job: a waiting one at once, a running one through the runner. One that has ended stays as it is.

        Raises:
            RecordNotFoundError: there is no such job.
        """
        try:
            stopped = self._repository.change(
                job_id, JobState.STOPPED, "Cancelled before it started.", only_from={JobState.PENDING}
            )
        except JobStateError:
            try:
                stopped = self._repository.change(
                    job_id, JobState.STOPPING, "Asked to stop.", only_from={JobState.RUNNING}
                )
            except JobStateError:
                return self._repository.get(job_id)
        return self._changed(stopped)

    def retry(self, job_id: str) -> Job:
        """Queue the same work again: a new attempt, the old one stays in the history.

        Raises:
            InputError: it has not ended. RecordNotFoundError: there is no such job.
        """
        old = self._repository.get(job_id)
        if not old.has_ended:
            raise InputError(
                f"The job is {old.state}.", "Only a job that has ended can be tried again.", field="job_id"
            )
        again = Job(
            id=f"{old.kind}-{secrets.token_hex(6)}",
            kind=old.kind,
            title=old.title,
            fingerprint=old.fingerprint,
            spec=old.spec,
            needs=old.needs,
            attempt=old.attempt + 1,
            retry_of=old.id,
            created_at=datetime.now(UTC),
        )
        return self._changed(self._repository.submit(again, MAX_PENDING))

    def move(self, job_id: str, direction: Direction) -> Job:
        """Let a waiting job change places with its neighbour.

        Raises:
            JobStateError: it does not wait any more. RecordNotFoundError: there is no such job.
        """
        return self._changed(self._repository.swap(job_id, direction))

    def get(self, job_id: str) -> Job:
        """One job.

        Raises:
            RecordNotFoundError: there is none of that id.
        """
        return self._repository.get(job_id)

    def active(self) -> list[Job]:
        """What waits, runs or is being stopped, in the order of the queue."""
        return self._repository.active()

    def ended(self, limit: int = 50) -> list[Job]:
        """The newest that have ended, newest first."""
        return self._repository.ended(limit)

    def changes(self, job_id: str) -> list[JobChange]:
        """Every change of a job's state, oldest first."""
        return self._repository.changes(job_id)

    def note_change(self) -> None:
        """Something that pages show has changed."""
        with self._lock:
            self.version += 1
        for listener in self._listeners:
            listener()

    def on_change(self, listener: Callable[[], None]) -> None:
        """Call ``listener``, from whatever thread, after every change."""
        self._listeners.append(listener)

    def _changed(self, job: Job) -> Job:
        self.note_change()
        return job
