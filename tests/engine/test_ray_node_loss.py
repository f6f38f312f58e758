"""Real jobs on a real Ray cluster whose node loses its power in the middle: the truth is told, and nothing is lost.

A head that runs no job and two nodes, all on this machine. A power loss is KILL to all of a node's processes at once,
those of the job included, so that nobody there is left to say how it ended.
"""

from __future__ import annotations

import asyncio
import shutil
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest

from components.core.jobs import Job
from components.core.reviews import BatchState, Item, ItemState
from components.core.states import JobState
from components.jobs.launcher import find_members
from components.jobs.ray_api import RayJobs
from components.jobs.records import JobFolder
from components.review.requests import NewBatch
from components.services import Services, build_services
from components.settings import Settings
from components.storage.image_formats import png_data_url
from tests.engine.benchmarking import QUALITY, Records
from tests.engine.serving import ROOT, Engines
from tests.engine.test_ray_jobs import asked, digest, made_here
from tests.ray_cluster import RayCluster
from tests.running_app import new_state_dir

pytestmark = [pytest.mark.engine, pytest.mark.long]
LIMIT_S = 600.0
MISSED_LIMIT_S = 40.0  # from the loss to the word about it: Ray's health checks, then the shared folder's delay
PROMPT = "Describe the picture."
BATCH = NewBatch(
    name="Samples", upload="", folder=str(ROOT / "assets" / "samples"), prompts=(PROMPT,), base="embedded/base",
    candidates=("embedded/coarse",), system="", max_tokens=32, overlap=0.0,
)  # fmt: skip


@dataclass
class World:
    """An app without engines, in this process, and its cluster of a head and two nodes."""

    services: Services
    cluster: RayCluster

    def folder(self, job_id: str) -> JobFolder:
        return self.services.jobs.folder(job_id)

    async def until(self, condition: Callable[[], object], limit_s: float = LIMIT_S) -> float:
        begun = time.monotonic()
        while not await asyncio.to_thread(condition):
            told = [(view.job.kind, view.job.state, view.message) for view in self.services.jobs.views()]
            assert time.monotonic() - begun < limit_s, told
            await asyncio.sleep(0.1)
        return time.monotonic() - begun

    async def lose_the_node_of(self, job_id: str) -> tuple[str, Job]:
        """Power loss of the node that runs a job: the node, and the job when its end was told."""
        folder = self.folder(job_id)
        name, ray = self.cluster.node_of(folder.path), RayJobs(self.cluster.address, self.cluster.token)
        status = await asyncio.to_thread(ray.status, job_id)
        assert name is not None and status is not None and "(id " in status.node
        await asyncio.to_thread(self.cluster.kill_node, name, folder.path)
        took_s = await self.until(lambda: self.services.jobs.queue.get(job_id).has_ended, MISSED_LIMIT_S)
        job = self.services.jobs.queue.get(job_id)
        print(f"{job.kind}: {job.state} {took_s:.1f} s after {name} lost its power: {job.failure_reason}")
        assert job.state is JobState.FAILED
        assert (job.failure_reason or "").startswith(f"The cluster lost its node {status.node}, which ran the job: ")
        assert self.services.jobs.view(job_id).message == job.failure_reason
        assert find_members(str(folder.path)) == {}
        assert folder.read_exit_code() is None, "somebody of the node saw it end"
        assert folder.read_exit() is None
        assert not folder.partial.exists() and not folder.result.exists()
        return name, job

    async def retry(self, lost: Job, lost_node: str) -> Job:
        """What the page's button does; the second attempt, once it runs on the other node."""
        again = self.services.jobs.retry(lost.id).job
        await self.until(lambda: self.cluster.node_of(self.folder(again.id).path))
        assert self.cluster.node_of(self.folder(again.id).path) not in (lost_node, "head")
        assert (again.attempt, again.retry_of) == (2, lost.id)
        return again

    async def succeeded(self, job_id: str) -> Job:
        await self.until(lambda: self.services.jobs.queue.get(job_id).has_ended)
        done = self.services.jobs.queue.get(job_id)
        assert done.state is JobState.SUCCEEDED, (done.failure_reason, self.services.jobs.log_tail(job_id, 60))
        return done


@asynccontextmanager
async def world() -> AsyncIterator[World]:
    cluster = RayCluster(head_cpus=0)
    for _ in range(2):
        cluster.add_node(cpus=1)
    state = new_state_dir()
    services = build_services(
        Settings(
            state_dir=state, start_engines=False, ray_address=cluster.address, ray_token=cluster.token,
            ray_cpus=1, ray_jobs=1,  # a part of a batch at a time: the engines of two would not fit beside others
        )
    )  # fmt: skip
    tasks = [asyncio.create_task(work) for work in (services.jobs.runner.run(), services.review.run())]
    try:
        yield World(services, cluster)
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.wait(tasks)
        services.close()
        cluster.close()
        shutil.rmtree(state, ignore_errors=True)


