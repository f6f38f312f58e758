"""Repeats of turns: a row each, and a row for every sample as soon as it has ended."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Collection, Mapping, Sequence
from datetime import UTC, datetime
from typing import Any

from sqlalchemy import select, update
from sqlalchemy.orm import Session

from components.core.answers import ErrorRecord, Sampling, ToolCall
from components.core.errors import RecordNotFoundError
from components.core.repeats import Repeat, RepeatColumn, Sample
from components.core.states import Outcome, RepeatState
from components.core.traces import ColumnLabel
from components.storage.database import Database
from components.storage.tables import RepeatRow, RepeatSampleRow, TurnRow, left_by_the_dead

_Samples = Mapping[int, Sequence[RepeatSampleRow]]


class RepeatRepository:
    """Repeats by turn. Calls block and may come from several threads."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def create(self, repeat: Repeat) -> None:
        """Store a repeat with the samples it has; when this returns, it is on disk.

        Raises:
            RecordNotFoundError: there is no such turn. StorageError: nothing was stored.
        """

        def insert(session: Session) -> None:
            if session.scalar(select(TurnRow.id).where(TurnRow.id == repeat.trace_id)) is None:
                raise RecordNotFoundError(f"There is no turn {repeat.trace_id!r} here.")
            session.add(
                RepeatRow(
                    id=repeat.id,
                    turn_id=repeat.trace_id,
                    state=repeat.state.value,
                    count=repeat.count,
                    first_seed=repeat.first_seed,
                    columns=[_column_values(column) for column in repeat.columns],
                    created_at=repeat.created_at,
                    finished_at=repeat.finished_at,
                    app_id=self._database.app_id,
                )
            )
            session.flush()
            session.add_all(_sample_row(repeat.id, c.position, sample) for c in repeat.columns for sample in c.samples)

        self._database.write(insert)

    def add_sample(self, repeat_id: str, position: int, sample: Sample) -> None:
        """Store a sample that ended; when this returns, it is on disk."""
        self._database.write(lambda session: session.add(_sample_row(repeat_id, position, sample)))

    def finish(self, repeat: Repeat) -> None:
        """Store how a repeat ended, and why a column has fewer samples; its samples are stored already."""
        values = {
            "state": repeat.state.value,
            "finished_at": repeat.finished_at,
            "columns": [_column_values(column) for column in repeat.columns],
        }
        self._database.write(
            lambda session: session.execute(update(RepeatRow).where(RepeatRow.id == repeat.id).values(values))
        )

    def of_turn(self, trace_id: str) -> list[Repeat]:
        """All repeats of a turn with their samples, oldest first."""

        def find(session: Session) -> list[Repeat]:
            wanted = select(RepeatRow).where(RepeatRow.turn_id == trace_id)
            rows = session.scalars(wanted.order_by(RepeatRow.created_at, RepeatRow.id)).all()
            samples: dict[tuple[str, int], list[RepeatSampleRow]] = defaultdict(list)
            of_rows = select(RepeatSampleRow).where(RepeatSampleRow.repeat_id.in_([row.id for row in rows]))
            for sample in session.scalars(of_rows.order_by(RepeatSampleRow.seed)):
                samples[sample.repeat_id, sample.position].append(sample)
            return [
                _record(row, {p: found for (owner, p), found in samples.items() if owner == row.id}) for row in rows
            ]

        return self._database.read(find)

    def recover(self, living: Collection[str] = ()) -> None:
        """What a dead app left running is interrupted; its samples are kept. ``living`` as for ``TraceRepository``."""
        values = {"state": RepeatState.INTERRUPTED.value, "finished_at": datetime.now(UTC)}
        left = (RepeatRow.state == RepeatState.RUNNING.value, left_by_the_dead(RepeatRow.app_id, living))
        self._database.write(lambda session: session.execute(update(RepeatRow).where(*left).values(values)))


def _column_values(column: RepeatColumn) -> dict[str, Any]:
    return column.model_dump(mode="json", exclude={"samples"})


def _sample_row(repeat_id: str, position: int, sample: Sample) -> RepeatSampleRow:
    return RepeatSampleRow(
        repeat_id=repeat_id,
        position=position,
        seed=sample.seed,
        text=sample.text,
        tool_calls=[call.model_dump(mode="json") for call in sample.tool_calls],
        outcome=sample.outcome.value,
        finish_reason=sample.finish_reason,
        error=None if sample.error is None else sample.error.model_dump(mode="json"),
        output_tokens=sample.output_tokens,
        e2el_ms=sample.e2el_ms,
    )


def _record(row: RepeatRow, samples: _Samples) -> Repeat:
    return Repeat(
        id=row.id,
        trace_id=row.turn_id,
        state=RepeatState(row.state),
        count=row.count,
        first_seed=row.first_seed,
        created_at=row.created_at,
        finished_at=row.finished_at,
        columns=tuple(_column(values, samples) for values in row.columns),
    )


def _column(values: Mapping[str, Any], samples: _Samples) -> RepeatColumn:
    return RepeatColumn(
        position=values["position"],
        answer_id=values["answer_id"],
        label=ColumnLabel.model_validate(values["label"]),
        sampling=Sampling.model_validate(values["sampling"]),
        samples=tuple(_sample(row) for row in samples.get(values["position"], ())),
        ended_early=values["ended_early"],
    )


def _sample(row: RepeatSampleRow) -> Sample:
    return Sample(
        seed=row.seed,
        text=row.text,
        tool_calls=tuple(ToolCall.model_validate(call) for call in row.tool_calls),
        outcome=Outcome(row.outcome),
        finish_reason=row.finish_reason,
        error=None if row.error is None else ErrorRecord.model_validate(row.error),
        output_tokens=row.output_tokens,
        e2el_ms=row.e2el_ms,
    )
