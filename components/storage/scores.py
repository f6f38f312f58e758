"""Scores of answers: a row to find one by, the tokens in a content-addressed file. Nothing stored is ever changed."""

from __future__ import annotations

from collections.abc import Sequence

from sqlalchemy import select
from sqlalchemy.orm import Session

from components.core.errors import BlobDamagedError, RecordNotFoundError
from components.core.scores import Score
from components.storage.blobs import BlobStore
from components.storage.database import Database
from components.storage.packed import PACKED_SUFFIX, pack, unpack
from components.storage.tables import AnswerRow, ScoreRow


class ScoreRepository:
    """Scores by turn."""

    def __init__(self, database: Database, blobs: BlobStore) -> None:
        self._database, self._blobs = database, blobs

    def add(self, score: Score) -> None:
        """Store a score; when this returns, it is on disk.

        Raises:
            RecordNotFoundError: there is no such answer. StorageError: nothing was stored.
        """
        digest = self._blobs.put(pack(score), PACKED_SUFFIX)

        def insert(session: Session) -> None:
            answer = session.get(AnswerRow, score.answer_id)
            if answer is None or answer.turn_id != score.trace_id:
                raise RecordNotFoundError(f"There is no answer {score.answer_id!r} in that turn.")
            session.add(
                ScoreRow(
                    id=score.id,
                    turn_id=score.trace_id,
                    answer_id=score.answer_id,
                    method=score.method,
                    candidate_engine=score.candidate_engine,
                    created_at=score.created_at,
                    document_sha256=digest,
                )
            )

        self._database.write(insert)

    def of_turn(self, trace_id: str) -> list[Score]:
        """All scores of a turn, oldest first; one whose file is damaged is left out."""

        def find(session: Session) -> Sequence[str]:
            wanted = select(ScoreRow.document_sha256).where(ScoreRow.turn_id == trace_id)
            return session.scalars(wanted.order_by(ScoreRow.created_at, ScoreRow.id)).all()

        return [score for digest in self._database.read(find) if (score := self._read(digest)) is not None]

    def newest(self, answer_id: str, candidate_engine: str) -> Score | None:
        """The newest readable score of an answer with that candidate; None where there is none."""

        def find(session: Session) -> Sequence[str]:
            about = (ScoreRow.answer_id == answer_id, ScoreRow.candidate_engine == candidate_engine)
            wanted = select(ScoreRow.document_sha256).where(*about)
            return session.scalars(wanted.order_by(ScoreRow.created_at.desc(), ScoreRow.id.desc())).all()

        return next((score for digest in self._database.read(find) if (score := self._read(digest)) is not None), None)

    def _read(self, digest: str) -> Score | None:
        try:
            return unpack(Score, self._blobs.get(digest))
        except BlobDamagedError:
            return None
