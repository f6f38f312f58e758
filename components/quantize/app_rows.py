"""What this app holds as calibration rows: turns, review items, and benchmark items that a candidate lost.

A row is the question with its pictures and the base's answer: calibration wants what the model should go on doing.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import orjson

from components.core.benchmarks import BenchmarkRecord
from components.core.errors import AppError, InputError
from components.core.states import Outcome
from components.core.traces import Trace
from components.storage.benchmarks import BenchmarkRepository
from components.storage.images import ImageStore
from components.storage.review_rows import ItemFilter
from components.storage.reviews import ReviewRepository
from components.storage.traces import TraceRepository

_FIELD = "overrides.calibration.sources"
_PICKED_OUTCOMES = ("regressed", "improved", "both_wrong", "same", "conflict")
_MOST_ITEMS = 1000


class StoredRows:
    """Writes ``rows.jsonl`` and pictures into a folder.

    Args:
        benchmarks: folder of the item sets that come with Diptych, whose pictures stand beside their items.
    """

    def __init__(
        self, traces: TraceRepository, images: ImageStore, reviews: ReviewRepository, records: BenchmarkRepository,
        benchmarks: Path,
    ) -> None:  # fmt: skip
        self._traces, self._images, self._reviews = traces, images, reviews
        self._records, self._benchmarks = records, benchmarks

    def choices(self) -> list[dict[str, Any]]:
        """What can be picked: ``{label, source}``, a source being as in a recipe."""
        found: list[dict[str, Any]] = []
        for batch in self._reviews.batches():
            for outcome in (None, *_PICKED_OUTCOMES):
                count = self._reviews.items(batch.id, ItemFilter(outcome=outcome), limit=1)[1]
                what = (outcome or "all").replace("_", " ")
                words = f"{batch.name} ({batch.created_at:%Y-%m-%d %H:%M}), {what}: {count}"
                source = {"kind": "review", "batch_id": batch.id, "outcome": outcome}
                found += [{"label": words, "source": source}] if count else []
        models = {record.model for record in self._records.find(source="measured", suite="accuracy")}
        for model in sorted(models):
            count = len(self.flips(model))
            source = {"kind": "flips", "model": model}
            found += [{"label": f"{model} lost {count}", "source": source}] if count else []
        return found

    def turns_of_review(self, batch_id: str, outcome: str | None) -> tuple[str, ...]:
        """Turns of a batch's answered items, most divergent first, each once.

        Raises:
            InputError: there is no such batch.
        """
        if not self._reviews.has_batch(batch_id):
            known = ", ".join(batch.id for batch in self._reviews.batches()) or "none yet"
            raise InputError(f"There is no review batch {batch_id!r}.", f"Accepted: {known}.", field=_FIELD)
        items, _ = self._reviews.items(batch_id, ItemFilter(outcome=outcome), limit=_MOST_ITEMS)
        return tuple(dict.fromkeys(item.trace_id for item in items if item.answered is not None))

    def write_turns(self, trace_ids: tuple[str, ...], folder: Path) -> None:
        """One row for each turn.

        Raises:
            InputError: there is no such turn.
        """
        _write([self._row(trace_id, folder) for trace_id in trace_ids], folder)

    def flips(self, model: str) -> list[dict[str, Any]]:
        """Items of its newest accuracy figures that only the base has right, if their pictures are here."""
        newest = {
            record.task: record
            for record in self._records.find(source="measured", suite="accuracy", model=model)
            if record.metric == "flipped_items"
        }
        lost = [
            {**item, "task": task}
            for task, record in sorted(newest.items())
            for item in _items_of(record)
            if item.get("lost")
        ]
        return [item for item in lost if all(self._picture(item, name).is_file() for name in item.get("images", ()))]

    def write_flips(self, items: list[dict[str, Any]], folder: Path) -> None:
        """One row for each item: its question and the base's right answer."""
        rows = []
        for number, item in enumerate(items):
            names = []
            for place, picture in enumerate(self._picture(item, name) for name in item.get("images", ())):
                names.append(f"{number:04}-{place}{picture.suffix.lower()}")
                (folder / names[-1]).write_bytes(picture.read_bytes())
            said = [{"role": "user", "content": item["question"]}, {"role": "assistant", "content": item["base"]}]
            rows.append({"messages": said, "images": names})
        _write(rows, folder)

    def _picture(self, item: dict[str, Any], name: str) -> Path:
        """Below the folder of its set; a name that leads out of it is none."""
        return self._benchmarks / Path(str(item["task"])).name / Path(name).name

    def _row(self, trace_id: str, folder: Path) -> dict[str, Any]:
        try:
            trace = self._traces.get(trace_id)
        except AppError as exc:
            raise InputError(
                f"There is no turn {trace_id!r}.", "Choose turns on the Compare tab.",
                field=_FIELD,
            ) from exc  # fmt: skip
        names = []
        for image in trace.images:
            name = f"{image.sha256}.png"
            (folder / name).write_bytes(self._images.png(image.sha256))
            names.append(name)
        system = [{"role": "system", "content": trace.system}] if trace.system else []
        answer = _answer(trace)
        said = [{"role": "assistant", "content": answer}] if answer else []
        return {"messages": [*system, {"role": "user", "content": trace.prompt}, *said], "images": names}


def _items_of(record: BenchmarkRecord) -> list[dict[str, Any]]:
    items = record.details.get("items")
    return [item for item in items if isinstance(item, dict)] if isinstance(items, list) else []


def _write(rows: list[dict[str, Any]], folder: Path) -> None:
    text = b"".join(orjson.dumps(row) + b"\n" for row in rows)
    (folder / "rows.jsonl.partial").write_bytes(text)
    (folder / "rows.jsonl.partial").rename(folder / "rows.jsonl")


def _answer(trace: Trace) -> str:
    """The base's finished answer; calibration wants what the model should go on doing."""
    for stored in trace.latest_answers:
        if stored.slot.label.role == "base" and stored.answer.outcome is Outcome.FINISHED:
            return stored.answer.text
    return ""
