"""Overrides, layers, calibration sources, needs and the complete script."""

from __future__ import annotations

import ast
import json
import re
from pathlib import Path
from typing import Any

import pytest

from components.core.errors import InputError, ProfileError
from components.core.model_shape import Linear
from components.profiles.loader import load_pair, load_recipes, read_recipe
from components.profiles.recipe import RecipeProfile
from components.quantize.calibration_plan import plan_calibration, with_defaults_for
from components.quantize.needs import Work, needs_of, seconds_of
from components.quantize.overrides import with_overrides
from components.quantize.script import complete_script
from components.quantize.shapes import ModelShape, check_groups, kept_parts, quantized_linears
from components.quantize.targets import Target

ROOT = Path(__file__).parents[3]
RECIPES = {recipe.id: recipe for recipe in load_recipes(ROOT / "profiles")[0]}


def shape(*linears: Linear) -> ModelShape:
    return ModelShape("LlamaForCausalLM", 1, 64, linears, {"embeddings": 100}, from_files=True)


def target(pair: str = "embedded") -> Target:
    profile = load_pair(ROOT / "profiles", pair)
    return Target(f"{pair}/base", profile, profile.base, True, None)


@pytest.mark.parametrize(
    ("overrides", "field"),
    [
        ({"group_size": 100}, "overrides.group_size"),
        ({"calibration": {"samples": 0}}, "overrides.calibration.samples"),
        ({"calibration": {"sources": []}}, "overrides.calibration.sources"),
        ({"calibration": {"sources": [{"kind": "hub", "label": "x", "repo_id": "a;b", "template": "text"}]}},
         "overrides.calibration.sources[0].repo_id"),
        ({"calibration": {"sources": [{"kind": "file", "file": "relative.jsonl"}]}},
         "overrides.calibration.sources[0].file"),
        ({"calibration": {"min_tokens_per_chunk": 4096}}, "overrides.calibration.min_tokens_per_chunk"),
        ({"ignore": ["; rm"]}, "overrides.ignore[0]"),
        ({"method": "rtn"}, "overrides.method"),
        ({"sampels": 3}, "overrides.sampels"),
        ({"hardware": 3}, "overrides.hardware"),
        ([], "overrides"),
    ],
)  # fmt: skip
def test_a_bad_override_names_its_field(overrides: Any, field: str) -> None:
    with pytest.raises(InputError) as refused:
        with_overrides(RECIPES["w4a16-gptq"], overrides)
    assert refused.value.field == field


def test_overrides_are_merged_into_the_recipe() -> None:
    recipe, hardware = with_overrides(
        RECIPES["w4a16-gptq"], {"group_size": 64, "calibration": {"samples": 8}, "hardware": "cpu"}
    )
    assert (recipe.group_size, hardware) == (64, "cpu")
    assert recipe.calibration is not None
    assert (recipe.calibration.samples, recipe.calibration.max_seq_length) == (8, 2048)


def test_a_group_size_that_does_not_divide_is_refused_with_the_layers_name() -> None:
    layers = [Linear("model.layers.0.q_proj", 576, 576), Linear("model.layers.0.down_proj", 576, 1536)]
    with pytest.raises(InputError, match=r"128 does not divide model\.layers\.0\.q_proj, which has 576") as refused:
        check_groups(layers, RECIPES["w4a16-gptq"])
    assert refused.value.field == "overrides.group_size"
    assert refused.value.hint == "Accepted for this model: 64, 32, 16."
    check_groups(layers, with_overrides(RECIPES["w4a16-gptq"], {"group_size": 64})[0])
    check_groups(layers, RECIPES["fp8-dynamic"])


def test_what_is_on_the_ignore_list_stays() -> None:
    layers = shape(
        Linear("model.language_model.layers.0.mlp.up_proj", 8, 8), Linear("lm_head", 8, 4),
        Linear("model.vision_tower.transformer.layers.0.attention.q_proj", 8, 2),
        Linear("model.multi_modal_projector.linear_1", 8, 1),
    )  # fmt: skip
    recipe = RECIPES["w8a8-gptq"]
    assert [one.name for one in quantized_linears(layers, recipe)] == ["model.language_model.layers.0.mlp.up_proj"]
    one_target, _ = with_overrides(recipe, {"targets": ["re:.*down_proj"]})
    assert quantized_linears(layers, one_target) == ()
    assert {part.name: part.size_bytes for part in kept_parts(layers, recipe)} == {
        "embeddings": 100, "lm_head": 64, "vision tower": 32, "projector": 16,
    }  # fmt: skip


