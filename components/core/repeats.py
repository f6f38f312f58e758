"""The same question asked several times with other seeds: its record, and what it says about how stable answers are.

A sample is an answer only when it FINISHED; a failed one is counted and named, and enters no figure. Two answers count
as the same when their texts differ in white space only and their tool calls are the same.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from pydantic import Field

from components.core.answers import ErrorRecord, Record, Sampling, ToolCall
from components.core.errors import InputError
from components.core.states import Outcome, RepeatState
from components.core.statistics import Interval, wilson
from components.core.traces import ColumnLabel, RecordId, UtcDatetime

FEWEST, MOST = 2, 64  # samples per column
REPEAT_SCHEMA_VERSION = 1
Verdict = Literal["beyond", "within", "undecidable"]


class Sample(Record):
    """One reply to the question, made with one seed."""

    seed: int = Field(ge=0, le=2**63 - 1)
    text: str = ""
    tool_calls: tuple[ToolCall, ...] = ()
    outcome: Outcome
    finish_reason: str | None = None
    error: ErrorRecord | None = None
    output_tokens: int | None = None
    e2el_ms: float | None = Field(default=None, description="From sending the request to its end; None = unknown")

    @property
    def is_answer(self) -> bool:
        """Whether it enters a figure."""
        return self.outcome is Outcome.FINISHED

    @property
    def meaning(self) -> str:
        """What is compared: the text with every run of white space as one blank, and the calls without their ids."""
        calls = [[call.name, call.arguments] for call in self.tool_calls]
        return json.dumps([" ".join(self.text.split()), *calls])


class RepeatColumn(Record):
    """All samples of one column."""

    position: int = Field(ge=0)
    answer_id: RecordId = Field(description="The turn's answer that is repeated")
    label: ColumnLabel
    sampling: Sampling = Field(description="Without a seed: each sample has its own")
    samples: tuple[Sample, ...] = Field(default=(), description="Those that ended, by seed")
    ended_early: str | None = Field(default=None, description="Why not all were asked for; None = all were, or stopped")

    @property
    def answers(self) -> tuple[Sample, ...]:
        """The samples that count."""
        return tuple(sample for sample in self.samples if sample.is_answer)

    @property
    def failures(self) -> tuple[Sample, ...]:
        """The samples that ended without an answer."""
        return tuple(sample for sample in self.samples if not sample.is_answer)


class Repeat(Record):
    """One turn's question asked ``count`` times per column, with the seeds first_seed … first_seed + count - 1."""

    id: RecordId
    trace_id: RecordId
    state: RepeatState
    count: int = Field(ge=FEWEST, le=MOST, description="Samples wanted per column")
    first_seed: int = Field(ge=0)
    created_at: UtcDatetime
    finished_at: UtcDatetime | None = Field(default=None, description="None while it is running")
    columns: tuple[RepeatColumn, ...]
    schema_version: int = REPEAT_SCHEMA_VERSION

    @property
    def base(self) -> RepeatColumn | None:
        """The column the others are compared with: the first one of a base."""
        return next((column for column in self.columns if column.label.role == "base"), None)

    @property
    def candidates(self) -> tuple[RepeatColumn, ...]:
        """The columns that are compared with the base."""
        return tuple(column for column in self.columns if column.label.role == "candidate")


@dataclass(frozen=True)
class DistinctAnswer:
    """Samples that count as the same answer; ``example`` is the one with the lowest seed."""

    example: Sample
    seeds: tuple[int, ...]

    @property
    def count(self) -> int:
        """How many samples gave it."""
        return len(self.seeds)


def distinct_answers(samples: Sequence[Sample]) -> list[DistinctAnswer]:
    """The different answers, the most frequent first, of equals the one with the lower seed; no failed samples."""
    groups: dict[str, list[Sample]] = {}
    for sample in sorted((s for s in samples if s.is_answer), key=lambda s: s.seed):
        groups.setdefault(sample.meaning, []).append(sample)
    found = [DistinctAnswer(group[0], tuple(sample.seed for sample in group)) for group in groups.values()]
    return sorted(found, key=lambda answer: -answer.count)  # stable, and groups stand by their lowest seed


def self_consistency(samples: Sequence[Sample]) -> float | None:
    """Share (0..1) of the answers that equal the most frequent one; None without an answer.

    Source: the vote of Wang et al. 2023, "Self-consistency improves chain of thought reasoning".
    """
    counts = Counter(sample.meaning for sample in samples if sample.is_answer)
    return max(counts.values()) / counts.total() if counts else None


def self_disagreement(samples: Sequence[Sample], *, confidence: float = 0.95) -> Interval | None:
    """Probability (0..1) that two answers of one model with different seeds differ, with an interval.

    The value is the share of differing pairs among all n (n - 1) / 2 pairs (a U-statistic, unbiased). Pairs share
    answers, so they are no independent trials. The interval is Wilson's with only floor(n / 2) trials, as many as there
    are pairs without a common answer: the variance of the value is at most p (1 - p) / floor(n / 2), so it is wide
    enough. Source: Hoeffding 1963, section 5a. None with fewer than two answers.
    """
    counts = Counter(sample.meaning for sample in samples if sample.is_answer)
    total = counts.total()
    if total < 2:
        return None
    same = sum(count * (count - 1) for count in counts.values())
    return wilson(1 - same / (total * (total - 1)), total // 2, confidence=confidence)


@dataclass(frozen=True)
class Flips:
    """Seed-paired comparison of a candidate with the base: how many pairs differ, and the rate with its interval."""

    flipped: int
    pairs: int
    rate: Interval


def flip_rate(base: Sequence[Sample], candidate: Sequence[Sample], *, confidence: float = 0.95) -> Flips | None:
    """Share (0..1) of the seeds whose two answers differ, with Wilson's interval; None where no seed has both answers.

    Raises:
        InputError: a side has two samples of one seed.
    """
    mine, theirs = (_by_seed(samples) for samples in (base, candidate))
    seeds = mine.keys() & theirs.keys()
    if not seeds:
        return None
    flipped = sum(mine[seed] != theirs[seed] for seed in seeds)
    return Flips(flipped, len(seeds), wilson(flipped / len(seeds), len(seeds), confidence=confidence))


def _by_seed(samples: Sequence[Sample]) -> dict[int, str]:
    found = {sample.seed: sample.meaning for sample in samples if sample.is_answer}
    if len(found) < sum(sample.is_answer for sample in samples):
        raise InputError("One seed stands for two samples of a column.", field="samples")
    return found


def verdict(flips: Flips | None, own: Interval | None) -> Verdict | None:
    """Whether the flips go beyond the base's own variation; None where either is not known.

    ``beyond`` only where the two intervals do not meet, the flips' above: a cautious rule. ``undecidable`` where they
    would meet even if every pair had flipped: there are too few samples, or the base varies too much.
    """
    if flips is None or own is None:
        return None
    if flips.rate.low > own.high:
        return "beyond"
    return "within" if wilson(1.0, flips.pairs).low > own.high else "undecidable"
