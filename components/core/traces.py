"""Records of what was asked and answered: turns, columns, stored answers, alarms. Pure data, no storage.

A turn is one prompt with its images, put to several columns. A trace is the same record read back later; it is
one class, because a turn whose answers are still being written differs from a finished one only in its answers'
outcome. Nothing here may read a clock, make an id or know how a record is stored.
"""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Annotated, Literal

from pydantic import AfterValidator, AwareDatetime, Field, JsonValue

from components.core.answers import Answer, ImageRecord, Record, Sampling
from components.core.states import Outcome, Sight

TRACE_SCHEMA_VERSION = 1


def _to_utc(moment: datetime) -> datetime:
    return moment.astimezone(UTC)


UtcDatetime = Annotated[AwareDatetime, AfterValidator(_to_utc)]

# Ids stand in links and file names, so they can never hold a slash, a dot or a percent sign.
RecordId = Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9_-]{0,63}\z")]


class ColumnLabel(Record):
    """What a column ran on, as it was when the prompt was submitted: its "nutrition label"."""

    engine_id: str = Field(description='"<pair>/<model>"')
    model: str = Field(description="The model's name as shown")
    pair: str
    role: Literal["base", "candidate"]
    scheme: str = Field(description="Format of the weights: BF16, W8A8, W4A16 …")
    revision: str | None = Field(default=None, description="Commit or content hash of the weights; None = unknown")
    unquantized: tuple[str, ...] = Field(default=(), description="What stayed unquantized, in words")
    kv_cache_dtype: str | None = Field(default=None, description="None = unknown (a remote endpoint)")
    engine_version: str | None = Field(default=None, description="None = unknown")
    max_model_len: int | None = Field(default=None, description="Context in tokens; None = unknown")
    sight: Sight = Sight.UNKNOWN
    emulated: bool = Field(default=False, description="The format's own kernels were not used")


class Continuation(Record):
    """An answer that was given its beginning: tokens of another answer, and one more that a person chose."""

    answer_id: RecordId = Field(description="The answer of the same turn whose tokens were given")
    given_tokens: int = Field(ge=1, description="How many tokens were given, the chosen one included and last")
    token_id: int = Field(ge=0, description="The chosen token")
    token_text: str = Field(description="The chosen token decoded alone; may hold U+FFFD for a part of a character")
    token_raw: bytes = Field(description="Its exact bytes")


class AnswerSlot(Record):
    """A place for one answer: which column, which attempt, with what settings."""

    id: RecordId
    position: int = Field(ge=0, description="The column, from the left, from 0")
    attempt: int = Field(default=1, ge=1, description="A retry is a sibling with the next number")
    label: ColumnLabel
    sampling: Sampling = Sampling()
    history: tuple[str, ...] = Field(default=(), description="Ids of the earlier answers this column was shown")
    continued: Continuation | None = Field(default=None, description="None = the model wrote all of it by itself")


class StoredAnswer(Record):
    """One column's reply with its place and its times."""

    slot: AnswerSlot
    answer: Answer = Answer()
    started_at: UtcDatetime
    finished_at: UtcDatetime | None = Field(default=None, description="None while it is being written")


class Alarm(Record):
    """Something that makes a comparison unfair or meaningless, in words."""

    code: str = Field(description="Stable, for programs: image_mismatch, settings_differ, identical_logprobs …")
    severity: Literal["warning", "error"]
    message: str
    columns: tuple[int, ...] = Field(default=(), description="Positions of the columns concerned; empty = all")


class Trace(Record):
    """One turn: a prompt with its images, put to several columns, and what came back."""

    id: RecordId
    created_at: UtcDatetime
    conversation_id: RecordId
    parent_id: RecordId | None = Field(default=None, description="The turn before this one; None for the first")
    pair: str
    prompt: str
    system: str = ""
    images: tuple[ImageRecord, ...] = ()
    tools: tuple[dict[str, JsonValue], ...] = Field(default=(), description="Tools as OpenAI function JSON")
    answers: tuple[StoredAnswer, ...] = Field(default=(), description="By position, then attempt")
    alarms: tuple[Alarm, ...] = ()
    app_version: str
    schema_version: int = TRACE_SCHEMA_VERSION

    @property
    def latest_answers(self) -> tuple[StoredAnswer, ...]:
        """The newest attempt of every column that the model wrote all by itself, from left to right."""
        newest: dict[int, StoredAnswer] = {}
        for stored in self.answers:
            if stored.slot.continued is not None:
                continue
            known = newest.get(stored.slot.position)
            if known is None or stored.slot.attempt > known.slot.attempt:
                newest[stored.slot.position] = stored
        return tuple(newest[position] for position in sorted(newest))


Turn = Trace


class TraceSummary(Record):
    """One line in a list of traces."""

    id: RecordId
    conversation_id: RecordId
    created_at: UtcDatetime
    pair: str
    prompt: str = Field(description="At most 200 characters of it")
    images: int = Field(description="How many")
    models: tuple[str, ...] = Field(description="Names of the columns' models, from left to right")
    outcomes: tuple[Outcome, ...] = Field(description="Of the columns' newest attempts, from left to right")
    alarms: int = Field(default=0, description="How many")
