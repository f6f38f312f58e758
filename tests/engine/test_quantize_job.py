"""The real thing: a job's driver quantizes the embedded base, and vLLM serves what came of it."""

from __future__ import annotations

import json
import os
import resource
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from components.engines.catalog import Catalog
from components.engines.prepare import ModelPreparer
from components.jobs.launcher import find_members
from components.jobs.records import JobExit, JobFolder
from components.profiles.loader import list_pairs
from components.quantize.candidates import MadeCandidate
from components.quantize.service import QuantizeService, QuantizeSettings
from tests.engine.serving import ROOT

pytestmark = [pytest.mark.engine, pytest.mark.usefixtures("quantizer")]
LIMIT_S = 600


@pytest.fixture(scope="module")
def state_dir() -> Iterator[Path]:
    with tempfile.TemporaryDirectory(prefix="q-") as folder:  # a socket path must be short
        yield Path(folder)


def make_service(state_dir: Path) -> QuantizeService:
    """The app's own, without a queue."""
    catalog = Catalog(list_pairs(ROOT / "profiles")[0])
    settings = QuantizeSettings(state_dir, ROOT, "embedded")
    return QuantizeService(catalog, ModelPreparer(state_dir / "models", ROOT), SimpleNamespace(), settings)


def make_job(state_dir: Path, spec: dict[str, Any], name: str) -> JobFolder:
    """A job's folder from its plan, as the app makes it."""
    _, job = make_service(state_dir).prepare(spec)
    folder = JobFolder(state_dir / "jobs" / name)
    folder.create(json.loads(job.as_json()))
    return folder


def start(folder: JobFolder, largest_file_bytes: int | None = None) -> subprocess.Popen[bytes]:
    """The driver in a session of its own; ``largest_file_bytes`` stands for a disk that is full."""

    def limit() -> None:
        if largest_file_bytes is not None:
            resource.setrlimit(resource.RLIMIT_FSIZE, (largest_file_bytes, largest_file_bytes))

    with folder.log.open("wb") as log:
        return subprocess.Popen(
            [sys.executable, "-m", "components.quantize.job", str(folder.path)],
            cwd=ROOT, env={**os.environ, "DIPTYCH_GROUP": str(folder.path)}, stdout=log, stderr=log,
            start_new_session=True, preexec_fn=limit,
        )  # fmt: skip


def ended(folder: JobFolder) -> JobExit:
    """How it ended; with the log where it left no record."""
    record = folder.read_exit()
    assert record is not None, folder.log.read_text()[-3000:]
    return record


@pytest.mark.parametrize(
    ("recipe", "scheme", "bits"),
    [
        ("w4a16-gptq", "W4A16", 4.125),
        pytest.param("fp8-dynamic", "FP8-Dynamic", 8.06, marks=pytest.mark.long),
    ],
)
def test_a_job_makes_a_checkpoint_that_sees_and_answers_like_the_base(
    state_dir: Path, recipe: str, scheme: str, bits: float
) -> None:
    folder = make_job(state_dir, {"recipe": recipe}, recipe)
    start(folder).wait(LIMIT_S)
    check_made(folder, scheme=scheme, bits=bits)


def check_made(folder: JobFolder, *, scheme: str, bits: float) -> None:
    """A job succeeded, and all that it promises is there."""
    record, events = ended(folder), folder.read_events(0)[0]
    assert record.state == "SUCCEEDED", f"{record.failure_reason}\n{folder.log.read_text()[-3000:]}"
    result: dict[str, Any] = dict(record.result or {})
    check = result["check"]
    assert check["sight"] == "sees"
    assert check["answer"].startswith("The picture shows a red circle")
    assert check["kl_missing"] == ""
    assert 0 <= check["noise_floor_nats"] < check["mean_kl_base_to_candidate_nats"] < 0.05
    assert result["bits_per_quantized_weight"] == pytest.approx(bits, abs=0.05)
    assert result["size_after_bytes"] < result["size_before_bytes"]
    phases = [event.phase for event in events]
    for phase in ("Environment", "Source", "Quantizing", "Finishing", "Checking"):
        assert phase in phases
    made = MadeCandidate.model_validate(result["candidate"])
    assert made.model.scheme == scheme
    names = {path.name for path in folder.result.iterdir()}
    assert {"config.json", "params.json", "tekken.json", "generation_config.json", "recipe.yaml", "record"} <= names
    kept = {path.name for path in (folder.result / "record").iterdir()}
    assert {"quantize.py", "tool_spec.json", "requirements.txt", "packages.txt", "summary.json"} <= kept
    assert not folder.partial.exists()
    assert not find_members(str(folder.path)), "no process is left"


def test_losses_and_layers_were_told_while_it_ran(state_dir: Path) -> None:
    """Of the W4A16 job above."""
    events = JobFolder(state_dir / "jobs" / "w4a16-gptq").read_events(0)[0]
    quantizing = [event for event in events if event.phase == "Quantizing"]
    assert max(event.step or 0 for event in quantizing) == quantizing[-1].steps == 5
    assert any(event.loss is not None for event in quantizing)
    assert any(event.remaining_s for event in quantizing)
    assert all((event.peak_memory_bytes or 0) > 100e6 for event in quantizing)


def test_a_dry_run_on_the_first_layer_tells_the_time(state_dir: Path) -> None:
    """After the jobs above: the tool's environment is there."""
    plan = make_service(state_dir).measure({"recipe": "w4a16-gptq"})
    assert plan.time_basis.startswith("From a dry run")
    assert plan.time_estimate_s is not None
    assert 75 < plan.time_estimate_s < 1200


def test_a_cancelled_job_leaves_no_process_and_no_half_checkpoint(state_dir: Path) -> None:
    folder = make_job(state_dir, {"recipe": "w4a16-gptq"}, "cancelled")
    process = start(folder)
    while not any(event.phase == "Quantizing" for event in folder.read_events(0)[0]):
        assert process.poll() is None, folder.log.read_text()[-3000:]
        time.sleep(0.05)
    asked_s = time.monotonic()
    os.killpg(process.pid, signal.SIGINT)
    process.wait(10)
    assert time.monotonic() - asked_s < 10
    assert ended(folder).state == "STOPPED"
    assert not find_members(str(folder.path))
    assert not folder.partial.exists()
    assert not folder.result.exists()


def test_a_full_disk_fails_the_job_with_its_reason(state_dir: Path) -> None:
    folder = make_job(state_dir, {"recipe": "fp8-dynamic"}, "full")
    start(folder, largest_file_bytes=11_500_000).wait(LIMIT_S)
    record = ended(folder)
    assert record.state == "FAILED"
    assert record.failure_reason is not None
    assert record.failure_reason.startswith("The disk is full")
    assert not folder.partial.exists()
    assert not folder.result.exists()
