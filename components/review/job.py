"""The driver of a part of a batch on a cluster: ``python -m components.review.job JOB_FOLDER``.

It is the app's own way of answering a batch, with engines and records of its own in a folder that goes when it ends:
the same turns, the same scoring. Each answered question is handed over at once (``shard.py``); pictures are read from
the folder beside the jobs, as the app stored them.
"""

from __future__ import annotations

import asyncio
import logging
import os
import secrets
import shutil
import sys
import tempfile
from contextlib import suppress
from pathlib import Path

from pydantic import JsonValue

from components.compare.scoring import ScoringService
from components.compare.turns import TurnService
from components.core.clock import utc_now
from components.core.errors import JobError, RecordNotFoundError
from components.core.reviews import Batch, BatchState, Item, ItemState
from components.engines.catalog import Catalog
from components.engines.exact_scoring import ExactScorer
from components.engines.prepare import ModelPreparer
from components.engines.specs import SpecSettings, engine_specs, exchange_folder
from components.engines.supervisor import EngineHub
from components.jobs.driver import run_driver, until_cancelled
from components.jobs.records import JobEvent, JobFolder
from components.review.runner import BatchRunner
from components.review.shard import ShardAnswer, ShardSpec, append_answer
from components.storage.answer_records import score_records
from components.storage.blobs import BlobStore
from components.storage.database import Database, sqlite_url
from components.storage.images import ImageStore
from components.storage.reviews import ReviewRepository
from components.storage.traces import TraceRepository

_LOOK_S = 0.5


class Driver:
    """One part of a batch."""

    def __init__(self, folder: JobFolder) -> None:
        self._folder = folder
        self._spec = ShardSpec.model_validate_json(folder.spec.read_bytes())
        self._scratch = Path(tempfile.mkdtemp(prefix="dt-b-"))  # sockets lie in it: its path must be short
        self._database = Database(sqlite_url(self._scratch / "records.db"))
        blobs = BlobStore(self._scratch / "blobs")
        self._traces, self._scores = TraceRepository(self._database, blobs), score_records(self._database, blobs)
        self._reviews = ReviewRepository(self._database)
        self._told: set[int] = set()
        self._failed = 0

    def run(self) -> dict[str, JsonValue]:
        """The whole part; how many questions were answered, and how many were not."""
        try:
            self._database.open()
            asyncio.run(until_cancelled(self._answer()))
        finally:
            self._database.close()
            shutil.rmtree(self._scratch, ignore_errors=True)
        return {"batch": self._spec.batch.id, "questions": len(self._told), "failed": self._failed}

    async def _answer(self) -> None:
        self._folder.append_event(JobEvent(phase="Starting", message="Starting the engines"))
        catalog = Catalog([self._spec.pair])
        hub = EngineHub(engine_specs(catalog, self._preparer(), self._engine_settings()))
        runner = asyncio.create_task(self._runner(catalog, hub).run())
        batch_id = self._spec.batch.id
        try:
            while True:
                batch = await asyncio.to_thread(self._reviews.batch, batch_id)
                await asyncio.to_thread(self._hand_over)
                if batch.state is not BatchState.RUNNING:
                    break
                await asyncio.sleep(_LOOK_S)
        finally:
            runner.cancel()
            with suppress(asyncio.CancelledError):
                await runner
            await hub.close()
        if batch.state is BatchState.STOPPED:
            raise JobError(batch.message or "The batch was stopped.")

    def _runner(self, catalog: Catalog, hub: EngineHub) -> BatchRunner:
        """The app's, over the records of this job."""
        images = ImageStore(BlobStore(self._folder.common / "blobs"))
        turns = TurnService(catalog=catalog, hub=hub, traces=self._traces, images=images, now=utc_now)
        exact = ExactScorer(exchange_folder(self._scratch))
        scoring = ScoringService(
            catalog=catalog, hub=hub, traces=self._traces, scores=self._scores, exact=exact,
            data_url=turns.data_url, now=utc_now,
        )  # fmt: skip
        self._reviews.add_answered(_open(self._spec.batch), self._items())
        return BatchRunner(self._reviews, turns, scoring, catalog, hub)

    def _items(self) -> list[Item]:
        return [
            Item(
                id=secrets.token_hex(12), batch_id=self._spec.batch.id, position=asked.position,
                candidate_engine=engine_id, question=asked.question, state=ItemState.PENDING, trace_id=asked.trace_id,
            )
            for asked in self._spec.questions
            for engine_id in asked.candidates
        ]  # fmt: skip

    def _preparer(self) -> ModelPreparer:
        folder = Path(self._spec.state_dir) / "models"
        return ModelPreparer(folder, Path(self._spec.repository), hub_token=os.environ.get("HF_TOKEN"))

    def _engine_settings(self) -> SpecSettings:
        # Those that the cluster granted, by the names it gave them.
        names = tuple(name for name in os.environ.get("CUDA_VISIBLE_DEVICES", "").split(",") if name)
        return SpecSettings.of_machine(self._scratch, names)

    def _hand_over(self) -> None:
        """Every question whose items all have ended, once."""
        by_position: dict[int, list[Item]] = {}
        for item in self._reviews.every_item(self._spec.batch.id):
            by_position.setdefault(item.position, []).append(item)
        for position, items in by_position.items():
            if position in self._told or any(item.state is ItemState.PENDING for item in items):
                continue
            append_answer(self._folder, self._collected(position, items))
            self._told.add(position)
            self._failed += any(item.state is ItemState.FAILED for item in items)
            step, steps = len(self._told), len(self._spec.questions)
            self._folder.append_event(JobEvent(phase="Answering", step=step, steps=steps, message=f"{step} of {steps}"))

    def _collected(self, position: int, items: list[Item]) -> ShardAnswer:
        try:
            trace = self._traces.conversation(items[0].trace_id)[-1]
        except RecordNotFoundError:
            trace = None
        return ShardAnswer(
            position=position,
            asked_as=next(asked.trace_id for asked in self._spec.questions if asked.position == position),
            trace=trace,
            scores=tuple(self._scores.of_turn(trace.id)) if trace else (),
            answered={item.candidate_engine: item.answered for item in items if item.answered is not None},
            failures={item.candidate_engine: item.failure for item in items if item.failure is not None},
        )


def _open(batch: Batch) -> Batch:
    return batch.model_copy(update={"state": BatchState.RUNNING, "message": ""})


if __name__ == "__main__":
    logging.getLogger("httpx").setLevel(logging.WARNING)  # else a line for every request
    sys.exit(run_driver(sys.argv[1:], lambda folder: Driver(folder).run()))
