"""Runs the queue: claims, starts, watches, adopts, settles. One task of the app; jobs run on when the app ends.

Every decision starts from the database and the process table, never from memory alone, so that it is the same after a
restart. At most one attempt of a job runs: it is claimed in the database before its process is started (F51, F52).
"""

from __future__ import annotations

import asyncio
import logging
import shutil
import sys
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path

from components.core.errors import AppError, JobStateError, StorageError
from components.core.jobs import Job
from components.core.states import JobState
from components.jobs.detached import DetachedGroup
from components.jobs.endings import how_it_ended
from components.jobs.lease import Grant, Lease, Wait
from components.jobs.process_group import end_leftovers
from components.jobs.progress import ProgressReader
from components.jobs.queue import JobQueue
from components.jobs.records import JobFolder
from components.storage.jobs import JobRepository

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class RunnerSettings:
    """How drivers are run.

    Attributes:
        jobs_dir: one folder per job is made in it.
        modules: which module drives a kind of job.
        cwd: where drivers start; their modules are found from here.
        env: their whole environment, but for what a lease adds.
        concurrency: how many run at once.
        poll_s: pause between two looks.
        stop_timeout_s: from asking a job to end until whatever is left is killed.
        linger_s: how long a driver may live on after its exit record.
        memory_poll_looks: its memory is measured every so many looks.
    """

    jobs_dir: Path
    modules: Mapping[str, str]
    cwd: Path
    env: Mapping[str, str]
    python: Path = Path(sys.executable)
    concurrency: int = 1
    poll_s: float = 0.5
    stop_timeout_s: float = 8.0
    linger_s: float = 30.0
    memory_poll_looks: int = 6


@dataclass
class _Watch:
    """A job that runs, as this app sees it."""

    folder: JobFolder
    group: DetachedGroup
    progress: ProgressReader
    asked_at_s: float | None = None  # of the loop's clock; when it was asked to stop
    wrote_exit_at_s: float | None = None
    looks: int = 0
    memory_bytes: int = 0
    peak_memory_bytes: int = 0


@dataclass
class _Board:
    """What pages may read from other threads: replaced, never changed."""

    waiting: Mapping[str, Wait] = field(default_factory=dict)


