"""Throughput of base and candidate in turn, and what a query costs; requests → records."""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from components.benchmark.load import LoadMaker, LoadResult, RequestTiming, put_load
from components.benchmark.recorder import Recorder
from components.benchmark.spec import CostSettings, ThroughputSettings, UseCase
from components.core.divergence import Floats
from components.core.resampling import bootstrap
from components.core.statistics import Interval
from components.engines.transport import EngineClient

Tell = Callable[[int, int, str], None]
Results = dict[tuple[str, str, int], list[LoadResult]]  # model, use case, concurrency → rounds
_WARM_UP = 2

CARD_USE_CASES = (
    UseCase(id="document", label="Document, 1680×2240", prompt_tokens=64, output_tokens=128, image=(1680, 2240)),
    UseCase(id="reasoning", label="Visual reasoning, 640×480", prompt_tokens=128, output_tokens=128, image=(640, 480)),
    UseCase(id="captioning", label="Captioning, 480×360", prompt_tokens=0, output_tokens=128, image=(480, 360)),
    UseCase(id="text", label="Text", prompt_tokens=128, output_tokens=128),
)


async def measure_throughput(
    clients: dict[str, EngineClient], maker: LoadMaker, settings: ThroughputSettings, tell: Tell
) -> Results:
    """Every use case and level on every model, round by round in turn, after a warm-up.

    Raises:
        EngineNotReadyError: an engine is gone.
    """
    found: Results = {}
    todo = [
        (number, case, level) for case in settings.use_cases for level in settings.concurrency
        for number in range(settings.rounds)
    ]  # fmt: skip
    for case in settings.use_cases:
        chats = chats_of(maker, case, settings.seed - 1, _WARM_UP)
        for client in clients.values():
            await put_load(client, chats, case, 1, fixed=settings.fixed_length)
    for step, (number, case, level) in enumerate(todo):
        names = list(clients) if number % 2 == 0 else list(reversed(clients))
        chats = chats_of(maker, case, settings.seed + number, max(settings.requests, level))
        for place, name in enumerate(names):
            told = f"{case.label}, {level} at a time, {name}"
            tell(step * len(names) + place, len(todo) * len(names), told)
            result = await put_load(clients[name], chats, case, level, fixed=settings.fixed_length)
            found.setdefault((name, case.id, level), []).append(result)
    return found


def chats_of(maker: LoadMaker, case: UseCase, seed: int, count: int) -> list[tuple[dict[str, Any], ...]]:
    """The same for every model, others in every round."""
    return [maker.messages(case, random.Random(f"{case.id}:{seed}:{index}")) for index in range(count)]  # noqa: S311


def add_throughput(
    recorder: Recorder, results: Results, settings: ThroughputSettings, base: str, schemes: dict[str, str]
) -> None:
    """Records of every model, use case and level."""
    cases = {case.id: case for case in settings.use_cases}
    for (model, case_id, level), rounds in results.items():
        about = {"base": None if model == base else base, "scheme": schemes[model]}
        _add_level(recorder, rounds, model, task_of(cases[case_id], level), about, settings)


def task_of(case: UseCase, level: int) -> str:
    """How a use case at one level is named in records."""
    return f"{name_of(case)}, {level} at a time"


def name_of(case: UseCase) -> str:
    """A use case with its shape."""
    shape = f"{case.image[0]}×{case.image[1]}, " if case.image else ""
    return f"{case.id} ({shape}{case.prompt_tokens}/{case.output_tokens} tokens)"


def _add_level(
    recorder: Recorder, rounds: Sequence[LoadResult], model: str, task: str, about: dict[str, Any],
    settings: ThroughputSettings,
) -> None:  # fmt: skip
    good = [request for result in rounds for request in result.succeeded]
    asked = sum(len(result.requests) for result in rounds)
    length = "of a fixed length" if settings.fixed_length else "to their natural end"
    common: dict[str, Any] = {**about, "n": len(good), "n_unit": "requests", "note": f"Answers {length}."}

    def add(metric: str, value: float | Interval, **more: Any) -> None:
        recorder.add("throughput", model, task, metric, value, **{**common, **more})

    add("success_percent", 100 * len(good) / asked, n=asked, details={"errors": _errors(rounds)})
    if not good:
        return
    for metric, values in latencies(good).items():
        if len(values):
            add_latency(add, f"median_{metric}", values)
    for metric, per_round in _rates(rounds).items():
        add(metric, float(np.mean(per_round)), details={"rounds": per_round}, low=min(per_round), high=max(per_round),
            interval=f"smallest and largest of {len(per_round)} rounds")  # fmt: skip
    prompt = float(np.mean([request.prompt_tokens for request in good]))
    add("prompt_tokens", prompt)
    add("output_tokens", float(np.mean([request.output_tokens for request in good])),
        details={"total": sum(request.output_tokens for request in good)})  # fmt: skip
    first = [request.ttft_ms for request in good if request.ttft_ms]
    if first and "1 at a time" in task:
        add("prefill_tokens_per_s", 1000 * prompt / float(np.median(first)))


