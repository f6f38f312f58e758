"""A quantization, a benchmark and a batch of the embedded pair on a real Ray cluster: results equal the local ones."""

from __future__ import annotations

import asyncio
import hashlib
import time
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest

from components.core.jobs import ClusterMark, Job
from components.core.reviews import BatchState, Item
from components.core.states import JobState
from components.jobs.launcher import find_members
from components.jobs.records import JobFolder
from components.quantize.job import Driver
from components.review.requests import NewBatch
from components.services import Services, build_services
from components.settings import Settings
from components.storage.image_formats import png_data_url
from tests.engine.benchmarking import QUALITY, Records
from tests.engine.serving import ROOT, Engines, answered_path, client_of
from tests.engine.test_quantize_job import check_made
from tests.ray_cluster import HEAD_CPUS, RayCluster
from tests.running_app import new_state_dir

pytestmark = [pytest.mark.engine, pytest.mark.long, pytest.mark.usefixtures("quantizer")]
LIMIT_S = 900.0  # all three at once: three minutes on two cores
RECIPE = "fp8-dynamic"
PROMPT = "Describe the picture."
PICTURES = ("four-shapes.png", "one-circle.png", "plain-blue.png")
BATCH = NewBatch(
    name="Three pictures", upload="", folder=str(ROOT / "assets" / "samples"), prompts=(PROMPT,), base="embedded/base",
    candidates=("embedded/coarse",), system="", max_tokens=32, overlap=0.0,
)  # fmt: skip


@dataclass(frozen=True)
class Done:
    """What came of all three."""

    services: Services
    quantization: Job
    benchmark: Job
    items: list[Item]


@pytest.fixture(scope="module")
def done(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Done]:
    state, cluster = new_state_dir(), RayCluster()
    settings = Settings(
        state_dir=state, start_engines=False, ray_address=cluster.address, ray_token=cluster.token,
        ray_cpus=HEAD_CPUS / 3,
    )  # fmt: skip
    services = build_services(settings)
    try:
        yield asyncio.run(everything(services, tmp_path_factory.mktemp("pictures")))
    finally:
        services.close()
        cluster.close()


async def everything(services: Services, pictures: Path) -> Done:
    for name in PICTURES:
        (pictures / name).write_bytes((ROOT / "assets" / "samples" / name).read_bytes())
    tasks = [asyncio.create_task(work) for work in (services.jobs.runner.run(), services.review.run())]
    try:
        return await all_three(services, pictures)
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.wait(tasks)


async def all_three(services: Services, pictures: Path) -> Done:
    quantization = await asyncio.to_thread(services.quantize.submit, {"recipe": RECIPE})
    benchmark = await asyncio.to_thread(services.benchmarks.submit, QUALITY)
    created = await asyncio.to_thread(services.review.create, replace(BATCH, folder=str(pictures)), "")
    assert created.batch is not None
    batch_id, reviews = created.batch.id, services.review.reviews
    services.review.runner.wake()
    ended = [await until_ended(services, job_id) for job_id in (quantization, benchmark)]
    await until(lambda: reviews.batch(batch_id).state is not BatchState.RUNNING, services)
    assert reviews.batch(batch_id).state is BatchState.SUCCEEDED, reviews.batch(batch_id).message
    for job in services.jobs.queue.ended():
        assert isinstance(job.process, ClusterMark), job.kind
        assert find_members(str(services.jobs.folder(job.id).path)) == {}
    return Done(services, ended[0], ended[1], list(reviews.every_item(batch_id)))


async def until_ended(services: Services, job_id: str) -> Job:
    await until(lambda: services.jobs.queue.get(job_id).has_ended, services)
    job = services.jobs.queue.get(job_id)
    assert job.state is JobState.SUCCEEDED, (job.failure_reason, services.jobs.log_tail(job_id, 60))
    return job


async def until(condition: Any, services: Services) -> None:
    deadline = time.monotonic() + LIMIT_S
    while not await asyncio.to_thread(condition):
        assert time.monotonic() < deadline, [view.message for view in services.jobs.views()]
        await asyncio.sleep(0.3)


def test_a_quantization_makes_the_same_weights(done: Done, tmp_path: Path) -> None:
    folder = done.services.jobs.folder(done.quantization.id)
    check_made(folder, scheme="FP8-Dynamic", bits=8.06)
    here = made_here(tmp_path, done.quantization)
    for name in ("model.safetensors", "config.json", "recipe.yaml"):
        assert digest(folder.result / name) == digest(here / name), name
    result = done.quantization.result or {}
    assert str(result["engine_id"]) in {entry.engine_id for entry in done.services.catalog.entries()}


def made_here(state: Path, job: Job) -> Path:
    """The same weights, made on this machine, and not served."""
    folder = JobFolder(state / "jobs" / "here")
    folder.create(job.spec)
    driver = Driver(folder)
    driver._record.mkdir(parents=True)
    driver._work.mkdir(parents=True)
    base = driver._source()
    told = driver._quantize(driver._environment())
    driver._finish(Path(told["output"]), base)
    return folder.partial


def test_a_benchmark_measures_the_same(done: Done, measured: Records) -> None:
    there = done.services.benchmarks.results({"source": "measured", "job_id": done.benchmark.id})
    values = {(record.task, record.metric): record.value for record in there}
    assert values.keys() == measured.keys()
    assert any("kl_base_to_candidate" in metric for _, metric in values)
    for key, record in measured.items():
        if not key[1].endswith("_per_s"):  # how fast it was is no part of what was measured
            assert values[key] == pytest.approx(record.value, rel=1e-9), key


def test_a_batch_has_the_same_answers_and_is_scored(done: Done, engines: Engines) -> None:
    assert len(done.items) == len(PICTURES)
    for item in done.items:
        assert item.answered is not None
        assert item.answered.method == "exact"
        assert item.answered.divergence_nats is not None
        (score,) = done.services.scores.of_turn(item.trace_id)
        trace = done.services.traces.get(item.trace_id)
        ids = [[step.token_id for step in stored.answer.tokens] for stored in trace.latest_answers]
        assert len(score.tokens) == len(ids[0])
        url = png_data_url(done.services.images.png(item.question.images[0].sha256))
        assert ids == [asyncio.run(asked(socket, url)) for socket in (engines.base, engines.coarse)]


async def asked(socket: Path, url: str) -> list[int]:
    """What an engine of this machine answers."""
    client = client_of(socket)
    parts = [{"type": "image_url", "image_url": {"url": url}}, {"type": "text", "text": PROMPT}]
    path = await answered_path(client, [{"role": "user", "content": parts}], temperature=0.0, max_tokens=32)
    await client.close()
    return list(path.answer_ids)


def digest(file: Path) -> str:
    return hashlib.sha256(file.read_bytes()).hexdigest()
