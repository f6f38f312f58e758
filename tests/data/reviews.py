"""Batches with answers, for tests of review: no engine is needed to judge."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from components.core.content_tokens import disagreement
from components.core.reviews import Answered, Batch, BatchState, Item, ItemState, Question
from tests.data.traces import MOMENT


def batch(batch_id: str = "b1", **changes: Any) -> Batch:
    """A batch that has all its answers."""
    values: dict[str, Any] = {
        "id": batch_id,
        "name": "Test batch",
        "pair": "embedded",
        "base_engine": "embedded/base",
        "candidate_engines": ("embedded/coarse",),
        "state": BatchState.SUCCEEDED,
        "created_at": MOMENT,
    }
    return Batch(**values | changes)


def item(number: int, batch_id: str = "b1", *, divergence: float | None = None, **changes: Any) -> Item:
    """An answered item whose answers say which side wrote them, so that a test can tell."""
    base, candidate = changes.pop("base", f"from base {number}"), changes.pop("candidate", f"from candidate {number}")
    trace_id = f"{batch_id}-t{number}"
    answered = Answered(
        trace_id=trace_id, base_answer_id=f"{trace_id}-a0", candidate_answer_id=f"{trace_id}-a1", base_text=base,
        candidate_text=candidate, disagreement=disagreement(base, candidate),
        divergence_nats=float(number) if divergence is None else divergence, method="exact", floor_nats=0.0,
    )  # fmt: skip
    values: dict[str, Any] = {
        "id": f"{batch_id}-i{number}",
        "batch_id": batch_id,
        "position": number,
        "candidate_engine": "embedded/coarse",
        "question": Question(key=str(number), prompt=f"Question {number}?", tags=("even",) if number % 2 == 0 else ()),
        "state": ItemState.DONE,
        "trace_id": trace_id,
        "answered": answered,
    }
    return Item(**values | changes)


def items(count: int, batch_id: str = "b1") -> Sequence[Item]:
    """``count`` items, the last the most divergent."""
    return [item(number, batch_id) for number in range(count)]
