"""Requests at a rate: arrivals, and what is recorded of them."""

from __future__ import annotations

import random
from typing import Any

import pytest

from components.benchmark import load
from components.benchmark.chart_view import rate_points
from components.benchmark.load import LoadResult, RequestTiming, put_load_at_rate
from components.benchmark.overrides import check_overrides
from components.benchmark.rates import RateCurves, RatePoint, add_rates
from components.benchmark.recorder import Recorder
from components.benchmark.spec import ThroughputSettings, UseCase
from components.core.benchmarks import newest
from components.core.errors import InputError

CASE = UseCase(id="text", label="Text", prompt_tokens=10, output_tokens=20)
SETTINGS = ThroughputSettings(use_cases=(CASE,), requests=2, rate_cases=("text",), rate_shares=(0.5,))


async def test_arrivals_do_not_wait_for_answers_and_are_equal_for_equal_draws(monkeypatch: pytest.MonkeyPatch) -> None:
    waited: list[float] = []

    async def sleep(seconds: float) -> None:
        waited.append(seconds)

    async def one(*_args: Any, **_more: Any) -> RequestTiming:
        return RequestTiming(e2el_ms=5.0)

    monkeypatch.setattr(load.asyncio, "sleep", sleep)
    monkeypatch.setattr(load, "_one", one)
    chats = [({"role": "user", "content": "a"},)] * 400
    for _ in range(2):
        found = await put_load_at_rate(None, chats, CASE, 20.0, random.Random(3), fixed=True)  # type: ignore[arg-type]
        assert len(found.succeeded) == 400
    assert waited[:400] == waited[400:]
    assert waited[0] == 0
    assert sorted(waited[:400]) == waited[:400]
    assert waited[399] / 399 == pytest.approx(1 / 20, rel=0.15)  # the mean gap


def test_a_point_says_its_rate_and_its_percentiles_and_is_drawn() -> None:
    requests = tuple(RequestTiming(ttft_ms=10.0 * n, e2el_ms=100.0 * n, output_tokens=5) for n in range(1, 6))
    failed = RequestTiming(error="refused")
    curves = RateCurves(
        {("p/base", "text"): 8.0}, (RatePoint("p/w4", CASE, 0.5, 4.0, LoadResult(2.0, (*requests, failed))),)
    )
    recorder = Recorder("job")
    add_rates(recorder, curves, SETTINGS, "p/base", {"p/base": "BF16", "p/w4": "W4A16"})
    found = {record.metric: record for record in recorder.records}
    assert found["max_requests_per_s"].value == 8.0
    e2el = found["e2el_at_rate_ms"]
    assert e2el.task == "text (10/20 tokens), at 50 % of the base's highest rate"
    assert (e2el.value, e2el.n, found["ttft_at_rate_ms"].value) == (300.0, 5, 30.0)
    assert e2el.details["requests_per_s"] == 4.0
    assert e2el.details["reached_per_s"] == 2.5
    assert e2el.note.startswith("1 of 6 requests failed.")
    [point] = rate_points(recorder.records, {"p/w4": "W4"})
    assert (point["model"], point["side"], point["requests_per_s"], point["p95_ms"]) == ("W4", "candidate", 4.0, 480.0)
    assert point["highest_per_s"] is None  # only the base's was found


def test_points_of_two_runs_make_no_line() -> None:
    picture = CASE.model_copy(update={"id": "captioning", "image": (480, 360)})
    one = RequestTiming(ttft_ms=10.0, e2el_ms=100.0, output_tokens=5)
    records = []
    for job, share, rate in (("job1", 0.5, 4.0), ("job2", 0.9, 2.0)):
        recorder = Recorder(job)
        point = RatePoint("p/w4", picture, share, rate, LoadResult(2.0, (one, one)))
        add_rates(recorder, RateCurves({}, (point,)), SETTINGS, "p/base", {"p/w4": "W4A16"})
        records += recorder.records
    [drawn] = rate_points(newest(records), {})
    assert sum(record.metric == "ttft_at_rate_ms" for record in newest(records)) == 1
    assert (drawn["case"], drawn["requests_per_s"]) == ("captioning", 2.0)


@pytest.mark.parametrize("share", [0, -1, 2.5])
def test_a_share_that_is_none_is_refused(share: float) -> None:
    with pytest.raises(InputError) as caught:
        check_overrides({"rate_shares": [share]})
    assert caught.value.field == "overrides.rate_shares"
