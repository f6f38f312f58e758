"""Makes records of one run: same run, same order → same ids, so that handing them over twice stores them once."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

from components.core.benchmarks import BenchmarkRecord, Suite
from components.core.statistics import Interval


class Recorder:
    """Collects the figures of one job."""

    def __init__(self, job_id: str, environment: dict[str, Any] | None = None) -> None:
        self._job_id, self._environment = job_id, environment or {}
        self._records = list[BenchmarkRecord]()
        self._now = datetime.now(UTC)

    @property
    def records(self) -> tuple[BenchmarkRecord, ...]:
        """All so far."""
        return tuple(self._records)

    def add(
        self, suite: Suite, model: str, task: str, metric: str, value: float | Interval | None, **fields: Any
    ) -> None:
        """One figure; an ``Interval`` gives its ends too. ``fields`` are the record's other fields."""
        if isinstance(value, Interval):
            fields = {"low": value.low, "high": value.high, **fields}
            value = value.value
        fields["details"] = {**self._environment, **fields.get("details", {})}
        record = BenchmarkRecord(
            id=f"{self._job_id}-{len(self._records):04d}", source="measured", suite=suite, model=model, task=task,
            metric=metric, value=value, job_id=self._job_id, created_at=self._now, **fields,
        )  # fmt: skip
        self._records.append(record)
