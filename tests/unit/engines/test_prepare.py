"""Preparation of model folders: the trap's mapping, links, limits, refusals (F44), and that it is made once."""

from __future__ import annotations

import json
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from time import sleep
from typing import Any

import numpy as np
import pytest
from safetensors.numpy import load_file, save_file

from components.core.errors import PreparationError
from components.engines.prepare import ModelPreparer
from components.engines.prepare_vision import mistral_name
from components.profiles.schema import PairProfile
from tests.unit.engines.checkpoints import (
    HEADS,
    WIDTH,
    language_tensors,
    pair_document,
    vision_tensors,
    write_json,
    write_sharded,
    write_small_files,
)


def pair_of(**changes: Any) -> PairProfile:
    return PairProfile.model_validate(pair_document(**changes))


def prepare(root: Path, pair: PairProfile | None = None, model: str = "base") -> Path:
    pair = pair or pair_of()
    preparer = ModelPreparer(root / "state", root, offline=True)
    return Path(preparer.prepare(pair, pair.model(model), lambda message, share: None))


def to_halves(rows: np.ndarray) -> np.ndarray:
    """The inverse of the permutation: interleaved pairs back to split halves."""
    return rows.reshape(HEADS, WIDTH // HEADS // 2, 2, -1).transpose(0, 2, 1, 3).reshape(rows.shape)


def test_the_vision_part_gets_mistrals_names_and_layout(tmp_path: Path) -> None:
    write_sharded(tmp_path / "model")
    folder = prepare(tmp_path)
    made, original = load_file(folder / "model-vision.safetensors"), vision_tensors()
    layer = "vision_encoder.transformer.layers.0"
    old = "vision_tower.transformer.layers.0"
    same = {
        "vision_encoder.patch_conv.weight": "vision_tower.patch_conv.weight",
        "vision_encoder.ln_pre.weight": "vision_tower.ln_pre.weight",
        f"{layer}.attention_norm.weight": f"{old}.attention_norm.weight",
        f"{layer}.ffn_norm.weight": f"{old}.ffn_norm.weight",
        f"{layer}.attention.wv.weight": f"{old}.attention.v_proj.weight",
        f"{layer}.attention.wo.weight": f"{old}.attention.o_proj.weight",
        f"{layer}.feed_forward.w1.weight": f"{old}.feed_forward.gate_proj.weight",
        f"{layer}.feed_forward.w2.weight": f"{old}.feed_forward.down_proj.weight",
        f"{layer}.feed_forward.w3.weight": f"{old}.feed_forward.up_proj.weight",
        "pre_mm_projector_norm.weight": "multi_modal_projector.norm.weight",
        "patch_merger.merging_layer.weight": "multi_modal_projector.patch_merger.merging_layer.weight",
        "vision_language_adapter.w_in.weight": "multi_modal_projector.linear_1.weight",
        "vision_language_adapter.w_out.weight": "multi_modal_projector.linear_2.weight",
    }
    for new_name, old_name in same.items():
        np.testing.assert_array_equal(made[new_name], original[old_name])
    for kind, part in (("wq", "q_proj"), ("wk", "k_proj")):
        renamed, before = made[f"{layer}.attention.{kind}.weight"], original[f"{old}.attention.{part}.weight"]
        # Head 0 has rows 0 1 | 2 3 as halves, thus 0 2 1 3 as pairs.
        np.testing.assert_array_equal(renamed[:4], before[[0, 2, 1, 3]])
        np.testing.assert_array_equal(to_halves(renamed), before)
    assert len(made) == len(original)


def test_language_shards_are_linked_and_the_index_fits(tmp_path: Path) -> None:
    source = write_sharded(tmp_path / "model")
    before = {path.name: path.read_bytes() for path in source.iterdir()}
    folder = prepare(tmp_path)
    assert (folder / "model-00001-of-00002.safetensors").is_symlink()
    assert set(load_file(folder / "model-00002-of-00002.safetensors")) == {
        "language_model.model.layers.1.mlp.up_proj.weight"
    }
    weight_map = json.loads((folder / "model.safetensors.index.json").read_bytes())["weight_map"]
    for file in sorted(set(weight_map.values())):
        assert set(load_file(folder / file)) == {name for name, place in weight_map.items() if place == file}
    assert {path.name: path.read_bytes() for path in source.iterdir()} == before


def test_one_file_without_an_index_and_the_newer_names(tmp_path: Path) -> None:
    source = tmp_path / "model"
    source.mkdir()
    newer = {f"model.{name}": value for name, value in vision_tensors().items()}
    head = {"lm_head.weight": np.ones((2, 2), dtype=np.float32)}
    save_file(newer | language_tensors("model.language_model.") | head, source / "model.safetensors")
    write_small_files(source)
    folder = prepare(tmp_path)
    assert set(load_file(folder / "model.safetensors")) == {*language_tensors(), "language_model.lm_head.weight"}
    assert len(load_file(folder / "model-vision.safetensors")) == len(newer)


def test_the_pairs_image_limit_is_in_both_files(tmp_path: Path) -> None:
    write_sharded(tmp_path / "model")
    folder = prepare(tmp_path)
    assert json.loads((folder / "params.json").read_bytes())["vision_encoder"]["max_image_size"] == 1024
    assert json.loads((folder / "tekken.json").read_bytes())["image"]["max_image_size"] == 1024


def test_an_image_limit_above_the_models_is_refused(tmp_path: Path) -> None:
    write_sharded(tmp_path / "model")
    pair = PairProfile.model_validate(pair_document() | {"max_image_size": 2048})
    with pytest.raises(PreparationError, match="1540"):
        prepare(tmp_path, pair)


@pytest.mark.parametrize(
    ("method", "key"), [("compressed-tensors", "quantization"), ("auto-round", "quantization_config")]
)
def test_quantization_settings_stand_where_vllm_looks(tmp_path: Path, method: str, key: str) -> None:
    write_sharded(tmp_path / "model", quantization_config={"quant_method": method, "bits": 4})
    params = json.loads((prepare(tmp_path) / "params.json").read_bytes())
    assert params[key] == {"quant_method": method, "bits": 4}
    assert ("quantization" in params) + ("quantization_config" in params) == 1


def test_consolidated_weights_are_linked_as_they_are(tmp_path: Path) -> None:
    source = write_sharded(tmp_path / "model")
    save_file(language_tensors("layers."), source / "consolidated.safetensors")
    folder = prepare(tmp_path, pair_of(prepare="image-limit", serve={"load_format": "mistral"}))
    assert [path.name for path in sorted(folder.glob("*.safetensors"))] == ["consolidated.safetensors"]
    assert (folder / "consolidated.safetensors").is_symlink()
    assert json.loads((folder / "params.json").read_bytes())["vision_encoder"]["max_image_size"] == 1024


def test_a_folder_that_needs_nothing_is_served_itself(tmp_path: Path) -> None:
    source = write_sharded(tmp_path / "model")
    assert prepare(tmp_path, pair_of(prepare="none")) == source
    assert not (tmp_path / "state").exists()


def test_a_candidate_takes_the_shared_files_of_its_base(tmp_path: Path) -> None:
    source = write_sharded(tmp_path / "model")
    own = tmp_path / "own"
    own.mkdir()
    save_file(language_tensors("language_model.model.own."), own / "model-00001-of-00002.safetensors")
    write_json(own / "config.json", {"own": True})
    document = pair_document(prepare="none")
    extends = {"kind": "local", "folder": "own", "extends": "base"}
    document["models"].append(document["models"][0] | {"id": "c", "role": "candidate", "source": extends})
    folder = prepare(tmp_path, PairProfile.model_validate(document), "c")
    assert (folder / "config.json").resolve() == own / "config.json"
    assert (folder / "model-00001-of-00002.safetensors").resolve().parent == own
    assert (folder / "tekken.json").resolve() == source / "tekken.json"
    assert (folder / "model-00002-of-00002.safetensors").resolve().parent == source


def test_it_is_made_once_and_again_when_the_source_changed(tmp_path: Path) -> None:
    source = write_sharded(tmp_path / "model")
    first = prepare(tmp_path)
    inode = first.stat().st_ino
    assert prepare(tmp_path) == first
    assert first.stat().st_ino == inode
    write_small_files(source, changed=True)
    second = prepare(tmp_path)
    assert second != first
    assert not first.exists()


def test_several_that_need_it_at_once_all_get_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As jobs of one node do, and the app beside them: each has a preparer of its own."""
    write_sharded(tmp_path / "model")
    build = ModelPreparer._build

    def slowly(*given: Any) -> None:
        sleep(0.01)  # time enough for another one to take the folder away
        build(*given)

    monkeypatch.setattr(ModelPreparer, "_build", slowly)
    with ThreadPoolExecutor(8) as pool:
        folders = set(pool.map(lambda _: prepare(tmp_path), range(16)))
    (folder,) = folders
    assert (folder / "model-vision.safetensors").exists()


def test_a_folder_that_lost_a_file_is_made_anew(tmp_path: Path) -> None:
    write_sharded(tmp_path / "model")
    folder = prepare(tmp_path)
    (folder / "model-vision.safetensors").unlink()
    assert (prepare(tmp_path) / "model-vision.safetensors").exists()


def test_what_a_killed_app_left_half_made_is_replaced(tmp_path: Path) -> None:
    write_sharded(tmp_path / "model")
    name = prepare(tmp_path).name
    half = tmp_path / "state" / "prepared" / f".making-{name}"
    (tmp_path / "state" / "prepared" / name).rename(half)
    (half / "rest").write_text("half")
    folder = prepare(tmp_path)
    assert not half.exists()
    assert not (folder / "rest").exists()


def test_nothing_is_left_when_it_fails(tmp_path: Path) -> None:
    source = write_sharded(tmp_path / "model")
    (source / "tekken.json").unlink()
    with pytest.raises(PreparationError, match=r"tekken\.json"):
        prepare(tmp_path)
    assert [path for path in (tmp_path / "state" / "prepared").iterdir() if path.suffix != ".lock"] == []


def test_a_folder_that_does_not_exist(tmp_path: Path) -> None:
    with pytest.raises(PreparationError, match="does not exist"):
        prepare(tmp_path)


@pytest.mark.parametrize("name", ["pytorch_model.bin", "weights.pt", "model.pth", "rest.pkl"])
def test_f44_pickled_weights_are_refused_by_name(tmp_path: Path, name: str) -> None:
    source = write_sharded(tmp_path / "model")
    (source / name).write_bytes(b"x")
    with pytest.raises(PreparationError, match=name):
        prepare(tmp_path)


def test_f44_a_missing_shard_is_named(tmp_path: Path) -> None:
    source = write_sharded(tmp_path / "model")
    (source / "model-00001-of-00002.safetensors").unlink()
    with pytest.raises(PreparationError, match="model-00001-of-00002"):
        prepare(tmp_path)


def test_f44_a_shard_cut_short_is_named(tmp_path: Path) -> None:
    source = write_sharded(tmp_path / "model")
    path = source / "model-00002-of-00002.safetensors"
    path.write_bytes(path.read_bytes()[:-10])
    with pytest.raises(PreparationError, match=r"model-00002-of-00002.safetensors is incomplete"):
        prepare(tmp_path, pair_of(prepare="none"))


def test_f44_a_shard_that_is_something_else_is_named(tmp_path: Path) -> None:
    source = write_sharded(tmp_path / "model")
    (source / "model-00002-of-00002.safetensors").write_bytes(b"version https://git-lfs.github.com/spec/v1\n" * 4)
    with pytest.raises(PreparationError, match=r"model-00002-of-00002.safetensors is not a safetensors file"):
        prepare(tmp_path)


def test_f44_an_unknown_quantization_is_refused(tmp_path: Path) -> None:
    write_sharded(tmp_path / "model", quantization_config={"quant_method": "from-the-future"})
    with pytest.raises(PreparationError, match="from-the-future"):
        prepare(tmp_path)


def test_f45_an_index_can_lead_nowhere_else(tmp_path: Path) -> None:
    source = write_sharded(tmp_path / "model")
    write_json(source / "model.safetensors.index.json", {"weight_map": {"x": "../../secret.safetensors"}})
    with pytest.raises(PreparationError, match="not an index"):
        prepare(tmp_path)


def test_a_quantized_vision_part_is_refused_not_guessed() -> None:
    with pytest.raises(PreparationError, match="weight_packed"):
        mistral_name("vision_tower.transformer.layers.0.attention.q_proj.weight_packed")


def test_a_checkpoint_without_a_vision_part_is_refused(tmp_path: Path) -> None:
    source = tmp_path / "model"
    source.mkdir()
    save_file(language_tensors(), source / "model.safetensors")
    write_small_files(source)
    with pytest.raises(PreparationError, match="no vision part"):
        prepare(tmp_path)


def test_offline_and_not_cached_says_so(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import huggingface_hub.constants as constants

    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "hub"))
    source = {"kind": "hub", "repo_id": "nobody/nothing"}
    with pytest.raises(PreparationError, match="not on this machine"):
        prepare(tmp_path, pair_of(source=source))
