"""Repeats with every kind of sample, for tests of storage and export."""

from __future__ import annotations

from typing import Any

from components.core.answers import ErrorRecord, Sampling, ToolCall
from components.core.repeats import Repeat, RepeatColumn, Sample
from components.core.states import Outcome, RepeatState
from tests.data.traces import MOMENT, label

FAILED = Sample(
    seed=7,
    text="half",
    outcome=Outcome.TRUNCATED,
    error=ErrorRecord(code="stream_truncated", message="The connection broke.", hint="Retry."),
)


def sample(seed: int, text: str, **changes: Any) -> Sample:
    """A finished sample."""
    values = {"outcome": Outcome.FINISHED, "finish_reason": "stop", "output_tokens": 3, "e2el_ms": 12.5}
    return Sample(seed=seed, text=text, **values | changes)


def column(position: int, *samples: Sample, **changes: Any) -> RepeatColumn:
    """The base at position 0, else a candidate."""
    values: dict[str, Any] = {
        "position": position,
        "answer_id": f"t1-a{position}",
        "label": label("base" if position == 0 else "candidate"),
        "sampling": Sampling(temperature=0.7),
        "samples": samples,
    }
    return RepeatColumn(**values | changes)


def repeat(repeat_id: str = "r1", **changes: Any) -> Repeat:
    """Two columns of three samples; the candidate's last one failed."""
    call = ToolCall(id="c1", name="look", arguments="{}")
    values: dict[str, Any] = {
        "id": repeat_id,
        "trace_id": "t1",
        "state": RepeatState.FINISHED,
        "count": 3,
        "first_seed": 5,
        "created_at": MOMENT,
        "finished_at": MOMENT,
        "columns": (
            column(0, sample(5, "seven"), sample(6, "seven "), sample(7, "eight")),
            column(1, sample(5, "seven"), sample(6, "", tool_calls=(call,)), FAILED),
        ),
    }
    return Repeat(**values | changes)