@pytest.mark.usefixtures("quantizer")
async def test_a_quantization_is_made_on_the_other_node(tmp_path: Path) -> None:
    async with world() as one:
        job_id = await asyncio.to_thread(one.services.quantize.submit, {"recipe": "w4a16-gptq"})
        view = one.services.jobs.view
        await one.until(lambda: view(job_id).progress.phase == "Quantizing" and (view(job_id).progress.step or 0) >= 2)
        node, lost = await one.lose_the_node_of(job_id)
        assert {"quantize.py", "tool_spec.json"} <= {path.name for path in one.folder(job_id).record.iterdir()}
        done = await one.succeeded((await one.retry(lost, node)).id)
        there = one.folder(done.id).result
        here = await asyncio.to_thread(made_here, tmp_path, done)
        for name in ("model.safetensors", "config.json", "recipe.yaml"):
            assert digest(there / name) == digest(here / name), name
        assert str((done.result or {})["engine_id"]) in {e.engine_id for e in one.services.catalog.entries()}


async def test_a_benchmark_goes_on_with_what_was_finished(measured: Records) -> None:
    async with world() as one:
        job_id = await asyncio.to_thread(one.services.benchmarks.submit, QUALITY)
        work = one.folder(job_id).common / "benchmark" / "work"
        await one.until(lambda: len(pieces(work)) >= 3)
        node, lost = await one.lose_the_node_of(job_id)
        kept = pieces(work)
        again = await one.retry(lost, node)
        await one.until(lambda: len(pieces(work)) > len(kept) or one.services.jobs.queue.get(again.id).has_ended)
        now = pieces(work)
        assert {name: now.get(name) for name in kept} == kept, "what was finished was measured again"
        assert len(now) > len(kept), "nothing was left to be measured"
        print(f"{len(kept)} pieces were kept; the second attempt began with {sorted(now.keys() - kept.keys())}")
        done = await one.succeeded(again.id)
        there = one.services.benchmarks.results({"source": "measured", "job_id": done.id})
        values = {(record.task, record.metric): record.value for record in there}
        # How fast it was is no part of what was measured, and is not told of what an earlier attempt did.
        wanted = {key: record.value for key, record in measured.items() if not key[1].endswith("_per_s")}
        assert {key for key in values if not key[1].endswith("_per_s")} == wanted.keys()
        assert values.keys() <= measured.keys()
        for key, value in wanted.items():
            assert values[key] == pytest.approx(value, rel=1e-9), key


def pieces(work: Path) -> dict[str, int]:
    """What of the work is finished: name → when it was written, ns."""
    files = [path for kind in ("*.npy", "*.json") for path in work.rglob(kind)]
    return {str(path.relative_to(work)): path.stat().st_mtime_ns for path in files}


async def test_a_batch_stands_still_and_resume_asks_only_what_is_missing(engines: Engines) -> None:
    async with world() as one:
        created = await asyncio.to_thread(one.services.review.create, BATCH, "")
        assert created.batch is not None
        batch_id, reviews = created.batch.id, one.services.review.reviews
        one.services.review.runner.wake()

        def done() -> list[Item]:
            return [item for item in reviews.every_item(batch_id) if item.state is ItemState.DONE]

        await one.until(lambda: len(done()) >= 2)
        (first,) = one.services.jobs.queue.active()
        await one.lose_the_node_of(first.id)
        await one.until(lambda: reviews.batch(batch_id).state is not BatchState.RUNNING, 10.0)
        stopped = reviews.batch(batch_id)
        assert stopped.state is BatchState.STOPPED
        print(f"batch: {stopped.message}")
        assert stopped.message.startswith("A part of it failed on the cluster: The cluster lost its node ")
        before = done()
        await asyncio.to_thread(one.services.review.change, batch_id, "resume")
        one.services.review.runner.wake()
        await one.until(lambda: reviews.batch(batch_id).state is not BatchState.RUNNING)
        assert reviews.batch(batch_id).state is BatchState.SUCCEEDED, reviews.batch(batch_id).message
        (again,) = [job for job in one.services.jobs.queue.ended() if job.id != first.id]
        asked_again = _asks(again)
        items = list(reviews.every_item(batch_id))
        assert asked_again == sorted({item.position for item in items} - {item.position for item in before})
        assert 0 < len(asked_again) < len(items), "it was lost too early or too late to show anything"
        print(f"{len(before)} of {len(items)} were answered; asked again: {asked_again}")
        assert [item for item in items if item in before] == before, "what was answered is as it was"
        for item in items:
            await _check(one, item, engines)


def _asks(job: Job) -> list[int]:
    """Positions of the questions of a part."""
    questions = job.spec["questions"]
    assert isinstance(questions, list)
    return [int(str(question["position"])) for question in questions if isinstance(question, dict)]


async def _check(one: World, item: Item, engines: Engines) -> None:
    """Answered to the token as engines of this machine answer, and scored."""
    assert item.answered is not None
    assert (item.answered.method, item.answered.divergence_nats is not None) == ("exact", True)
    trace = one.services.traces.get(item.trace_id)
    ids = [[step.token_id for step in stored.answer.tokens] for stored in trace.latest_answers]
    url = png_data_url(one.services.images.png(item.question.images[0].sha256))
    assert ids == [await asked(socket, url) for socket in (engines.base, engines.coarse)]
