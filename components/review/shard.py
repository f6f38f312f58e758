"""A part of a batch that is answered elsewhere: what its job is given, and what it gives back. Pure data and files.

Answers are lines of a file in the job's folder, written as they come and read as far as they are whole, so that a node
that dies loses only what it was being asked. They are sealed: no page may offer the file to a reviewer.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import Literal

from pydantic import Field, ValidationError

from components.core.answers import Record
from components.core.errors import StorageError
from components.core.reviews import Answered, Batch, Question
from components.core.scores import Score
from components.core.traces import RecordId, Trace
from components.jobs.records import JobFolder
from components.profiles.schema import PairProfile
from components.storage.atomic_write import translate_os_error

KIND = "batch"
ANSWERS = "answers/answers.jsonl"  # in a folder of its own: files beside the spec are offered for download
_MOST_BYTES = 16 * 2**20  # read at once; a line with its token records takes some 100 kB


class ShardQuestion(Record):
    """One question and who shall answer it."""

    position: int
    trace_id: RecordId
    question: Question
    candidates: tuple[str, ...] = Field(description="Engine ids")


class ShardSpec(Record):
    """The driver's input."""

    format: Literal[1] = 1
    batch: Batch
    pair: PairProfile
    questions: tuple[ShardQuestion, ...] = Field(min_length=1)
    state_dir: str
    repository: str

    def as_json(self) -> bytes:
        """For the job's folder. What a profile left unset stays so."""
        return self.model_dump_json(exclude_unset=True).encode()


class ShardAnswer(Record):
    """What came of one question, of every candidate either an answer or a reason."""

    position: int
    asked_as: RecordId = Field(description="The question's trace_id in the spec; a retry has another")
    trace: Trace | None = Field(description="None = no engine answered")
    scores: tuple[Score, ...] = ()
    answered: Mapping[str, Answered] = Field(description="By engine id")
    failures: Mapping[str, str] = Field(description="By engine id")


def append_answer(folder: JobFolder, answer: ShardAnswer) -> None:
    """Add one line.

    Raises:
        DiskFullError, StorageError: it could not be written.
    """
    path = folder.path / ANSWERS
    try:
        path.parent.mkdir(mode=0o700, exist_ok=True)
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
        with os.fdopen(descriptor, "ab", buffering=0) as file:
            line = answer.model_dump_json().encode() + b"\n"
            if file.write(line) != len(line):
                raise StorageError("An answer could not be written whole.", "Look whether the disk is full.")
    except OSError as exc:
        raise translate_os_error(exc, path) from exc


def read_answers(folder: JobFolder, offset: int) -> tuple[list[ShardAnswer], int]:
    """Answers since ``offset`` (bytes), and the offset to go on from. A line that is no answer is passed over."""
    try:
        with (folder.path / ANSWERS).open("rb") as file:
            file.seek(offset)
            data = file.read(_MOST_BYTES)
    except FileNotFoundError:
        return [], offset
    whole, _, _ = data.rpartition(b"\n")
    if not whole:
        return [], offset + (len(data) if len(data) == _MOST_BYTES else 0)
    found = []
    for line in whole.split(b"\n"):
        try:
            found.append(ShardAnswer.model_validate_json(line))
        except ValidationError:
            continue
    return found, offset + len(whole) + 1
