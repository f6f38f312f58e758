"""A queue with its runner on a state folder of its own, and the stand-in job it runs as real processes."""

from __future__ import annotations

import asyncio
import os
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

from components.core.jobs import Job, JobNeeds
from components.core.states import JobState
from components.jobs.launcher import find_members
from components.jobs.lease import Grant, Wait
from components.jobs.queue import JobQueue
from components.jobs.ray_place import RayPlace, RaySettings
from components.jobs.records import JobFolder
from components.jobs.runner import JobRunner, RunnerSettings
from components.jobs.service import JobService
from components.storage.database import Database, sqlite_url
from components.storage.jobs import JobRepository

ROOT = Path(__file__).parents[3]


class Room:
    """A lease that a test opens and shuts."""

    def __init__(self) -> None:
        self.shut: Wait | None = None
        self.held: dict[str, JobNeeds] = {}
        self.used: dict[str, int] = {}

    def take(self, holder: str, needs: JobNeeds) -> Grant | Wait:
        if self.shut is not None:
            return self.shut
        self.held[holder] = needs
        return Grant({"STAND_IN_ROOM": "granted"})

    def hold(self, holder: str, needs: JobNeeds) -> None:
        self.held[holder] = needs

    def note_use(self, holder: str, used_bytes: int) -> None:
        self.used[holder] = used_bytes

    def give_back(self, holder: str) -> None:
        self.held.pop(holder, None)


class Bench:
    """One app's part of jobs. ``restart`` is the next app on the same state folder."""

    def __init__(self, state: Path, ray: RaySettings | None = None, **settings: Any) -> None:
        self.state, self.ray, self._settings, self.room = state, ray, settings, Room()
        self._open()

    def _open(self) -> None:
        self.database = Database(sqlite_url(self.state / "diptych.db"))
        self.database.open()
        self.repository = JobRepository(self.database)
        self.queue = JobQueue(self.repository)
        values: dict[str, Any] = {
            "poll_s": 0.05, "memory_poll_looks": 2, "modules": {"stand-in": "tests.fakes.stand_in_job"},
            **self._settings,
        }  # fmt: skip
        settings = RunnerSettings(
            jobs_dir=self.state / "jobs", cwd=ROOT, env={"PATH": os.environ["PATH"]}, **values
        )  # fmt: skip
        elsewhere = [] if self.ray is None else [RayPlace(self.ray)]
        self.runner = JobRunner(self.repository, self.queue, settings, self.room, elsewhere=elsewhere)
        self.jobs = JobService(self.queue, self.runner)
        self._task: asyncio.Task[None] | None = None

    def start(self) -> None:
        self._task = asyncio.create_task(self.runner.run())

    async def stop(self) -> None:
        """The app ends in order: its jobs go on."""
        if self._task is not None:
            self._task.cancel()
            with suppress(asyncio.CancelledError):
                await self._task
        self.database.close()

    async def restart(self) -> None:
        await self.stop()
        self.room = Room()
        self._open()
        self.start()

    async def close(self) -> None:
        """End whatever is left; a test that cares has looked before."""
        await self.stop()
        for pid in self.members():
            with suppress(ProcessLookupError):
                os.kill(pid, 9)

    def submit(self, *actions: list[Any], name: str = "", **options: Any) -> Job:
        spec = {"actions": list(actions), "name": name}
        return self.queue.submit("stand-in", spec, name or "A stand-in", **options)

    def folder(self, job: Job) -> JobFolder:
        return self.runner.folder(job.id)

    def members(self, job: Job | None = None) -> dict[int, str]:
        """Living processes of a job, or of all jobs of this state folder."""
        jobs = [job] if job else [*self.queue_jobs()]
        return {pid: name for one in jobs for pid, name in find_members(str(self.folder(one).path)).items()}

    def queue_jobs(self) -> list[Job]:
        folder = self.state / "jobs"
        names = [path.name for path in folder.iterdir()] if folder.exists() else []
        return [_named(name) for name in names]

    async def until(self, job: Job, *states: JobState, limit_s: float = 20.0) -> Job:
        await self.until_true(lambda: self.queue.get(job.id).state in states, limit_s, lambda: self.tell(job))
        return self.queue.get(job.id)

    async def until_true(
        self, condition: Callable[[], object], limit_s: float = 20.0, explain: Callable[[], str] = str
    ) -> float:
        begun = time.monotonic()
        while not condition():
            assert time.monotonic() - begun < limit_s, f"not within {limit_s} s: {explain()}"
            await asyncio.sleep(0.03)
        return time.monotonic() - begun

    def tell(self, job: Job) -> str:
        view = self.jobs.view(job.id)
        return f"{view.job.state} {view.message} {self.jobs.log_tail(job.id)}"


def _named(name: str) -> Job:
    return Job.model_construct(id=name)
