"""Records about answers between two models: a row to find one by, the tokens in a content-addressed file.

Nothing stored is ever changed; a newer record stands beside the older ones.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Generic, TypeVar

from sqlalchemy import select
from sqlalchemy.orm import Session

from components.core.errors import BlobDamagedError, RecordNotFoundError
from components.core.reliance import Reliance
from components.core.scores import Score, ScoredAnswer
from components.storage.blobs import BlobStore
from components.storage.database import Database
from components.storage.packed import PACKED_SUFFIX, pack, unpack
from components.storage.tables import AnswerRow, RelianceRow, ScoreRow

_Kind = TypeVar("_Kind", bound=ScoredAnswer)
_COMMON = ("id", "answer_id", "candidate_engine", "created_at")


class AnswerRecords(Generic[_Kind]):
    """Records of one kind. Calls block and may come from several threads."""

    def __init__(
        self, database: Database, blobs: BlobStore, kind: type[_Kind], row: type[ScoreRow | RelianceRow],
        own: Sequence[str],
    ) -> None:  # fmt: skip
        """``own`` names the fields that only this kind's row has."""
        self._database, self._blobs = database, blobs
        self._kind, self._row, self._fields = kind, row, (*_COMMON, *own)

    def add(self, *records: _Kind) -> None:
        """Store all of them or none; when this returns, they are on disk.

        Raises:
            RecordNotFoundError: there is no such answer. StorageError: nothing was stored.
        """
        digests = [self._blobs.put(pack(record), PACKED_SUFFIX) for record in records]

        def insert(session: Session) -> None:
            for record, digest in zip(records, digests, strict=True):
                answer = session.get(AnswerRow, record.answer_id)
                if answer is None or answer.turn_id != record.trace_id:
                    raise RecordNotFoundError(f"There is no answer {record.answer_id!r} in that turn.")
                values = {name: getattr(record, name) for name in self._fields}
                session.add(self._row(turn_id=record.trace_id, document_sha256=digest, **values))

        self._database.write(insert)

    def of_turn(self, trace_id: str) -> list[_Kind]:
        """All of a turn, oldest first; one whose file is damaged is left out."""
        row = self._row
        wanted = select(row.document_sha256).where(row.turn_id == trace_id).order_by(row.created_at, row.id)
        digests = self._database.read(lambda session: session.scalars(wanted).all())
        return [record for digest in digests if (record := self._read(digest)) is not None]

    def newest(self, answer_id: str, candidate_engine: str, **own: str) -> _Kind | None:
        """The newest readable one of an answer with that candidate; None where there is none.

        Args:
            own: values that the kind's own fields must have.
        """
        row = self._row
        wanted = select(row.document_sha256).where(row.answer_id == answer_id, row.candidate_engine == candidate_engine)
        wanted = wanted.where(*(getattr(row, name) == value for name, value in own.items()))
        newest_first = wanted.order_by(row.created_at.desc(), row.id.desc())
        digests = self._database.read(lambda session: session.scalars(newest_first).all())
        return next((record for digest in digests if (record := self._read(digest)) is not None), None)

    def _read(self, digest: str) -> _Kind | None:
        try:
            return unpack(self._kind, self._blobs.get(digest))
        except BlobDamagedError:
            return None


def score_records(database: Database, blobs: BlobStore) -> AnswerRecords[Score]:
    """Scores of answers."""
    return AnswerRecords(database, blobs, Score, ScoreRow, ("method",))


def reliance_records(database: Database, blobs: BlobStore) -> AnswerRecords[Reliance]:
    """Picture reliance of answers."""
    return AnswerRecords(database, blobs, Reliance, RelianceRow, ("picture",))
