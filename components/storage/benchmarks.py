"""Figures of benchmarks. Added once by id, never changed; a published one is replaced when its file changes."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from sqlalchemy import delete, select
from sqlalchemy.orm import Session

from components.core.benchmarks import BenchmarkRecord, Source, Suite
from components.storage.database import Database
from components.storage.tables import BenchmarkRow


class BenchmarkRepository:
    """Records of figures by model, suite and source."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def add(self, records: Sequence[BenchmarkRecord]) -> int:
        """Store those that are not there yet, all or none; how many were new.

        Raises:
            StorageError: nothing was stored.
        """

        def insert(session: Session) -> int:
            known = set(session.scalars(select(BenchmarkRow.id).where(BenchmarkRow.id.in_([r.id for r in records]))))
            new = [record for record in records if record.id not in known]
            session.add_all([_row(record) for record in new])
            return len(new)

        return self._database.write(insert)

    def replace_published(self, records: Sequence[BenchmarkRecord]) -> None:
        """The published figures are these and no others.

        Raises:
            StorageError: nothing was changed.
        """

        def replace(session: Session) -> None:
            session.execute(delete(BenchmarkRow).where(BenchmarkRow.source == "published"))
            session.add_all([_row(record) for record in records])

        self._database.write(replace)

    def find(
        self, *, source: Source | None = None, model: str | None = None, suite: Suite | None = None,
        job_id: str | None = None,
    ) -> list[BenchmarkRecord]:  # fmt: skip
        """Records that fit, oldest first; None = any."""
        wanted = select(BenchmarkRow.document)
        pairs = ((BenchmarkRow.source, source), (BenchmarkRow.suite, suite), (BenchmarkRow.job_id, job_id))
        for column, value in (*pairs, (BenchmarkRow.model, model)):
            if value is not None:
                wanted = wanted.where(column == value)
        wanted = wanted.order_by(BenchmarkRow.created_at, BenchmarkRow.id)

        def read(session: Session) -> list[BenchmarkRecord]:
            documents: list[dict[str, Any]] = list(session.scalars(wanted))
            return [BenchmarkRecord.model_validate(document) for document in documents]

        return self._database.read(read)

    def has_job(self, job_id: str) -> bool:
        """Whether a job's figures are here."""
        wanted = select(BenchmarkRow.id).where(BenchmarkRow.job_id == job_id).limit(1)
        return self._database.read(lambda session: session.scalars(wanted).first() is not None)


def _row(record: BenchmarkRecord) -> BenchmarkRow:
    return BenchmarkRow(
        id=record.id,
        source=record.source,
        suite=record.suite,
        model=record.model,
        task=record.task,
        metric=record.metric,
        job_id=record.job_id,
        created_at=record.created_at,
        document=record.model_dump(mode="json"),
    )
