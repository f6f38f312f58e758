"""Records of review: batches, items, what a reviewer was shown, verdicts and claims. Pure data.

Sides: a reviewer sees answers *a* and *b*; ``a_is`` says which of them is the base's. It is drawn per item and reviewer
and leaves the server only with a verdict. Base and candidate are the true sides, a and b the shown ones; both are kept.
"""

from __future__ import annotations

from enum import StrEnum
from typing import Literal

from pydantic import Field

from components.core.answers import ImageRecord, Record, Sampling
from components.core.traces import RecordId, UtcDatetime

Side = Literal["base", "candidate"]
Shown = Literal["a", "b"]
MAX_CLAIMS = 50
MAX_NOTE = 10_000


class BatchState(StrEnum):
    """Where a batch stands with its engines; reviewing may begin with its first finished item."""

    RUNNING = "RUNNING"
    STOPPED = "STOPPED"  # by a person, or because an engine was not to be had; it can go on
    SUCCEEDED = "SUCCEEDED"  # every item was tried


class ItemState(StrEnum):
    """Whether an item has its answers."""

    PENDING = "PENDING"
    DONE = "DONE"
    FAILED = "FAILED"


class Choice(StrEnum):
    """Which answer is better."""

    A = "a"
    B = "b"
    TIE = "tie"
    BOTH_BAD = "both_bad"


class ReviewOutcome(StrEnum):
    """What a verdict says about the candidate, once it is known which answer is whose."""

    REGRESSED = "regressed"
    IMPROVED = "improved"
    BOTH_WRONG = "both_wrong"
    SAME = "same"


class ErrorType(StrEnum):
    """What is wrong with a part of an answer."""

    MISREAD_TEXT = "misread_text"
    WRONG_COUNT = "wrong_count"
    WRONG_ATTRIBUTE = "wrong_attribute"
    INVENTED_OBJECT = "invented_object"
    MISSED_OBJECT = "missed_object"
    SPATIAL = "spatial"
    REFUSAL = "refusal"
    FORMAT_OR_LOOP = "format_or_loop"
    LANGUAGE = "language"
    OTHER = "other"


class Severity(StrEnum):
    """How much a wrong part matters."""

    MINOR = "minor"
    MAJOR = "major"
    CRITICAL = "critical"


class Box(Record):
    """A part of a picture, in pixels of the canonical picture, from its top left corner."""

    image: int = Field(default=0, ge=0, description="Which picture of the item, from 0")
    x: float = Field(ge=0)
    y: float = Field(ge=0)
    width: float = Field(gt=0)
    height: float = Field(gt=0)


class Claim(Record):
    """One thing that is wrong in an answer."""

    answer: Shown = Field(description="Which of the two shown answers")
    error_type: ErrorType
    severity: Severity = Severity.MAJOR
    text: str = Field(default="", max_length=2000, description="The words it is about; empty = the whole answer")
    start: int | None = Field(default=None, ge=0, description="Where they begin in the answer, characters from 0")
    other_too: bool = Field(default=False, description="The other answer has the same fault")
    note: str = Field(default="", max_length=MAX_NOTE)
    box: Box | None = None


class Question(Record):
    """One row of what a person loaded: a prompt with its pictures."""

    key: str = Field(description="The person's own id of it, or its number")
    prompt: str
    images: tuple[ImageRecord, ...] = ()
    reference: str | None = Field(default=None, description="The right answer, where it is known")
    tags: tuple[str, ...] = ()


class Batch(Record):
    """Questions put to a base and one or more candidates."""

    id: RecordId
    name: str
    pair: str
    base_engine: str
    candidate_engines: tuple[str, ...]
    system: str = ""
    sampling: Sampling = Sampling()
    overlap: float = Field(default=0.0, ge=0, le=1, description="Share of items that two reviewers shall judge")
    state: BatchState = BatchState.RUNNING
    message: str = Field(default="", description="Why it stands still, in words")
    created_at: UtcDatetime
    created_by: str = ""


