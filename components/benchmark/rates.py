"""Latency against request rate: the highest rate of each model, and what answers cost in time below it."""

from __future__ import annotations

import random
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from components.benchmark.load import LoadMaker, LoadResult, put_load, put_load_at_rate
from components.benchmark.recorder import Recorder
from components.benchmark.spec import ThroughputSettings, UseCase
from components.benchmark.throughput import add_latency, chats_of, latencies, name_of
from components.engines.transport import EngineClient

Tell = Callable[[int, int, str], None]
_MORE_REQUESTS = 3  # than a level of concurrency has: a rate is held for some time, and few gaps are no rate


@dataclass(frozen=True)
class RatePoint:
    """One model under requests that came at one mean rate."""

    model: str
    case: UseCase
    share: float  # of the base's highest rate
    requests_per_s: float
    result: LoadResult


@dataclass(frozen=True)
class RateCurves:
    """All points, and the highest rates: requests/s of each model and use case when all requests come at once."""

    highest: dict[tuple[str, str], float]
    points: tuple[RatePoint, ...]


async def measure_rates(
    clients: dict[str, EngineClient], base: str, maker: LoadMaker, settings: ThroughputSettings, tell: Tell
) -> RateCurves:
    """The highest rate of each model, then both at the same shares of the base's, in turn, with the same arrivals.

    Raises:
        EngineNotReadyError: an engine is gone.
    """
    cases = [case for case in settings.use_cases if case.id in settings.rate_cases and settings.rate_shares]
    steps = len(cases) * (1 + len(settings.rate_shares)) * len(clients)
    highest, points = dict[tuple[str, str], float](), list[RatePoint]()
    count, step, fixed = _MORE_REQUESTS * settings.requests, 0, settings.fixed_length
    for case in cases:
        chats = chats_of(maker, case, settings.seed + 1000, count)
        for model, client in clients.items():
            tell(step, steps, f"{case.label}, as many as can be, {model}")
            found = await put_load(client, chats, case, count, fixed=fixed)
            highest[model, case.id] = len(found.succeeded) / found.wall_s
            step += 1
        for number, share in enumerate(settings.rate_shares):
            rate = share * highest[base, case.id]
            chats = chats_of(maker, case, settings.seed + 1001 + number, count)
            for model, client in clients.items() if rate else ():
                tell(step, steps, f"{case.label}, {rate:.3g} requests/s, {model}")
                gaps = random.Random(settings.seed + number)  # noqa: S311  # no secret
                result = await put_load_at_rate(client, chats, case, rate, gaps, fixed=fixed)
                points.append(RatePoint(model, case, share, rate, result))
                step += 1
    return RateCurves(highest, tuple(points))


def add_rates(
    recorder: Recorder, curves: RateCurves, settings: ThroughputSettings, base: str, schemes: dict[str, str]
) -> None:
    """The highest rates, and medians of TTFT and E2EL at each rate."""
    cases = {case.id: case for case in settings.use_cases}
    for (model, case_id), rate in curves.highest.items():
        recorder.add(
            "throughput", model, f"{name_of(cases[case_id])}, all at once", "max_requests_per_s", rate,
            base=None if model == base else base, scheme=schemes[model], n=_MORE_REQUESTS * settings.requests,
            n_unit="requests",
        )  # fmt: skip
    for point in curves.points:
        _add_point(recorder, point, None if point.model == base else base, schemes[point.model])


def _add_point(recorder: Recorder, point: RatePoint, base: str | None, scheme: str) -> None:
    good, asked = point.result.succeeded, len(point.result.requests)
    task = f"{name_of(point.case)}, at {100 * point.share:g} % of the base's highest rate"
    failed = f"{asked - len(good)} of {asked} requests failed. " if len(good) < asked else ""
    facts = {
        "requests_per_s": point.requests_per_s, "share": point.share, "reached_per_s": len(good) / point.result.wall_s,
    }  # fmt: skip

    def add(metric: str, value: Any, **more: Any) -> None:
        note = f"{failed}Requests came at random times, {point.requests_per_s:.3g} a second on average."
        recorder.add(
            "throughput", point.model, task, metric, value, base=base, scheme=scheme, n=len(good), n_unit="requests",
            note=note, **more,
        )  # fmt: skip

    values = latencies(good)
    for metric in ("ttft_ms", "e2el_ms"):
        if len(values[metric]):
            add_latency(add, f"{metric.removesuffix('_ms')}_at_rate_ms", values[metric], **facts)
