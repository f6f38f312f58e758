"""Repeats and their samples: what is stored comes back, and what a dead app left running is interrupted."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from components.core.errors import RecordNotFoundError
from components.core.states import RepeatState
from components.storage.blobs import BlobStore
from components.storage.database import Database
from components.storage.repeats import RepeatRepository
from components.storage.traces import TraceRepository
from tests.data.repeats import column, repeat, sample
from tests.data.traces import turn

pytestmark = pytest.mark.service


@pytest.fixture
def repeats(tmp_path: Path, database_url: str) -> Iterator[RepeatRepository]:
    database = Database(database_url)
    database.open()
    TraceRepository(database, BlobStore(tmp_path / "blobs")).create_turn(turn("t1"))
    yield RepeatRepository(database)
    database.close()


def test_a_repeat_comes_back_exactly(repeats: RepeatRepository) -> None:
    whole = repeat(first_seed=2**63 - 3)
    repeats.create(whole)
    assert repeats.of_turn("t1") == [whole]
    assert repeats.of_turn("t2") == []


def test_samples_come_one_by_one_and_stand_by_seed(repeats: RepeatRepository) -> None:
    done = repeat()
    begun = done.model_copy(
        update={
            "state": RepeatState.RUNNING,
            "finished_at": None,
            "columns": tuple(c.model_copy(update={"samples": ()}) for c in done.columns),
        }
    )
    repeats.create(begun)
    assert repeats.of_turn("t1") == [begun]
    for part in done.columns:
        for found in reversed(part.samples):
            repeats.add_sample("r1", part.position, found)
    ended = done.model_copy(
        update={"columns": (done.columns[0], done.columns[1].model_copy(update={"ended_early": "It ended."}))}
    )
    repeats.finish(ended)
    assert repeats.of_turn("t1") == [ended]


def test_f21_what_a_dead_app_left_running_is_interrupted(repeats: RepeatRepository) -> None:
    repeats.create(repeat("r1"))
    repeats.create(repeat("r2", state=RepeatState.RUNNING, finished_at=None))
    repeats.recover()
    finished, interrupted = repeats.of_turn("t1")
    assert finished == repeat("r1")
    assert interrupted.state is RepeatState.INTERRUPTED
    assert interrupted.finished_at is not None
    assert interrupted.columns == repeat().columns, "its samples are kept"


def test_f37_hostile_texts_are_stored_exactly(repeats: RepeatRepository) -> None:
    hostile = "a\x00b\u202e\ud800\x1a`${x}`" + "x" * 100_000
    odd = repeat(columns=(column(0, sample(5, hostile, finish_reason=hostile[:20])),))
    repeats.create(odd)
    assert repeats.of_turn("t1") == [odd]


def test_a_repeat_needs_its_turn(repeats: RepeatRepository) -> None:
    with pytest.raises(RecordNotFoundError, match="no turn 't9'"):
        repeats.create(repeat(trace_id="t9"))
