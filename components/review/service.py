"""Review as the page and the API see it: batches, the queue, verdicts, reports. No page, no HTTP.

Calls block on the database, except those that are coroutines. Whoever calls has checked who is calling.
"""

from __future__ import annotations

import asyncio
import re
import secrets
import shutil
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

from components.core.answers import ImageRecord
from components.core.errors import AppError, InputError, MediaError
from components.core.reviews import Batch, BatchState, Question
from components.core.scores import Score
from components.engines.catalog import Catalog, CatalogEntry
from components.review import export
from components.review.bundled import BATCH_ID, import_bundled
from components.review.hub_data import fetch_data_set, read_hub_name
from components.review.intake import Fault, Intake, Row, read_folder
from components.review.parquet import as_parquet
from components.review.report import report_of
from components.review.requests import ExportWish, NewBatch
from components.review.runner import BatchRunner
from components.storage.answer_records import AnswerRecords
from components.storage.images import ImageStore
from components.storage.review_given import Given, Wish
from components.storage.review_queue import ReviewQueue
from components.storage.reviews import ReviewRepository
from components.storage.traces import TraceRepository

_TOKEN = re.compile(r"[0-9a-f]{32}")
_DECODERS = 2


@dataclass(frozen=True)
class ReviewFolders:
    """Where review keeps and finds files."""

    uploads: Path
    bundled: Path


@dataclass(frozen=True)
class Created:
    """A new batch, and what of the upload could not be used."""

    batch: Batch | None  # None = it was only looked at
    questions: int
    items: int
    faults: tuple[Fault, ...]


