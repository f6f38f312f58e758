"""Each published set with its true columns, fetched by huggingface_hub from a server of this machine → items."""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from PIL import Image

from components.benchmark.rows import messages_of, read_items
from components.benchmark.vision_sets import VISION_SETS, fetch_items
from components.core.errors import JobError
from tests.fakes.data_hub import serving_data_set

pytestmark = pytest.mark.service


def picture(colour: str, kind: str = "PNG") -> dict[str, Any]:
    """As the hub's libraries store one."""
    buffer = io.BytesIO()
    Image.new("RGB", (8, 8), colour).save(buffer, kind)
    return {"bytes": buffer.getvalue(), "path": f"{colour}.{kind.lower()}"}


# The columns as these repositories have them, those too that are not read.
ROWS: dict[str, list[dict[str, Any]]] = {
    "vqav2": [
        {"question_type": "is the", "multiple_choice_answer": "yes", "image_id": 1, "answer_type": "yes/no",
         "question_id": 9000 + number, "question": "Is it red?", "image": picture("red", "JPEG"),
         "answers": [
             {"answer": word, "answer_confidence": "yes", "answer_id": n} for n, word in enumerate(["yes"] * 9 + ["no"])
         ]}
        for number in range(3)
    ],
    "docvqa": [
        {"questionId": str(400 + number), "question": "What is the date?", "question_types": ["form"],
         "image": picture("white"), "docId": 1, "ucsf_document_id": "a", "ucsf_document_page_no": "1",
         "answers": ["1 May", "May 1"], "data_split": "val"}
        for number in range(3)
    ],
    "chartqa": [
        {"type": "human_test", "question": "How many?", "answer": "14", "image": picture("blue")},
        {"type": "augmented_test", "question": "Which?", "answer": "Yes", "image": picture("green")},
    ],
    "mathvista": [
        {"pid": "1", "question": "Which?", "image": "images/1.jpg", "decoded_image": picture("red", "JPEG"),
         "choices": ["3", "4"], "unit": None, "precision": 1.0, "answer": "4", "question_type": "multi_choice",
         "answer_type": "integer", "metadata": {"split": "testmini"}, "query": "Hint: choose. Question: Which?"},
        {"pid": "2", "question": "How many?", "image": "images/2.jpg", "decoded_image": picture("blue"),
         "choices": None, "unit": None, "precision": None, "answer": "1.2", "question_type": "free_form",
         "answer_type": "float", "metadata": {"split": "testmini"}, "query": "Hint: a number. Question: How many?"},
    ],
    "mmmu": [
        {"id": "validation_Art_Theory_1", "question": "See <image 1> and <image 2>: which is older?",
         "options": "['the first', \"the painter's second\"]", "explanation": "", "image_1": picture("red"),
         "image_2": picture("blue"), **{f"image_{n}": None for n in range(3, 8)}, "img_type": "['Painting']",
         "answer": "B", "topic_difficulty": "Easy", "question_type": "multiple-choice", "subfield": "x"},
        {"id": "validation_Math_2", "question": "What is <image 1>?", "options": "[]", "explanation": "",
         "image_1": picture("green"), **{f"image_{n}": None for n in range(2, 8)}, "img_type": "[]",
         "answer": "['24', 'twenty-four']", "topic_difficulty": "Easy", "question_type": "open", "subfield": "y"},
    ],
}  # fmt: skip
FILES = {
    "vqav2": "data/validation-00000-of-00068.parquet", "docvqa": "DocVQA/validation-00000-of-00006.parquet",
    "chartqa": "data/test-00000-of-00001-e2cd0b7a0f9eb20d.parquet",
    "mathvista": "data/testmini-00000-of-00001-725687bf7a18d64b.parquet",
    "mmmu": "data/validation-00000-of-00001.parquet",
}  # fmt: skip
ANSWERS = {
    "vqav2": (("yes",) * 9 + ("no",), "yes/no"), "docvqa": (("1 May", "May 1"), ""), "chartqa": (("14",), "human_test"),
    "mathvista": (("B",), "multi_choice"), "mmmu": (("B",), "Art_Theory"),
}  # fmt: skip


