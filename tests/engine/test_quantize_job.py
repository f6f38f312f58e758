"""The real thing: a job's driver quantizes the embedded base, and vLLM serves what came of it."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from components.engines.catalog import Catalog
from components.engines.prepare import ModelPreparer
from components.jobs.launcher import find_members
from components.jobs.records import JobEvent, JobFolder
from components.profiles.loader import list_pairs
from components.quantize.candidates import MadeCandidate
from components.quantize.service import QuantizeService, QuantizeSettings
from tests.engine.serving import ROOT

pytestmark = pytest.mark.engine


@pytest.fixture(scope="module")
def state_dir() -> Iterator[Path]:
    with tempfile.TemporaryDirectory(prefix="q-") as folder:  # a socket path must be short
        yield Path(folder)


def run_job(state_dir: Path, spec: dict[str, Any]) -> tuple[JobFolder, list[JobEvent]]:
    """A job from its plan to its exit record, as the app's runner starts it."""
    catalog = Catalog(list_pairs(ROOT / "profiles")[0])
    service = QuantizeService(
        catalog,
        ModelPreparer(state_dir / "models", ROOT),
        SimpleNamespace(),
        QuantizeSettings(state_dir, ROOT, "embedded"),
    )
    _, job = service.prepare(spec)
    folder = JobFolder(state_dir / "jobs" / str(spec["recipe"]))
    folder.create(json.loads(job.as_json()))
    with folder.log.open("wb") as log:
        subprocess.run(
            [sys.executable, "-m", "components.quantize.job", str(folder.path)],
            cwd=ROOT, env={**os.environ, "DIPTYCH_GROUP": str(folder.path)}, stdout=log, stderr=log, timeout=600,
            check=False,
        )  # fmt: skip
    return folder, folder.read_events(0)[0]


@pytest.mark.parametrize(("recipe", "bits"), [("w4a16-gptq", 4.125), ("fp8-dynamic", 8.06)])
def test_a_job_makes_a_checkpoint_that_sees_and_answers_like_the_base(
    state_dir: Path, recipe: str, bits: float
) -> None:
    folder, events = run_job(state_dir, {"recipe": recipe})
    ended = folder.read_exit()
    assert ended is not None
    assert ended.state == "SUCCEEDED", f"{ended.failure_reason}\n{folder.log.read_text()[-3000:]}"
    result: dict[str, Any] = dict(ended.result or {})
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
    assert made.model.scheme == {"w4a16-gptq": "W4A16", "fp8-dynamic": "FP8-Dynamic"}[recipe]
    names = {path.name for path in folder.result.iterdir()}
    assert {"config.json", "params.json", "tekken.json", "generation_config.json", "recipe.yaml", "record"} <= names
    record = {path.name for path in (folder.result / "record").iterdir()}
    assert {"quantize.py", "tool_spec.json", "requirements.txt", "packages.txt", "summary.json"} <= record
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
