"""Items that flipped, kept with their pictures in the job's result: one click away from Compare, a folder for Review.

``flipped-<candidate>/rows.jsonl`` (``-2`` for a second set, and so on) has the columns that Review reads; the pictures
lie beside it, named after content.
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


def folder_name(candidate_id: str, number: int) -> str:
    """Where in a job's result one candidate's flipped items of its numbered set are kept."""
    return f"flipped-{candidate_id}" + (f"-{number + 1}" if number else "")


def keep_flipped(folder: Path, found: ComparedItems, source: Path | None) -> None:
    """Write rows and pictures of the items that flipped.

    Args:
        source: where the items' pictures lie; None = they have none.

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
        names = [_keep_picture(folder, source / name) for name in item.images if source is not None]
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
        kept = str(newest.details.get("kept") or folder_name(model.rpartition("/")[2], 0))
        found = self._jobs_dir / str(newest.job_id) / "result" / Path(kept).name
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
