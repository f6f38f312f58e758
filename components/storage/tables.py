"""The tables, in portable types (SQLite and PostgreSQL). Only repositories of this room may use them.

Migrations are written by hand beside this file and never import it: a released migration must not change when a
table does. A test compares the two.
"""

from __future__ import annotations

from collections.abc import Collection
from datetime import datetime
from typing import Any

from sqlalchemy import (
    JSON,
    BigInteger,
    CheckConstraint,
    ColumnElement,
    Double,
    ForeignKey,
    MetaData,
    UniqueConstraint,
    or_,
)
from sqlalchemy.orm import DeclarativeBase, InstrumentedAttribute, Mapped, mapped_column

from components.core.states import JobState, Outcome, RepeatState
from components.storage.column_types import ExactName, ExactText, UtcDateTime

_NAMES = {
    "ix": "ix_%(table_name)s_%(column_0_name)s",
    "uq": "uq_%(table_name)s_%(column_0_name)s",
    "ck": "ck_%(table_name)s_%(constraint_name)s",
    "fk": "fk_%(table_name)s_%(column_0_name)s",
    "pk": "pk_%(table_name)s",
}
_OUTCOMES = ", ".join(f"'{outcome.value}'" for outcome in Outcome)
_REPEAT_STATES = ", ".join(f"'{state.value}'" for state in RepeatState)
_JOB_STATES = ", ".join(f"'{state.value}'" for state in JobState)


class Base(DeclarativeBase):
    """Holds the metadata; the naming rule gives every constraint a name that a later migration can use."""

    metadata = MetaData(naming_convention=_NAMES)


class TurnRow(Base):
    """One turn. ``seq`` gives the order, because clocks jump."""

    __tablename__ = "turns"
    __table_args__ = ({"sqlite_autoincrement": True},)

    seq: Mapped[int] = mapped_column(primary_key=True, autoincrement=True)
    id: Mapped[str] = mapped_column(ExactName(64), unique=True)
    created_at: Mapped[datetime] = mapped_column(UtcDateTime)
    conversation_id: Mapped[str] = mapped_column(ExactName(64), index=True)
    parent_id: Mapped[str | None] = mapped_column(ForeignKey("turns.id"), index=True)
    pair: Mapped[str] = mapped_column(ExactText)
    prompt: Mapped[str] = mapped_column(ExactText)
    system: Mapped[str] = mapped_column(ExactText)
    tools: Mapped[list[Any]] = mapped_column(JSON)
    alarms: Mapped[list[Any]] = mapped_column(JSON)
    app_version: Mapped[str] = mapped_column(ExactText)
    schema_version: Mapped[int]


class TurnImageRow(Base):
    """An image of a turn, as it was shown then."""

    __tablename__ = "turn_images"

    turn_id: Mapped[str] = mapped_column(ForeignKey("turns.id"), primary_key=True)
    position: Mapped[int] = mapped_column(primary_key=True, autoincrement=False)
    sha256: Mapped[str] = mapped_column(ExactName(64), index=True)
    width: Mapped[int]
    height: Mapped[int]
    name: Mapped[str] = mapped_column(ExactText)
    source_format: Mapped[str] = mapped_column(ExactName(16))
    source_sha256: Mapped[str] = mapped_column(ExactName(64))
    notes: Mapped[list[Any]] = mapped_column(JSON)


