"""The recipes of the three published cards equal what the cards say, in every parameter that they list."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml

from components.profiles.loader import load_recipes
from components.profiles.recipe import HubDataSource, RecipeProfile, SlotSource
from components.quantize.shapes import quantized_linears, shape_of_figures, size_after_bytes

ROOT = Path(__file__).parents[3]
CARDS: dict[str, dict[str, Any]] = yaml.safe_load((ROOT / "assets/published/card_recipes.yaml").read_text())
FIGURES: dict[str, dict[str, Any]] = yaml.safe_load((ROOT / "assets/published/models.yaml").read_text())
RECIPES = {recipe.id: recipe for recipe in load_recipes(ROOT / "profiles")[0]}


def of_card(number: str) -> RecipeProfile:
    return next(recipe for recipe in RECIPES.values() if recipe.card == number)


def same_sources(recipe: RecipeProfile, listed: list[dict[str, Any]]) -> None:
    assert recipe.calibration is not None
    sources = recipe.calibration.sources
    assert len(sources) == len(listed)
    for source, told in zip(sources, listed, strict=True):
        assert source.weight == 1.0, "equal weights: the cards give none"
        if "hf_id" in told:
            assert isinstance(source, HubDataSource)
            assert (source.label, source.repo_id) == (told["name"], told["hf_id"])
        else:
            assert isinstance(source, SlotSource)
            assert (source.label, source.original, source.repeat) == (
                told["name"], told["local_file"], told["duplication"],
            )  # fmt: skip


def test_card_001() -> None:
    card, recipe = CARDS["001"], of_card("001")
    told = card["quantization"]
    assert recipe.id == "w8a8-gptq"
    assert (recipe.method.upper(), recipe.scheme) == (told["algorithm"], told["scheme"])
    assert recipe.targets == (told["targets"],)
    assert list(recipe.sequential_targets or ()) == told["sequential_targets"]
    # Written so that the expression begins anywhere in the name; the recipe says so itself.
    assert [pattern.replace("re:.*", "re:") for pattern in recipe.ignore] == [
        pattern.replace("re:.*", "re:") for pattern in told["ignore"]
    ]
    for word in ("ignore", "model_class", "device_map"):
        assert any(text.startswith(word) for text in recipe.differs_from_card)
    data, calibration = card["calibration"], recipe.calibration
    assert calibration is not None
    assert calibration.modality == data["modality"]
    assert calibration.samples == data["num_calibration_samples"]
    assert calibration.max_seq_length == data["max_seq_length"]
    assert calibration.batch_size == data["batch_size"]
    (source,) = calibration.sources
    assert isinstance(source, HubDataSource)
    assert (source.label, source.split) == (data["dataset"], data["split"]["calibration"])


def test_card_002() -> None:
    card, recipe = CARDS["002"], of_card("002")
    told, data, calibration = card["quantization"], card["calibration"], recipe.calibration
    assert recipe.id == "w4a16-autoround"
    assert calibration is not None
    assert recipe.scheme == card["scheme"]
    assert {
        "bits": int(recipe.scheme[1]), "data_type": "int", "group_size": recipe.group_size, "sym": recipe.symmetric,
        "batch_size": calibration.batch_size, "iters": recipe.iterations, "low_gpu_mem_usage": recipe.low_gpu_memory,
        "nsamples": calibration.samples, "block_name_to_quantize": recipe.blocks, "quant_method": "auto-round",
        "packing_format": recipe.packing_format,
    } == {key: value for key, value in told.items() if "default" not in key}  # fmt: skip
    assert calibration.modality == data["modality"].split("-")[0]
    assert calibration.samples == data["nsamples"]
    assert calibration.min_tokens_per_chunk == data["min_tokens_per_chunk"]
    same_sources(recipe, data["sources"])


def test_card_004() -> None:
    card, recipe = CARDS["004"], of_card("004")
    group = card["quantization"]["config_groups"]["group_0"]
    modifier = card["quantization"]["recipe"]["default_stage"]["default_modifiers"]["QuantizationModifier"]
    assert recipe.id == "nvfp4a16"
    assert list(recipe.targets) == group["targets"] == modifier["targets"]
    assert list(recipe.ignore) == modifier["ignore"]
    assert recipe.tool_scheme == recipe.scheme == modifier["scheme"]
    assert recipe.group_size == group["weights"]["group_size"]
    assert recipe.symmetric == group["weights"]["symmetric"]
    assert recipe.method == "rtn", "QuantizationModifier alone rounds to nearest"
    assert recipe.calibration is not None
    assert recipe.calibration.min_tokens_per_chunk == card["calibration"]["min_tokens_per_chunk"]
    same_sources(recipe, card["calibration"]["sources"])


def test_there_are_the_nine_recipes() -> None:
    assert sorted(RECIPES) == [
        "fp8-dynamic", "mxfp4", "nvfp4a16", "w4a16-autoround", "w4a16-awq", "w4a16-gptq", "w4a16-rtn", "w8a8-gptq",
        "w8a8-smoothquant-gptq",
    ]  # fmt: skip
    assert not load_recipes(ROOT / "profiles")[1]


@pytest.mark.parametrize(("number", "gib"), [("002", 14.07), ("004", 14.96)], ids=["AutoRound W4A16", "NVFP4A16"])
def test_sizes_of_the_24b_model_by_formula(number: str, gib: float) -> None:
    """quantize_bench.md 15.1."""
    shape = shape_of_figures(FIGURES[CARDS[number]["base_model"]])
    assert sum(one.weights for one in quantized_linears(shape, of_card(number))) == pytest.approx(22.230e9, rel=1e-3)
    assert size_after_bytes(shape, of_card(number)) / 2**30 == pytest.approx(gib, abs=0.01)


def test_size_of_the_124b_model_by_formula() -> None:
    shape = shape_of_figures(FIGURES[CARDS["001"]["base_model"]])
    assert sum(one.weights for one in quantized_linears(shape, of_card("001"))) == pytest.approx(121.80e9, rel=1e-3)
    assert 126e9 < size_after_bytes(shape, of_card("001")) < 127e9
