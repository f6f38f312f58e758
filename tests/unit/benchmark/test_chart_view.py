"""Trade-offs are drawn only from figures that were both measured, or both printed."""

from __future__ import annotations

import re
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from components.benchmark.chart_view import trade_offs
from components.benchmark.published import published_records
from components.benchmark.tables import COLUMNS, examples, kl_by_class, kl_by_position, kl_histogram
from components.benchmark.weights import weights_bytes
from components.core.benchmarks import BenchmarkRecord, Suite
from components.profiles.strict_yaml import parse

ROOT = Path(__file__).parents[3]
KL = "mean_kl_base_to_candidate_nats"


def record(suite: Suite, task: str, metric: str, value: float, model: str = "pair/w4", **more: Any) -> BenchmarkRecord:
    name = re.sub("[^A-Za-z0-9]+", "-", f"{task}-{metric}-{model}")[:60]
    base = None if model == "pair/base" else "pair/base"
    return BenchmarkRecord(
        id=name, source="measured", suite=suite, model=model, task=task, metric=metric, value=value, base=base,
        created_at=datetime.now(UTC), **more,
    )  # fmt: skip


def test_a_model_without_one_of_the_two_figures_has_no_point() -> None:
    measured = [
        record("cost", "captioning, 1 at a time", "queries_per_usd", 100.0),
        record("cost", "captioning, 1 at a time", "queries_per_usd", 50.0, "pair/base"),
        record("quality", "text, llama.cpp-512", KL, 0.1, "pair/w8"),
    ]
    assert trade_offs(measured, [], {}) == {"cost": [], "size": []}


def test_points_hold_what_was_measured() -> None:
    measured = [
        record("cost", "captioning, 1 at a time", "queries_per_usd", 100.0),
        record("accuracy", "set", "recovery_percent", 98.0, low=95.0, high=100.5),
        record("accuracy", "set: colour", "recovery_percent", 10.0, details={"kind": "colour"}),
        record("quality", "text, llama.cpp-512", KL, 0.1, low=0.08, high=0.12, floor=0.0),
        record("quality", "generation, prompts of 128 tokens", KL, 0.3),
        record("cost", "weights", "weights_gb", 0.3),
        record("cost", "weights", "weights_gb", 1.0, "pair/base"),
    ]
    found = trade_offs(measured, [], {"pair/w4": "W4A16"})
    assert found["cost"] == [{
        "model": "W4A16", "id": "pair/w4", "source": "measured", "task": "captioning, 1 at a time",
        "queries_per_usd": 100.0, "tasks": 1, "recovery_percent": 98.0, "low": 95.0, "high": 100.5,
    }]  # fmt: skip
    assert found["size"] == [{
        "model": "W4A16", "id": "pair/w4", "task": "text, llama.cpp-512", "gb": 0.3, "base_gb": 1.0,
        "mean_kl_nats": 0.1, "low": 0.08, "high": 0.12, "floor": 0.0,
    }]  # fmt: skip


def test_the_cards_average_is_not_averaged_again() -> None:
    text = (ROOT / "assets" / "published" / "figures.yaml").read_bytes()
    published = published_records(parse(text, "figures.yaml").plain())
    points = trade_offs([], published, {})["cost"]
    assert points
    assert {point["source"] for point in points} == {"published"}
    w8a8 = next(point for point in points if point["id"].endswith("w8a8"))
    assert w8a8["tasks"] == 7
    assert w8a8["recovery_percent"] == pytest.approx(np.mean([100.52, 100.11, 100.28, 97.81, 98.81, 98.30, 100.12]))


def test_every_bar_has_tokens_of_its_own(tmp_path: Path) -> None:
    draw = np.random.default_rng(5)
    groups = []
    for _ in range(3):
        table = np.abs(draw.normal(size=(64, len(COLUMNS))))
        table[:, COLUMNS.index("kl_base_to_candidate_nats")] = 10.0 ** draw.uniform(-6, 0.5, size=64)
        table[:, COLUMNS.index("target_id")] = draw.integers(97, 123, size=64)
        groups.append(table)
    classes = ["vowel" if chr(int(t)) in "aeiou" else "other" for g in groups for t in g[:, -1]]
    found = examples(groups, classes, chr)
    histogram = kl_histogram(np.concatenate(groups))
    assert {one["bin"] for one in found} == {n for n, tokens in enumerate(histogram["tokens"]) if tokens}
    assert {one["class"] for one in found} == {row["class"] for row in kl_by_class(np.concatenate(groups), classes)}
    assert {one["stretch"] for one in found} == set(range(len(kl_by_position(groups))))
    assert [one["kl_nats"] for one in found] == sorted((one["kl_nats"] for one in found), reverse=True)
    worst = found[0]
    group = groups[worst["group"] - 1]
    assert worst["kl_nats"] == max(g[:, 0].max() for g in groups)
    assert worst["token"] == chr(int(group[worst["position"], -1]))
    start = max(0, worst["position"] - 12)
    assert worst["before"] == "".join(chr(int(t)) for t in group[start : worst["position"], -1])


def test_weights_in_two_formats_count_once(tmp_path: Path) -> None:
    (tmp_path / "consolidated.safetensors").write_bytes(b"1234")
    assert weights_bytes(tmp_path) == 4
    (tmp_path / "model-00001-of-00002.safetensors").write_bytes(b"12")
    (tmp_path / "model-00002-of-00002.safetensors").write_bytes(b"345")
    assert weights_bytes(tmp_path) == 5