class AnswerRow(Base):
    """One answer. Tokens, log-probabilities and prompt ids lie in the blob ``steps_sha256``."""

    __tablename__ = "answers"
    __table_args__ = (
        UniqueConstraint("turn_id", "position", "attempt"),
        CheckConstraint(f"outcome IN ({_OUTCOMES})", name="outcome"),
    )

    id: Mapped[str] = mapped_column(ExactName(64), primary_key=True)
    turn_id: Mapped[str] = mapped_column(ForeignKey("turns.id"))
    position: Mapped[int]
    attempt: Mapped[int]
    label: Mapped[dict[str, Any]] = mapped_column(JSON)
    sampling: Mapped[dict[str, Any]] = mapped_column(JSON)
    history: Mapped[list[Any]] = mapped_column(JSON)
    continued: Mapped[dict[str, Any] | None] = mapped_column(JSON(none_as_null=True))
    outcome: Mapped[str] = mapped_column(ExactName(16), index=True)
    text: Mapped[str] = mapped_column(ExactText)
    finish_reason: Mapped[str | None] = mapped_column(ExactText)
    error: Mapped[dict[str, Any] | None] = mapped_column(JSON(none_as_null=True))
    tool_calls: Mapped[list[Any]] = mapped_column(JSON)
    usage: Mapped[dict[str, Any]] = mapped_column(JSON)
    timing: Mapped[dict[str, Any]] = mapped_column(JSON)
    steps_sha256: Mapped[str | None] = mapped_column(ExactName(64))
    started_at: Mapped[datetime] = mapped_column(UtcDateTime)
    finished_at: Mapped[datetime | None] = mapped_column(UtcDateTime)
    app_id: Mapped[str | None] = mapped_column(ExactName(64))


class ScoreRow(Base):
    """How far two models part on one answer's tokens. The tokens lie in the blob ``document_sha256``."""

    __tablename__ = "scores"

    id: Mapped[str] = mapped_column(ExactName(64), primary_key=True)
    turn_id: Mapped[str] = mapped_column(ForeignKey("turns.id"), index=True)
    answer_id: Mapped[str] = mapped_column(ForeignKey("answers.id"))
    method: Mapped[str] = mapped_column(ExactName(16))
    candidate_engine: Mapped[str] = mapped_column(ExactText)
    created_at: Mapped[datetime] = mapped_column(UtcDateTime)
    document_sha256: Mapped[str] = mapped_column(ExactName(64))


class RelianceRow(Base):
    """How much an answer's tokens rest on the picture. The tokens lie in the blob ``document_sha256``."""

    __tablename__ = "reliances"

    id: Mapped[str] = mapped_column(ExactName(64), primary_key=True)
    turn_id: Mapped[str] = mapped_column(ForeignKey("turns.id"), index=True)
    answer_id: Mapped[str] = mapped_column(ForeignKey("answers.id"))
    picture: Mapped[str] = mapped_column(ExactName(16))
    candidate_engine: Mapped[str] = mapped_column(ExactText)
    created_at: Mapped[datetime] = mapped_column(UtcDateTime)
    document_sha256: Mapped[str] = mapped_column(ExactName(64))


class RepeatRow(Base):
    """A turn's question asked several times. ``columns`` says of each column on what it ran and why it ended early."""

    __tablename__ = "repeats"
    __table_args__ = (CheckConstraint(f"state IN ({_REPEAT_STATES})", name="state"),)

    id: Mapped[str] = mapped_column(ExactName(64), primary_key=True)
    turn_id: Mapped[str] = mapped_column(ForeignKey("turns.id"), index=True)
    state: Mapped[str] = mapped_column(ExactName(16))
    count: Mapped[int]
    first_seed: Mapped[int] = mapped_column(BigInteger)
    columns: Mapped[list[Any]] = mapped_column(JSON)
    created_at: Mapped[datetime] = mapped_column(UtcDateTime)
    finished_at: Mapped[datetime | None] = mapped_column(UtcDateTime)
    app_id: Mapped[str | None] = mapped_column(ExactName(64))


class RepeatSampleRow(Base):
    """One sample that ended. Rows are only ever added, so a killed app loses none that had ended."""

    __tablename__ = "repeat_samples"

    repeat_id: Mapped[str] = mapped_column(ForeignKey("repeats.id"), primary_key=True)
    position: Mapped[int] = mapped_column(primary_key=True, autoincrement=False)
    seed: Mapped[int] = mapped_column(BigInteger, primary_key=True, autoincrement=False)
    text: Mapped[str] = mapped_column(ExactText)
    tool_calls: Mapped[list[Any]] = mapped_column(JSON)
    outcome: Mapped[str] = mapped_column(ExactName(16))
    finish_reason: Mapped[str | None] = mapped_column(ExactText)
    error: Mapped[dict[str, Any] | None] = mapped_column(JSON(none_as_null=True))
    output_tokens: Mapped[int | None]
    e2el_ms: Mapped[float | None] = mapped_column(Double)


