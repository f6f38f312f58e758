"""Records of benchmarks: one figure each, with its interval and what it rests on. Pure data.

A figure that was not measured has no record. ``metric`` carries the unit and the direction in its name.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import Literal

from pydantic import Field, JsonValue

from components.core.answers import Record
from components.core.traces import RecordId, UtcDatetime

Source = Literal["measured", "published"]
Suite = Literal["quality", "accuracy", "throughput", "cost"]
SUITES: tuple[Suite, ...] = ("quality", "accuracy", "throughput", "cost")


class BenchmarkRecord(Record):
    """One figure of one model."""

    id: RecordId
    source: Source
    suite: Suite
    model: str = Field(description="pair/model of an engine of ours, or the repository that a card names")
    base: str | None = Field(default=None, description="What it was compared with; None = it stands alone")
    scheme: str = Field(default="", description="The model's format")
    task: str = Field(description="Corpus and convention, set of items, or use case and load")
    metric: str = Field(description="snake_case with unit and direction")
    value: float | None = Field(default=None, description="None where the record carries a curve or a list only")
    low: float | None = Field(default=None, description="Lower end of the 95 % interval")
    high: float | None = Field(default=None, description="Upper end of the 95 % interval")
    interval: str = Field(default="", description="What the interval rests on, in words")
    floor: float | None = Field(
        default=None, description="The same figure of the base against itself; None = not known"
    )
    n: int | None = Field(default=None, description="How many of ``n_unit``")
    n_unit: str = Field(default="", description="tokens, items, requests")
    job_id: str | None = Field(default=None, description="The run that measured it; None for a published figure")
    created_at: UtcDatetime
    note: str = Field(default="", description="What a reader should know, in a sentence")
    details: dict[str, JsonValue] = Field(default_factory=dict, description="Settings, curves, lists of items")
    recomputed: float | None = Field(default=None, description="Published: our arithmetic from the same card's cells")
    verified: bool | None = Field(
        default=None, description="Published: whether the card's own cells give it; None = nothing to check it with"
    )


class RecordBatch(Record):
    """What a benchmark job hands over."""

    format: Literal[1] = 1
    records: tuple[BenchmarkRecord, ...]


def newest(records: Iterable[BenchmarkRecord]) -> list[BenchmarkRecord]:
    """Of each model, task and metric the newest.

    Figures at a request rate are of the newest run alone: their tasks are shares of what one run found to be the
    highest rate, so those of two runs make no curve.
    """
    found: dict[tuple[str, str, str], BenchmarkRecord] = {}
    runs: dict[tuple[str, str, str], str | None] = {}
    for record in sorted(records, key=lambda record: (record.created_at, record.id)):
        found[record.model, record.task, record.metric] = record
        runs[_curve_of(record)] = record.job_id
    return [r for r in found.values() if not r.metric.endswith("_at_rate_ms") or r.job_id == runs[_curve_of(r)]]


def _curve_of(record: BenchmarkRecord) -> tuple[str, str, str]:
    return record.model, record.task.rpartition(", at ")[0], record.metric


def by_numbers(task: str) -> list[str | int]:
    """Sorts tasks as people do: "4 at a time" before "16 at a time"."""
    parts = re.split(r"([0-9]+)", task)  # text and number by turns
    return [int(part) if place % 2 else part for place, part in enumerate(parts)]


def of_the_same_runs(shown: Iterable[BenchmarkRecord], others: Iterable[BenchmarkRecord]) -> list[BenchmarkRecord]:
    """Another model's figures that were measured together with those that are shown: same run, task and metric.

    A base's speed of another day, on a machine with other work, is no measure for a candidate's.
    """
    runs = {(record.job_id, record.task, record.metric) for record in shown}
    return [record for record in others if (record.job_id, record.task, record.metric) in runs]
