"""Rows of review to records and back, and what several queries share. No transaction begins here."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Any

from sqlalchemy import ColumnElement, String, cast
from sqlalchemy.orm import Session

from components.core.answers import ImageRecord, Sampling
from components.core.errors import InputError, RecordNotFoundError
from components.core.reviews import (
    Answered,
    Assignment,
    Batch,
    BatchState,
    Choice,
    Claim,
    Item,
    ItemState,
    Question,
    ReviewOutcome,
    Verdict,
)
from components.storage.review_tables import ReviewAssignmentRow, ReviewBatchRow, ReviewItemRow, ReviewVerdictRow

ORDERS = ("divergence", "disagreement", "random", "conflicts")
OUTCOMES = (*(outcome.value for outcome in ReviewOutcome), "conflict", "unreviewed", "failed")


@dataclass(frozen=True)
class ItemFilter:
    """Which items; what is None or empty does not matter."""

    outcome: str | None = None
    different_only: bool = False
    text: str = ""
    tag: str = ""
    min_nats: float | None = None
    max_nats: float | None = None

    def conditions(self) -> list[ColumnElement[bool]]:
        """As conditions of a query over ``ReviewItemRow``, all but the text, which ``review_search`` looks for.

        Raises:
            InputError: there is no such outcome.
        """
        row, found = ReviewItemRow, list[ColumnElement[bool]]()
        if self.outcome:
            if self.outcome not in OUTCOMES:
                raise InputError(
                    f"{self.outcome[:80]!r} is no outcome.", f"Accepted: {', '.join(OUTCOMES)}.", field="outcome"
                )
            found.append(_of_outcome(self.outcome))
        if self.different_only:
            found.append(row.disagreement > 0)
        if self.tag:
            found.append(cast(row.tags, String).contains(json.dumps(self.tag), autoescape=True))
        if self.min_nats is not None:
            found.append(row.divergence_nats >= self.min_nats)
        if self.max_nats is not None:
            found.append(row.divergence_nats <= self.max_nats)
        return found


def _of_outcome(outcome: str) -> ColumnElement[bool]:
    row = ReviewItemRow
    if outcome == "failed":
        return row.state == ItemState.FAILED.value
    return row.outcome.is_(None) if outcome == "unreviewed" else row.outcome == outcome


def get_batch(session: Session, batch_id: str) -> ReviewBatchRow:
    """The row of a batch.

    Raises:
        RecordNotFoundError: there is none.
    """
    row = session.query(ReviewBatchRow).filter(ReviewBatchRow.id == batch_id).one_or_none()
    if row is None:
        raise RecordNotFoundError(
            f"There is no batch {batch_id[:80]!r}.", "Accepted: the id of a batch of this app.", field="batch"
        )
    return row


def get_item(session: Session, item_id: str) -> ReviewItemRow:
    """The row of an item.

    Raises:
        RecordNotFoundError: there is none.
    """
    row = session.query(ReviewItemRow).filter(ReviewItemRow.id == item_id).one_or_none()
    if row is None:
        raise RecordNotFoundError(
            f"There is no item {item_id[:80]!r}.", "Accepted: the item_id that /review_next gave.", field="item_id"
        )
    return row


def batch_row(batch: Batch) -> ReviewBatchRow:
    """A batch as a row."""
    return ReviewBatchRow(
        id=batch.id, name=batch.name, pair=batch.pair, base_engine=batch.base_engine,
        candidate_engines=list(batch.candidate_engines), system=batch.system, sampling=batch.sampling.model_dump(),
        overlap=batch.overlap, state=batch.state.value, message=batch.message, created_at=batch.created_at,
        created_by=batch.created_by,
    )  # fmt: skip


def batch_record(row: ReviewBatchRow) -> Batch:
    """The inverse of ``batch_row``."""
    return Batch(
        id=row.id, name=row.name, pair=row.pair, base_engine=row.base_engine,
        candidate_engines=tuple(row.candidate_engines), system=row.system,
        sampling=Sampling.model_validate(row.sampling), overlap=row.overlap, state=BatchState(row.state),
        message=row.message, created_at=row.created_at, created_by=row.created_by,
    )  # fmt: skip


def item_row(item: Item, *, random_key: float, wanted: int) -> ReviewItemRow:
    """A new item as a row."""
    row = ReviewItemRow(
        id=item.id, batch_id=item.batch_id, position=item.position, candidate_engine=item.candidate_engine,
        key=item.question.key, prompt=item.question.prompt,
        images=[image.model_dump(mode="json") for image in item.question.images],
        reference=item.question.reference, tags=list(item.question.tags), state=item.state.value,
        failure=item.failure, trace_id=item.trace_id, random_key=random_key, in_slice=item.in_slice, wanted=wanted,
        verdicts=0, is_open=item.state is ItemState.DONE, outcome=None,
    )  # fmt: skip
    if item.answered is not None:
        for name, value in answered_columns(item.answered).items():
            setattr(row, name, value)
    return row


def answered_columns(answered: Answered) -> dict[str, Any]:
    """What the engines said, by column."""
    return answered.model_dump(exclude={"trace_id"})


def item_record(row: ReviewItemRow) -> Item:
    """An item with its answers, if it has them."""
    answered = None
    if row.base_answer_id is not None and row.candidate_answer_id is not None:
        answered = Answered(
            trace_id=row.trace_id, base_answer_id=row.base_answer_id, candidate_answer_id=row.candidate_answer_id,
            base_text=row.base_text or "", candidate_text=row.candidate_text or "",
            disagreement=row.disagreement or 0.0, divergence_nats=row.divergence_nats,
            mean_divergence_nats=row.mean_divergence_nats, method=row.method, floor_nats=row.floor_nats,
            base_matches=row.base_matches, candidate_matches=row.candidate_matches,
        )  # fmt: skip
    return Item(
        id=row.id, batch_id=row.batch_id, position=row.position, candidate_engine=row.candidate_engine,
        question=question_record(row), state=ItemState(row.state), failure=row.failure, trace_id=row.trace_id,
        answered=answered, in_slice=row.in_slice, outcome=row.outcome, verdicts=row.verdicts,
    )  # fmt: skip


def question_record(row: ReviewItemRow) -> Question:
    """What was asked."""
    images = tuple(ImageRecord.model_validate(image) for image in row.images)
    return Question(key=row.key, prompt=row.prompt, images=images, reference=row.reference, tags=tuple(row.tags))


def assignment_record(row: ReviewAssignmentRow, item: ReviewItemRow) -> Assignment:
    """What a reviewer was given."""
    return Assignment(
        item_id=row.item_id, reviewer=row.reviewer, round=row.round,
        a_is="base" if row.a_is == "base" else "candidate",
        locked_until=item.locked_until or row.given_at, draft=row.draft, given_at=row.given_at,
    )  # fmt: skip


def verdict_row(verdict: Verdict, batch_id: str) -> ReviewVerdictRow:
    """A verdict as a row."""
    values = verdict.model_dump(exclude={"claims", "verdict", "outcome"})
    return ReviewVerdictRow(
        **values, batch_id=batch_id, verdict=verdict.verdict.value, outcome=verdict.outcome.value,
        claims=[claim.model_dump(mode="json") for claim in verdict.claims],
    )  # fmt: skip


def verdict_record(row: ReviewVerdictRow) -> Verdict:
    """The inverse of ``verdict_row``."""
    return Verdict.model_validate(
        {
            "id": row.id, "item_id": row.item_id, "reviewer": row.reviewer, "round": row.round,
            "verdict": Choice(row.verdict), "a_is": row.a_is, "a_right": row.a_right, "b_right": row.b_right,
            "outcome": ReviewOutcome(row.outcome), "claims": [Claim.model_validate(claim) for claim in row.claims],
            "note": row.note, "zoomed": row.zoomed, "seconds": row.seconds, "settles": row.settles,
            "state": row.state, "created_at": row.created_at,
        }
    )  # fmt: skip
