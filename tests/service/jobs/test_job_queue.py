"""The queue in a real database: one job for equal work, order, places, and states that only go forward."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
import pytest_asyncio

from components.core.errors import InputError, JobStateError, RecordNotFoundError
from components.core.states import JobState
from components.jobs import queue as queue_module
from components.jobs.lease import Wait
from tests.service.jobs.bench import Bench

pytestmark = pytest.mark.service


@pytest_asyncio.fixture
async def bench(tmp_path: Path) -> AsyncIterator[Bench]:
    made = Bench(tmp_path)
    yield made
    await made.close()


async def test_f50_twenty_submits_of_the_same_job_give_one(bench: Bench) -> None:
    with ThreadPoolExecutor(20) as pool:
        ids = set(pool.map(lambda _: bench.submit(["sleep", 1]).id, range(20)))
    assert len(ids) == 1
    assert len(bench.queue.active()) == 1
    other = bench.submit(["sleep", 2])
    assert other.id not in ids
    assert [job.id for job in bench.queue.active()] == [*ids, other.id]


async def test_a_job_that_has_ended_may_be_submitted_again(bench: Bench) -> None:
    first = bench.submit(["sleep", 1])
    assert bench.queue.cancel(first.id).state is JobState.STOPPED
    assert bench.submit(["sleep", 1]).id != first.id


async def test_waiting_jobs_change_places(bench: Bench) -> None:
    a, b, c = (bench.submit(name=name).id for name in "abc")
    bench.queue.move(c, "up")
    assert [job.id for job in bench.queue.active()] == [a, c, b]
    bench.queue.move(a, "up")  # it is the first already
    bench.queue.move(a, "down")
    assert [job.id for job in bench.queue.active()] == [c, a, b]
    bench.queue.cancel(b)
    with pytest.raises(JobStateError, match="only waiting jobs"):
        bench.queue.move(b, "up")


async def test_the_queue_has_an_end(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(queue_module, "MAX_PENDING", 2)
    bench.submit(name="a")
    bench.submit(name="b")
    with pytest.raises(InputError, match="2 jobs wait already"):
        bench.submit(name="c")
    assert bench.submit(name="a").title == "a"  # which is there already


async def test_terminal_is_terminal(bench: Bench) -> None:
    job = bench.submit(name="a")
    bench.queue.cancel(job.id)
    assert bench.queue.cancel(job.id).state is JobState.STOPPED
    for state in JobState:
        with pytest.raises(JobStateError):
            bench.repository.change(job.id, state)
    assert [change.state for change in bench.queue.changes(job.id)] == [JobState.PENDING, JobState.STOPPED]


async def test_a_retry_is_a_new_attempt(bench: Bench) -> None:
    job = bench.submit(["fail", "No luck."])
    with pytest.raises(InputError, match="PENDING"):
        bench.queue.retry(job.id)
    bench.queue.cancel(job.id)
    again = bench.queue.retry(job.id)
    assert (again.attempt, again.retry_of, again.spec) == (2, job.id, job.spec)
    assert bench.queue.get(job.id).state is JobState.STOPPED


async def test_an_unknown_id_is_named(bench: Bench) -> None:
    for call in (bench.queue.get, bench.queue.cancel, bench.queue.retry, bench.queue.changes, bench.jobs.log_tail):
        with pytest.raises(RecordNotFoundError) as caught:
            call("no-such-job")
        assert caught.value.field == "job_id"


async def test_a_job_waits_and_says_why_and_nobody_overtakes(bench: Bench) -> None:
    bench.room.shut = Wait("Waits for memory: it needs 3.0 GiB.", ("pair/base",))
    first, second = bench.submit(["write", "a"], ["finish"], name="first"), bench.submit(name="second")
    bench.start()
    await bench.until_true(lambda: bench.jobs.view(second.id).waiting)
    view = bench.jobs.view(first.id)
    assert (view.waiting, view.stoppable) == ("Waits for memory: it needs 3.0 GiB.", ("pair/base",))
    assert bench.jobs.view(second.id).waiting == "Waits for its turn: 1 before it."
    await asyncio.sleep(0.2)
    assert bench.queue.get(first.id).state is JobState.PENDING
    bench.room.shut = None
    assert (await bench.until(first, JobState.SUCCEEDED)).result == {"folder": "result", "files": ["a"]}
    await bench.until(second, JobState.FAILED)  # it makes no result
    assert bench.room.held == {}