class Answered(Record):
    """What the engines said to one question, as the queue needs it; the trace has the rest."""

    trace_id: RecordId
    base_answer_id: RecordId
    candidate_answer_id: RecordId
    base_text: str
    candidate_text: str
    disagreement: float = Field(description="0 = the same words, 1 = no word in common")
    divergence_nats: float | None = Field(description="Largest KL base to candidate of a content token; None = unknown")
    mean_divergence_nats: float | None = Field(default=None, description="Mean over all tokens of the answer")
    method: str | None = Field(default=None, description="How the divergence was measured: exact, top_k …")
    floor_nats: float | None = Field(default=None, description="Largest noise of the base against itself")
    base_matches: bool | None = Field(default=None, description="It is the reference, but for case and spaces")
    candidate_matches: bool | None = None


class Item(Record):
    """One question under base and one candidate."""

    id: RecordId
    batch_id: RecordId
    position: int = Field(description="The question's number in its batch, from 0")
    candidate_engine: str
    question: Question
    state: ItemState
    failure: str | None = None
    trace_id: RecordId = Field(description="Fixed before it is asked, so that a restart finds what was begun")
    answered: Answered | None = None
    in_slice: bool = Field(default=False, description="Part of the random slice, handed out in random order")
    outcome: str | None = Field(default=None, description="What the reviewers found; conflict = they disagree")
    verdicts: int = Field(default=0, description="Reviewers who judged it")


class Assignment(Record):
    """What one reviewer was given: which item, and which answer stands where."""

    item_id: RecordId
    reviewer: str
    round: int = Field(
        description="1; 2 = given again with sides flipped, to see whether the reviewer agrees with itself"
    )
    a_is: Side
    locked_until: UtcDatetime
    draft: str = Field(default="", description="Claims, notes and marks that are not submitted yet, as JSON")
    given_at: UtcDatetime


class Verdict(Record):
    """One judgement. Nothing is overwritten: a change is a new verdict, the earlier one stays as replaced."""

    id: RecordId
    item_id: RecordId
    reviewer: str
    round: int = 1
    verdict: Choice
    a_is: Side
    a_right: bool | None = None
    b_right: bool | None = None
    outcome: ReviewOutcome
    claims: tuple[Claim, ...] = ()
    note: str = ""
    zoomed: bool = Field(default=False, description="The picture was looked at enlarged")
    seconds: float | None = Field(default=None, description="From giving the item to the verdict")
    settles: bool = Field(default=False, description="Given to settle a conflict between reviewers")
    state: Literal["current", "replaced", "withdrawn"] = "current"
    created_at: UtcDatetime


def outcome_of(verdict: Choice, a_is: Side, a_right: bool | None, b_right: bool | None) -> ReviewOutcome:
    """What a verdict means for the candidate: from right and wrong where both are given, else from which is better."""
    base_right, candidate_right = (a_right, b_right) if a_is == "base" else (b_right, a_right)
    if base_right is not None and candidate_right is not None:
        if base_right == candidate_right:
            return ReviewOutcome.SAME if base_right else ReviewOutcome.BOTH_WRONG
        return ReviewOutcome.REGRESSED if base_right else ReviewOutcome.IMPROVED
    if verdict is Choice.TIE:
        return ReviewOutcome.SAME
    if verdict is Choice.BOTH_BAD:
        return ReviewOutcome.BOTH_WRONG
    better: Side = a_is if verdict is Choice.A else other_side(a_is)
    return ReviewOutcome.REGRESSED if better == "base" else ReviewOutcome.IMPROVED


def other_side(side: Side) -> Side:
    """Base for candidate and the other way round."""
    return "candidate" if side == "base" else "base"


def settled(outcomes: list[str], deciding: str | None) -> str | None:
    """What several reviewers found: the deciding one if there is one, else what all say, else ``conflict``."""
    if deciding is not None:
        return deciding
    if not outcomes:
        return None
    return outcomes[0] if len(set(outcomes)) == 1 else "conflict"
