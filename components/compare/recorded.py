"""Turns as files: written from the records by scripts/record.py, stored again by an app in recorded mode.

One file per pair, gzip of JSON lines: each a turn with its scores, as they were stored. Pictures lie beside it as the
canonical PNG that the engines got.
"""

from __future__ import annotations

import gzip
import logging
from collections.abc import Iterable
from pathlib import Path

from pydantic import BaseModel, ValidationError

from components.core.errors import AppError, InputError
from components.core.scores import Score
from components.core.traces import Trace
from components.storage.answer_records import AnswerRecords
from components.storage.images import ImageStore
from components.storage.traces import TraceRepository

SUFFIX = ".jsonl.gz"
_LOG = logging.getLogger(__name__)


class _Recorded(BaseModel):
    """One line."""

    trace: Trace
    scores: tuple[Score, ...]


def write_recorded(folder: Path, pair: str, turns: Iterable[tuple[Trace, list[Score]]], images: ImageStore) -> int:
    """The file of a pair and its pictures; bytes written. The same turns give the same bytes."""
    pictures = folder / "pictures"
    pictures.mkdir(parents=True, exist_ok=True)
    lines, size = [], 0
    for trace, scores in turns:
        lines.append(_Recorded(trace=trace, scores=tuple(scores)).model_dump_json())
        for image in trace.images:
            png = images.png(image.sha256)
            (pictures / f"{image.sha256}.png").write_bytes(png)
            size += len(png)
    file = folder / f"{pair}{SUFFIX}"
    with gzip.GzipFile(file, "wb", compresslevel=9, mtime=0) as packed:
        packed.write("\n".join(lines).encode())
    return size + file.stat().st_size


def store_recorded(
    file: Path, traces: TraceRepository, scores: AnswerRecords[Score], images: ImageStore
) -> tuple[str, ...]:
    """Store a file's turns where they are not stored yet; their ids, as they stand there. A fault is logged."""
    found: list[str] = []
    try:
        with gzip.open(file, "rt", encoding="utf-8") as packed:
            lines = packed.readlines()
    except (OSError, EOFError, UnicodeDecodeError) as exc:
        _LOG.warning("the recorded turns of %s can't be read: %r", file.name, exc)
        return ()
    for line in lines:
        try:
            found.append(_store(_Recorded.model_validate_json(line), file.parent, traces, scores, images))
        except (AppError, OSError, ValidationError) as exc:
            _LOG.warning("a recorded turn of %s could not be stored: %s", file.name, exc)
    return tuple(found)


def _store(
    recorded: _Recorded, folder: Path, traces: TraceRepository, scores: AnswerRecords[Score], images: ImageStore
) -> str:
    trace = recorded.trace
    for image in trace.images:
        images.adopt(image, (folder / "pictures" / f"{image.sha256}.png").read_bytes())
    try:
        traces.create_turn(trace)
    except InputError:
        return trace.id  # stored by an earlier start
    scores.add(*recorded.scores)
    return trace.id