class CanonicalImageRow(Base):
    """What an uploaded file became: the same file is decoded once, as long as the rules stay the same."""

    __tablename__ = "canonical_images"

    source_sha256: Mapped[str] = mapped_column(ExactName(64), primary_key=True)
    rules: Mapped[int] = mapped_column(primary_key=True, autoincrement=False)
    sha256: Mapped[str] = mapped_column(ExactName(64))
    width: Mapped[int]
    height: Mapped[int]
    source_format: Mapped[str] = mapped_column(ExactName(16))
    notes: Mapped[list[Any]] = mapped_column(JSON)


class JobRow(Base):
    """One attempt of a job. ``seq`` gives the order of submission, ``position`` the order in the queue."""

    __tablename__ = "jobs"
    __table_args__ = (CheckConstraint(f"state IN ({_JOB_STATES})", name="state"), {"sqlite_autoincrement": True})

    seq: Mapped[int] = mapped_column(primary_key=True, autoincrement=True)
    id: Mapped[str] = mapped_column(ExactName(64), unique=True)
    kind: Mapped[str] = mapped_column(ExactName(32))
    title: Mapped[str] = mapped_column(ExactText)
    fingerprint: Mapped[str] = mapped_column(ExactName(64), index=True)
    spec: Mapped[dict[str, Any]] = mapped_column(JSON)
    needs: Mapped[dict[str, Any]] = mapped_column(JSON)
    state: Mapped[str] = mapped_column(ExactName(16), index=True)
    position: Mapped[int]
    attempt: Mapped[int]
    retry_of: Mapped[str | None] = mapped_column(ForeignKey("jobs.id"))
    process: Mapped[dict[str, Any] | None] = mapped_column(JSON(none_as_null=True))
    failure_reason: Mapped[str | None] = mapped_column(ExactText)
    result: Mapped[dict[str, Any] | None] = mapped_column(JSON(none_as_null=True))
    created_at: Mapped[datetime] = mapped_column(UtcDateTime)
    started_at: Mapped[datetime | None] = mapped_column(UtcDateTime)
    ended_at: Mapped[datetime | None] = mapped_column(UtcDateTime)


class JobEventRow(Base):
    """A change of a job's state. Progress is not here: it lies in the job's folder."""

    __tablename__ = "job_events"
    __table_args__ = (CheckConstraint(f"state IN ({_JOB_STATES})", name="state"), {"sqlite_autoincrement": True})

    seq: Mapped[int] = mapped_column(primary_key=True, autoincrement=True)
    job_id: Mapped[str] = mapped_column(ForeignKey("jobs.id"), index=True)
    state: Mapped[str] = mapped_column(ExactName(16))
    at: Mapped[datetime] = mapped_column(UtcDateTime)
    message: Mapped[str] = mapped_column(ExactText)


class BenchmarkRow(Base):
    """One figure of a benchmark, measured or published. The whole record is ``document``; the columns find it."""

    __tablename__ = "benchmark_results"
    __table_args__ = (CheckConstraint("source IN ('measured', 'published')", name="source"),)

    id: Mapped[str] = mapped_column(ExactName(64), primary_key=True)
    source: Mapped[str] = mapped_column(ExactName(16), index=True)
    suite: Mapped[str] = mapped_column(ExactName(16))
    model: Mapped[str] = mapped_column(ExactText, index=True)
    task: Mapped[str] = mapped_column(ExactText)
    metric: Mapped[str] = mapped_column(ExactName(80))
    job_id: Mapped[str | None] = mapped_column(ExactName(64), index=True)
    created_at: Mapped[datetime] = mapped_column(UtcDateTime)
    document: Mapped[dict[str, Any]] = mapped_column(JSON)


class InstallationRow(Base):
    """One row: the id that the folder of files has too."""

    __tablename__ = "installation"

    id: Mapped[str] = mapped_column(ExactName(64), primary_key=True)


def left_by_the_dead(app_id: InstrumentedAttribute[str | None], living: Collection[str]) -> ColumnElement[bool]:
    """Whether what is open belongs to no app that lives; before there were ids, everything open was a dead app's."""
    return or_(app_id.is_(None), app_id.not_in(living))
