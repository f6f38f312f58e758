"""Records → what the charts of trade-offs draw: quality against cost, and against size. Pure.

A point is drawn only where both of its figures were measured, or printed on one card.
"""

from __future__ import annotations

from collections.abc import Sequence
from statistics import fmean
from typing import Any

from components.core.benchmarks import BenchmarkRecord, newest


def trade_offs(
    measured: Sequence[BenchmarkRecord], published: Sequence[BenchmarkRecord], labels: dict[str, str]
) -> dict[str, list[dict[str, Any]]]:
    """Points of both charts, ``cost`` and ``size``."""
    latest = newest(measured)
    return {"cost": _cost([*latest, *published], labels), "size": _size(latest, labels)}


def _cost(records: Sequence[BenchmarkRecord], labels: dict[str, str]) -> list[dict[str, Any]]:
    """Queries per dollar of each use case and load against the mean recovery of the model's tasks."""
    recovery: dict[str, list[BenchmarkRecord]] = {}
    for record in records:
        if record.metric == "recovery_percent" and record.value is not None and not record.details.get("kind"):
            recovery.setdefault(record.model, []).append(record)
    points = []
    for record in records:
        own = recovery.get(record.model, [])
        # Where a card prints an average of its tasks, it is not averaged again with them.
        tasks = [one for one in own if not one.task.startswith("Average")]
        if record.metric == "queries_per_usd" and record.value is not None and tasks:
            alone = tasks[0] if len(tasks) == 1 else None
            points.append({
                "model": labels.get(record.model, record.model), "id": record.model, "source": record.source,
                "task": record.task, "queries_per_usd": record.value, "tasks": len(tasks),
                "recovery_percent": fmean(one.value for one in tasks if one.value is not None),
                "low": alone.low if alone else None, "high": alone.high if alone else None,
            })  # fmt: skip
    return points


def _size(records: Sequence[BenchmarkRecord], labels: dict[str, str]) -> list[dict[str, Any]]:
    """Weights in GB against mean KL, a point for each candidate and text or set of questions."""
    weights = {record.model: record.value for record in records if record.metric == "weights_gb"}
    return [
        {"model": labels.get(r.model, r.model), "id": r.model, "task": r.task, "gb": weights[r.model],
         "base_gb": weights.get(r.base or ""), "mean_kl_nats": r.value, "low": r.low, "high": r.high, "floor": r.floor}
        for r in records
        if r.metric == "mean_kl_base_to_candidate_nats" and r.value is not None and weights.get(r.model)
        and not r.task.startswith("generation")
    ]  # fmt: skip


def rate_points(records: Sequence[BenchmarkRecord], labels: dict[str, str]) -> list[dict[str, Any]]:
    """Latency against request rate: a point for each model, use case and rate.

    Args:
        records: of one run for each model and use case, as ``newest`` gives.
    """
    highest = {(r.model, _case(r), r.job_id): r.value for r in records if r.metric == "max_requests_per_s"}
    return [
        {"model": labels.get(r.model, r.model), "side": "candidate" if r.base else "base", "case": _case(r),
         "requests_per_s": r.details["requests_per_s"], "median_ms": r.value, "low": r.low, "high": r.high,
         "p95_ms": r.details["p95"], "highest_per_s": highest.get((r.model, _case(r), r.job_id))}
        for r in records if r.metric == "e2el_at_rate_ms" and r.value is not None
    ]  # fmt: skip


def _case(record: BenchmarkRecord) -> str:
    return record.task.split(" (")[0]
