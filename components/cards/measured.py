"""The measured sections of a card: perplexity, KL divergence, accuracy, throughput, cost. Pure."""

from __future__ import annotations

from collections.abc import Sequence

from components.cards.markdown import code, table, text
from components.cards.writer import NOT_MEASURED, CardWriter
from components.core.benchmarks import BenchmarkRecord

_STATIC_ROWS = (
    ("Mean KLD (nats)", "mean_kl_base_to_candidate_nats", ""),
    ("Median KLD (nats)", "median_kl_base_to_candidate_nats", ""),
    ("99th %ile KLD (nats)", "p99_kl_base_to_candidate_nats", ""),
    ("95th %ile KLD (nats)", "p95_kl_base_to_candidate_nats", ""),
    ("90th %ile KLD (nats)", "p90_kl_base_to_candidate_nats", ""),
    ("Δp RMS", "rms_delta_p_percent", " %"),
    ("Same top-p (likeliest token)", "same_top_p_percent", " %"),
    ("Reverse mean KLD (nats)", "mean_kl_candidate_to_base_nats", ""),
    ("Mean total variation", "mean_total_variation", ""),
    ("Entropy shift (nats)", "entropy_shift_nats", ""),
    ("Mean KLD by the top-20 method (nats)", "top20_truncated_kl_nats", ""),
)
_LOAD_ROWS = (
    ("Aggregate throughput", "output_tokens_per_s", " tok/s"),
    ("Requests per second", "requests_per_s", ""),
    ("Median TTFT", "median_ttft_ms", " ms"),
    ("Median TPOT (first token excluded)", "median_tpot_ms", " ms"),
    ("Median end-to-end latency", "median_e2el_ms", " ms"),
    ("Per-request throughput, median", "median_request_tokens_per_s", " tok/s"),
    ("Success rate", "success_percent", " %"),
)


def write_quality(writer: CardWriter) -> None:
    """Perplexity, static and generation KL."""
    _perplexity(writer)
    _static(writer)
    _generation(writer)


def _perplexity(writer: CardWriter) -> None:
    writer.heading("Perplexity", level=3)
    tasks = writer.tasks("quality", "perplexity_candidate")
    if not tasks:
        writer.write(f"Perplexity was {NOT_MEASURED}.")
        writer.lacks("Perplexity")
        return
    for task in tasks:
        own = writer.record(task, "perplexity_candidate")
        writer.write(f"{text(task)}. {_about(writer, own)}")
        writer.figures_table(
            ["Model", "PPL"],
            [("Base", writer.record(task, "perplexity_base"), ""), ("This model", own, ""),
             ("Δ vs base", writer.record(task, "perplexity_change_percent"), " %"),
             ("Ratio", writer.record(task, "perplexity_ratio"), "")],
        )  # fmt: skip


def _static(writer: CardWriter) -> None:
    writer.heading("KL Divergence vs the Base (Static / Prefill)", level=3)
    tasks = [
        task for task in writer.tasks("quality", "mean_kl_base_to_candidate_nats") if not task.startswith("generation")
    ]
    if not tasks:
        writer.write(f"KL divergence was {NOT_MEASURED}.")
        writer.lacks("KL divergence (static)")
        return
    writer.write("KL(base ‖ this model) over the whole vocabulary, with each model's own head. Lower is better.")
    for task in tasks:
        mean = writer.record(task, "mean_kl_base_to_candidate_nats")
        writer.write(f"{text(task)}. {_about(writer, mean)}")
        writer.figures_table(
            ["Metric", "Value"], [(words, writer.record(task, metric), unit) for words, metric, unit in _STATIC_ROWS]
        )
        if mean is not None and mean.floor is not None:
            writer.write(
                f"Noise floor, the base against itself in another batch: {writer.plain(mean.floor, mean.id)} nats."
            )