def parquet(rows: list[dict[str, Any]]) -> bytes:
    buffer = io.BytesIO()
    pq.write_table(pa.Table.from_pylist(rows), buffer)
    return buffer.getvalue()


@pytest.mark.parametrize("name", sorted(VISION_SETS))
def test_the_first_questions_of_a_set_become_items(name: str, tmp_path: Path) -> None:
    wanted, split = VISION_SETS[name], FILES[name]
    others = {"README.md": b"#", split.replace("validation", "train").replace("test", "train"): b"no Parquet"}
    with serving_data_set(wanted.repo_id, {split: parquet(ROWS[name]), **others}) as (endpoint, asked):
        file = fetch_items(wanted, 2, tmp_path / "sets" / name, endpoint=endpoint)
        before = len(asked)
        assert fetch_items(wanted, 2, tmp_path / "sets" / name, endpoint=endpoint) == file
        assert len(asked) == before  # nothing is asked for twice
    assert not [path for path in asked if "train" in path]
    items = read_items(file, None)
    assert len(items) == 2
    answers, kind = ANSWERS[name]
    assert (items[0].answers, items[0].kind, items[0].metric) == (answers, kind, wanted.metrics[0])
    content = messages_of(items[0], file.parent)[0]["content"]
    assert sum(part["type"] == "image_url" for part in content) == len(items[0].images) == (2 if name == "mmmu" else 1)


def test_pictures_stand_where_the_question_names_them(tmp_path: Path) -> None:
    wanted = VISION_SETS["mmmu"]
    with serving_data_set(wanted.repo_id, {FILES["mmmu"]: parquet(ROWS["mmmu"])}) as (endpoint, _):
        file = fetch_items(wanted, 2, tmp_path / "sets" / "mmmu", endpoint=endpoint)
    items = read_items(file, None)
    content = messages_of(items[0], file.parent)[0]["content"]
    assert [part["type"] for part in content] == ["text", "image_url", "text", "image_url", "text"]
    assert (content[0]["text"], content[2]["text"]) == ("See ", " and ")
    assert content[4]["text"].startswith(": which is older?\nA. the first\nB. the painter's second\n")
    assert items[1].answers == ("24", "twenty-four")


def test_a_set_that_changed_or_is_gone_says_so(tmp_path: Path) -> None:
    wanted = VISION_SETS["chartqa"]
    other = [{"kind": "x", "picture": picture("red")}] * 2
    with serving_data_set(wanted.repo_id, {FILES["chartqa"]: parquet(other)}) as (endpoint, _):
        with pytest.raises(JobError, match="has other columns than it had"):
            fetch_items(wanted, 2, tmp_path / "one" / "chartqa", endpoint=endpoint)
        with pytest.raises(JobError, match="did not give lmms-lab/DocVQA"):
            fetch_items(VISION_SETS["docvqa"], 2, tmp_path / "two" / "docvqa", endpoint=endpoint)
    with (
        serving_data_set(wanted.repo_id, {"README.md": b"#"}) as (endpoint, _),
        pytest.raises(JobError, match="no longer has such files"),
    ):
        fetch_items(wanted, 2, tmp_path / "three" / "chartqa", endpoint=endpoint)


def test_a_picture_of_another_kind_leaves_its_row_out(tmp_path: Path) -> None:
    wanted = VISION_SETS["chartqa"]
    rows = [{**ROWS["chartqa"][0], "image": picture("red", "GIF")}, *ROWS["chartqa"]]
    with serving_data_set(wanted.repo_id, {FILES["chartqa"]: parquet(rows)}) as (endpoint, _):
        file = fetch_items(wanted, 5, tmp_path / "sets" / "chartqa", endpoint=endpoint)
    assert [item.kind for item in read_items(file, None)] == ["human_test", "augmented_test"]
