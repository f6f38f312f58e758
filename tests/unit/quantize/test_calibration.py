"""Samples out of rows, with the embedded model's own tokenizer."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from components.jobs.tool_reporting import ScriptError
from components.quantize.tools.shared.calibration import as_batch, build
from components.quantize.tools.shared.coders import load_coder

ROOT = Path(__file__).parents[3]
MODEL = ROOT / "assets" / "embedded" / "base"
BOS, IMAGE = 1, 10


def settings(folder: Path, rows: list[dict[str, Any]], **changes: Any) -> dict[str, Any]:
    folder.mkdir(exist_ok=True)
    (folder / "rows.jsonl").write_text("\n".join(map(json.dumps, rows)))
    source = {"name": folder.name, "kind": "file", "file": str(folder)}
    return {
        "samples": 4, "max_seq_length": 256, "min_tokens_per_chunk": 0, "pictures": False, "seed": 0,
        "sources": [source], **changes,
    }  # fmt: skip


def test_short_rows_are_joined_to_chunks(tmp_path: Path) -> None:
    rows = [{"text": f"The number is {number}."} for number in range(400)]
    found = build(settings(tmp_path, rows, min_tokens_per_chunk=200, samples=3), MODEL)
    assert len(found.samples) == 3
    assert all(200 <= length <= 256 for length in found.lengths())
    assert all(sample.ids[0] == BOS for sample in found.samples)
    text = load_coder(MODEL).decode(found.samples[0].ids)
    assert "The number is 0." in text
    assert "The number is 1." in text
    assert found.record()["tokens"]["all"] == sum(found.lengths())


def test_what_is_too_little_for_a_chunk_is_told(tmp_path: Path) -> None:
    with pytest.raises(ScriptError, match=r"no sample is left .* fewer than a chunk of 200") as refused:
        build(settings(tmp_path, [{"text": "Short."}], min_tokens_per_chunk=200), MODEL)
    assert refused.value.field == "calibration.sources"


def test_an_empty_set_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ScriptError, match="the sources have no rows"):
        build(settings(tmp_path, []), MODEL)


def test_pictures_stay_samples_of_their_own(tmp_path: Path) -> None:
    Image.new("RGB", (112, 84), "red").save(tmp_path / "a.png")
    Image.new("RGB", (84, 84), "blue").save(tmp_path / "b.png")
    rows = [
        {"prompt": "What is this?", "response": "Red.", "images": ["a.png"]},
        {"prompt": "And these?", "response": "Two.", "images": ["a.png", "b.png"]},
    ]
    found = build(settings(tmp_path, rows, min_tokens_per_chunk=100, pictures=True), MODEL)
    first, second = found.samples
    assert first.ids.count(IMAGE) == (112 // 28) * (84 // 28)
    batch = as_batch(second)
    assert batch["pixel_values"].shape == (2, 3, 84, 112), "padded to the larger one"
    assert batch["image_sizes"].tolist() == [[84, 112], [84, 84]]
    assert (batch["pixel_values"][1, :, :, 84:] == 0).all()
    assert batch["input_ids"].dtype == np.int64


def test_a_row_with_a_picture_is_dropped_rather_than_cut(tmp_path: Path) -> None:
    Image.new("RGB", (112, 112)).save(tmp_path / "a.png")
    rows = [
        {"prompt": "x " * 300, "images": ["a.png"]},
        {"prompt": "Fine", "response": "Yes.", "images": ["a.png"]},
        {"prompt": "No picture", "response": "Yes."},
    ]
    found = build(settings(tmp_path, rows, pictures=True), MODEL)
    assert len(found.samples) == 1
    assert found.sources[0].dropped == {"with pictures and longer than 256 tokens": 1, "without a picture": 1}
    assert build(settings(tmp_path, rows), MODEL).sources[0].dropped == {"with a picture, in a set of text": 2}


def test_weights_share_the_tokens(tmp_path: Path) -> None:
    rows = [{"text": f"Word {number} and more."} for number in range(3000)]
    both = settings(tmp_path / "a", rows, min_tokens_per_chunk=256, samples=40)
    both["sources"] += settings(tmp_path / "b", rows)["sources"]
    both["sources"][0]["weight"] = 3.0
    first, second = build(both, MODEL).sources
    assert first.tokens / second.tokens == pytest.approx(3.0, rel=0.05)


def test_a_source_may_be_read_more_than_once(tmp_path: Path) -> None:
    wanted = settings(tmp_path, [{"text": "Again."}], samples=9)
    wanted["sources"][0]["repeat"] = 5
    assert len(build(wanted, MODEL).samples) == 5


def test_token_ids_of_another_model_are_dropped(tmp_path: Path) -> None:
    found = build(settings(tmp_path, [{"input_ids": [9_000_000]}, {"input_ids": [1, 5000]}]), MODEL)
    assert [sample.ids for sample in found.samples] == [[1, 5000]]
    assert found.sources[0].dropped == {"with token ids that this model does not have": 1}


def test_the_same_data_gives_the_same_fingerprint(tmp_path: Path) -> None:
    rows = [{"text": "One."}, {"text": "Two."}]
    wanted = settings(tmp_path, rows)
    assert build(wanted, MODEL).fingerprint() == build(wanted, MODEL).fingerprint()
    other = settings(tmp_path, rows[::-1])
    assert build(wanted | {"sources": other["sources"]}, MODEL).record()["samples"] == 2


@pytest.mark.parametrize(("name", "least"), [("embedded-pictures", 0), ("embedded-text", 512)])
def test_the_bundled_sets_can_be_read_whole(name: str, least: int) -> None:
    source = {"name": name, "kind": "file", "file": str(ROOT / "assets" / "calibration" / name)}
    pictures = name == "embedded-pictures"
    wanted = {
        "samples": 64, "max_seq_length": 512, "min_tokens_per_chunk": least, "pictures": pictures, "seed": 0,
        "sources": [source],
    }  # fmt: skip
    found = build(wanted, MODEL)
    assert len(found.samples) == 64
    assert set(found.sources[0].dropped) <= {"without a picture"}
    assert all(bool(sample.pictures) == pictures for sample in found.samples)
