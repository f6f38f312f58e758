"""Two apps with one queue: one runs the jobs, the other follows what becomes of them, and takes over."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import suppress
from pathlib import Path

import pytest

from components.core.jobs import Job
from components.core.states import JobState
from components.jobs.queue import JobQueue
from components.jobs.runner import JobRunner
from components.jobs.service import JobService
from tests.service.jobs.bench import Bench, Room

pytestmark = pytest.mark.service
MAKE = (["write", "model"], ["finish"])


class Follower:
    """Another app's part of jobs, on the same records and the same folder."""

    def __init__(self, bench: Bench) -> None:
        self.ended: list[Job] = []
        self.leads = False
        self.queue = JobQueue(bench.repository)
        self.runner = JobRunner(
            bench.repository, self.queue, bench.runner._settings, Room(), on_end=self.ended.append,
            leads=lambda: self.leads,
        )  # fmt: skip
        self.jobs = JobService(self.queue, self.runner)
        self.task = asyncio.create_task(self.runner.run())


@pytest.fixture
async def bench(tmp_path: Path) -> AsyncIterator[Bench]:
    bench = Bench(tmp_path / "state")
    bench.start()
    yield bench
    await bench.close()


@pytest.fixture
async def follower(bench: Bench) -> AsyncIterator[Follower]:
    follower = Follower(bench)
    yield follower
    follower.task.cancel()
    with suppress(asyncio.CancelledError):
        await follower.task


async def test_a_job_is_watched_and_cancelled_from_the_other_app(bench: Bench, follower: Follower) -> None:
    job = bench.submit(["event", {"phase": "Works", "step": 1, "steps": 4}], ["sleep", 60])
    await bench.until_true(lambda: follower.jobs.view(job.id).progress.phase == "Works")
    assert follower.jobs.view(job.id).fraction == 0.25
    before = follower.queue.version
    follower.jobs.cancel(job.id)
    ended = await bench.until(job, JobState.STOPPED)
    assert ended.failure_reason == "Cancelled."
    await bench.until_true(lambda: [one.id for one in follower.ended] == [job.id])
    assert follower.queue.version > before, "its pages are told"


async def test_what_a_job_made_is_taken_up_by_the_other_app_too(bench: Bench, follower: Follower) -> None:
    job = bench.submit(["sleep", 0.3], *MAKE)
    await bench.until(job, JobState.SUCCEEDED)
    await bench.until_true(lambda: follower.ended)
    assert [(one.id, one.state) for one in follower.ended] == [(job.id, JobState.SUCCEEDED)]
    assert follower.ended[0].result is not None


async def test_the_other_app_takes_over_what_runs_and_what_waits(bench: Bench, follower: Follower) -> None:
    running, waiting = bench.submit(["sleep", 1.5], *MAKE, name="one"), bench.submit(*MAKE, name="two")
    await bench.until(running, JobState.RUNNING)
    await bench.until_true(lambda: follower.runner._followed)
    assert bench._task is not None
    bench._task.cancel()
    follower.leads = True
    for job in (running, waiting):
        assert (await bench.until(job, JobState.SUCCEEDED)).attempt == 1
    assert [one.id for one in follower.ended] == [running.id, waiting.id]
