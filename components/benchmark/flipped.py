"""Items that flipped, kept with their pictures in the job's result: one click away from Compare, a folder for Review.

``flipped-<candidate>/rows.jsonl`` has the columns that Review reads; the pictures lie beside it, named after content.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import orjson

from components.benchmark.accuracy import ComparedItems
from components.core.benchmarks import BenchmarkRecord
from components.core.errors import InputError, RecordNotFoundError

ROWS = "rows.jsonl"


@dataclass(frozen=True)
class FlippedQuestion:
    """One item as it can be asked again.

    Attributes:
        other_messages: how many more messages the item has, such as a system prompt; ``prompt`` is the last.
    """

    engine_id: str
    prompt: str
    pictures: tuple[Path, ...]
    other_messages: int


def folder_of(result: Path, candidate_id: str) -> Path:
    """Where a job's result keeps one candidate's flipped items."""
    return result / f"flipped-{candidate_id}"


def keep_flipped(folder: Path, found: ComparedItems, source: Path) -> None:
    """Write rows and pictures of the items that flipped.

    Args:
        source: where the items' pictures lie.

    Raises:
        OSError: they can't be read or written.
    """
    lost = {row["id"]: row["lost"] for row in found.flipped()}
    items = [item for item in found.items if item.id in lost]
    if not items:
        return
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    rows = []
    for item in items:
        names = [_keep_picture(folder, source / name) for name in item.images]
        rows.append({
            "id": item.id, "prompt": item.messages[-1].content, "images": names, "reference": item.answers[0],
            "tags": [*([item.kind] if item.kind else []), "lost" if lost[item.id] else "won"],
            "other_messages": len(item.messages) - 1,
        })  # fmt: skip
    (folder / ROWS).write_bytes(b"".join(orjson.dumps(row) + b"\n" for row in rows))


def _keep_picture(folder: Path, path: Path) -> str:
    data = path.read_bytes()
    name = hashlib.sha256(data).hexdigest()[:32] + path.suffix.lower()
    if not (folder / name).exists():
        (folder / name).write_bytes(data)
    return name


class FlippedItems:
    """Finds what jobs have kept. Blocking."""

    def __init__(self, jobs_dir: Path) -> None:
        self._jobs_dir = jobs_dir

    def folder(self, records: Sequence[BenchmarkRecord], model: str, task: str) -> Path:
        """The folder of a candidate's newest list of flipped items of one set.

        Raises:
            RecordNotFoundError: there is no such list, or its job's files are gone.
        """
        fitting = [
            record for record in records
            if (record.metric, record.model, record.task) == ("flipped_items", model, task) and record.job_id
        ]  # fmt: skip
        newest = max(fitting, key=lambda record: record.created_at, default=None)
        if newest is None:
            raise RecordNotFoundError("No such list of items was measured.", "Run the accuracy suite.")
        found = folder_of(self._jobs_dir / str(newest.job_id) / "result", model.rpartition("/")[2])
        if not (found / ROWS).is_file():
            raise RecordNotFoundError("The job's files are gone, or it kept no items.", "Run the accuracy suite again.")
        return found

    def question(self, records: Sequence[BenchmarkRecord], model: str, task: str, item_id: str) -> FlippedQuestion:
        """One item.

        Raises:
            RecordNotFoundError: see ``folder``. InputError: there is no such item.
        """
        folder = self.folder(records, model, task)
        for row in _rows(folder):
            if row["id"] == item_id:
                pictures = tuple(folder / name for name in row["images"])
                return FlippedQuestion(model, row["prompt"], pictures, row["other_messages"])
        raise InputError(f"There is no item {item_id[:80]!r} among those that flipped.", field="item")


def _rows(folder: Path) -> list[dict[str, Any]]:
    return [orjson.loads(line) for line in (folder / ROWS).read_bytes().splitlines() if line]
