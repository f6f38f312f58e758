"""Broken inputs: what is wrong is named by row, the rest is usable, and nothing is written outside."""

from __future__ import annotations

import json
import zipfile
from pathlib import Path

import pytest

from components.core.errors import InputError
from components.review.intake import Intake, read_folder

PNG = b"\x89PNG\r\n\x1a\n" + b"0" * 50
LIMIT = 1_000_000


@pytest.fixture
def source(tmp_path: Path) -> Path:
    folder = tmp_path / "source"
    folder.mkdir()
    return folder


def read(source: Path, *prompts: str, limit: int = LIMIT) -> Intake:
    return read_folder(source, prompts, max_picture_bytes=limit, unpack_to=source.parent / "unpacked")


def faults(found: Intake) -> list[tuple[str, str]]:
    return [(fault.row, fault.field) for fault in found.faults]


def test_a_table_beside_its_pictures(source: Path) -> None:
    (source / "pics").mkdir()
    (source / "pics" / "a.png").write_bytes(PNG)
    (source / "items.csv").write_text(
        'id,image,prompt,reference,tags\n1,pics/a.png,"Two\nlines?",Right,shapes|count\n2,,Text only?,,\n'
    )
    first, second = read(source).rows
    assert (first.key, first.prompt, first.reference, first.tags) == ("1", "Two\nlines?", "Right", ("shapes", "count"))
    assert [name for name, _ in first.images] == ["a.png"]
    assert (second.images, second.reference) == ((), None)


def test_every_bad_row_is_named_and_the_rest_is_used(source: Path) -> None:
    (source / "a.png").write_bytes(PNG)
    lines = [
        "id,image,prompt",
        "1,a.png,Good?",
        "2,missing.png,Where?",
        "3,../secret.png,Outside?",
        "4,a.png,",
        "1,a.png,Twice?",
        "6,a.png,Many,fields,here",
        "7,a.png,Good too?",
    ]
    (source / "items.csv").write_bytes("\n".join(lines).encode() + b"\n8,a.png,caf\xe9?\n")
    found = read(source)
    assert [row.key for row in found.rows] == ["1", "7"]
    assert faults(found) == [
        ("row 3", "image"), ("row 4", "image"), ("row 5", "prompt"), ("row 7", "columns"), ("row 9", "prompt"),
        ("row 6", "id"),
    ]  # fmt: skip
    assert "not UTF-8" in found.faults[4].message


def test_wrong_columns(source: Path) -> None:
    (source / "items.csv").write_text("name,value\nx,1\n")
    found = read(source)
    assert found.rows == []
    assert faults(found) == [("items.csv", "columns")]
    assert "'name', 'value'" in found.faults[0].message


def test_jsonl(source: Path) -> None:
    (source / "a.png").write_bytes(PNG)
    rows = [
        json.dumps({"id": 1, "images": ["a.png", "a.png"], "prompt": "Same?", "tags": ["x"]}),
        "{broken",
        "[1]",
        json.dumps({"prompt": {"no": "text"}}),
        "",
        "[" * 100_000,
        json.dumps({"prompt": "Good?"}),
    ]
    (source / "q.jsonl").write_text("\n".join(rows))
    found = read(source)
    assert [(row.key, row.prompt, len(row.images)) for row in found.rows] == [("1", "Same?", 2), ("7", "Good?", 0)]
    assert faults(found) == [("row 2", "line"), ("row 3", "line"), ("row 4", "prompt"), ("row 6", "line")]


def test_pictures_times_prompts(source: Path) -> None:
    for name in ("b.png", "a.jpg", "notes.txt"):
        (source / name).write_bytes(PNG)
    found = read(source, "One?", "Two?")
    assert [(row.key, row.prompt) for row in found.rows] == [
        ("a.jpg.1", "One?"), ("a.jpg.2", "Two?"), ("b.png.1", "One?"), ("b.png.2", "Two?"),
    ]  # fmt: skip
    with pytest.raises(InputError, match="no prompt") as caught:
        read(source)
    assert caught.value.field == "prompts"


def test_links_are_not_followed(source: Path, tmp_path: Path) -> None:
    (tmp_path / "secret.png").write_bytes(PNG)
    (source / "link.png").symlink_to(tmp_path / "secret.png")
    (source / "folder").symlink_to(tmp_path)
    (source / "own.png").write_bytes(PNG)
    assert [row.key for row in read(source, "What?").rows] == ["own.png"]


def test_a_zip_with_paths_that_lead_out(source: Path) -> None:
    with zipfile.ZipFile(source / "all.zip", "w") as archive:
        archive.writestr("ok.png", PNG)
        for name in ("../evil.png", "/etc/evil.png", "a/../../evil.png", "..\\evil.png", "C:\\evil.png"):
            archive.writestr(name, PNG)
        link = zipfile.ZipInfo("link.png")
        link.external_attr = 0o120777 << 16
        archive.writestr(link, "/etc/passwd")
    before = {path for path in source.parent.rglob("*") if path.is_file()}
    found = read(source, "What?")
    assert [row.key for row in found.rows] == ["ok.png"]
    assert len(found.faults) == 6
    new = {path for path in source.parent.rglob("*") if path.is_file()} - before
    assert [path.parent.parent.name for path in new] == ["unpacked"]


def test_a_bomb_is_not_unpacked(source: Path) -> None:
    with zipfile.ZipFile(source / "bomb.zip", "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("huge.png", b"\x00" * 50_000_000)
        archive.writestr("ok.png", PNG)
    found = read(source, "What?", limit=1_000_000)
    assert [row.key for row in found.rows] == ["ok.png"]
    assert "50,000,000 bytes" in found.faults[0].message
    assert sum(path.stat().st_size for path in (source.parent / "unpacked").rglob("*") if path.is_file()) < 1000


def test_a_bomb_that_lies_about_its_size(source: Path) -> None:
    path = source / "bomb.zip"
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("huge.png", b"\x00" * 20_000_000)
    data = bytearray(path.read_bytes())
    size = (20_000_000).to_bytes(4, "little")
    place = data.find(size)
    while place >= 0:
        data[place : place + 4] = (500).to_bytes(4, "little")
        place = data.find(size, place + 4)
    path.write_bytes(data)
    found = read(source, "What?")
    assert found.rows == []
    assert "can't be unpacked" in found.faults[0].message
    assert sum(p.stat().st_size for p in (source.parent / "unpacked").rglob("*") if p.is_file()) == 0


def test_what_is_no_zip(source: Path) -> None:
    (source / "a.zip").write_bytes(b"PK\x03\x04 not really")
    found = read(source, "What?")
    assert faults(found) == [("a.zip", "file")]
