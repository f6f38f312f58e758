"""Verdicts: pass, warn, fail, and what an interval does not settle."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path

import pytest

from components.benchmark.verdict import Limit, judge, load_verdict_profile, sentence_of
from components.core.benchmarks import BenchmarkRecord

LIMIT = Limit(metric="mean_kl_base_to_candidate_nats", suite="quality", direction="at most", warn=0.01, fail=0.1)
PROFILES = Path(__file__).parents[3] / "profiles"


def record(value: float, low: float | None = None, high: float | None = None, **fields: object) -> BenchmarkRecord:
    common = {"id": "benchmark-1-0001", "source": "measured", "suite": "quality", "model": "p/w4", "base": "p/base",
              "task": "text", "metric": LIMIT.metric, "created_at": datetime(2026, 1, 1, tzinfo=UTC)}  # fmt: skip
    return BenchmarkRecord.model_validate({**common, "value": value, "low": low, "high": high, **fields})


@pytest.mark.parametrize(
    ("value", "low", "high", "outcome"),
    [
        (0.001, 0.0005, 0.002, "pass"),
        (0.05, 0.04, 0.06, "warn"),
        (0.2, 0.15, 0.3, "fail"),
        (0.009, 0.005, 0.02, "not enough data"),  # around the limit of a warning
        (0.09, 0.05, 0.15, "not enough data"),  # around the limit of a failure
        (0.005, None, None, "pass"),
    ],
)
def test_one_limit(value: float, low: float | None, high: float | None, outcome: str) -> None:
    found = judge([record(value, low, high)], [LIMIT])
    assert found.outcome == outcome
    assert found.findings[0].record_id == "benchmark-1-0001"


def test_at_least_is_the_other_way_round() -> None:
    limit = Limit(metric="recovery_percent", suite="accuracy", direction="at least", warn=99, fail=95)
    about = {"metric": "recovery_percent", "suite": "accuracy"}
    assert judge([record(99.5, 99.1, 99.9, **about)], [limit]).outcome == "pass"
    assert judge([record(97, 96, 98, **about)], [limit]).outcome == "warn"
    assert judge([record(90, 88, 92, **about)], [limit]).outcome == "fail"


def test_what_was_not_measured_is_no_pass() -> None:
    found = judge([], [LIMIT])
    assert found.outcome == "not enough data"
    assert "was not measured" in found.findings[0].sentence


def test_the_newest_figure_counts_and_kinds_are_not_judged_alone() -> None:
    old, new = record(0.5), record(0.001, id="benchmark-2-0001", created_at=datetime(2026, 2, 1, tzinfo=UTC))
    assert judge([new, old], [LIMIT]).outcome == "pass"
    assert judge([new, record(0.5, task="text: count", details={"kind": "count"})], [LIMIT]).outcome == "pass"


def test_a_sentence_says_where_the_noise_floor_is() -> None:
    above = sentence_of(record(0.0004, 0.0003, 0.0005, floor=1e-6))
    assert above == (
        "On text the mean KL from the base is 0.0004 (0.0003 to 0.0005) nats, above the noise floor of 1.00e-06."
    )
    assert "inside the noise floor" in sentence_of(record(1e-6, 5e-7, 2e-6, floor=1e-6))


def test_the_profile_can_be_read() -> None:
    assert {limit.metric for limit in load_verdict_profile(PROFILES).limits} >= {LIMIT.metric, "recovery_percent"}
