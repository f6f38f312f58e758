"""Takes figures in: what jobs measured, and what cards published."""

from __future__ import annotations

import logging
from pathlib import Path

from pydantic import ValidationError

from components.benchmark.job import RECORDS
from components.benchmark.published import published_records
from components.core.benchmarks import RecordBatch
from components.core.jobs import Job
from components.core.states import JobState
from components.jobs.records import JobFolder
from components.profiles.strict_yaml import parse
from components.storage.benchmarks import BenchmarkRepository

logger = logging.getLogger(__name__)
KIND = "benchmark"


class Intake:
    """Puts records into the database; the same ones twice are there once."""

    def __init__(self, records: BenchmarkRepository, jobs_dir: Path) -> None:
        self._records, self._jobs_dir = records, jobs_dir

    def take_in(self, job: Job) -> int:
        """Store what a benchmark that succeeded measured; how many figures were new. Other jobs are passed over."""
        if job.kind != KIND or job.state is not JobState.SUCCEEDED:
            return 0
        file = JobFolder(self._jobs_dir / job.id).result / RECORDS
        try:
            batch = RecordBatch.model_validate_json(file.read_bytes())
        except (OSError, ValidationError) as exc:
            logger.warning("the figures of job %s can't be read: %s", job.id, exc)
            return 0
        return self._records.add(batch.records)

    def load_published(self, file: Path) -> None:
        """The published figures are those of this file.

        Raises:
            ProfileError: it can't be read as YAML.
        """
        self._records.replace_published(published_records(parse(file.read_bytes(), file.name).plain()))
