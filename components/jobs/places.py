"""Where jobs run: on this machine, or wherever something behind the same interface puts them.

The runner decides what starts and when; a place starts it, finds it again after a restart of the app, and ends it. What
a job and the app tell each other goes through the job's folder wherever it runs, so nothing else knows the place.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Protocol

from components.core.jobs import Job, Mark, ProcessMark
from components.jobs.detached import DetachedGroup
from components.jobs.lease import Grant, Lease
from components.jobs.records import JobFolder


class Attempt(Protocol):
    """A job's processes, of which nothing may be left at its end."""

    @property
    def mark(self) -> Mark:
        """By which a later app finds it again."""

    @property
    def note(self) -> str:
        """What a person should know while it runs, in a sentence: what it waits for; empty = nothing."""

    def runs(self) -> bool:
        """Whether it has not ended yet. Must not wait for another machine."""

    def ask_to_stop(self) -> None:
        """Begin its end."""

    async def end_rest(self) -> Mapping[int, str]:
        """End whatever is left of it, and name what could not be ended: pid → name."""

    def exit_code(self) -> int | None:
        """Of the driver, negative for a signal; None when nobody noted it."""

    def why_lost(self) -> str:
        """What the place knows about an end without an exit record; empty = no more than the exit code tells."""

    def memory_bytes(self) -> int:
        """Resident memory of all its processes; 0 = not measured from here."""


class Place(Protocol):
    """Somewhere to run jobs."""

    @property
    def lease(self) -> Lease:
        """Who grants room there."""

    @property
    def concurrency(self) -> int:
        """How many jobs may run there at once."""

    def takes(self, job: Job) -> bool:
        """Whether a new job runs there."""

    def start(self, job: Job, folder: JobFolder, argv: Sequence[str], grant: Grant) -> Attempt:
        """Begin. Blocks for a moment.

        Raises:
            OSError, AppError: it can't be started.
        """

    def find(self, job: Job, folder: JobFolder) -> Attempt | None:
        """What an earlier app started there; None = it was not there. Blocks for a moment."""


class LocalPlace:
    """Process groups of this machine, of every kind of job that no other place takes."""

    def __init__(self, lease: Lease, concurrency: int, cwd: Path, env: Mapping[str, str]) -> None:
        self.lease, self.concurrency = lease, concurrency
        self._cwd, self._env = cwd, env

    def takes(self, job: Job) -> bool:
        """Always."""
        return True

    def start(self, job: Job, folder: JobFolder, argv: Sequence[str], grant: Grant) -> DetachedGroup:
        """Spawn the job's group."""
        return DetachedGroup.spawn(argv, {**self._env, **grant.env}, self._cwd, folder)

    def find(self, job: Job, folder: JobFolder) -> DetachedGroup | None:
        """By the identity of its launcher."""
        return DetachedGroup(folder, job.process) if isinstance(job.process, ProcessMark) else None
