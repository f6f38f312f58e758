"""Records → plain values that assets/js/benchmarks.js draws, and the API's answers. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from components.benchmark.chart_view import rate_points, trade_offs
from components.benchmark.corpora import CONVENTIONS
from components.benchmark.spec import SUITE_CHOICES
from components.benchmark.verdict import Limit, Verdict, judge, number
from components.core.benchmarks import BenchmarkRecord, by_numbers, newest, of_the_same_runs
from components.engines.catalog import CatalogEntry

_SUITE_WORDS = {
    "all": "Everything", "quality": "Quality: perplexity and KL", "accuracy": "Accuracy: items with right answers",
    "throughput": "Throughput and cost",
}  # fmt: skip
_SURVIVAL = {"free_answers_alike_percent": "greedy", "free_sampled_answers_alike_percent": "T = 1"}
_TABLE_METRICS = {
    "quality": (
        ("perplexity_base", "PPL base"), ("perplexity_candidate", "PPL candidate"), ("perplexity_ratio", "PPL ratio"),
        ("mean_kl_base_to_candidate_nats", "Mean KL, nats"), ("median_kl_base_to_candidate_nats", "Median KL, nats"),
        ("p90_kl_base_to_candidate_nats", "90 % KL"), ("p95_kl_base_to_candidate_nats", "95 % KL"),
        ("p99_kl_base_to_candidate_nats", "99 % KL"), ("mean_kl_candidate_to_base_nats", "Reverse mean KL"),
        ("mean_total_variation", "Mean TVD"), ("mean_delta_p_percent", "Mean Δp, %"),
        ("rms_delta_p_percent", "Δp RMS, %"), ("same_top_p_percent", "Same top p, %"),
        ("entropy_shift_nats", "Entropy shift, nats"), ("correlation_ln_perplexity", "Cor of nll"),
        ("top20_truncated_kl_nats", "Mean KL, top-20 method"), ("step0_kl_base_to_candidate_nats", "Step-0 KL, nats"),
        ("sequence_kl_base_to_candidate_nats", "Sequence KL at T = 1, nats"),
        ("free_answers_alike_percent", "Free answers alike, %"),
        ("free_sampled_answers_alike_percent", "Alike at T = 1, %"), ("scoring_tokens_per_s", "Scored, tokens/s"),
    ),
    "accuracy": (
        ("base_score_percent", "Base, %"), ("candidate_score_percent", "Candidate, %"),
        ("recovery_percent", "Recovery, %"), ("difference_points", "Difference, points"), ("mcnemar_p", "McNemar p"),
    ),
    "throughput": (
        ("output_tokens_per_s", "Output tok/s"), ("requests_per_s", "Requests/s"), ("median_ttft_ms", "TTFT, ms"),
        ("median_tpot_ms", "TPOT, ms"), ("median_itl_ms", "ITL, ms"), ("median_e2el_ms", "E2EL, ms"),
        ("prefill_tokens_per_s", "Prefill tok/s"), ("success_percent", "Success, %"), ("mean_e2el_ms", "Mean E2EL, ms"),
    ),
    "rates": (
        ("max_requests_per_s", "Highest requests/s"), ("ttft_at_rate_ms", "TTFT, ms"), ("e2el_at_rate_ms", "E2EL, ms"),
    ),
    "cost": (
        ("queries_per_usd", "Queries per USD"), ("usd_per_million_output_tokens", "USD per 1M output tokens"),
        ("cost_reduction_ratio", "Cost reduction"), ("weights_gb", "Weights, GB"),
    ),
}  # fmt: skip


def form_view(entries: Sequence[CatalogEntry], default: str, *, may_control: bool) -> dict[str, Any]:
    """What can be chosen."""
    return {
        "models": [{"id": entry.engine_id, "label": f"{entry.pair.title} · {entry.model.label}"} for entry in entries],
        "suites": [{"id": suite, "label": _SUITE_WORDS[suite]} for suite in SUITE_CHOICES],
        "conventions": [{"id": one.id, "label": one.words} for one in CONVENTIONS.values()],
        "default": default,
        "may_control": may_control,
    }


def result_view(record: BenchmarkRecord) -> dict[str, Any]:
    """One record of the endpoint ``/results``."""
    return record.model_dump(mode="json")


def results_view(
    measured: Sequence[BenchmarkRecord],
    published: Sequence[BenchmarkRecord],
    limits: Sequence[Limit],
    labels: dict[str, str],
) -> dict[str, Any]:
    """Everything the tab shows of results: per candidate a verdict, tables and curves, and the published figures."""
    models = list(dict.fromkeys(record.model for record in measured if record.base is not None))
    found = [_model_view(model, measured, limits, labels) for model in models]
    return {
        "models": found, "published": _published_view(published), "recovery": _recovery(measured, published, labels),
        "static_kl": _static_kl(measured, published, labels), "history": _history(measured, labels),
        "trade_offs": trade_offs(measured, published, labels),
    }  # fmt: skip


def _model_view(
    model: str, measured: Sequence[BenchmarkRecord], limits: Sequence[Limit], labels: dict[str, str]
) -> dict[str, Any]:
    own = [record for record in measured if record.model == model]
    base = next((record.base for record in own if record.base), None)
    shown = newest(own)
    theirs = of_the_same_runs(shown, [record for record in measured if record.model == base])
    return {
        "id": model, "label": labels.get(model, model), "base": labels.get(base or "", base or ""),
        "runs": sorted({record.job_id for record in own if record.job_id}),
        "verdict": verdict_view(judge(own, limits)),
        "tables": [table for suite in _TABLE_METRICS if (table := _table(suite, shown))],
        "curves": _curves(shown), "load": _load([*shown, *theirs], labels),
        "rates": rate_points([*shown, *theirs], labels), "flipped": _flipped(shown),
    }  # fmt: skip


def verdict_view(verdict: Verdict) -> dict[str, Any]:
    """The outcome and each reason."""
    return {"outcome": verdict.outcome, "findings": [finding.model_dump() for finding in verdict.findings]}


def _table(suite: str, records: Sequence[BenchmarkRecord]) -> dict[str, Any] | None:
    """Tasks as rows, figures as columns; only columns that hold something. Request rates stand by themselves."""
    wanted = "throughput" if suite == "rates" else suite
    own = [record for record in records if record.suite == wanted and record.value is not None]
    cells = {(record.task, record.metric): record for record in own}
    columns = [(metric, words) for metric, words in _TABLE_METRICS[suite] if any(m == metric for _, m in cells)]
    if not columns:
        return None
    tasks = sorted({r.task for r in own if r.metric in {metric for metric, _ in columns}}, key=by_numbers)
    rows = [
        {"task": task, "cells": [_cell(cells.get((task, metric))) for metric, _ in columns]} for task in tasks
    ]  # fmt: skip
    return {"suite": suite, "columns": [words for _, words in columns], "rows": rows}


def _cell(record: BenchmarkRecord | None) -> dict[str, Any] | None:
    if record is None or record.value is None:
        return None
    ends = None
    if record.low is not None and record.high is not None:
        ends = f"{number(record.low)} to {number(record.high)}"
    return {
        "value": number(record.value), "interval": ends, "id": record.id, "note": record.note,
        "floor": None if record.floor is None else number(record.floor),
        "n": None if record.n is None else f"{record.n:,} {record.n_unit}", "how": record.interval,
    }  # fmt: skip


def _curves(records: Sequence[BenchmarkRecord]) -> dict[str, list[dict[str, Any]]]:
    found: dict[str, list[dict[str, Any]]] = {}
    for record in records:
        if record.metric in ("kl_histogram", "kl_by_position", "kl_by_confidence", "kl_by_class", "kl_by_step"):
            curve = {"task": record.task, "curve": record.details.get("curve")}
            found.setdefault(record.metric, []).append(curve | {"examples": record.details.get("examples") or []})
        if record.metric in _SURVIVAL:
            curve = {"task": record.task, "curve": record.details.get("survival"), "way": _SURVIVAL[record.metric]}
            found.setdefault("survival", []).append(curve)
    return found


def _load(records: Sequence[BenchmarkRecord], labels: dict[str, str]) -> list[dict[str, Any]]:
    """Points of latency against throughput: one for each model, use case and level of concurrency."""
    wanted = ("requests_per_s", "median_e2el_ms", "output_tokens_per_s", "median_ttft_ms")
    points: dict[tuple[str, str], dict[str, Any]] = {}
    for record in records:
        if record.suite == "throughput" and record.metric in wanted:
            side = "candidate" if record.base else "base"
            point = points.setdefault(
                (record.model, record.task),
                {"model": labels.get(record.model, record.model), "side": side, "task": record.task},
            )
            point[record.metric] = record.value
    return list(points.values())


def _flipped(records: Sequence[BenchmarkRecord]) -> list[dict[str, Any]]:
    return [
        {"task": record.task, "items": record.details.get("items") or []}
        for record in records if record.metric == "flipped_items"
    ]  # fmt: skip


def _published_view(records: Sequence[BenchmarkRecord]) -> list[dict[str, Any]]:
    models = list(dict.fromkeys(record.model for record in records))
    found = []
    for model in models:
        found_here = [record for record in records if record.model == model]
        own = sorted(found_here, key=lambda record: (record.suite, record.task, record.metric))
        rows = [
            {"task": r.task, "metric": r.metric.replace("_", " "), "value": number(r.value or 0.0), "note": r.note,
             "recomputed": None if r.recomputed is None else number(r.recomputed), "verified": r.verified}
            for r in own
        ]  # fmt: skip
        wrong = sum(record.verified is False for record in own)
        found.append({"model": model, "scheme": own[0].scheme, "rows": rows, "wrong": wrong})
    return found


def _recovery(
    measured: Sequence[BenchmarkRecord], published: Sequence[BenchmarkRecord], labels: dict[str, str]
) -> list[dict[str, Any]]:
    """Recovery by task: ours with intervals, the cards' without."""
    chosen = [r for r in (*newest(measured), *published) if r.metric == "recovery_percent" and r.value is not None]
    return [
        {"model": labels.get(r.model, r.model), "id": r.model, "task": r.task, "value": r.value, "low": r.low,
         "high": r.high, "n": r.n, "source": r.source}
        for r in chosen
    ]  # fmt: skip


