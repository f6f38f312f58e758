"""Figures of published model cards as records, each derived cell recomputed from the same card's other cells. Pure.

Formulas and tolerances: quantize_bench.md 12 to 14. A cell is off when no rounding of what it rests on gives it.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping
from datetime import UTC, datetime
from typing import Any

from components.core.benchmarks import BenchmarkRecord, Suite

Json = Mapping[str, Any]
_WHEN = datetime(2026, 1, 1, tzinfo=UTC)  # of the collection; cards carry no day of measurement
_RATIO_TOLERANCE = 0.01  # the card worked from unrounded values
_PERCENT_TOLERANCE = 0.006
_TOKENS_TOLERANCE = 0.003  # relative
# What the price list must have been, recomputed from the cards' own cells (quantize_bench.md 14.2).
_USD_PER_HOUR = {"A100": 1.79, "H100_single_4": 3.09, "H100_single_2": 3.19, "H100_multi": 3.19}
_CASES = ("docvqa", "visual_reasoning", "captioning")


def published_records(document: Json) -> list[BenchmarkRecord]:
    """Every measured figure of every card in ``figures.yaml``."""
    found: list[BenchmarkRecord] = []
    for file, card in document["cards"].items():
        writer = _Writer(str(file), card)
        for add in (
            _accuracy,
            _perplexity,
            _static_kl,
            _generation_kl,
            _throughput,
            _single_stream,
            _multi_stream,
            _claims,
        ):
            add(writer, card)
        found += writer.records
    return found


class _Writer:
    """Records of one card."""

    def __init__(self, file: str, card: Json) -> None:
        self._file, self._card = file, card
        self.records: list[BenchmarkRecord] = []

    def add(
        self, suite: Suite, task: str, metric: str, value: float | None, *, recomputed: float | None = None,
        verified: bool | None = None, model: str | None = None, scheme: str | None = None, note: str = "",
        n: int | None = None, n_unit: str = "",
    ) -> None:  # fmt: skip
        if value is None:
            return  # a dash on the card
        own = model or str(self._card["repo"])
        key = hashlib.sha256("\0".join((self._file, own, task, metric)).encode()).hexdigest()[:24]
        self.records.append(
            BenchmarkRecord(
                id=f"published-{key}",
                source="published",
                suite=suite,
                model=own,
                base=None if own == self._card["base_model"] else str(self._card["base_model"]),
                scheme=scheme or str(self._card["scheme"]),
                task=task,
                metric=metric,
                value=float(value),
                created_at=_WHEN,
                note=note,
                details={"card": self._file},
                recomputed=recomputed,
                verified=verified,
                n=n,
                n_unit=n_unit,
            )
        )


def _accuracy(writer: _Writer, card: Json) -> None:
    for row in (card.get("accuracy") or {}).get("rows", ()):
        metric = row.get("metric") or "accuracy"
        task = f"{row['benchmark']}, {metric}" if row.get("metric") else str(row["benchmark"])
        recovery = recovery_percent(row["base"], row["candidate"])
        for side in ("base", "candidate"):
            mean = _mean_of_vision(card, side) if row.get("derived") else None
            fits = None if mean is None else abs(mean - row[side]) <= _PERCENT_TOLERANCE
            writer.add("accuracy", task, f"{side}_score_percent", row[side], recomputed=mean, verified=fits)
        good = abs(recovery - row["recovery_percent"]) <= _PERCENT_TOLERANCE
        writer.add(
            "accuracy", task, "recovery_percent", row["recovery_percent"], recomputed=round(recovery, 2),
            verified=good, note="" if good else f"The printed scores give {recovery:.2f}.",
        )  # fmt: skip


def _mean_of_vision(card: Json, side: str) -> float:
    rows = [row for row in card["accuracy"]["rows"] if row["category"] == "Vision" and not row.get("derived")]
    return float(sum(row[side] for row in rows) / len(rows))


def recovery_percent(base: float, candidate: float) -> float:
    """100 · candidate / base."""
    return 100 * candidate / base


def _perplexity(writer: _Writer, card: Json) -> None:
    ppl = card.get("ppl")
    if not ppl:
        return
    base, own = ppl["rows"][0], ppl["rows"][1]
    task = f"{ppl['dataset']}, windows of {ppl['ctx']}"
    chunks_off = int(ppl["chunks"]) * int(ppl["ctx"]) > 1.02 * int(ppl["tokens_scored_approx"])
    note = f"{ppl['chunks']} chunks of {ppl['ctx']} are more tokens than the card scored." if chunks_off else ""
    count: dict[str, Any] = {"n": int(ppl["tokens_scored_approx"]), "n_unit": "tokens"}
    writer.add("quality", task, "perplexity_base", base["ppl"], note=note, **count)
    writer.add("quality", task, "perplexity_candidate", own["ppl"], note=note, **count)
    change = 100 * (own["ppl"] / base["ppl"] - 1)
    good = abs(change - own["delta_percent"]) <= _PERCENT_TOLERANCE
    writer.add("quality", task, "perplexity_change_percent", own["delta_percent"], recomputed=round(change, 3),
               verified=good, note=note, **count)  # fmt: skip
    writer.add("quality", task, "chunks", ppl["chunks"], verified=not chunks_off, note=note,
               recomputed=float(int(ppl["tokens_scored_approx"]) // int(ppl["ctx"])))  # fmt: skip


def _static_kl(writer: _Writer, card: Json) -> None:
    kld = card.get("kld_static")
    if not kld:
        return
    task = f"{kld['dataset']}, windows of {kld['ctx']}, top {kld['logprobs_top_k']}"
    note = "From the 20 likeliest tokens only: too low by an amount that depends on the text."
    names = {
        "mean": "mean_kl_base_to_candidate_nats", "median": "median_kl_base_to_candidate_nats",
        "p90": "p90_kl_base_to_candidate_nats", "p95": "p95_kl_base_to_candidate_nats",
        "p99": "p99_kl_base_to_candidate_nats", "delta_p_rms_percent": "rms_delta_p_percent",
        "same_top_p_percent": "same_top_p_percent",
    }  # fmt: skip
    tokens = kld.get("tokens_scored_approx")
    for key, metric in names.items():
        writer.add("quality", task, metric, kld.get(key), note=note, n=tokens, n_unit="tokens" if tokens else "")
    estimate = kld["corrected_full_vocab_estimate"]
    printed = list(estimate) if isinstance(estimate, list | tuple) else [estimate]
    low, high = (kld["mean"] / (1 - share / 100) for share in kld["underestimate_percent"])
    for index, value in enumerate(printed):
        exact = (low, high)[index] if len(printed) == 2 else high
        good = abs(value - exact) < 0.005 or low <= value <= high
        label = (
            "estimated_full_kl_nats"
            if len(printed) == 1
            else ("estimated_full_kl_low_nats", "estimated_full_kl_high_nats")[index]
        )
        good = good and not (len(printed) == 1 and not low <= value <= high)
        writer.add("quality", task, label, value, recomputed=round(exact, 4), verified=good,
                   note="" if good else f"The mean over 0.90 and 0.85 gives {low:.3f} to {high:.3f}.")  # fmt: skip


def _generation_kl(writer: _Writer, card: Json) -> None:
    for row in (card.get("kld_generation") or {}).get("rows", ()):
        task = f"generation, prompts of {row['prompt_len']} tokens, {row['gen_len']} steps"
        writer.add("quality", task, "step0_kl_base_to_candidate_nats", row["step0_kld"])


def _throughput(writer: _Writer, card: Json) -> None:
    load = card.get("throughput")
    if not load:
        return
    for name in ("single", "concurrent"):
        row = load[name]
        task = f"text up to {load['max_tokens']} tokens on {load['gpu']}, {row['concurrency']} at a time"
        count: dict[str, Any] = {"n": int(row["requests"]), "n_unit": "requests"}
        # One at a time the wall is the sum of the latencies; otherwise nothing on the card gives the wall.
        speed = row["total_tokens"] / (row["requests"] * row["avg_latency_s"]) if name == "single" else None
        good = None if speed is None else abs(speed / row["aggregate_tok_s"] - 1) <= _TOKENS_TOLERANCE
        writer.add("throughput", task, "output_tokens_per_s", row["aggregate_tok_s"], verified=good,
                   recomputed=None if speed is None else round(speed, 1), **count)  # fmt: skip
        for key, metric in (
            ("avg_latency_s", "mean_e2el_ms"),
            ("min_latency_s", "min_e2el_ms"),
            ("max_latency_s", "max_e2el_ms"),
        ):
            writer.add("throughput", task, metric, 1000 * row[key], **count)
        low, high = row["per_request_tok_s"]
        writer.add("throughput", task, "min_request_tokens_per_s", low, **count)
        writer.add("throughput", task, "max_request_tokens_per_s", high, **count)
        writer.add(
            "throughput", task, "success_percent", row["success_percent"], verified=True, recomputed=100.0, **count
        )


def _single_stream(writer: _Writer, card: Json) -> None:
    for row, base in _rows(card, "single_stream"):
        gpus, hardware = int(row["num_gpus"]), str(row["hardware"])
        price = _USD_PER_HOUR["A100" if hardware == "A100" else f"H100_single_{gpus}"]
        for case in _CASES:
            cell = row[case]
            task = f"{case} on {gpus}×{hardware}, 1 at a time"
            about: dict[str, Any] = {"model": str(row["model"]), "scheme": str(row["scheme"])}
            writer.add("throughput", task, "mean_e2el_ms", 1000 * cell["latency_s"], **about)
            value, good = _queries(3600 / (gpus * price), 1 / cell["latency_s"], cell["qpd"], 0.05 / cell["latency_s"])
            writer.add("cost", task, "queries_per_usd", cell["qpd"], recomputed=value, verified=good, **about)
        _cost_reduction(writer, row, base, f"{gpus}×{hardware}, 1 at a time")


def _multi_stream(writer: _Writer, card: Json) -> None:
    for row, base in _rows(card, "multi_stream"):
        hardware = str(row["hardware"])
        price = _USD_PER_HOUR["A100" if hardware.startswith("A100") else "H100_multi"]
        for case in _CASES:
            cell = row[case]
            task = f"{case} on {hardware}, highest rate"
            about: dict[str, Any] = {"model": str(row["model"]), "scheme": str(row["scheme"])}
            writer.add("throughput", task, "requests_per_s", cell["qps"], **about)
            value, good = _queries(3600 / (4 * price), cell["qps"], cell["qpd"], 0.05 / cell["qps"])
            note = "" if good else f"{cell['qps']} requests/s give {value:.0f}."
            writer.add(
                "cost", task, "queries_per_usd", cell["qpd"], recomputed=value, verified=good, note=note, **about
            )
        _cost_reduction(writer, row, base, f"{hardware}, highest rate")


def _rows(card: Json, table: str) -> Iterator[tuple[Json, Json]]:
    """Rows of a table, each with the base's row of the same hardware."""
    rows = ((card.get("performance") or {}).get(table) or {}).get("rows", ())
    bases = {row["hardware"]: row for row in rows if row["scheme"] == "base"}
    return ((row, bases[row["hardware"]]) for row in rows)


