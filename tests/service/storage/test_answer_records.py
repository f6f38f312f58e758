"""Scores of answers: what is stored comes back, the newest readable one is found, a damaged file hides nothing else."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path

import pytest

from components.core.errors import RecordNotFoundError
from components.core.scores import Score, TokenScore
from components.storage.answer_records import AnswerRecords, score_records
from components.storage.blobs import BlobStore
from components.storage.database import Database
from components.storage.traces import TraceRepository
from tests.data.traces import MOMENT, turn

pytestmark = pytest.mark.service


def score(name: str, hours: int, candidate: str = "embedded/candidate", answer_id: str = "t1-a0") -> Score:
    token = TokenScore(token_id=5, text="five", kl_base_to_candidate_nats=0.1 * hours)
    return Score(
        id=name, trace_id="t1", answer_id=answer_id, path="base", base_engine="embedded/base", method="exact",
        candidate_engine=candidate, precision="float64", created_at=MOMENT + timedelta(hours=hours), tokens=(token,),
        seconds=0.5,
    )  # fmt: skip


@pytest.fixture
def scores(tmp_path: Path, database_url: str) -> Iterator[AnswerRecords[Score]]:
    database = Database(database_url)
    database.open()
    blobs = BlobStore(tmp_path / "blobs")
    TraceRepository(database, blobs).create_turn(turn("t1"))
    yield score_records(database, blobs)
    database.close()


def test_scores_come_back_oldest_first_and_the_newest_is_found(scores: AnswerRecords[Score]) -> None:
    first, second, other = score("s1", 1), score("s2", 2), score("s3", 3, candidate="embedded/other")
    for record in (second, first, other):
        scores.add(record)
    assert scores.of_turn("t1") == [first, second, other]
    assert scores.newest("t1-a0", "embedded/candidate") == second
    assert scores.newest("t1-a1", "embedded/candidate") is None


def test_a_damaged_file_leaves_the_older_score(scores: AnswerRecords[Score], tmp_path: Path) -> None:
    scores.add(score("s1", 1))
    known = set((tmp_path / "blobs").rglob("*.json.gz"))
    scores.add(score("s2", 2))
    (newer,) = set((tmp_path / "blobs").rglob("*.json.gz")) - known
    newer.chmod(0o600)
    newer.write_bytes(b"no gzip")
    found = scores.newest("t1-a0", "embedded/candidate")
    assert found is not None and found.id == "s1"
    assert [record.id for record in scores.of_turn("t1")] == ["s1"]


def test_a_score_needs_its_answer(scores: AnswerRecords[Score]) -> None:
    with pytest.raises(RecordNotFoundError):
        scores.add(score("s1", 1, answer_id="nobody"))