def _static_kl(
    measured: Sequence[BenchmarkRecord], published: Sequence[BenchmarkRecord], labels: dict[str, str]
) -> list[dict[str, Any]]:
    """Median, mean, 95 and 99 % of KL by model and text, ours beside the cards'."""
    wanted = ("median_kl", "mean_kl_base", "p95_kl", "p99_kl")
    found: dict[tuple[str, str], dict[str, Any]] = {}
    for record in (*newest(measured), *published):
        fits = record.suite == "quality" and record.metric.startswith(wanted) and record.value is not None
        if fits and not record.task.startswith("generation"):
            entry = found.setdefault(
                (record.model, record.task),
                {"model": labels.get(record.model, record.model), "task": record.task, "source": record.source},
            )
            entry[record.metric.split("_kl")[0]] = record.value
            if record.floor is not None and record.metric.startswith("mean"):
                entry["floor"] = record.floor
    return list(found.values())


def _history(measured: Sequence[BenchmarkRecord], labels: dict[str, str]) -> list[dict[str, Any]]:
    """One model over its runs: mean KL of each text."""
    chosen = [
        r for r in measured
        if r.metric == "mean_kl_base_to_candidate_nats" and not r.task.startswith("generation") and r.value is not None
    ]  # fmt: skip
    return [
        {"model": labels.get(r.model, r.model), "task": r.task, "at": r.created_at.isoformat(), "value": r.value,
         "low": r.low, "high": r.high, "job": r.job_id}
        for r in chosen
    ]  # fmt: skip