def test_bundled_data_stands_in_for_the_models_that_come_with_diptych() -> None:
    for pair, recipe_id, name in (
        ("embedded", "w4a16-gptq", "embedded-pictures"),
        ("embedded", "w4a16-autoround", "embedded-text"),
        ("smollm2-135m", "w8a8-gptq", "text"),
    ):
        recipe, note = with_defaults_for(RECIPES[recipe_id], {}, target(pair))
        plan = plan_calibration(recipe, ROOT / "assets", Path("/nowhere"), None)
        assert note
        assert plan.settings is not None
        (source,) = plan.settings["sources"]
        assert source["file"] == str(ROOT / "assets" / "calibration" / name)
        assert not plan.reads_hub


def test_a_hubs_data_stays_for_other_models_and_where_it_was_asked_for() -> None:
    large = target("mistral-small-3.2-24b")
    recipe, note = with_defaults_for(RECIPES["w4a16-autoround"], {}, large)
    assert (recipe, note) == (RECIPES["w4a16-autoround"], "")
    plan = plan_calibration(recipe, ROOT / "assets", Path("/nowhere"), None)
    assert len(plan.reads_hub) == 4
    assert "is empty and left out" in plan.notes[0]
    wished = {"calibration": {"sources": [{"kind": "bundled", "name": "text"}]}}
    recipe, _ = with_overrides(RECIPES["w4a16-gptq"], wished)
    assert with_defaults_for(recipe, wished, target()) == (recipe, "")


def test_sources_that_cannot_be_read_are_refused_before_the_start(tmp_path: Path) -> None:
    def plan(*sources: dict[str, Any]) -> None:
        recipe, _ = with_overrides(RECIPES["w4a16-gptq"], {"calibration": {"sources": list(sources)}})
        plan_calibration(recipe, ROOT / "assets", tmp_path, None)

    with pytest.raises(InputError) as refused:
        plan({"kind": "file", "file": "/nowhere/rows.jsonl"})
    assert refused.value.field == "overrides.calibration.sources[0].file"
    with pytest.raises(InputError, match="every source is an empty slot"):
        plan({"kind": "slot", "label": "Mine", "original": "theirs.txt"})


def test_needs_grow_with_the_work() -> None:
    layers = shape(*(Linear(f"model.layers.0.mlp.{name}", 1024, 1024) for name in ("up_proj", "gate_proj")))
    recipe = RECIPES["w4a16-gptq"]
    little = Work(layers, recipe, 2**30, counted_tokens=1000)
    much = Work(layers, recipe, 2**30, counted_tokens=1_000_000)
    assert seconds_of(much, 1e10) > 10 * seconds_of(little, 1e10) - 900
    assert (
        needs_of(much, on_gpu=False, emulate=True).disk_bytes > needs_of(much, on_gpu=False, emulate=False).disk_bytes
    )
    assert needs_of(little, on_gpu=False, emulate=False).gpu_memory_bytes == 0
    assert needs_of(little, on_gpu=True, emulate=False).gpu_memory_bytes > 0


@pytest.mark.parametrize("recipe_id", sorted(RECIPES))
def test_the_complete_script_stands_alone(recipe_id: str) -> None:
    recipe = RECIPES[recipe_id]
    spec = {"model": "owner/na'm\"e", "recipe": recipe.for_tool(), "note": '\\ and """ survive'}
    script = complete_script(recipe.tool, spec)
    tree = ast.parse(script)
    modules = {node.module or "" for node in ast.walk(tree) if isinstance(node, ast.ImportFrom)}
    modules |= {alias.name for node in ast.walk(tree) if isinstance(node, ast.Import) for alias in node.names}
    assert not any(module.startswith("components") for module in modules)
    assigned = next(
        node.value for node in tree.body
        if isinstance(node, ast.AnnAssign) and isinstance(node.target, ast.Name) and node.target.id == "SPEC"
    )  # fmt: skip
    assert assigned is not None
    assert json.loads(ast.literal_eval(assigned)) == spec
    names = [node.name for node in tree.body if isinstance(node, ast.FunctionDef | ast.ClassDef)]
    assert len(names) == len(set(names)), "two parts of the script have a function of the same name"
    assert re.search(r"^#   (llmcompressor|auto-round)==[0-9.]+$", script, flags=re.MULTILINE)


def test_a_recipe_edited_on_the_page_is_checked_like_a_file() -> None:
    text = (ROOT / "profiles" / "recipes" / "w4a16-gptq.yaml").read_text()
    assert isinstance(read_recipe(text.encode(), "recipe"), RecipeProfile)
    with pytest.raises(ProfileError, match=r"recipe:\d+") as refused:
        read_recipe(text.replace("group_size: 128", "group_size: 100").encode(), "recipe")
    assert refused.value.field == "group_size"
    with pytest.raises(ProfileError, match="needs calibration data"):
        read_recipe(text.split("calibration:")[0].encode(), "recipe")
