"""The tables of review, in portable types. Only the review repositories of this room may use them."""

from __future__ import annotations

from datetime import datetime
from typing import Any

from sqlalchemy import JSON, ForeignKey, Index
from sqlalchemy.orm import Mapped, mapped_column

from components.storage.column_types import ExactName, ExactText, UtcDateTime
from components.storage.tables import Base


class ReviewBatchRow(Base):
    """Questions put to a base and its candidates."""

    __tablename__ = "review_batches"
    __table_args__ = ({"sqlite_autoincrement": True},)

    seq: Mapped[int] = mapped_column(primary_key=True, autoincrement=True)
    id: Mapped[str] = mapped_column(ExactName(64), unique=True)
    name: Mapped[str] = mapped_column(ExactText)
    pair: Mapped[str] = mapped_column(ExactText)
    base_engine: Mapped[str] = mapped_column(ExactText)
    candidate_engines: Mapped[list[Any]] = mapped_column(JSON)
    system: Mapped[str] = mapped_column(ExactText)
    sampling: Mapped[dict[str, Any]] = mapped_column(JSON)
    overlap: Mapped[float]
    state: Mapped[str] = mapped_column(ExactName(16), index=True)
    message: Mapped[str] = mapped_column(ExactText)
    created_at: Mapped[datetime] = mapped_column(UtcDateTime)
    created_by: Mapped[str] = mapped_column(ExactText)


class ReviewItemRow(Base):
    """One question under base and one candidate. The last columns repeat what verdicts and locks say, for the queue."""

    __tablename__ = "review_items"
    __table_args__ = (
        Index("ix_review_items_divergence", "batch_id", "is_open", "in_slice", "divergence_nats"),
        Index("ix_review_items_disagreement", "batch_id", "is_open", "in_slice", "disagreement"),
        Index("ix_review_items_random", "batch_id", "is_open", "in_slice", "random_key"),
        Index("ix_review_items_outcome", "batch_id", "outcome"),
        Index("ix_review_items_state", "batch_id", "state", "is_open", "position"),
        {"sqlite_autoincrement": True},
    )

    seq: Mapped[int] = mapped_column(primary_key=True, autoincrement=True)
    id: Mapped[str] = mapped_column(ExactName(64), unique=True)
    batch_id: Mapped[str] = mapped_column(ForeignKey("review_batches.id"))
    position: Mapped[int]
    candidate_engine: Mapped[str] = mapped_column(ExactText)
    key: Mapped[str] = mapped_column(ExactText)
    prompt: Mapped[str] = mapped_column(ExactText)
    images: Mapped[list[Any]] = mapped_column(JSON)
    reference: Mapped[str | None] = mapped_column(ExactText)
    tags: Mapped[list[Any]] = mapped_column(JSON)
    state: Mapped[str] = mapped_column(ExactName(16))
    failure: Mapped[str | None] = mapped_column(ExactText)
    trace_id: Mapped[str] = mapped_column(ExactName(64), index=True)
    base_answer_id: Mapped[str | None] = mapped_column(ExactName(64))
    candidate_answer_id: Mapped[str | None] = mapped_column(ExactName(64))
    base_text: Mapped[str | None] = mapped_column(ExactText)
    candidate_text: Mapped[str | None] = mapped_column(ExactText)
    disagreement: Mapped[float | None]
    divergence_nats: Mapped[float | None]
    mean_divergence_nats: Mapped[float | None]
    method: Mapped[str | None] = mapped_column(ExactName(16))
    floor_nats: Mapped[float | None]
    base_matches: Mapped[bool | None]
    candidate_matches: Mapped[bool | None]
    random_key: Mapped[float]
    in_slice: Mapped[bool]
    wanted: Mapped[int]
    verdicts: Mapped[int]
    is_open: Mapped[bool]
    outcome: Mapped[str | None] = mapped_column(ExactName(16))
    locked_by: Mapped[str | None] = mapped_column(ExactText)
    locked_until: Mapped[datetime | None] = mapped_column(UtcDateTime)


class ReviewTextRow(Base):
    """All texts of one item in lower case, to be searched."""

    __tablename__ = "review_texts"

    seq: Mapped[int] = mapped_column(ForeignKey("review_items.seq"), primary_key=True, autoincrement=False)
    batch_id: Mapped[str] = mapped_column(ExactName(64), index=True)
    text: Mapped[str] = mapped_column(ExactText)


class ReviewAssignmentRow(Base):
    """What one reviewer was given; ``a_is`` is the seal."""

    __tablename__ = "review_assignments"

    item_id: Mapped[str] = mapped_column(ForeignKey("review_items.id"), primary_key=True)
    reviewer: Mapped[str] = mapped_column(ExactName(200), primary_key=True)
    round: Mapped[int] = mapped_column(primary_key=True, autoincrement=False)
    batch_id: Mapped[str] = mapped_column(ExactName(64))
    a_is: Mapped[str] = mapped_column(ExactName(16))
    settles: Mapped[bool]
    draft: Mapped[str] = mapped_column(ExactText)
    given_at: Mapped[datetime] = mapped_column(UtcDateTime)
    is_open: Mapped[bool]
    skipped: Mapped[bool]

    __table_args__ = (Index("ix_review_assignments_reviewer", "reviewer", "batch_id", "is_open"),)


class ReviewVerdictRow(Base):
    """One judgement; never changed but for its state."""

    __tablename__ = "review_verdicts"
    __table_args__ = (
        Index("ix_review_verdicts_item", "item_id", "reviewer", "round"),
        Index("ix_review_verdicts_batch", "batch_id", "reviewer", "seq"),
        {"sqlite_autoincrement": True},
    )

    seq: Mapped[int] = mapped_column(primary_key=True, autoincrement=True)
    id: Mapped[str] = mapped_column(ExactName(64), unique=True)
    item_id: Mapped[str] = mapped_column(ForeignKey("review_items.id"))
    batch_id: Mapped[str] = mapped_column(ExactName(64))
    reviewer: Mapped[str] = mapped_column(ExactName(200))
    round: Mapped[int]
    verdict: Mapped[str] = mapped_column(ExactName(16))
    a_is: Mapped[str] = mapped_column(ExactName(16))
    a_right: Mapped[bool | None]
    b_right: Mapped[bool | None]
    outcome: Mapped[str] = mapped_column(ExactName(16))
    claims: Mapped[list[Any]] = mapped_column(JSON)
    note: Mapped[str] = mapped_column(ExactText)
    zoomed: Mapped[bool]
    seconds: Mapped[float | None]
    settles: Mapped[bool]
    state: Mapped[str] = mapped_column(ExactName(16))
    created_at: Mapped[datetime] = mapped_column(UtcDateTime)
