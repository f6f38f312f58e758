"""The published figures: every derived cell recomputed, the known wrong ones found, and no other."""

from __future__ import annotations

from pathlib import Path

import pytest

from components.benchmark.published import published_records, recovery_percent
from components.core.benchmarks import BenchmarkRecord
from components.profiles.strict_yaml import parse

FILE = Path(__file__).parents[3] / "assets" / "published" / "figures.yaml"


@pytest.fixture(scope="module")
def records() -> list[BenchmarkRecord]:
    return published_records(parse(FILE.read_bytes(), FILE.name).plain())


def test_the_known_wrong_cells_are_found_and_no_others(records: list[BenchmarkRecord]) -> None:
    wrong = {(r.model.split("/")[-1], r.task, r.metric, r.value) for r in records if r.verified is False}
    large = "Pixtral-Large-Instruct-2411-hf"
    assert wrong == {
        (f"{large}-quantized.w4a16", "visual_reasoning on H100x4, highest rate", "queries_per_usd", 726.0),
        (f"{large}-FP8-Dynamic", "three use cases on H100x4, highest rate", "cost_reduction_ratio", 1.61),
        (f"{large}-quantized.w4a16", "three use cases on H100x4, highest rate", "cost_reduction_ratio", 1.33),
        (f"{large}-quantized.w8a8", "claimed, 1 at a time", "speed_up_ratio", 1.87),
        (f"{large}-quantized.w8a8", "claimed, highest rate", "speed_up_ratio", 2.0),
        (
            "Mistral-Small-3.2-24B-Instruct-2506-W4A16-AutoRound",
            "wikitext-2-raw-v1, windows of 512, top 20",
            "estimated_full_kl_nats",
            0.09,
        ),
        ("Mistral-Small-3.2-24B-Instruct-2506-W4A16-AutoRound", "wikitext-2-raw-v1, windows of 512", "chunks", 642.0),
        ("mistral-small-3.2-24b-Instruct-2506-NVFP4A16", "wikitext-2-raw-v1, windows of 512", "chunks", 642.0),
    }


def test_recomputed_values_are_those_of_the_file(records: list[BenchmarkRecord]) -> None:
    by = {(r.model.split("/")[-1], r.task, r.metric): r for r in records}
    bad = by[
        "Pixtral-Large-Instruct-2411-hf-quantized.w4a16", "visual_reasoning on H100x4, highest rate", "queries_per_usd"
    ]
    assert bad.recomputed == pytest.approx(621, abs=1)
    ratios = [r.recomputed for r in records if r.metric == "cost_reduction_ratio"]
    wanted = (1.856, 2.525, 1.826, 1.874, 1.696, 1.476, 1.661, 1.480)
    assert ratios == pytest.approx(wanted, abs=6e-4)
    changes = [r.recomputed for r in records if r.metric == "perplexity_change_percent"]
    assert changes == pytest.approx((3.051, 4.223), abs=1e-3)
    single = [r for r in records if r.metric == "output_tokens_per_s" and r.task.endswith(", 1 at a time")]
    assert [r.recomputed for r in single] == pytest.approx((107.6, 103.3), abs=0.05)
    assert all(r.verified for r in single)


def test_all_recoveries_reproduce(records: list[BenchmarkRecord]) -> None:
    found = [r for r in records if r.metric == "recovery_percent"]
    assert len(found) == 8
    assert all(r.verified and r.recomputed == pytest.approx(r.value, abs=0.006) for r in found)
    assert recovery_percent(76.336, 75.950) == pytest.approx(99.49, abs=0.006)


def test_every_record_is_marked_published_and_has_its_own_id(records: list[BenchmarkRecord]) -> None:
    assert len({r.id for r in records}) == len(records) > 100
    assert {r.source for r in records} == {"published"}
    assert {r.details["card"] for r in records} == {
        "001_aaa4787d8f73ee9b.txt", "002_a0e7109dc4b003b5.txt", "004_8bc2fc55dfc850c0.txt",
    }  # fmt: skip
