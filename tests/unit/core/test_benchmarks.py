"""Which records are shown: the newest, and beside them what the same run measured of the base."""

from __future__ import annotations

from datetime import UTC, datetime

from components.core.benchmarks import BenchmarkRecord, by_numbers, newest, of_the_same_runs


def record(day: int, model: str, metric: str = "median_ttft_ms") -> BenchmarkRecord:
    return BenchmarkRecord(
        id=f"benchmark-{day}-{model[2:]}-{metric}", source="measured", suite="throughput", model=model,
        task="text, 1 at a time", metric=metric, value=float(day), job_id=f"benchmark-{day}",
        created_at=datetime(2026, 1, day, tzinfo=UTC),
    )  # fmt: skip


def test_the_newest_of_each_figure_is_shown() -> None:
    old, new, other = record(1, "p/w4"), record(2, "p/w4"), record(1, "p/w4", "median_tpot_ms")
    found = newest([new, other, old])
    assert len(found) == 2
    assert new in found and other in found


def test_a_base_stands_beside_a_candidate_with_the_figures_of_the_same_run() -> None:
    shown = [record(1, "p/w4")]
    with_it, later = record(1, "p/base"), record(2, "p/base")  # of day 2, when another candidate was measured
    assert of_the_same_runs(shown, [later, with_it, record(1, "p/base", "median_tpot_ms")]) == [with_it]


def test_tasks_stand_in_the_order_of_their_numbers() -> None:
    tasks = ["text, 16 at a time", "text, at 100 %", "text, 4 at a time", "text, at 25 %", "12 items", "²"]
    assert sorted(tasks, key=by_numbers) == [
        "12 items", "text, 4 at a time", "text, 16 at a time", "text, at 25 %", "text, at 100 %", "²",
    ]  # fmt: skip
