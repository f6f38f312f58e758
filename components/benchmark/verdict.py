"""Is it good enough? Each limit of profiles/benchmarks/verdict.yaml against the newest figures, with a reason. Pure but
for reading the file."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Literal

import orjson
from pydantic import Field, ValidationError

from components.core.answers import Record
from components.core.benchmarks import BenchmarkRecord, Suite, newest
from components.core.errors import ProfileError
from components.profiles.strict_yaml import parse

Outcome = Literal["pass", "warn", "fail", "not enough data"]
_WORST = ("fail", "not enough data", "warn", "pass")
_WORDS = {
    "mean_kl_base_to_candidate_nats": ("mean KL from the base", "nats"),
    "perplexity_ratio": ("ratio of perplexities", ""),
    "same_top_p_percent": ("agreement on the likeliest token", "%"),
    "recovery_percent": ("recovery", "%"),
    "success_percent": ("share of requests that succeeded", "%"),
}


class Limit(Record):
    """One figure's two steps."""

    metric: str
    suite: Suite
    direction: Literal["at most", "at least"]
    warn: float = Field(description="Beyond it there is a warning")
    fail: float = Field(description="Beyond it the candidate fails")


class VerdictProfile(Record):
    """profiles/benchmarks/verdict.yaml."""

    schema_version: Literal[1]
    kind: Literal["verdict"]
    id: str
    limits: tuple[Limit, ...] = Field(min_length=1, max_length=40)


class Finding(Record):
    """One limit, judged."""

    outcome: Outcome
    metric: str
    task: str
    sentence: str
    record_id: str | None = Field(description="Of the figure; None where there is none")


class Verdict(Record):
    """All limits of one candidate; the worst outcome counts."""

    outcome: Outcome
    findings: tuple[Finding, ...]


def load_verdict_profile(root: Path) -> VerdictProfile:
    """The limits.

    Raises:
        ProfileError: the file is missing or can't be used.
    """
    path = root / "benchmarks" / "verdict.yaml"
    try:
        return VerdictProfile.model_validate_json(orjson.dumps(parse(path.read_bytes(), path.name).plain()))
    except OSError as exc:
        raise ProfileError("profiles/benchmarks/verdict.yaml can't be read.", "Restore the file.") from exc
    except ValidationError as exc:
        first = exc.errors(include_url=False)[0]
        place = ".".join(map(str, first["loc"]))
        raise ProfileError(
            f"verdict.yaml: {place}: {first['msg']}.", "Each limit has metric, suite, direction, warn, fail."
        ) from exc


def judge(records: Sequence[BenchmarkRecord], limits: Sequence[Limit]) -> Verdict:
    """Judge one candidate by the newest of its measured figures; questions of one kind only are not judged alone."""
    findings: list[Finding] = []
    for limit in limits:
        fitting = [
            record for record in newest(records)
            if record.metric == limit.metric and record.suite == limit.suite and record.value is not None
            and not record.details.get("kind") and not record.task.startswith("generation")
        ]  # fmt: skip
        if not fitting:
            words = _WORDS.get(limit.metric, (limit.metric, ""))[0]
            sentence = f"The {words} was not measured."
            findings.append(
                Finding(outcome="not enough data", metric=limit.metric, task="", sentence=sentence, record_id=None)
            )
        findings += [_judged(record, limit) for record in fitting]
    worst = min((finding.outcome for finding in findings), key=_WORST.index)
    return Verdict(outcome=worst, findings=tuple(findings))


def _judged(record: BenchmarkRecord, limit: Limit) -> Finding:
    value = record.value if record.value is not None else float("nan")
    low = record.low if record.low is not None else value
    high = record.high if record.high is not None else value
    worst, best = (high, low) if limit.direction == "at most" else (low, high)
    outcome: Outcome
    side = "above" if limit.direction == "at most" else "below"
    if not _beyond(worst, limit.warn, limit):
        outcome, why = "pass", f"the limit of {limit.warn:g} is kept"
    elif _beyond(best, limit.fail, limit):
        outcome, why = "fail", f"{side} the limit of {limit.fail:g}"
    elif not _beyond(worst, limit.fail, limit) and _beyond(best, limit.warn, limit):
        outcome, why = "warn", f"{side} {limit.warn:g}, but not {side} {limit.fail:g}"
    else:
        crossed = limit.fail if _beyond(worst, limit.fail, limit) else limit.warn
        outcome, why = "not enough data", f"the interval holds the limit of {crossed:g}; measure more"
    return Finding(
        outcome=outcome, metric=record.metric, task=record.task, sentence=sentence_of(record) + f" {why.capitalize()}.",
        record_id=record.id,
    )  # fmt: skip


def _beyond(value: float, bound: float, limit: Limit) -> bool:
    return value > bound if limit.direction == "at most" else value < bound


def sentence_of(record: BenchmarkRecord) -> str:
    """A figure in words, with its interval and where it stands against the noise floor."""
    words, unit = _WORDS.get(record.metric, (record.metric.replace("_", " "), ""))
    value = record.value if record.value is not None else float("nan")
    text = f"On {record.task} the {words} is {number(value)}"
    if record.low is not None and record.high is not None:
        text += f" ({number(record.low)} to {number(record.high)})"
    text += f" {unit}".rstrip()
    if record.floor is not None and record.metric.endswith("_nats"):
        above = (record.low if record.low is not None else value) > record.floor
        text += f", {'above' if above else 'inside'} the noise floor of {number(record.floor)}"
    return text + "."


def number(value: float) -> str:
    """Four digits, no exponent where it reads well."""
    if value == 0:
        return "0"
    if abs(value) >= 10_000:
        return f"{value:,.0f}" if abs(value) < 1e9 else f"{value:.2e}"
    return f"{value:.4g}" if abs(value) >= 1e-4 else f"{value:.2e}"
