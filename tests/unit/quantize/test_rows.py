"""Calibration rows: what is accepted, and what is refused with its place."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from components.jobs.tool_reporting import ScriptError
from components.quantize.tools.shared.rows import TEMPLATES, Row, read_source

PLACE = "calibration.sources[0]"


def rows_of(path: Path) -> list[Row]:
    return list(read_source({"kind": "file", "file": str(path)}, PLACE, 0))


def jsonl(folder: Path, *rows: Any) -> Path:
    path = folder / "rows.jsonl"
    path.write_text("\n".join(row if isinstance(row, str) else json.dumps(row) for row in rows))
    return path


def test_every_form_of_a_row(tmp_path: Path) -> None:
    Image.new("RGB", (8, 8)).save(tmp_path / "a.png")
    text, turn, chat, ids = rows_of(
        jsonl(
            tmp_path,
            {"text": "plain"},
            {"prompt": "What?", "response": "This.", "images": ["a.png"]},
            {"messages": [{"role": "user", "content": "Hello"}]},
            {"input_ids": [1, 2, 3]},
        )
    )
    assert text.text == "plain"
    assert turn.messages == [{"role": "user", "content": "What?"}, {"role": "assistant", "content": "This."}]
    assert turn.images == [tmp_path / "a.png"]
    assert chat.messages == [{"role": "user", "content": "Hello"}]
    assert ids.input_ids == [1, 2, 3]


@pytest.mark.parametrize(
    ("row", "words"),
    [
        ("{broken", "line 2 of rows.jsonl is not JSON"),
        ("[1]", "line 2 of rows.jsonl is not a JSON object"),
        ({"nothing": 1}, "none of the accepted forms"),
        ({"input_ids": [1, -2]}, "whole numbers from 0"),
        ({"input_ids": [True]}, "whole numbers from 0"),
        ({"messages": [{"role": "user"}]}, "none of the accepted forms"),
        ({"prompt": "x", "images": ["../../etc/passwd"]}, "there is no picture"),
        ({"prompt": "x", "images": ["gone.png"]}, "there is no picture"),
        ({"prompt": "x", "images": "a.png"}, "a list of file names"),
    ],
)
def test_a_bad_line_is_refused_with_its_number(tmp_path: Path, row: Any, words: str) -> None:
    with pytest.raises(ScriptError, match=words) as refused:
        rows_of(jsonl(tmp_path, {"text": "fine"}, row))
    assert refused.value.field == PLACE


def test_a_folder_of_pictures_with_captions(tmp_path: Path) -> None:
    for name in ("one", "two"):
        Image.new("RGB", (8, 8)).save(tmp_path / f"{name}.png")
    (tmp_path / "one.txt").write_text("A black square.\n")
    (tmp_path / "notes.txt").write_text("Some prose.")
    prose, first, second = rows_of(tmp_path)
    assert prose.text == "Some prose."
    assert first.messages is not None
    assert second.messages is not None
    assert first.messages[-1] == {"role": "assistant", "content": "A black square."}
    assert [message["role"] for message in second.messages] == ["user"]


def test_another_kind_of_file_is_refused(tmp_path: Path) -> None:
    (tmp_path / "data.pkl").write_bytes(b"\x80\x04")
    with pytest.raises(ScriptError, match=r"a folder, \.jsonl or \.txt is accepted"):
        rows_of(tmp_path / "data.pkl")


def test_a_picture_that_is_a_link_out_of_its_folder_is_refused(tmp_path: Path) -> None:
    inside, outside = tmp_path / "inside", tmp_path / "outside"
    inside.mkdir()
    outside.mkdir()
    Image.new("RGB", (8, 8)).save(outside / "a.png")
    (inside / "a.png").symlink_to(outside / "a.png")
    with pytest.raises(ScriptError, match="there is no picture"):
        rows_of(jsonl(inside, {"prompt": "x", "images": ["a.png"]}))


def test_templates_of_the_cards_data_sets() -> None:
    assert TEMPLATES["instruction-response"]({"instruction": "Do", "response": "Done"}).messages == [
        {"role": "user", "content": "Do"}, {"role": "assistant", "content": "Done"},
    ]  # fmt: skip
    tools = TEMPLATES["query-tools-answers"]({"query": "Q", "tools": "[]", "answers": "[1]"}).messages
    assert tools == [{"role": "user", "content": "Q\n\nTools:\n[]"}, {"role": "assistant", "content": "[1]"}]
    talk = {
        "conversations": [
            {"from": "system", "value": "S"},
            {"from": "human", "value": "H"},
            {"from": "gpt", "value": "G"},
        ]
    }
    assert [message["role"] for message in TEMPLATES["sharegpt"](talk).messages or []] == [
        "system",
        "user",
        "assistant",
    ]
    assert TEMPLATES["text"]({"text": "T"}).text == "T"
    captioned = TEMPLATES["captions"]({"image": "picture", "caption": ["One.", "Two."]})
    assert captioned.images == ["picture"]
    assert (captioned.messages or [])[-1]["content"] == "One. Two."