class ReviewService:
    """One per app."""

    def __init__(
        self, *, reviews: ReviewRepository, queue: ReviewQueue, runner: BatchRunner, catalog: Catalog,
        images: ImageStore, traces: TraceRepository, scores: AnswerRecords[Score], folders: ReviewFolders,
        now: Callable[[], datetime], hub_token: str | None = None,
    ) -> None:  # fmt: skip
        self.reviews, self.queue, self.runner = reviews, queue, runner
        self._catalog, self._images, self._traces, self._scores = catalog, images, traces, scores
        self._folders, self._now, self._hub_token = folders, now, hub_token
        self._ready = asyncio.Event()

    async def run(self) -> None:
        """Until cancelled: store the bundled batch if need be, then answer the questions of batches."""
        try:
            # Uploads that never became a batch, and what an app that was killed had unpacked.
            await asyncio.to_thread(shutil.rmtree, self._folders.uploads / "review", ignore_errors=True)
            if self.runner.leads():  # of several apps one stores it
                await asyncio.to_thread(
                    import_bundled, self._folders.bundled, self.reviews, self._traces, self._scores, self._images
                )
        finally:
            self._ready.set()
        self.runner.wake()
        await self.runner.run()

    async def ready(self) -> None:
        """Until the bundled batch is there."""
        await self._ready.wait()

    # ---- batches ----------------------------------------------------------------------------------------------------

    def upload_folder(self, token: str) -> Path:
        """Where an upload's files lie.

        Raises:
            InputError: that is no upload.
        """
        if not _TOKEN.fullmatch(token):
            raise InputError("That is no upload.", "Choose the files again.", field="source")
        return self._folders.uploads / "review" / token

    def look(self, wish: NewBatch) -> Created:
        """What a batch would hold and what is wrong with its rows, without asking anything.

        Raises:
            InputError: naming the field.
        """
        self._engines(wish)
        found = self._read(wish, scratch := self._scratch())
        shutil.rmtree(scratch, ignore_errors=True)
        return Created(None, len(found.rows), len(found.rows) * len(wish.candidates), tuple(found.faults))

    def create(self, wish: NewBatch, created_by: str) -> Created:
        """Store a batch and have its questions answered in the background. Decodes every picture first.

        Raises:
            InputError: naming the field, or there is nothing to ask. StorageError: nothing was stored.
            NotPermittedError: this app runs no engine.
        """
        self.runner.check_open()
        base, candidates = self._engines(wish)
        scratch = self._scratch()
        try:
            found = self._read(wish, scratch)
            questions = self._questions(found, base.pair.max_images if base.pair.vision else 0)
        finally:
            shutil.rmtree(scratch, ignore_errors=True)
        if not questions:
            worst = "; ".join(str(fault) for fault in found.faults[:3])
            raise InputError("There is nothing to ask.", worst or "Give pictures and prompts.", field="source")
        sampling = base.pair.sampling
        if wish.max_tokens is not None:
            sampling = sampling.model_copy(update={"max_tokens": wish.max_tokens})
        batch = Batch(
            id=secrets.token_hex(8), name=wish.name, pair=base.pair.id, base_engine=base.engine_id,
            candidate_engines=tuple(entry.engine_id for entry in candidates), system=wish.system, sampling=sampling,
            overlap=wish.overlap, created_at=self._now(), created_by=created_by,
        )  # fmt: skip
        items = self.reviews.add_batch(batch, questions)
        if wish.upload:
            shutil.rmtree(self.upload_folder(wish.upload), ignore_errors=True)
        self.runner.wake()
        return Created(batch, len(questions), items, tuple(found.faults))

    def _engines(self, wish: NewBatch) -> tuple[CatalogEntry, list[CatalogEntry]]:
        base = self._catalog.find(wish.base, field="base")
        candidates = [self._catalog.find(engine_id, field="candidates") for engine_id in wish.candidates]
        if base.model.role != "base":
            raise InputError(f"{base.engine_id} is no base.", "Choose the pair's base.", field="base")
        strangers = [e.engine_id for e in candidates if e.pair.id != base.pair.id or e.model.role != "candidate"]
        if strangers:
            raise InputError(f"{strangers[0]} is no candidate of {base.pair.id}.", field="candidates")
        return base, candidates

    def _scratch(self) -> Path:
        folder = self._folders.uploads / "review" / f"unpacked-{secrets.token_hex(8)}"
        folder.mkdir(parents=True, mode=0o700)
        return folder

    def _read(self, wish: NewBatch, scratch: Path) -> Intake:
        if wish.upload:
            source = self.upload_folder(wish.upload)
        elif wish.folder:
            source = Path(wish.folder).expanduser()
        elif wish.hub:
            source = scratch / "hub"
            fetch_data_set(read_hub_name(wish.hub), source, token=self._hub_token)
        elif wish.prompts:
            source = scratch
        else:
            raise InputError(
                "There is nothing to ask.", "Give files, a folder, a data set of the hub, or prompts.", field="source"
            )
        if not source.is_dir():
            raise InputError("There is no such folder on this machine.", "Give its whole path.", field="folder")
        most = self._images.limits.max_bytes
        return read_folder(source, wish.prompts, max_picture_bytes=most, unpack_to=scratch)

    def _questions(self, found: Intake, max_images: int) -> list[Question]:
        """Rows with their pictures decoded; each file once. A row whose picture can't be used becomes a fault."""
        with ThreadPoolExecutor(_DECODERS) as pool:
            paths = dict.fromkeys((name, path) for row in found.rows for name, path in row.images)
            made = dict(zip(paths, pool.map(self._ingest, paths), strict=True))
        questions = []
        for row in found.rows:
            pictures = [made[each] for each in row.images]
            fault = _fault_of(row, pictures, max_images)
            if fault is not None:
                found.faults.append(fault)
                continue
            records = tuple(picture for picture in pictures if isinstance(picture, ImageRecord))
            questions.append(
                Question(key=row.key, prompt=row.prompt, images=records, reference=row.reference, tags=row.tags)
            )
        return questions

    def _ingest(self, named: tuple[str, Path]) -> ImageRecord | AppError:
        name, path = named
        try:
            return self._images.ingest(path, name)
        except (MediaError, InputError) as exc:
            return exc

    def change(self, batch_id: str, action: str) -> Batch:
        """Stop a batch, let it go on, or ask its failed items again.

        Raises:
            InputError: there is no such action. RecordNotFoundError: there is no such batch.
        """
        batch = self.reviews.batch(batch_id)
        if action == "stop" and batch.state is BatchState.RUNNING:
            batch = self.reviews.set_state(batch_id, BatchState.STOPPED, "Stopped.")
        elif action == "resume" and batch.state is BatchState.STOPPED:
            batch = self.reviews.set_state(batch_id, BatchState.RUNNING)
        elif action == "retry":
            if self.reviews.retry_failed(batch_id):
                batch = self.reviews.set_state(batch_id, BatchState.RUNNING)
        elif action not in ("stop", "resume"):
            raise InputError(f"{action[:40]!r} is no action.", "Accepted: stop, resume, retry.", field="action")
        return batch

    def batches(self) -> list[Batch]:
        """All batches, newest first; the one that came with Diptych last."""
        newest_first = self.reviews.batches()[::-1]
        return sorted(newest_first, key=lambda batch: batch.id == BATCH_ID)

    # ---- judging ----------------------------------------------------------------------------------------------------

    def next_anywhere(self, reviewer: str) -> Given | None:
        """The next item of the newest batch that has one for this reviewer."""
        for batch in self.batches():
            given = self.queue.next(reviewer, Wish(batch.id))
            if given is not None:
                return given
        return None

    def score_of(self, given: Given) -> Score | None:
        """The divergence along the base's answer; None where it was not measured."""
        answered = given.item.answered
        if answered is None:
            return None
        return self._scores.newest(answered.base_answer_id, given.item.candidate_engine)

    def record(self, given: Given) -> dict[str, Any]:
        """A stored verdict as a row, unsealed.

        Raises:
            InputError: there is no verdict.
        """
        if given.verdict is None:
            raise InputError("There is no verdict yet.", field="item_id")
        return export.verdict_record(self.reviews.batch(given.item.batch_id), given.item, given.verdict)

    # ---- reading ----------------------------------------------------------------------------------------------------

    def report(self, batch_id: str, reviewer: str = "") -> dict[str, Any]:
        """The report of a batch; with ``reviewer`` of that reviewer's verdicts alone.

        Raises:
            RecordNotFoundError: there is no such batch.
        """
        batch = self.reviews.batch(batch_id)
        items = list(self.reviews.every_item(batch_id))
        verdicts = self.reviews.verdicts(batch_id, reviewer=reviewer)
        if reviewer:
            mine = {v.item_id: v.outcome.value for v in verdicts if v.round == 1}
            items = [item.model_copy(update={"outcome": mine.get(item.id)}) for item in items]
        return {"batch": batch.id, "name": batch.name, "base_engine": batch.base_engine,
                "candidate_engines": list(batch.candidate_engines), **report_of(items, verdicts)}  # fmt: skip

    def export(self, wish: ExportWish, only: str = "") -> list[dict[str, Any]] | str | bytes:
        """Verdicts as rows, as one text where the format is a text, or as a Parquet file.

        ``only`` = no one else's verdicts than these.

        Raises:
            InputError: naming the field. RecordNotFoundError: there is no such batch.
        """
        kind, reviewer = export.check_format(wish.format), only or wish.reviewer
        batches = [self.reviews.batch(wish.batch)] if wish.batch else self.reviews.batches()
        if kind in ("html", "markdown"):
            if len(batches) != 1:
                raise InputError(f"A report as {kind} is about one batch.", "Name it.", field="batch")
            report = self.report(batches[0].id, reviewer)
            if kind == "markdown":
                return export.as_markdown(batches[0], report)
            return export.as_html(batches[0], report, self._data_url, made_at=f"{self._now():%Y-%m-%d %H:%M} UTC")
        rows = [row for batch in batches for row in self._rows(batch, wish, reviewer)]
        if kind == "parquet":
            return as_parquet(rows)
        if kind == "csv":
            return export.as_csv(rows)
        return export.as_jsonl(rows) if kind == "jsonl" else rows

    def _rows(self, batch: Batch, wish: ExportWish, reviewer: str) -> list[dict[str, Any]]:
        verdicts = self.reviews.verdicts(batch.id, reviewer=reviewer, current_only=not wish.history)
        items = self.reviews.judged_items(batch.id, wish.items)
        return export.verdict_rows(batch, items, [v for v in verdicts if v.item_id in items])

    def _data_url(self, sha256: str) -> str | None:
        try:
            return self._images.data_url(sha256)
        except AppError:
            return None


def _fault_of(row: Row, pictures: list[ImageRecord | AppError], max_images: int) -> Fault | None:
    broken = next((picture for picture in pictures if isinstance(picture, AppError)), None)
    if broken is not None:
        return Fault(row.where, "image", str(broken))
    if len(pictures) > max_images:
        return Fault(row.where, "image", f"{len(pictures)} pictures; this pair takes {max_images}.")
    return None


def as_mapping(value: Any) -> Mapping[str, Any]:
    """What the browser sent with an event, if it is an object at all."""
    return value if isinstance(value, Mapping) else {}
