"""A benchmark's driver as the app starts it, on real engines: the embedded base against its coarse version."""

from __future__ import annotations

import shutil
import subprocess
import sys

import psutil
import pytest

from tests.engine.benchmarking import Records, driver_folder
from tests.engine.serving import ROOT
from tests.running_app import new_state_dir, wait_until

pytestmark = pytest.mark.engine


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


def test_llama_cpps_windows_are_scored_exactly(measured: Records) -> None:
    kl = measured["embedded-conversations, llama.cpp-512", "mean_kl_base_to_candidate_nats"]
    assert kl.n == 4 * 255
    assert kl.value is not None and kl.floor is not None and kl.low is not None
    assert kl.floor < kl.low <= kl.value
    bound = measured["embedded-conversations, llama.cpp-512", "top20_lower_bound_kl_nats"]
    assert bound.value is not None
    assert 0 < bound.value <= kl.value
    assert kl.details["targets_per_chunk"] == 255


def test_the_coarse_version_answers_worse_about_pictures(measured: Records) -> None:
    base, candidate = (
        measured["embedded-questions", metric].value for metric in ("perplexity_base", "perplexity_candidate")
    )
    assert base is not None and candidate is not None
    assert 1.0 <= base < 1.2  # it sees the pictures: blind, it would not know the answers
    assert candidate > base
    kl = measured["embedded-questions", "mean_kl_base_to_candidate_nats"]
    assert kl.floor is not None and kl.low is not None
    assert kl.low > kl.floor


def test_free_answers_part_greedily_and_drawn_at_temperature_1(measured: Records) -> None:
    task = "generation, prompts of 64 tokens, 24 steps"
    for metric in ("free_answers_alike_percent", "free_sampled_answers_alike_percent"):
        record = measured[task, metric]
        alive, forks = record.details["survival"], record.details["first_forks"]
        assert len(alive) == 24
        assert len(forks) == 2
        assert alive == sorted(alive, reverse=True)
        assert record.value == pytest.approx(100 * sum(fork is None for fork in forks) / 2)
    sequence, mean = (measured[task, f"{name}_kl_base_to_candidate_nats"].value for name in ("sequence", "mean"))
    assert sequence is not None and mean is not None
    assert sequence > 0 and mean > 0