class JobRunner:
    """The one that runs jobs in this app."""

    def __init__(
        self,
        repository: JobRepository,
        queue: JobQueue,
        settings: RunnerSettings,
        lease: Lease,
        on_end: Callable[[Job], object] = lambda _: None,
        leads: Callable[[], bool] = lambda: True,
    ) -> None:
        """``leads`` says whether this app runs the jobs; where another one does, it only follows them."""
        self._repository, self._queue = repository, queue
        self._settings, self._lease, self._on_end = settings, lease, on_end
        self._watches: dict[str, _Watch] = {}
        self._leads = leads
        self._followed: dict[str, JobState] = {}  # of another app, when last looked at
        self._board = _Board()
        self._wake = asyncio.Event()

    async def run(self) -> None:
        """Until cancelled. A job that runs then goes on without us."""
        loop = asyncio.get_running_loop()

        def wake() -> None:
            with suppress(RuntimeError):  # the loop is closed: the app ends
                loop.call_soon_threadsafe(self._wake.set)

        self._queue.on_change(wake)
        while True:
            try:
                await self._look()
            except StorageError as exc:  # a full disk, for instance: nothing is lost, try again
                logger.warning("jobs: %s %s", exc, exc.detail)
            except Exception:  # one job's trouble must not end the supervision of the others
                logger.exception("the job runner failed at something")
            self._wake.clear()
            with suppress(TimeoutError):  # not wait_for: in Python 3.11 it may swallow a cancellation
                async with asyncio.timeout(self._settings.poll_s):
                    await self._wake.wait()

    def folder(self, job_id: str) -> JobFolder:
        """The files of a job."""
        return JobFolder(self._settings.jobs_dir / job_id)

    def waiting(self, job_id: str) -> Wait | None:
        """Why a queued job does not start; None when it is not known yet."""
        return self._board.waiting.get(job_id)

    def live(self, job_id: str) -> tuple[ProgressReader, int] | None:
        """Progress and peak memory of a running job, in bytes."""
        watch = self._watches.get(job_id)
        return None if watch is None else (watch.progress, watch.peak_memory_bytes)

    # -- one look ---------------------------------------------------------------------------------------------------

    async def _look(self) -> None:
        leads = self._leads()
        if not leads or self._followed:
            await self._follow()
        if not leads:
            return
        self._followed = {}
        active = await asyncio.to_thread(self._repository.active)
        running = [job for job in active if job.state is not JobState.PENDING]
        for job in running:
            watch = self._watches.get(job.id) or await self._adopt(job)
            if watch is not None:
                await self._attend(job, watch)
        await self._start_waiting([job for job in active if job.state is JobState.PENDING])

    async def _follow(self) -> None:
        """Another app runs the jobs: tell the pages what has changed, and take up what its jobs have made."""
        active = {job.id: job.state for job in await asyncio.to_thread(self._repository.active)}
        for job_id in self._followed.keys() - active.keys():
            self._on_end(await asyncio.to_thread(self._repository.get, job_id))
        if active != self._followed:
            self._followed = active
            self._queue.note_change()

    async def _adopt(self, job: Job) -> _Watch | None:
        """Take up a job that an earlier app started."""
        folder = self.folder(job.id)
        if job.process is None:  # claimed, but the app died before it could note what it spawned (F52)
            await end_leftovers(str(folder.path))
            await asyncio.to_thread(self._put_back, job)
            return None
        group = DetachedGroup(folder, job.process)
        watch = self._watches[job.id] = _Watch(folder, group, ProgressReader(folder))
        self._lease.hold(job.id, job.needs)  # it has its memory, whatever the books say
        logger.info("job %s: %s", job.id, "adopted" if group.leads() else "found ended")
        return watch

    def _put_back(self, job: Job) -> None:
        shutil.rmtree(self.folder(job.id).path, ignore_errors=True)
        if job.state is JobState.STOPPING:
            self._repository.change(job.id, JobState.STOPPED, "Cancelled before it started.")
        else:
            self._repository.change(job.id, JobState.PENDING, "Diptych ended before it could start the job.")
        self._queue.note_change()

    async def _attend(self, job: Job, watch: _Watch) -> None:
        """Look after one running job."""
        await asyncio.to_thread(watch.progress.update)
        if not watch.group.leads():
            await self._settle(job, watch)
            return
        now_s = asyncio.get_running_loop().time()
        if job.state is JobState.STOPPING:
            if watch.asked_at_s is None:
                watch.asked_at_s = now_s
                watch.group.ask_to_stop()
            elif now_s - watch.asked_at_s > self._settings.stop_timeout_s:
                await end_leftovers(watch.group.name)
        elif watch.folder.exit.exists():
            watch.wrote_exit_at_s = watch.wrote_exit_at_s or now_s
            if now_s - watch.wrote_exit_at_s > self._settings.linger_s:
                watch.group.ask_to_stop()
        if watch.looks % self._settings.memory_poll_looks == 0:
            watch.memory_bytes = await asyncio.to_thread(watch.group.memory_bytes)
            watch.peak_memory_bytes = max(watch.peak_memory_bytes, watch.memory_bytes)
            self._lease.note_use(job.id, watch.memory_bytes)
        watch.looks += 1

    async def _settle(self, job: Job, watch: _Watch) -> None:
        """Its launcher is gone: clear up, find out how it ended, and say so."""
        survivors = await end_leftovers(watch.group.name)
        await asyncio.to_thread(watch.progress.update)
        ending = how_it_ended(job, watch.folder, watch.group, survivors)
        if ending.state is not JobState.SUCCEEDED:
            await asyncio.to_thread(watch.folder.drop_unfinished)
        # First what follows from it, then the word that it has ended: whoever reads SUCCEEDED finds what was made.
        self._on_end(job.model_copy(update={"state": ending.state, "result": ending.result}))
        await asyncio.to_thread(self._repository.change, job.id, ending.state, ending.reason, result=ending.result)
        self._watches.pop(job.id, None)
        self._lease.give_back(job.id)
        self._queue.note_change()

    # -- starting ---------------------------------------------------------------------------------------------------

    async def _start_waiting(self, pending: list[Job]) -> None:
        """Start the first in the queue while there is room; the order is the person's, so nobody overtakes."""
        waiting: dict[str, Wait] = {}
        for job in pending:
            if waiting:
                waiting[job.id] = Wait(f"Waits for its turn: {len(waiting)} before it.")
            elif len(self._watches) >= self._settings.concurrency:
                waiting[job.id] = Wait("Waits for the job that runs now.")
            else:
                grant = self._lease.take(job.id, job.needs)
                if isinstance(grant, Wait):
                    waiting[job.id] = grant
                else:
                    await self._start(job, grant)
        news = waiting.keys() != self._board.waiting.keys()  # their figures move all the time; a page that looks asks
        self._board = _Board(waiting)
        if news:
            self._queue.note_change()

    async def _start(self, job: Job, grant: Grant) -> None:
        try:
            claimed = await asyncio.to_thread(
                self._repository.change, job.id, JobState.RUNNING, only_from={JobState.PENDING}
            )
        except JobStateError:  # cancelled in this very moment
            self._lease.give_back(job.id)
            return
        folder = self.folder(job.id)
        try:
            group = await asyncio.to_thread(self._spawn, claimed, folder, grant)
        except (AppError, OSError) as exc:
            self._lease.give_back(job.id)
            reason = str(exc) if isinstance(exc, AppError) else f"The job could not be started: {exc.strerror}."
            await asyncio.to_thread(self._repository.change, job.id, JobState.FAILED, reason)
            self._queue.note_change()
            return
        self._watches[job.id] = _Watch(folder, group, ProgressReader(folder))
        self._queue.note_change()

    def _spawn(self, job: Job, folder: JobFolder, grant: Grant) -> DetachedGroup:
        settings = self._settings
        module = settings.modules.get(job.kind)
        if module is None:
            raise AppError(f"This Diptych can't run jobs of the kind {job.kind!r}.")
        folder.create(job.spec)
        argv = [str(settings.python), "-m", module, str(folder.path)]
        group = DetachedGroup.spawn(argv, {**settings.env, **grant.env}, settings.cwd, folder)
        self._repository.set_process(job.id, group.mark)
        return group