def _generation(writer: CardWriter) -> None:
    writer.heading("KL Divergence vs the Base (Generation)", level=3)
    tasks = writer.tasks("quality", "step0_kl_base_to_candidate_nats")
    if not tasks:
        writer.write(f"Generation KL was {NOT_MEASURED}.")
        writer.lacks("KL divergence (generation)")
        return
    writer.write("Scored on the base's own greedy path; values of answers that have parted are never averaged.")
    rows = []
    for task in tasks:
        first, mean = (
            writer.record(task, metric)
            for metric in ("step0_kl_base_to_candidate_nats", "mean_kl_base_to_candidate_nats")
        )
        alike = writer.record(task, "free_answers_alike_percent")
        drawn = writer.record(task, "free_sampled_answers_alike_percent")
        words = writer.fact(task, first.id if first else "")
        rows.append([
            words, _count(writer, first), writer.figure(first), writer.figure(mean), writer.figure(alike, unit=" %"),
            writer.figure(drawn, unit=" %"), code(first.id) if first else "—",
        ])  # fmt: skip
    head = ["Continued", "n", "Step-0 KLD", "Mean KLD", "Free answers alike to the end", "Same at T = 1", "Record"]
    writer.write(table(head, rows))
    _intervals(writer, [writer.record(tasks[0], "step0_kl_base_to_candidate_nats")])


def _count(writer: CardWriter, record: BenchmarkRecord | None) -> str:
    return "" if record is None or record.n is None else f"{writer.fact(record.n, record.id)} {record.n_unit}"


def _intervals(writer: CardWriter, records: Sequence[BenchmarkRecord | None]) -> None:
    """What the intervals in brackets rest on."""
    found = {record.interval: record.id for record in records if record is not None and record.interval}
    if found:
        words = "; ".join(writer.fact(interval, source) for interval, source in found.items())
        writer.write(f"In brackets: {words}.")


def _about(writer: CardWriter, record: BenchmarkRecord | None) -> str:
    if record is None or record.n is None:
        return ""
    pieces = record.details.get("pieces")
    shown = f"{writer.fact(record.n, record.id)} {record.n_unit}"
    if isinstance(pieces, int):
        shown += f" in {writer.fact(pieces, record.id)} pieces"
    convention = record.details.get("convention")
    words = f"; {writer.fact(convention, record.id)}" if convention else ""
    interval = f" Intervals: {writer.fact(record.interval, record.id)}." if record.interval else ""
    note = f" {writer.fact(record.note, record.id)}" if record.note else ""
    return f"{shown}{words}.{interval}{note}"


def write_accuracy(writer: CardWriter) -> None:
    """Scores of both models, recovery, McNemar's p."""
    writer.heading("Accuracy")
    tasks = writer.tasks("accuracy", "candidate_score_percent")
    if not tasks:
        writer.write(f"Accuracy was {NOT_MEASURED}.")
        writer.lacks("Accuracy")
        return
    rows = []
    for task in tasks:
        base, own, recovery, p = (
            writer.record(task, metric)
            for metric in ("base_score_percent", "candidate_score_percent", "recovery_percent", "mcnemar_p")
        )
        items = writer.fact(own.n, own.id) if own and own.n is not None else ""
        rows.append([
            text(task), items, writer.figure(base, unit=" %"), writer.figure(own, unit=" %"),
            writer.figure(recovery, unit=" %", absent="—"), writer.figure(p, digits=2), code(own.id) if own else "—",
        ])  # fmt: skip
    head = ["Items", "n", "Base", "This model", "Recovery", "McNemar p", "Record"]
    writer.write(table(head, rows))
    metrics = ("candidate_score_percent", "recovery_percent")
    _intervals(writer, [writer.record(task, metric) for metric in metrics for task in tasks])
    if any(writer.record(task, "recovery_percent") is None for task in tasks):
        writer.write("No recovery is given of a single item, or where the base has none right.")
    for task in tasks:
        _write_tool(writer, task)


def _write_tool(writer: CardWriter, task: str) -> None:
    """By which tool a text task was asked, and the standard errors that it tells."""
    own = writer.record(task, "candidate_score_percent")
    if own is None or not own.details.get("tool"):
        return
    errors = [
        f"{words} ±{writer.fact(f'{own.details[name]:.2f}', own.id)}"
        for words, name in (("base", "base_stderr_points"), ("this model", "candidate_stderr_points"))
        if isinstance(own.details.get(name), int | float)
    ]
    told = f"; standard error in points: {', '.join(errors)}" if errors else ""
    writer.write(f"{text(task)}: asked through {writer.fact(own.details['tool'], own.id)}{told}.")


