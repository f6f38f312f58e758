"""Runs the queue: claims, starts, watches, adopts, settles. One task of the app; jobs run on when the app ends.

Every decision starts from the database and the process table, never from memory alone, so that it is the same after a
restart. At most one attempt of a job runs: it is claimed in the database before its process is started (F51, F52).
"""

from __future__ import annotations

import asyncio
import logging
import shutil
import sys
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path

from components.core.errors import AppError, JobStateError, StorageError
from components.core.jobs import Job
from components.core.states import JobState
from components.jobs.endings import how_it_ended
from components.jobs.lease import Grant, Lease, Wait
from components.jobs.places import Attempt, LocalPlace, Place
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
        concurrency: how many run at once on this machine.
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
    place: Place
    attempt: Attempt
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
        elsewhere: Sequence[Place] = (),
    ) -> None:
        """Set up; starts nothing.

        Args:
            repository, queue: the jobs.
            settings: how drivers are run.
            lease: who grants room on this machine.
            on_end: called with each job that has ended.
            leads: whether this app runs the jobs; where another one does, it only follows them.
            elsewhere: places that take jobs before this machine does.
        """
        self._repository, self._queue = repository, queue
        self._settings, self._on_end = settings, on_end
        here = LocalPlace(lease, settings.concurrency, settings.cwd, settings.env)
        self._places: tuple[Place, ...] = (*elsewhere, here)
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

    def note(self, job_id: str) -> str:
        """What a person should know of a running job beside its progress; empty = nothing."""
        watch = self._watches.get(job_id)
        return "" if watch is None else watch.attempt.note

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
        is_as_read = True
        for job in running:
            watch = self._watches.get(job.id) or await self._adopt(job)
            if watch is not None:
                await self._attend(job, watch)
            else:
                is_as_read = False
        if not is_as_read:  # a job that was put back keeps its turn
            active = await asyncio.to_thread(self._repository.active)
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
        for place in self._places:
            attempt = await asyncio.to_thread(place.find, job, folder)
            if attempt is not None:
                break
        else:
            logger.error("job %s runs where this app can't look", job.id)
            return None
        watch = self._watches[job.id] = _Watch(folder, place, attempt, ProgressReader(folder))
        place.lease.hold(job.id, job.needs)  # it has its memory, whatever the books say
        logger.info("job %s: %s", job.id, "adopted" if attempt.runs() else "found ended")
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
        if not watch.attempt.runs():
            await self._settle(job, watch)
            return
        now_s = asyncio.get_running_loop().time()
        if job.state is JobState.STOPPING:
            if watch.asked_at_s is None:
                watch.asked_at_s = now_s
                watch.attempt.ask_to_stop()
            elif now_s - watch.asked_at_s > self._settings.stop_timeout_s:
                await watch.attempt.end_rest()
        elif watch.folder.exit.exists():
            watch.wrote_exit_at_s = watch.wrote_exit_at_s or now_s
            if now_s - watch.wrote_exit_at_s > self._settings.linger_s:
                watch.attempt.ask_to_stop()
        if watch.looks % self._settings.memory_poll_looks == 0:
            watch.memory_bytes = await asyncio.to_thread(watch.attempt.memory_bytes)
            watch.peak_memory_bytes = max(watch.peak_memory_bytes, watch.memory_bytes)
            watch.place.lease.note_use(job.id, watch.memory_bytes)
        watch.looks += 1

    async def _settle(self, job: Job, watch: _Watch) -> None:
        """Its launcher is gone: clear up, find out how it ended, and say so."""
        survivors = await watch.attempt.end_rest()
        await asyncio.to_thread(watch.progress.update)
        ending = how_it_ended(job, watch.folder, watch.attempt, survivors)
        if ending.state is not JobState.SUCCEEDED:
            await asyncio.to_thread(watch.folder.drop_unfinished)
        # First what follows from it, then the word that it has ended: whoever reads SUCCEEDED finds what was made.
        self._on_end(job.model_copy(update={"state": ending.state, "result": ending.result}))
        await asyncio.to_thread(self._repository.change, job.id, ending.state, ending.reason, result=ending.result)
        self._watches.pop(job.id, None)
        watch.place.lease.give_back(job.id)
        self._queue.note_change()

    # -- starting ---------------------------------------------------------------------------------------------------

    async def _start_waiting(self, pending: list[Job]) -> None:
        """Start the first in the queue of each place while there is room there."""
        waiting: dict[str, Wait] = {}
        for place in self._places:
            here = [job for job in pending if self._place_of(job) is place]
            waiting |= await self._start_at(place, here)
        news = waiting.keys() != self._board.waiting.keys()  # their figures move all the time; a page that looks asks
        self._board = _Board(waiting)
        if news:
            self._queue.note_change()

    def _place_of(self, job: Job) -> Place:
        return next(place for place in self._places if place.takes(job))

    async def _start_at(self, place: Place, pending: list[Job]) -> dict[str, Wait]:
        """What of these has to wait, and why; the order is the person's, so nobody overtakes."""
        waiting: dict[str, Wait] = {}
        for job in pending:
            if waiting:
                waiting[job.id] = Wait(f"Waits for its turn: {len(waiting)} before it.")
            elif sum(watch.place is place for watch in self._watches.values()) >= place.concurrency:
                waiting[job.id] = Wait("Waits for the job that runs now.")
            else:
                grant = place.lease.take(job.id, job.needs)
                if isinstance(grant, Wait):
                    waiting[job.id] = grant
                else:
                    await self._start(job, place, grant)
        return waiting

    async def _start(self, job: Job, place: Place, grant: Grant) -> None:
        try:
            claimed = await asyncio.to_thread(
                self._repository.change, job.id, JobState.RUNNING, only_from={JobState.PENDING}
            )
        except JobStateError:  # cancelled in this very moment
            place.lease.give_back(job.id)
            return
        folder = self.folder(job.id)
        try:
            attempt = await asyncio.to_thread(self._begin, claimed, folder, place, grant)
        except (AppError, OSError) as exc:
            place.lease.give_back(job.id)
            reason = str(exc) if isinstance(exc, AppError) else f"The job could not be started: {exc.strerror}."
            await asyncio.to_thread(self._repository.change, job.id, JobState.FAILED, reason)
            self._queue.note_change()
            return
        self._watches[job.id] = _Watch(folder, place, attempt, ProgressReader(folder))
        self._queue.note_change()

    def _begin(self, job: Job, folder: JobFolder, place: Place, grant: Grant) -> Attempt:
        module = self._settings.modules.get(job.kind)
        if module is None:
            raise AppError(f"This Diptych can't run jobs of the kind {job.kind!r}.")
        folder.create(job.spec)
        argv = [str(self._settings.python), "-m", module, str(folder.path)]
        attempt = place.start(job, folder, argv, grant)
        self._repository.set_process(job.id, attempt.mark)
        return attempt