def _queries(factor: float, rate: float, printed: float, relative: float) -> tuple[float, bool]:
    """Queries per dollar from a rate, and whether the printed figure lies within what the rate's rounding allows."""
    value = factor * rate
    slack = relative + 0.01 + 0.5 / printed
    return round(value, 1), abs(printed / value - 1) <= slack


def _cost_reduction(writer: _Writer, row: Json, base: Json, task: str) -> None:
    printed = row.get("average_cost_reduction")
    if printed is None:
        return
    value = sum(row[case]["qpd"] / base[case]["qpd"] for case in _CASES) / len(_CASES)
    good = abs(value - printed) <= _RATIO_TOLERANCE
    writer.add("cost", f"three use cases on {task}", "cost_reduction_ratio", printed, recomputed=round(value, 3),
               verified=good, model=str(row["model"]), scheme=str(row["scheme"]),
               note="" if good else f"The printed queries per dollar give {value:.2f}.")  # fmt: skip


def _claims(writer: _Writer, card: Json) -> None:
    """Speed-ups that a card claims in its text, against its own tables."""
    speed = card.get("performance") or {}
    own = [(row, base) for row, base in _rows(card, "single_stream") if row["model"] == card["repo"]]
    if own and speed.get("claimed_speedup_single_stream_up_to"):
        best = max(base[case]["latency_s"] / row[case]["latency_s"] for row, base in own for case in _CASES)
        printed = speed["claimed_speedup_single_stream_up_to"]
        writer.add("throughput", "claimed, 1 at a time", "speed_up_ratio", printed, recomputed=round(best, 3),
                   verified=printed <= best + _RATIO_TOLERANCE,
                   note=f"The best ratio of latencies is {best:.2f}; the claim is one of cost.")  # fmt: skip
    many = [(row, base) for row, base in _rows(card, "multi_stream") if row["model"] == card["repo"]]
    if many and speed.get("claimed_speedup_multi_stream_up_to"):
        best = max(row[case]["qpd"] / base[case]["qpd"] for row, base in many for case in _CASES)
        printed = speed["claimed_speedup_multi_stream_up_to"]
        writer.add("throughput", "claimed, highest rate", "speed_up_ratio", printed, recomputed=round(best, 3),
                   verified=printed <= best + _RATIO_TOLERANCE,
                   note=f"The less rounded queries per dollar give at most {best:.2f}.")  # fmt: skip