def write_throughput(writer: CardWriter, base: CardWriter) -> None:
    """Every use case and level, one table each, beside the base."""
    writer.heading("vLLM Throughput")
    tasks = writer.tasks("throughput", "output_tokens_per_s")
    if not tasks:
        writer.lacks("Throughput")
    where = writer.record(tasks[0], "output_tokens_per_s") if tasks else None
    if where is not None and where.details.get("ran_on"):
        writer.write(f"Measured on {writer.fact(where.details['ran_on'], where.id)}.")
    for single, title in ((True, "Single Request"), (False, "Concurrent Requests")):
        chosen = [task for task in tasks if task.endswith(", 1 at a time") is single]
        writer.heading(title, level=3)
        if not chosen:
            writer.write(f"{title}: {NOT_MEASURED}.")
            if tasks:
                writer.lacks(f"Throughput: {title.lower()}")
        for task in chosen:
            _load_table(writer, base, task)
    _request_rates(writer, base)


def _request_rates(writer: CardWriter, base: CardWriter) -> None:
    """How long whole answers take when requests come at random times, and the most that both models answer."""
    most, tasks = writer.tasks("throughput", "max_requests_per_s"), writer.tasks("throughput", "e2el_at_rate_ms")
    if not most:
        return
    writer.heading("Request Rate", level=3)
    rows = []
    asked = [(task, "max_requests_per_s", " requests/s") for task in most]
    asked += [(task, "e2el_at_rate_ms", " ms") for task in tasks]
    for task, metric, unit in asked:
        own, other = writer.record(task, metric), base.record(task, metric)
        label = writer.fact(task, own.id if own else "")
        rows.append([label, _count(writer, own), writer.figure(other, unit=unit), writer.figure(own, unit=unit),
                     code(own.id) if own else "—"])  # fmt: skip
    writer.write(
        "Highest rate when all requests come at once; below it the median of the end-to-end latency when they come at "
        "random times."
    )
    writer.write(table(["Load", "n", "Base", "This model", "Record"], rows))
    _intervals(writer, [writer.record(task, "e2el_at_rate_ms") for task in tasks])


def _load_table(writer: CardWriter, base: CardWriter, task: str) -> None:
    rows = []
    for words, metric, unit in _LOAD_ROWS:
        own, other = writer.record(task, metric), base.record(task, metric)
        rows.append(
            [words, writer.figure(other, unit=unit), writer.figure(own, unit=unit), code(own.id) if own else "—"]
        )
    latency = writer.record(task, "median_e2el_ms")
    if latency is not None:
        other = base.record(task, "median_e2el_ms")
        rows.append(["Min / max latency", _ends(writer, other), _ends(writer, latency), code(latency.id)])
    about = f"{_count(writer, latency)}. {text(latency.note)}" if latency else ""
    writer.write(f"{writer.fact(task, latency.id if latency else '')}. {about}")
    writer.write(table(["Metric", "Base", "This model", "Record"], rows))
    _intervals(writer, [writer.record(task, metric) for _, metric, _ in _LOAD_ROWS])


def _ends(writer: CardWriter, latency: BenchmarkRecord | None) -> str:
    if latency is None:
        return NOT_MEASURED
    ends = [latency.details.get(name) for name in ("min", "max")]
    return " / ".join(writer.plain(end, latency.id) for end in ends if isinstance(end, int | float)) + " ms"


def write_cost(writer: CardWriter) -> None:
    """Queries per dollar."""
    writer.heading("Cost")
    tasks = writer.tasks("cost", "queries_per_usd")
    if not tasks:
        writer.write(f"Cost was {NOT_MEASURED}: the hardware has no price.")
        writer.lacks("Cost (the hardware it ran on has no price)")
        return
    rows = []
    for task in tasks:
        record, tokens = writer.record(task, "queries_per_usd"), writer.record(task, "usd_per_million_output_tokens")
        label = writer.fact(task, record.id if record else "")
        rows.append([label, writer.figure(record), writer.figure(tokens), code(record.id) if record else "—"])
    writer.write(table(["Use case", "Queries per USD", "USD per million output tokens", "Record"], rows))
    ratios = [
        (writer.fact(task, "record"), writer.record(task, "cost_reduction_ratio"), "×")
        for task in writer.tasks("cost", "cost_reduction_ratio")
    ]
    if ratios:
        writer.figures_table(["Average over", "Cost reduction"], ratios)
    note = writer.record(tasks[0], "queries_per_usd")
    if note is not None:
        writer.write(writer.fact(note.note, note.id))
