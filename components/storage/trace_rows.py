"""Records to rows and back. Pure: no session, no files."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from components.core.answers import Answer, ErrorRecord, ImageRecord, Sampling, Timing, ToolCall, Usage
from components.core.states import Outcome
from components.core.traces import Alarm, AnswerSlot, ColumnLabel, Continuation, StoredAnswer, Trace, TraceSummary
from components.storage.steps import Steps
from components.storage.tables import AnswerRow, TurnImageRow, TurnRow

_SUMMARY_CHARACTERS = 200


def turn_row(turn: Trace) -> TurnRow:
    """The turn without its images and answers."""
    return TurnRow(
        id=turn.id,
        created_at=turn.created_at,
        conversation_id=turn.conversation_id,
        parent_id=turn.parent_id,
        pair=turn.pair,
        prompt=turn.prompt,
        system=turn.system,
        tools=list(turn.tools),
        alarms=alarm_list(turn.alarms),
        app_version=turn.app_version,
        schema_version=turn.schema_version,
    )


def alarm_list(alarms: Sequence[Alarm]) -> list[dict[str, Any]]:
    """Alarms as they lie in a turn's row."""
    return [alarm.model_dump(mode="json") for alarm in alarms]


def image_row(turn_id: str, position: int, image: ImageRecord) -> TurnImageRow:
    """One image of a turn."""
    values = image.model_dump(mode="json")
    return TurnImageRow(turn_id=turn_id, position=position, **values)


def answer_row(
    turn_id: str, stored: StoredAnswer, steps_sha256: str | None = None, *, app_id: str | None = None
) -> AnswerRow:
    """One answer, begun or ended."""
    slot = stored.slot
    return AnswerRow(
        id=slot.id,
        turn_id=turn_id,
        position=slot.position,
        attempt=slot.attempt,
        label=slot.label.model_dump(mode="json"),
        sampling=slot.sampling.model_dump(mode="json"),
        history=list(slot.history),
        continued=None if slot.continued is None else slot.continued.model_dump(mode="json"),
        started_at=stored.started_at,
        finished_at=stored.finished_at,
        steps_sha256=steps_sha256,
        app_id=app_id,
        **answer_columns(stored.answer),
    )


def answer_columns(answer: Answer) -> dict[str, Any]:
    """The columns that an answer fills, apart from its steps and its times."""
    return {
        "outcome": answer.outcome.value,
        "text": answer.text,
        "finish_reason": answer.finish_reason,
        "error": None if answer.error is None else answer.error.model_dump(mode="json"),
        "tool_calls": [call.model_dump(mode="json") for call in answer.tool_calls],
        "usage": answer.usage.model_dump(mode="json"),
        "timing": answer.timing.model_dump(mode="json"),
    }


def stored_answer(row: AnswerRow, steps: Steps) -> StoredAnswer:
    """The record of an answer's row."""
    answer = Answer(
        text=row.text,
        tokens=steps.tokens,
        tool_calls=tuple(ToolCall.model_validate(call) for call in row.tool_calls),
        finish_reason=row.finish_reason,
        outcome=Outcome(row.outcome),
        error=None if row.error is None else ErrorRecord.model_validate(row.error),
        prompt_token_ids=steps.prompt_token_ids,
        usage=Usage.model_validate(row.usage),
        timing=Timing.model_validate(row.timing),
    )
    slot = AnswerSlot(
        id=row.id,
        position=row.position,
        attempt=row.attempt,
        label=ColumnLabel.model_validate(row.label),
        sampling=Sampling.model_validate(row.sampling),
        history=tuple(row.history),
        continued=None if row.continued is None else Continuation.model_validate(row.continued),
    )
    return StoredAnswer(slot=slot, answer=answer, started_at=row.started_at, finished_at=row.finished_at)


def trace_record(
    row: TurnRow, images: Sequence[TurnImageRow], answers: Sequence[StoredAnswer], found: Sequence[Alarm]
) -> Trace:
    """The whole record. ``found`` are alarms about the storage itself, added to the stored ones."""
    return Trace(
        id=row.id,
        created_at=row.created_at,
        conversation_id=row.conversation_id,
        parent_id=row.parent_id,
        pair=row.pair,
        prompt=row.prompt,
        system=row.system,
        images=tuple(image_record(image) for image in images),
        tools=tuple(row.tools),
        answers=tuple(answers),
        alarms=(*(Alarm.model_validate(alarm) for alarm in row.alarms), *found),
        app_version=row.app_version,
        schema_version=row.schema_version,
    )


def image_record(row: TurnImageRow) -> ImageRecord:
    """The record of an image's row."""
    return ImageRecord(
        sha256=row.sha256,
        width=row.width,
        height=row.height,
        name=row.name,
        source_format=row.source_format,
        source_sha256=row.source_sha256,
        notes=tuple(row.notes),
    )


def summary_record(row: TurnRow, images: int, answers: Sequence[AnswerRow]) -> TraceSummary:
    """One line of a list; ``answers`` by position, then attempt."""
    newest = {answer.position: answer for answer in answers}
    return TraceSummary(
        id=row.id,
        conversation_id=row.conversation_id,
        created_at=row.created_at,
        pair=row.pair,
        prompt=row.prompt[:_SUMMARY_CHARACTERS],
        images=images,
        models=tuple(str(answer.label["model"]) for answer in newest.values()),
        outcomes=tuple(Outcome(answer.outcome) for answer in newest.values()),
        alarms=len(row.alarms),
    )
