"""A benchmark's driver as the app starts it, on real engines: the embedded base against its coarse version."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from pathlib import Path

import psutil
import pytest

from components.benchmark.service import BenchmarkService, BenchmarkSettings
from components.core.benchmarks import BenchmarkRecord, RecordBatch
from components.engines.catalog import Catalog
from components.jobs.records import JobFolder
from components.profiles.loader import load_pair
from tests.running_app import new_state_dir, wait_until

ROOT = Path(__file__).parents[2]
pytestmark = pytest.mark.engine
LIMIT_S = 600  # 60 s on two free cores
OVERRIDES = {"chunks": 4, "items": 6, "prompt_lengths": [64], "prompts": 2, "steps": 24, "draws": 200}


def driver_folder(state: Path) -> JobFolder:
    catalog = Catalog([load_pair(ROOT / "profiles", "embedded")])
    settings = BenchmarkSettings(state, ROOT, "embedded", "cpu")
    service = BenchmarkService(catalog, None, None, settings)  # type: ignore[arg-type]
    spec = service.prepare({"models": ["embedded/coarse"], "suite": "quality", "overrides": OVERRIDES})
    folder = JobFolder(state / "jobs" / "benchmark-1")
    folder.create(json.loads(spec.as_json()))
    return folder


@pytest.fixture(scope="module")
def records() -> dict[tuple[str, str], BenchmarkRecord]:
    state = new_state_dir()
    folder = driver_folder(state)
    try:
        argv = [sys.executable, "-m", "components.benchmark.job", str(folder.path)]
        done = subprocess.run(argv, cwd=ROOT, capture_output=True, text=True, timeout=LIMIT_S, check=False)
        ended = folder.read_exit()
        assert ended is not None, done.stderr[-3000:]
        assert ended.state == "SUCCEEDED", (ended.failure_reason, done.stderr[-3000:])
        batch = RecordBatch.model_validate_json((folder.result / "records.json").read_bytes())
        assert ended.result is not None
        assert ended.result["records"] == len(batch.records)
        assert not list((state / "benchmark" / "work").iterdir())  # only an unfinished job leaves its work
        return {(record.task, record.metric): record for record in batch.records}
    finally:
        shutil.rmtree(state, ignore_errors=True)


def test_a_driver_that_is_asked_to_end_leaves_no_process() -> None:
    state = new_state_dir()
    folder = driver_folder(state)
    argv = [sys.executable, "-m", "components.benchmark.job", str(folder.path)]
    driver = subprocess.Popen(argv, cwd=ROOT, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        wait_until("an engine is starting", lambda: bool(psutil.Process(driver.pid).children(recursive=True)), 60)
        children = psutil.Process(driver.pid).children(recursive=True)
        driver.terminate()
        driver.wait(60)
        ended = folder.read_exit()
        assert ended is not None
        assert (ended.state, ended.failure_reason) == ("STOPPED", "Cancelled.")
        _, alive = psutil.wait_procs(children, 10)
        assert alive == []
        assert not folder.partial.exists()
    finally:
        driver.kill()
        shutil.rmtree(state, ignore_errors=True)


def test_llama_cpps_windows_are_scored_exactly(records: dict[tuple[str, str], BenchmarkRecord]) -> None:
    kl = records["embedded-conversations, llama.cpp-512", "mean_kl_base_to_candidate_nats"]
    assert kl.n == 4 * 255
    assert kl.value is not None and kl.floor is not None and kl.low is not None
    assert kl.floor < kl.low <= kl.value
    bound = records["embedded-conversations, llama.cpp-512", "top20_lower_bound_kl_nats"]
    assert bound.value is not None
    assert 0 < bound.value <= kl.value
    assert kl.details["targets_per_chunk"] == 255


def test_the_coarse_version_answers_worse_about_pictures(records: dict[tuple[str, str], BenchmarkRecord]) -> None:
    base, candidate = (
        records["embedded-questions", metric].value for metric in ("perplexity_base", "perplexity_candidate")
    )
    assert base is not None and candidate is not None
    assert 1.0 <= base < 1.2  # it sees the pictures: blind, it would not know the answers
    assert candidate > base
    kl = records["embedded-questions", "mean_kl_base_to_candidate_nats"]
    assert kl.floor is not None and kl.low is not None
    assert kl.low > kl.floor


def test_free_answers_part_greedily_and_drawn_at_temperature_1(records: dict[tuple[str, str], BenchmarkRecord]) -> None:
    task = "generation, prompts of 64 tokens, 24 steps"
    for metric in ("free_answers_alike_percent", "free_sampled_answers_alike_percent"):
        record = records[task, metric]
        alive, forks = record.details["survival"], record.details["first_forks"]
        assert len(alive) == 24
        assert len(forks) == 2
        assert alive == sorted(alive, reverse=True)
        assert record.value == pytest.approx(100 * sum(fork is None for fork in forks) / 2)
    sequence, mean = (records[task, f"{name}_kl_base_to_candidate_nats"].value for name in ("sequence", "mean"))
    assert sequence is not None and mean is not None
    assert sequence > 0 and mean > 0
