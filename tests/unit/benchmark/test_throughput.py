"""Timings → records: definitions against literal cases, and cost only with a price."""

from __future__ import annotations

import pytest

from components.benchmark.load import LoadResult, RequestTiming
from components.benchmark.recorder import Recorder
from components.benchmark.spec import CostSettings, ThroughputSettings, UseCase
from components.benchmark.throughput import add_cost, add_throughput

CASE = UseCase(id="text", label="Text", prompt_tokens=10, output_tokens=20)
SETTINGS = ThroughputSettings(use_cases=(CASE,), concurrency=(1, 4))
SCHEMES = {"p/base": "BF16", "p/w4": "W4A16"}


def timing(ttft: float, e2el: float, tokens: int = 20) -> RequestTiming:
    return RequestTiming(
        ttft_ms=ttft, tpot_ms=(e2el - ttft) / (tokens - 1), e2el_ms=e2el, itl_ms=(10.0,) * (tokens - 1),
        prompt_tokens=10, output_tokens=tokens, finish_reason="length",
    )  # fmt: skip


def results(latency_ms: float) -> list[LoadResult]:
    request = timing(100.0, latency_ms)
    return [
        LoadResult(2 * latency_ms / 1000, (request, request)),
        LoadResult(2 * latency_ms / 1000, (request, request)),
    ]


def test_rates_latencies_and_failures() -> None:
    recorder = Recorder("benchmark-1")
    failed = LoadResult(1.0, (timing(100, 300), RequestTiming(error="refused")))
    add_throughput(recorder, {("p/w4", "text", 1): [failed]}, SETTINGS, "p/base", SCHEMES)
    by = {record.metric: record for record in recorder.records}
    assert by["success_percent"].value == 50.0
    assert by["success_percent"].details["errors"] == ["refused"]
    assert by["output_tokens_per_s"].value == 20.0
    assert by["total_tokens_per_s"].value == 30.0
    assert by["median_ttft_ms"].value == 100.0
    assert by["median_tpot_ms"].value == pytest.approx(200 / 19)  # the first token is excluded
    assert by[
        "request_tokens_per_s" if "request_tokens_per_s" in by else "median_request_tokens_per_s"
    ].value == pytest.approx(20 / 0.3)
    assert by["prefill_tokens_per_s"].value == pytest.approx(100.0)
    assert all(record.base == "p/base" and record.scheme == "W4A16" for record in recorder.records)


def test_cost_follows_the_cards_formulas() -> None:
    found = {("p/base", "text", 1): results(6000.0), ("p/w4", "text", 1): results(3000.0)}
    recorder = Recorder("benchmark-1")
    cost = CostSettings(hardware="a100", usd_per_hour=1.79, devices=4, source="a list")
    add_cost(recorder, found, SETTINGS, cost, "p/base", SCHEMES)
    by = {(record.model, record.metric): record.value for record in recorder.records}
    assert by["p/base", "queries_per_usd"] == pytest.approx(3600 / 6.0 / (4 * 1.79))
    assert by["p/w4", "cost_reduction_ratio"] == pytest.approx(2.0)
    speed = 20 / 3.0  # tokens of one request in its time
    assert by["p/w4", "usd_per_million_output_tokens"] == pytest.approx(4 * 1.79 / (speed * 3600) * 1e6)


def test_without_a_price_there_is_no_cost() -> None:
    recorder = Recorder("benchmark-1")
    add_cost(
        recorder, {("p/base", "text", 1): results(10.0)}, SETTINGS, CostSettings(hardware="cpu"), "p/base", SCHEMES
    )
    assert recorder.records == ()
