"""The form: recipes as fields, changes as overrides, YAML that must be YAML."""

from __future__ import annotations

from pathlib import Path

import pytest

from components.core.errors import InputError, ProfileError
from components.engines.catalog import Catalog
from components.profiles.loader import list_pairs, load_pair, load_recipes
from components.quantize.form_view import differences, form_view, merge, read_spec, wish_of

PROFILES = Path(__file__).parents[3] / "profiles"


def test_every_recipe_and_every_local_base_can_be_chosen() -> None:
    recipes, errors = load_recipes(PROFILES)
    assert errors == ()
    pairs, _ = list_pairs(PROFILES)
    shown = form_view(Catalog(pairs), recipes, (), may_control=True)
    assert {"embedded/base", "smollm2-135m/base"} <= {model["id"] for model in shown["models"]}
    assert len(shown["recipes"]) == 9
    for recipe in shown["recipes"]:
        assert recipe["description"] and recipe["chips"]
        names = [field["name"] for field in recipe["fields"]]
        assert len(set(names)) == len(names)
        assert ("calibration.samples" in names) == recipe["takes_data"]


def test_changes_and_yaml_become_one_spec() -> None:
    data = {
        "model": "embedded/base", "recipe": "w4a16-gptq", "key": "k",
        "overrides": {"group_size": 64, "calibration": {"samples": 16}},
        "yaml": "block_size: 64\ncalibration:\n  batch_size: 2\n",
    }  # fmt: skip
    assert read_spec(data) == {
        "model": "embedded/base", "recipe": "w4a16-gptq",
        "overrides": {"group_size": 64, "calibration": {"samples": 16, "batch_size": 2}, "block_size": 64},
    }  # fmt: skip


@pytest.mark.parametrize(
    "text", ["a: [", "- just\n- a list", "x" * 30_000, "a: 1\na: 2", "!!python/object:os.system {}"]
)
def test_what_is_no_mapping_is_refused_by_name(text: str) -> None:
    with pytest.raises(InputError) as caught:
        read_spec({"model": "m", "recipe": "r", "yaml": text})
    assert caught.value.field == "overrides"
    assert caught.value.hint or caught.value.message


def test_a_spec_without_anything_is_empty_and_not_a_crash() -> None:
    assert read_spec({}) == {"model": "", "recipe": "", "overrides": {}}
    assert read_spec({"overrides": "nonsense", "model": None}) == {"model": "", "recipe": "", "overrides": {}}


def test_the_later_setting_counts() -> None:
    assert merge({"a": {"b": 1, "c": 2}, "d": 3}, {"a": {"b": 4}, "d": {"e": 5}}) == {
        "a": {"b": 4, "c": 2},
        "d": {"e": 5},
    }


def test_a_duplicate_asks_for_the_same_again() -> None:
    recipes, _ = load_recipes(PROFILES)
    pair = load_pair(PROFILES, "embedded")
    shipped = next(recipe for recipe in recipes if recipe.id == "w4a16-gptq")
    assert shipped.calibration is not None
    used = shipped.model_copy(
        update={"group_size": 64, "calibration": shipped.calibration.model_copy(update={"samples": 16})}
    )
    spec = {"pair": pair.model_dump(mode="json"), "model_id": "base", "recipe": used.model_dump(mode="json")}
    wish = wish_of(spec, recipes, {"embedded"})
    changed = {"group_size": 64, "calibration": {"samples": 16}}
    assert wish == {"model": "embedded/base", "recipe": "w4a16-gptq", "overrides": changed}
    assert wish_of(spec, recipes, set())["model"] == "assets/embedded/base"
    assert wish_of({}, recipes, set()) == {"model": "", "recipe": "", "overrides": {}}


def test_equal_things_do_not_differ() -> None:
    assert differences({"a": {"b": 1}, "c": [1]}, {"a": {"b": 1}, "c": [1]}) == {}
    assert differences({"a": {"b": 1}}, {"a": None, "d": 2}) == {"a": None, "d": 2}


def test_a_recipe_that_can_not_be_read_is_told_to_its_owner_only() -> None:
    problem = ProfileError("mine.yaml, line 3: group_size is 100.", "Accepted: 16, 32, 64, 128, 256.")
    shown = form_view(Catalog([]), (), (), (problem,), may_control=True)
    assert shown["problems"] == ["mine.yaml, line 3: group_size is 100. Accepted: 16, 32, 64, 128, 256."]
    assert form_view(Catalog([]), (), (), (problem,), may_control=False)["problems"] == []
