"""A benchmark of the embedded pair, run by its driver on this machine."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

from components.benchmark.service import BenchmarkService, BenchmarkSettings
from components.core.benchmarks import BenchmarkRecord, RecordBatch
from components.engines.catalog import Catalog
from components.jobs.records import JobFolder
from components.profiles.loader import load_pair
from tests.engine.serving import ROOT
from tests.running_app import new_state_dir

Records = dict[tuple[str, str], BenchmarkRecord]
LIMIT_S = 600  # 60 s on two free cores
QUALITY: dict[str, Any] = {
    "models": ["embedded/coarse"], "suite": "quality",
    "overrides": {"chunks": 4, "items": 6, "prompt_lengths": [64], "prompts": 2, "steps": 24, "draws": 200},
}  # fmt: skip


def driver_folder(state: Path) -> JobFolder:
    """The job's folder, as the app makes it."""
    catalog = Catalog([load_pair(ROOT / "profiles", "embedded")])
    settings = BenchmarkSettings(state, ROOT, "embedded", "cpu")
    service = BenchmarkService(catalog, None, None, settings)  # type: ignore[arg-type]
    folder = JobFolder(state / "jobs" / "benchmark-1")
    folder.create(json.loads(service.prepare(QUALITY).as_json()))
    return folder


def measured_here() -> Records:
    """Every figure by task and metric."""
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
