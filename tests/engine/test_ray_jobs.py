"""A quantization, a benchmark and a batch of the embedded pair on a real Ray cluster: results equal the local ones."""

from __future__ import annotations

import asyncio
import hashlib
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest

from components.core.benchmarks import RecordBatch
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
from tests.engine.serving import ROOT, Engines, answered_path, client_of
from tests.ray_cluster import HEAD_CPUS, RayCluster
from tests.running_app import new_state_dir

pytestmark = [pytest.mark.engine, pytest.mark.usefixtures("quantizer")]
LIMIT_S = 900.0  # all three at once: under two minutes on two free cores
RECIPE = {"recipe": "fp8-dynamic"}
BENCHMARK = {
    "models": ["embedded/coarse"], "suite": "quality",
    "overrides": {"chunks": 2, "items": 4, "prompt_lengths": [], "draws": 100},
}  # fmt: skip
PROMPT = "Describe the picture."
PICTURES = ("four-shapes.png", "one-circle.png", "plain-blue.png")
BATCH = NewBatch(
    name="Three pictures", upload="", folder=str(ROOT / "assets" / "samples"), prompts=(PROMPT,), base="embedded/base",
    candidates=("embedded/coarse",), system="", max_tokens=32, overlap=0.0,
)  # fmt: skip


@dataclass(frozen=True)
class Done:
    """What came of all three, there and here."""

    services: Services
    quantization: Job
    benchmark: Job
    items: list[Item]
    local: Path  # a folder of jobs that ran on this machine


@pytest.fixture(scope="module")
def done(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Done]:
    state, cluster = new_state_dir(), RayCluster()
    settings = Settings(
        state_dir=state, start_engines=False, ray_address=cluster.address, ray_token=cluster.token,
        ray_cpus=HEAD_CPUS / 3,
    )  # fmt: skip
    services = build_services(settings)
    try:
        yield asyncio.run(everything(services, tmp_path_factory.mktemp("pictures"), state / "local"))
    finally:
        services.close()
        cluster.close()


async def everything(services: Services, pictures: Path, local: Path) -> Done:
    for name in PICTURES:
        (pictures / name).write_bytes((ROOT / "assets" / "samples" / name).read_bytes())
    async with services.running():
        quantization = await asyncio.to_thread(services.quantize.submit, RECIPE)
        benchmark = await asyncio.to_thread(services.benchmarks.submit, BENCHMARK)
        created = await asyncio.to_thread(services.review.create, replace(BATCH, folder=str(pictures)), "")
        assert created.batch is not None
        services.review.runner.wake()
        specs = {job.id: job.spec for job in services.jobs.queue.active()}
        here = asyncio.create_task(asyncio.to_thread(run_here, local, specs[quantization], specs[benchmark]))
        ended = [await until_ended(services, job_id) for job_id in (quantization, benchmark)]
        await until(lambda: services.review.reviews.batch(created.batch.id).state is not BatchState.RUNNING, services)
        batch = services.review.reviews.batch(created.batch.id)
        assert batch.state is BatchState.SUCCEEDED, batch.message
        await here
        items = list(services.review.reviews.every_item(batch.id))
        for job in services.jobs.queue.ended():
            assert isinstance(job.process, ClusterMark), job.kind
            assert find_members(str(services.jobs.folder(job.id).path)) == {}
        return Done(services, ended[0], ended[1], items, local)


def run_here(local: Path, quantization: dict[str, Any], benchmark: dict[str, Any]) -> None:
    """The same benchmark, and of the same quantization what makes the weights."""
    folder = JobFolder(local / "jobs" / "benchmark")
    folder.create(benchmark)
    argv = [sys.executable, "-m", "components.benchmark.job", str(folder.path)]
    subprocess.run(argv, cwd=ROOT, capture_output=True, timeout=LIMIT_S, check=False)
    folder = JobFolder(local / "jobs" / "quantize")
    folder.create(quantization)
    driver = Driver(folder)
    folder.partial.mkdir(parents=True)
    driver._record.mkdir()
    driver._work.mkdir(parents=True)
    base = driver._source()
    told = driver._quantize(driver._environment())
    driver._finish(Path(told["output"]), base)


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


def test_a_quantization_makes_the_same_weights(done: Done) -> None:
    there = done.services.jobs.folder(done.quantization.id).result
    here = JobFolder(done.local / "jobs" / "quantize").partial
    for name in ("model.safetensors", "config.json", "recipe.yaml"):
        assert digest(there / name) == digest(here / name), name
    result = done.quantization.result or {}
    assert result["check"]["sight"] == "sees"
    assert str(result["engine_id"]) in {entry.engine_id for entry in done.services.catalog.entries()}


def test_a_benchmark_measures_the_same(done: Done) -> None:
    local = JobFolder(done.local / "jobs" / "benchmark")
    ended = local.read_exit()
    assert ended is not None and ended.state == "SUCCEEDED", ended
    here = RecordBatch.model_validate_json((local.result / "records.json").read_bytes()).records
    there = done.services.benchmarks.results({"source": "measured", "job_id": done.benchmark.id})
    assert {(record.task, record.metric) for record in there} == {(record.task, record.metric) for record in here}
    values = {(record.task, record.metric): record.value for record in there}
    assert any("kl_base_to_candidate" in metric for _, metric in values)
    for record in here:
        assert values[record.task, record.metric] == pytest.approx(record.value, rel=1e-9), record


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
