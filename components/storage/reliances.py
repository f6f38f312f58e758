"""Picture reliance of answers: a row to find one by, the tokens in a content-addressed file. Never changed."""

from __future__ import annotations

from collections.abc import Sequence

from sqlalchemy import select
from sqlalchemy.orm import Session

from components.core.errors import BlobDamagedError, RecordNotFoundError
from components.core.reliance import Reliance
from components.storage.blobs import BlobStore
from components.storage.database import Database
from components.storage.packed import PACKED_SUFFIX, pack, unpack
from components.storage.tables import AnswerRow, RelianceRow


class RelianceRepository:
    """Records of picture reliance by turn."""

    def __init__(self, database: Database, blobs: BlobStore) -> None:
        self._database, self._blobs = database, blobs

    def add(self, reliance: Reliance) -> None:
        """Store one; when this returns, it is on disk.

        Raises:
            RecordNotFoundError: there is no such answer. StorageError: nothing was stored.
        """
        digest = self._blobs.put(pack(reliance), PACKED_SUFFIX)

        def insert(session: Session) -> None:
            answer = session.get(AnswerRow, reliance.answer_id)
            if answer is None or answer.turn_id != reliance.trace_id:
                raise RecordNotFoundError(f"There is no answer {reliance.answer_id!r} in that turn.")
            session.add(
                RelianceRow(
                    id=reliance.id,
                    turn_id=reliance.trace_id,
                    answer_id=reliance.answer_id,
                    picture=reliance.picture,
                    candidate_engine=reliance.candidate_engine,
                    created_at=reliance.created_at,
                    document_sha256=digest,
                )
            )

        self._database.write(insert)

    def of_turn(self, trace_id: str) -> list[Reliance]:
        """All of a turn, oldest first; one whose file is damaged is left out."""

        def find(session: Session) -> Sequence[str]:
            wanted = select(RelianceRow.document_sha256).where(RelianceRow.turn_id == trace_id)
            return session.scalars(wanted.order_by(RelianceRow.created_at, RelianceRow.id)).all()

        return [found for digest in self._database.read(find) if (found := self._read(digest)) is not None]

    def _read(self, digest: str) -> Reliance | None:
        try:
            return unpack(Reliance, self._blobs.get(digest))
        except BlobDamagedError:
            return None
