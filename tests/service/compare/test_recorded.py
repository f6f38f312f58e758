"""Recorded turns: written from the records and stored again as they were; what is damaged is left out."""

from __future__ import annotations

import gzip
import json
import shutil
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from components.compare.recorded import SUFFIX, store_recorded, write_recorded
from components.core.scores import Score
from components.storage.answer_records import AnswerRecords, score_records
from components.storage.blobs import BlobStore
from components.storage.database import Database, sqlite_url
from components.storage.images import ImageStore
from components.storage.traces import TraceRepository

pytestmark = pytest.mark.service
BUNDLED = Path(__file__).parents[3] / "assets" / "recorded"


@dataclass
class Records:
    traces: TraceRepository
    scores: AnswerRecords[Score]
    images: ImageStore

    def store(self, file: Path) -> tuple[str, ...]:
        return store_recorded(file, self.traces, self.scores, self.images)


@pytest.fixture
def records(tmp_path: Path) -> Iterator[Records]:
    database, blobs = Database(sqlite_url(tmp_path / "d.db")), BlobStore(tmp_path / "blobs")
    database.open()
    yield Records(TraceRepository(database, blobs), score_records(database, blobs), ImageStore(blobs, None, database))
    database.close()


@pytest.mark.parametrize("file", sorted(BUNDLED.glob(f"*{SUFFIX}")), ids=lambda file: file.name)
def test_the_bundled_turns_are_real_and_scored_exactly(records: Records, file: Path) -> None:
    ids = records.store(file)
    assert ids
    assert records.store(file) == ids, "a second start stores nothing twice"
    for one in ids:
        trace, scores = records.traces.get(one), records.scores.of_turn(one)
        assert f"{trace.pair}{SUFFIX}" == file.name
        assert len({stored.slot.label.role for stored in trace.latest_answers}) == 2
        assert all(stored.answer.tokens for stored in trace.latest_answers)
        assert scores
        assert {score.method for score in scores} == {"exact"}
        for image in trace.images:
            assert records.images.png(image.sha256)
    listed = records.traces.recent(50, only=ids)
    assert {summary.id for summary in listed} == set(ids)
    assert BUNDLED.stat().st_size < 2_000_000


def test_what_is_written_is_what_was_stored(records: Records, tmp_path: Path) -> None:
    file = BUNDLED / f"embedded{SUFFIX}"
    ids = records.store(file)
    turns = [(records.traces.get(one), records.scores.of_turn(one)) for one in ids]
    size = write_recorded(tmp_path / "out", "embedded", turns, records.images)
    assert (tmp_path / "out" / file.name).read_bytes() == file.read_bytes()
    assert size == sum(path.stat().st_size for path in (tmp_path / "out").rglob("*.*"))


def test_damage_costs_what_is_damaged(records: Records, tmp_path: Path) -> None:
    shutil.copytree(BUNDLED, tmp_path / "bad")
    file = tmp_path / "bad" / f"embedded{SUFFIX}"
    lines = gzip.decompress(file.read_bytes()).decode().splitlines()
    first, second = json.loads(lines[0]), json.loads(lines[1])
    image = first["trace"]["images"][0]["sha256"]
    (tmp_path / "bad" / "pictures" / f"{image}.png").write_bytes(b"another picture")
    del second["trace"]["prompt"]
    file.write_bytes(gzip.compress("\n".join([lines[0], json.dumps(second), "no JSON", *lines[2:]]).encode()))
    stored = records.store(file)
    assert len(stored) == len([line for line in lines[2:] if image not in line])
    file.write_bytes(file.read_bytes()[:200])
    assert records.store(file) == ()
    assert records.store(tmp_path / f"none{SUFFIX}") == ()
