"""Everything a page or the API may ask about jobs, in one place: the queue, what runs, and what the folders hold."""

from __future__ import annotations

from pathlib import Path

from pydantic import Field

from components.core.answers import Record
from components.core.errors import InputError
from components.core.jobs import Job
from components.core.states import JobState
from components.jobs.logs import LogTail
from components.jobs.progress import JobProgress, ProgressReader
from components.jobs.queue import JobQueue
from components.jobs.records import JobFolder
from components.jobs.runner import JobRunner
from components.storage.jobs import Direction

TAIL_LINES = 40
MAX_LOG_LINES = 5000
_KEPT_PROGRESS = 200  # of jobs that have ended: their events don't change any more


class JobView(Record):
    """A job as pages and the API show it."""

    job: Job
    progress: JobProgress
    note: str = Field(default="", description="What a person should know while it runs, in a sentence")
    waiting: str = Field(default="", description="Why it does not start, in a sentence; empty = it is not waiting")
    stoppable: tuple[str, ...] = Field(default=(), description="Engines that would make room for it by stopping")

    @property
    def fraction(self) -> float | None:
        """How much of the whole job is done, 0 to 1; None when it is not known.

        From the driver's estimate of the remaining time where it gives one, else of the present phase.
        """
        if self.job.state is JobState.SUCCEEDED:
            return 1.0
        if self.job.state is JobState.PENDING:
            return 0.0
        if self.progress.remaining_s is not None:
            return self.progress.whole
        return self.progress.fraction

    @property
    def message(self) -> str:
        """One line: what it does, what it waits for, or how it ended."""
        if self.job.state is JobState.PENDING:
            return self.waiting or "Waits to start."
        if self.job.state is JobState.STOPPING:
            return f"Stopping. {self.note}".strip()
        if self.job.state is JobState.RUNNING and self.note:
            return self.note
        if self.job.state is JobState.RUNNING:
            told = ": ".join(part for part in (self.progress.phase, self.progress.message) if part)
            return told or "Starting."
        return self.job.failure_reason or "Done."


class JobService:
    """Jobs for pages and the API. Calls block for a moment; an async caller uses ``asyncio.to_thread``."""

    def __init__(self, queue: JobQueue, runner: JobRunner) -> None:
        self.queue, self.runner = queue, runner
        self._ended: dict[str, JobProgress] = {}

    def view(self, job_id: str) -> JobView:
        """One job.

        Raises:
            RecordNotFoundError: there is none of that id.
        """
        return self._view(self.queue.get(job_id))

    def views(self, ended: int = 30) -> list[JobView]:
        """What runs and waits, in the order of the queue, then the newest that have ended."""
        return [self._view(job) for job in (*self.queue.active(), *self.queue.ended(ended))]

    def cancel(self, job_id: str) -> JobView:
        """Ask a job to end; see ``JobQueue.cancel``."""
        return self._view(self.queue.cancel(job_id))

    def retry(self, job_id: str) -> JobView:
        """Queue the same work again; see ``JobQueue.retry``."""
        return self._view(self.queue.retry(job_id))

    def move(self, job_id: str, direction: Direction) -> JobView:
        """Change places in the queue; see ``JobQueue.move``."""
        return self._view(self.queue.move(job_id, direction))

    def folder(self, job_id: str) -> JobFolder:
        """The files of a job that exists.

        Raises:
            RecordNotFoundError: there is none of that id.
        """
        return self.runner.folder(self.queue.get(job_id).id)

    def log_tail(self, job_id: str, count: int = TAIL_LINES) -> list[str]:
        """The last lines of a job's log, oldest first."""
        if not 1 <= count <= MAX_LOG_LINES:
            raise InputError(f"{count} lines can't be read.", f"Accepted: 1 to {MAX_LOG_LINES}.", field="count")
        return LogTail(self.folder(job_id).log).last(count)

    def file(self, job_id: str, name: str) -> Path:
        """One of the small files of a job, for a download, by its plain name.

        Raises:
            RecordNotFoundError: there is no such job. InputError: it has no such file.
        """
        offered = self.folder(job_id).small_files()
        if name not in offered:
            hint = f"It has: {', '.join(sorted(offered))}."
            raise InputError(f"The job has no file {name[:80]!r}.", hint, field="name")
        return offered[name]

    def files(self, job_id: str) -> list[str]:
        """Names of the files that can be downloaded."""
        return sorted(self.runner.folder(job_id).small_files())

    def _view(self, job: Job) -> JobView:
        wait = self.runner.waiting(job.id) if job.state is JobState.PENDING else None
        return JobView(
            job=job,
            progress=self._progress(job),
            note=self.runner.note(job.id),
            waiting=wait.reason if wait else "",
            stoppable=wait.engines if wait else (),
        )

    def _progress(self, job: Job) -> JobProgress:
        live = self.runner.live(job.id)
        if live is not None:
            reader, peak_bytes = live
            return _with_peak(reader.value, peak_bytes)
        if job.state is JobState.PENDING:
            return JobProgress()
        if job.id not in self._ended:
            reader = ProgressReader(self.runner.folder(job.id))
            while reader.update():
                pass
            if not job.has_ended:
                return reader.value
            while len(self._ended) >= _KEPT_PROGRESS:
                self._ended.pop(next(iter(self._ended)))
            self._ended[job.id] = reader.value
        return self._ended[job.id]


def _with_peak(progress: JobProgress, measured_bytes: int) -> JobProgress:
    """The driver's own figure counts; where it gives none, what was measured from outside."""
    if progress.peak_memory_bytes is None and measured_bytes:
        return progress.model_copy(update={"peak_memory_bytes": measured_bytes})
    return progress
