"""The batch that comes with Diptych: real answers of the embedded pair, stored once by scripts/review_batch.py.

They are stored like any other: the pictures go through the same decoder, and each question becomes an ordinary turn.
"""

from __future__ import annotations

import gzip
import json
import logging
import secrets
from collections.abc import Iterator
from pathlib import Path

from pydantic import ValidationError

from components.core.errors import AppError, InputError
from components.core.reviews import Answered, Batch, BatchState, Item, ItemState, Question
from components.core.scores import Score
from components.core.traces import Trace
from components.storage.answer_records import AnswerRecords
from components.storage.images import ImageStore
from components.storage.reviews import ReviewRepository
from components.storage.traces import TraceRepository

BATCH_ID = "first-look"  # no model's name: it is told with every sealed item
FILE = "batch.jsonl.gz"
_LOG = logging.getLogger(__name__)


def import_bundled(
    folder: Path, reviews: ReviewRepository, traces: TraceRepository, scores: AnswerRecords[Score], images: ImageStore
) -> None:
    """Store the bundled batch if it is not there yet. A fault is logged: the app works without it."""
    if reviews.has_batch(BATCH_ID) or not (folder / FILE).is_file():
        return
    try:
        lines = _lines(folder / FILE)
        batch = Batch.model_validate_json(next(lines))
        items = [_import(json.loads(line), batch, number, folder, traces, scores, images)
                 for number, line in enumerate(lines)]  # fmt: skip
        reviews.add_answered(batch.model_copy(update={"state": BatchState.SUCCEEDED}), items)
    except (AppError, OSError, ValueError, KeyError, StopIteration, ValidationError) as exc:
        _LOG.warning("the bundled review batch could not be stored: %s", exc)


def _lines(path: Path) -> Iterator[str]:
    with gzip.open(path, "rt", encoding="utf-8") as file:
        yield from file


def _import(
    line: dict[str, object], batch: Batch, position: int, folder: Path, traces: TraceRepository,
    scores: AnswerRecords[Score], images: ImageStore,
) -> Item:  # fmt: skip
    trace, question = (
        Trace.model_validate_json(json.dumps(line["trace"])),
        Question.model_validate_json(json.dumps(line["question"])),
    )
    for image in trace.images:
        made = images.ingest(folder / "pictures" / image.name, image.name)
        if made.sha256 != image.sha256:
            raise InputError(f"{image.name} is not the picture that was asked about.")
    try:
        traces.create_turn(trace)
        scores.add(Score.model_validate_json(json.dumps(line["score"])))
    except InputError:
        _LOG.info("turn %s is stored already", trace.id)  # an app that was ended while it imported
    return Item(
        id=secrets.token_hex(12), batch_id=batch.id, position=position, candidate_engine=batch.candidate_engines[0],
        question=question, state=ItemState.DONE, trace_id=trace.id, answered=Answered.model_validate(line["answered"]),
    )  # fmt: skip
