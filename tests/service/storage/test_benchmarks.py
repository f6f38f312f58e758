"""Figures of benchmarks in a real database: once by id, found by what they are, published ones replaced."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path

import pytest

from components.benchmark.intake import Intake
from components.core.benchmarks import BenchmarkRecord, RecordBatch
from components.core.jobs import Job
from components.core.states import JobState
from components.jobs.records import JobFolder
from components.storage.benchmarks import BenchmarkRepository
from components.storage.database import Database

pytestmark = pytest.mark.service
WHEN = datetime(2026, 1, 1, tzinfo=UTC)
FIGURES = Path(__file__).parents[3] / "assets" / "published" / "figures.yaml"


@pytest.fixture
def records(database: Database) -> BenchmarkRepository:
    return BenchmarkRepository(database)


def record(record_id: str = "benchmark-1-0000", **fields: object) -> BenchmarkRecord:
    common = {"id": record_id, "source": "measured", "suite": "quality", "model": "p/w4", "base": "p/base",
              "task": "a text", "metric": "perplexity_ratio", "value": 1.5, "low": 1.25, "high": 1.75,
              "job_id": "benchmark-1", "created_at": WHEN, "details": {"curve": [1, 2.5, None]}}  # fmt: skip
    return BenchmarkRecord.model_validate({**common, **fields})


def test_a_record_comes_back_as_it_was_and_is_stored_once(records: BenchmarkRepository) -> None:
    assert records.add([record(), record("benchmark-1-0001", value=None)]) == 2
    assert records.add([record(value=9.0), record("benchmark-1-0002")]) == 1
    assert records.find()[0] == record()
    assert records.has_job("benchmark-1")
    assert not records.has_job("benchmark-2")


def test_records_are_found_by_what_they_are(records: BenchmarkRepository) -> None:
    other = record("benchmark-2-0000", model="p/w8", suite="accuracy", job_id="benchmark-2")
    records.add([record(), other])
    assert records.find(model="p/w8") == [other]
    assert records.find(suite="accuracy") == [other]
    assert records.find(job_id="benchmark-2", source="measured") == [other]
    assert records.find(source="published") == []


def test_published_figures_replace_published_ones_only(records: BenchmarkRepository, tmp_path: Path) -> None:
    records.add([record()])
    intake = Intake(records, tmp_path)
    intake.load_published(FIGURES)
    first = records.find(source="published")
    intake.load_published(FIGURES)
    assert records.find(source="published") == first
    assert len(first) > 100
    assert records.find(source="measured") == [record()]


def job(job_id: str, state: JobState, kind: str = "benchmark") -> Job:
    return Job(id=job_id, kind=kind, title="t", fingerprint="f", spec={}, state=state, created_at=WHEN)


def test_only_a_benchmark_that_succeeded_is_taken_in_and_only_once(
    records: BenchmarkRepository, tmp_path: Path
) -> None:
    folder = JobFolder(tmp_path / "benchmark-1")
    folder.result.mkdir(parents=True)
    (folder.result / "records.json").write_bytes(RecordBatch(records=(record(),)).model_dump_json().encode())
    intake = Intake(records, tmp_path)
    assert intake.take_in(job("benchmark-1", JobState.FAILED)) == 0
    assert intake.take_in(job("benchmark-1", JobState.SUCCEEDED, kind="quantize")) == 0
    assert intake.take_in(job("benchmark-1", JobState.SUCCEEDED)) == 1
    assert intake.take_in(job("benchmark-1", JobState.SUCCEEDED)) == 0
    (folder.result / "records.json").write_text("{")
    assert intake.take_in(job("benchmark-1", JobState.SUCCEEDED)) == 0  # damaged: the job stays as it is
    assert records.find() == [record()]
