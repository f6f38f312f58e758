"""Items that flipped leave the job with their pictures, and are found again by the newest run."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from components.benchmark.accuracy import ComparedItems, Judged
from components.benchmark.flipped import FlippedItems, folder_name, keep_flipped
from components.benchmark.rows import Item, Message
from components.core.benchmarks import BenchmarkRecord
from components.core.errors import InputError, RecordNotFoundError
from components.review.intake import read_folder

RIGHT, WRONG = Judged("yes", 1.0, "stop"), Judged("no", 0.0, "stop")
QUESTION = "Which colour? " + 600 * "x"


@pytest.fixture
def found(tmp_path: Path) -> ComparedItems:
    source = tmp_path / "source"
    source.mkdir()
    (source / "a.png").write_bytes(b"\x89PNG one")
    (source / "b.png").write_bytes(b"\x89PNG one")  # the same picture under another name
    system = Message(role="system", content="Be short.")
    ask = Message(role="user", content=QUESTION)
    items = [
        Item(id="1", kind="colour", messages=(ask,), answers=("yes",), images=("a.png",)),
        Item(id="2", messages=(ask,), answers=("yes",)),
        Item(id="3", messages=(system, ask), answers=("yes",), images=("b.png",)),
    ]
    return ComparedItems(items, [RIGHT, RIGHT, WRONG], [WRONG, RIGHT, RIGHT])


def record(job_id: str | None, minutes: int = 0, task: str = "set") -> BenchmarkRecord:
    return BenchmarkRecord(
        id=f"{job_id}-0001", source="measured", suite="accuracy", model="pair/w4", task=task, metric="flipped_items",
        value=2.0, job_id=job_id, created_at=datetime.now(UTC) + timedelta(minutes=minutes),
    )  # fmt: skip


def test_a_question_comes_back_whole_with_its_picture(tmp_path: Path, found: ComparedItems) -> None:
    jobs = tmp_path / "jobs"
    keep_flipped(jobs / "job-2" / "result" / folder_name("w4", 0), found, tmp_path / "source")
    kept = FlippedItems(jobs)
    records = [record("job-2", minutes=5), record("job-1"), record("job-3", minutes=9, task="other")]
    question = kept.question(records, "pair/w4", "set", "1")
    assert (question.engine_id, question.prompt, question.other_messages) == ("pair/w4", QUESTION, 0)
    assert [picture.read_bytes() for picture in question.pictures] == [b"\x89PNG one"]
    assert kept.question(records, "pair/w4", "set", "3").other_messages == 1
    with pytest.raises(InputError, match="no item '2'"):
        kept.question(records, "pair/w4", "set", "2")  # both had it right
    with pytest.raises(RecordNotFoundError, match="No such list"):
        kept.question(records, "pair/w8", "set", "1")
    with pytest.raises(RecordNotFoundError, match="files are gone"):
        kept.question(records, "pair/w4", "other", "1")


def test_review_reads_the_folder_as_it_is(tmp_path: Path, found: ComparedItems) -> None:
    folder = tmp_path / folder_name("w4", 0)
    keep_flipped(folder, found, tmp_path / "source")
    intake = read_folder(folder, (), max_picture_bytes=1000, unpack_to=tmp_path / "scratch")
    assert intake.faults == []
    assert [(row.key, row.reference, row.tags, len(row.images)) for row in intake.rows] == [
        ("1", "yes", ("colour", "lost"), 1), ("3", "yes", ("won",), 1),
    ]  # fmt: skip
    assert len(list(folder.glob("*.png"))) == 1


def test_nothing_is_left_where_nothing_flipped(tmp_path: Path, found: ComparedItems) -> None:
    alike = ComparedItems(found.items, found.base, found.base)
    keep_flipped(tmp_path / folder_name("w4", 0), alike, tmp_path / "source")
    assert not (tmp_path / folder_name("w4", 0)).exists()
