"""Model folders on both sides of a tool: names, order of rows, and that nothing is missing."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file

from components.core.errors import JobError
from components.engines.prepare_files import list_files, served_files
from components.quantize.folders import (
    canonical_name,
    check_complete,
    tensors_of,
    write_hugging_face_folder,
    write_served_folder,
)
from components.quantize.summary import summarize

ROOT = Path(__file__).parents[3]
BASE = ROOT / "assets" / "embedded" / "base"


def base_files() -> dict[str, Path]:
    return served_files(list_files(BASE), consolidated=False)


def all_tensors(folder: Path) -> dict[str, torch.Tensor]:
    found: dict[str, torch.Tensor] = {}
    for path in folder.glob("*.safetensors"):
        found |= load_file(path)
    return found


@pytest.fixture
def hugging_face(tmp_path: Path) -> Path:
    write_hugging_face_folder(base_files(), tmp_path / "hf")
    return tmp_path / "hf"


def test_the_tools_folder_has_hugging_faces_names(hugging_face: Path) -> None:
    names = set(all_tensors(hugging_face))
    assert "vision_tower.transformer.layers.0.attention.q_proj.weight" in names
    assert "multi_modal_projector.linear_1.weight" in names
    assert not any(name.startswith(("vision_encoder.", "vision_language_adapter.")) for name in names)
    index = json.loads((hugging_face / "model.safetensors.index.json").read_text())
    assert set(index["weight_map"]) == names


def test_there_and_back_gives_the_same_bytes(hugging_face: Path, tmp_path: Path) -> None:
    """A tool that changes nothing: what is served afterwards is the base, bit for bit."""
    written = tmp_path / "written"
    written.mkdir()
    save_file(all_tensors(hugging_face), written / "model.safetensors", metadata={"format": "pt"})
    shutil.copy(hugging_face / "config.json", written)
    write_served_folder(written, base_files(), tmp_path / "served", vision=True, recipe_text="recipe: none\n")
    before, after = all_tensors(BASE), all_tensors(tmp_path / "served")
    assert before.keys() == after.keys()
    assert all(torch.equal(before[name], after[name]) for name in before)
    for name in ("tekken.json", "processor_config.json", "preprocessor_config.json", "generation_config.json"):
        assert (tmp_path / "served" / name).read_bytes() == (BASE / name).read_bytes()
    assert "quantization" not in json.loads((tmp_path / "served" / "params.json").read_text())


def quantized(hugging_face: Path, folder: Path, settings: dict[str, Any]) -> Path:
    """As a tool writes it: one matrix packed, settings in config.json."""
    folder.mkdir()
    tensors = all_tensors(hugging_face)
    name = "language_model.model.layers.0.mlp.up_proj"
    rows, columns = tensors.pop(f"{name}.weight").shape
    tensors[f"{name}.weight_packed"] = torch.zeros(rows, columns // 8, dtype=torch.int32)
    tensors[f"{name}.weight_scale"] = torch.zeros(rows, columns // 128, dtype=torch.bfloat16)
    save_file(tensors, folder / "model.safetensors", metadata={"format": "pt"})
    config = json.loads((hugging_face / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps(config | {"quantization_config": settings}))
    return folder


def test_settings_of_the_quantization_reach_the_file_that_vllm_reads(hugging_face: Path, tmp_path: Path) -> None:
    settings = {
        "quant_method": "compressed-tensors",
        "ignore": ["lm_head", "model.vision_tower.transformer.layers.0.attention.q_proj", "vision_tower.patch_conv"],
    }
    written = quantized(hugging_face, tmp_path / "written", settings)
    write_served_folder(written, base_files(), tmp_path / "served", vision=True, recipe_text="")
    params = json.loads((tmp_path / "served" / "params.json").read_text())
    assert params["quantization"]["ignore"] == [
        "lm_head", "re:.*vision.*", "re:.*multi_modal_projector.*", "re:.*patch_merger.*",
    ]  # fmt: skip
    summary = summarize(tensors_of(base_files()), tensors_of(list_files(tmp_path / "served")))
    assert summary["quantized_weights"] == 512 * 256
    assert summary["bits_per_quantized_weight"] == pytest.approx(4.125)
    assert summary["size_after_bytes"] < summary["size_before_bytes"]
    assert {part["name"] for part in summary["stays_16_bit"]} >= {"vision tower", "projector", "embeddings", "norms"}


def test_auto_rounds_settings_stand_under_their_own_key(hugging_face: Path, tmp_path: Path) -> None:
    written = quantized(hugging_face, tmp_path / "written", {"quant_method": "auto-round", "bits": 4})
    write_served_folder(written, base_files(), tmp_path / "served", vision=True, recipe_text="")
    params = json.loads((tmp_path / "served" / "params.json").read_text())
    assert params["quantization_config"]["bits"] == 4
    assert "quantization" not in params


def test_a_missing_tensor_fails_the_job(hugging_face: Path, tmp_path: Path) -> None:
    tensors = all_tensors(hugging_face)
    del tensors["language_model.model.layers.1.input_layernorm.weight"]
    written = tmp_path / "written"
    written.mkdir()
    save_file(tensors, written / "model.safetensors", metadata={"format": "pt"})
    shutil.copy(hugging_face / "config.json", written)
    with pytest.raises(JobError, match=r"lacks language_model\.model\.layers\.1\.input_layernorm\.weight"):
        write_served_folder(written, base_files(), tmp_path / "served", vision=True, recipe_text="")


def test_a_head_may_be_missing_only_where_it_is_the_embedding(tmp_path: Path) -> None:
    save_file({"lm_head.weight": torch.ones(4, 4), "norm.weight": torch.ones(4)}, tmp_path / "model.safetensors")
    base = tensors_of(list_files(tmp_path))
    (tmp_path / "made").mkdir()
    save_file({"norm.weight": torch.ones(4)}, tmp_path / "made" / "model.safetensors")
    made = tensors_of(list_files(tmp_path / "made"))
    check_complete(base, made, tied=True)
    with pytest.raises(JobError, match="lm_head"):
        check_complete(base, made, tied=False)


def test_the_index_decides_where_a_tensor_is_in_two_files(tmp_path: Path) -> None:
    """AutoRound, going on after a stop, leaves the blocks it had begun in two shards."""
    for number, value in enumerate((0.0, 1.0)):
        save_file({"a.weight": torch.full((2,), value)}, tmp_path / f"model-{number}.safetensors")
    index = {"metadata": {}, "weight_map": {"a.weight": "model-1.safetensors"}}
    (tmp_path / "model.safetensors.index.json").write_text(json.dumps(index))
    found = tensors_of(list_files(tmp_path)).by_name
    assert found["a.weight"].file.name == "model-1.safetensors"


def test_one_spelling_for_every_name() -> None:
    assert canonical_name("model.language_model.layers.0.mlp.up_proj.weight").startswith(
        "language_model.model.layers.0"
    )
    assert canonical_name("model.vision_tower.patch_conv.weight") == "vision_encoder.patch_conv.weight"
    assert canonical_name("lm_head.weight") == "language_model.lm_head.weight"