def latencies(good: Sequence[RequestTiming]) -> dict[str, Floats]:
    """Values of each request, or gap between two pieces, by metric."""
    return {
        "ttft_ms": np.array([r.ttft_ms for r in good if r.ttft_ms is not None]),
        "tpot_ms": np.array([r.tpot_ms for r in good if r.tpot_ms is not None]),
        "itl_ms": np.array([gap for r in good for gap in r.itl_ms]),
        "e2el_ms": np.array([r.e2el_ms for r in good]),
        "request_tokens_per_s": np.array([1000 * r.output_tokens / r.e2el_ms for r in good if r.e2el_ms]),
    }


def add_latency(add: Callable[..., None], metric: str, values: Floats, **facts: Any) -> None:
    """The median with its interval, percentiles, mean, minimum and maximum in the details, and ``facts`` there too."""
    spread = dict(zip(("p50", "p90", "p95", "p99"), np.percentile(values, (50, 90, 95, 99)).tolist(), strict=True))
    details = {**spread, "mean": float(values.mean()), "min": float(values.min()), "max": float(values.max()),
               **facts}  # fmt: skip
    groups = [values[index : index + 1] for index in range(len(values))] if metric != "median_itl_ms" else []
    median = bootstrap(groups, lambda drawn: np.array([np.median(drawn)])) if len(groups) > 1 else [None]
    value: float | Interval = median[0] or float(np.median(values))
    add(metric, value, details=details, interval="95 %, bootstrap over requests" if median[0] else "")


def _rates(rounds: Sequence[LoadResult]) -> dict[str, list[float]]:
    return {
        "output_tokens_per_s": [sum(r.output_tokens for r in one.succeeded) / one.wall_s for one in rounds],
        "total_tokens_per_s": [
            sum(r.output_tokens + r.prompt_tokens for r in one.succeeded) / one.wall_s for one in rounds
        ],
        "requests_per_s": [len(one.succeeded) / one.wall_s for one in rounds],
    }


def _errors(rounds: Sequence[LoadResult]) -> list[str]:
    return sorted({request.error for result in rounds for request in result.requests if request.error})[:5]


def add_cost(
    recorder: Recorder, results: Results, settings: ThroughputSettings, cost: CostSettings, base: str,
    schemes: dict[str, str],
) -> None:  # fmt: skip
    """Queries and tokens per dollar; nothing without a price.

    Single stream: 3600 / (mean latency in s) / (devices · USD per hour). Several streams: requests/s · 3600 / the same.
    Cost reduction: mean over use cases of the candidate's queries per dollar over the base's, same level.
    """
    if cost.usd_per_hour is None:
        return
    per_hour = cost.devices * cost.usd_per_hour
    note = f"{cost.devices} × {cost.hardware} at {cost.usd_per_hour:g} USD/h ({cost.source})."
    queries: dict[tuple[str, int], dict[str, float]] = {}
    for (model, case_id, level), rounds in results.items():
        good = [request for result in rounds for request in result.succeeded]
        if not good:
            continue
        case = next(case for case in settings.use_cases if case.id == case_id)
        latency_s = float(np.mean([request.e2el_ms for request in good])) / 1000
        rate = float(np.mean(_rates(rounds)["requests_per_s"]))
        value = (3600 / latency_s if level == 1 else rate * 3600) / per_hour
        queries.setdefault((model, level), {})[case_id] = value
        about = {"base": None if model == base else base, "scheme": schemes[model], "note": note, "n": len(good),
                 "n_unit": "requests"}  # fmt: skip
        recorder.add("cost", model, task_of(case, level), "queries_per_usd", value, **about)
        speed = float(np.mean(_rates(rounds)["output_tokens_per_s"]))
        recorder.add("cost", model, task_of(case, level), "usd_per_million_output_tokens",
                     per_hour / (speed * 3600) * 1e6, **about)  # fmt: skip
    for (model, level), own in queries.items():
        theirs = queries.get((base, level), {})
        shared = [own[case] / theirs[case] for case in own if theirs.get(case)]
        if model != base and shared:
            task = f"{len(shared)} use cases, {level} at a time"
            recorder.add("cost", model, task, "cost_reduction_ratio", float(np.mean(shared)), base=base,
                         scheme=schemes[model], note=note, n=len(shared), n_unit="use cases")  # fmt: skip
