"""Parquet as a source: pictures inside it, shards without ids, and files that are not what they say."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from components.review.intake import Intake, read_folder


def read(folder: Path, *prompts: str, max_picture_bytes: int = 1000) -> Intake:
    return read_folder(folder, prompts, max_picture_bytes=max_picture_bytes, unpack_to=folder.parent / "unpacked")


def write(path: Path, **columns: list[Any]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    pq.write_table(pa.table(columns), path)


def test_pictures_inside_become_files_and_other_columns_stay_unread(tmp_path: Path) -> None:
    source = tmp_path / "source"
    pictures = [{"bytes": b"first", "path": "../../a.JPG"}, {"bytes": b"second", "path": None}]
    write(source / "t.parquet", question=["What?", "And?"], image=pictures, answers=[["7", "seven"], ["8"]], x=[1, 2])
    found = read(source)
    assert found.faults == []
    assert [(row.key, row.prompt, row.reference) for row in found.rows] == [("1", "What?", "7"), ("2", "And?", "8")]
    assert [path.read_bytes() for row in found.rows for _, path in row.images] == [b"first", b"second"]
    assert all(path.is_relative_to(tmp_path / "unpacked") for row in found.rows for _, path in row.images)


def test_pictures_alone_are_asked_every_prompt_and_shards_need_no_ids(tmp_path: Path) -> None:
    source = tmp_path / "source"
    for shard in ("a", "b"):
        write(source / f"data/{shard}.parquet", images=[[{"bytes": b"x", "path": "x.png"}] * 2])
    found = read(source, "One?", "Two?")
    assert found.faults == []
    assert [row.key for row in found.rows] == [f"data/{s}.parquet row 1.{n}" for s in ("a", "b") for n in (1, 2)]
    assert [len(row.images) for row in found.rows] == [2] * 4


def test_what_cannot_be_used_is_named_and_the_rest_is_kept(tmp_path: Path) -> None:
    source = tmp_path / "source"
    write(source / "large.parquet", prompt=["a", "b"], image=[b"x" * 2000, b"fits"])
    write(source / "other.parquet", name=["x"])
    (source / "broken.parquet").write_bytes(b"PAR1 and nothing more")
    found = read(source)
    assert [row.prompt for row in found.rows] == ["b"]
    said = sorted(str(fault) for fault in found.faults)
    assert said[0].startswith("broken.parquet, file: It can't be read as Parquet")
    assert said[1] == "large.parquet row 1, image: A picture of 2,000 bytes is too large."
    assert said[2] == "other.parquet, columns: Found 'name'. Needed: prompt, or image."
