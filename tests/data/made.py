"""A finished quantize job with its files, as another run of the app left it."""

from __future__ import annotations

import os
from datetime import UTC, datetime
from pathlib import Path

from components.core.jobs import Job
from components.core.states import JobState
from components.profiles.loader import load_pair
from components.profiles.schema import FolderSource, ModelProfile
from components.quantize.candidates import RESULT_KEY, MadeCandidate
from components.storage.jobs import JobRepository
from tests.running_app import ROOT

JOB_ID, MODEL_ID = "quantize-000000000001", "w4a16-gptq-000001"
ENGINE_ID = f"embedded/{MODEL_ID}"
WEIGHTS = {"model-1.safetensors": 1_000_000, "model-2.safetensors": 300_000}


def store_made_candidate(state: Path, repository: JobRepository) -> None:
    """The job as SUCCEEDED and its result; the weights are noise, which nothing here loads."""
    result = state / "jobs" / JOB_ID / "result"
    (result / "record").mkdir(parents=True)
    for name, size in WEIGHTS.items():
        (result / name).write_bytes(os.urandom(size))
    (result / "config.json").write_text("{}")
    (result / "README.md").write_text("the base's own card")
    (result / "recipe.yaml").write_text(f"file: {state}/uploads/mine.jsonl\n")
    (result / "record" / "quantize.py").write_text(f'SPEC = "{result}"\n')
    (result / "record" / "requirements.txt").write_text("a==1\n")
    model = ModelProfile(
        id=MODEL_ID, role="candidate", label="W4A16 (GPTQ), made here", scheme="W4A16",
        source=FolderSource(kind="folder", folder=str(result)), description="Made by a job.",
    )  # fmt: skip
    made = MadeCandidate(pair=load_pair(ROOT / "profiles", "embedded"), model=model)
    job = Job(
        id=JOB_ID, kind="quantize", title="W4A16 (GPTQ) of the embedded pair", fingerprint="made", spec={},
        created_at=datetime.now(UTC),
    )  # fmt: skip
    repository.submit(job, 10)
    repository.change(JOB_ID, JobState.RUNNING)
    told = {"engine_id": ENGINE_ID, "packed": ".", RESULT_KEY: made.model_dump(mode="json", exclude_unset=True)}
    repository.change(JOB_ID, JobState.SUCCEEDED, result=told)
