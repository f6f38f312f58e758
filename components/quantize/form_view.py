"""Recipes and plans → plain values that assets/js/quantize.js draws; what the form sends → a spec. Pure."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from typing import Any

from components.core.errors import AppError, InputError, ProfileError
from components.engines.catalog import Catalog
from components.engines.memory import in_gib
from components.profiles.recipe import (
    BundledSource,
    FileSource,
    FlipsSource,
    HubDataSource,
    RecipeProfile,
    ReviewSource,
    SlotSource,
)
from components.profiles.strict_yaml import parse
from components.quantize.overrides import merge
from components.quantize.plan_records import Plan
from components.quantize.view_model import duration, size

_MAX_YAML_CHARACTERS = 20_000
_NAMING = ("kind", "name", "repo_id", "file", "batch_id", "outcome", "model")
_VERDICTS = {"ok": "✓", "warn": "!", "fail": "✕"}
_METHODS = {
    "gptq": "GPTQ", "smoothquant-gptq": "SmoothQuant, then GPTQ", "awq": "AWQ", "rtn": "rounding to nearest",
    "autoround": "AutoRound",
}  # fmt: skip


def form_view(
    catalog: Catalog, recipes: Sequence[RecipeProfile], own_data: Sequence[dict[str, Any]],
    problems: Sequence[AppError] = (), *, may_control: bool,
) -> dict[str, Any]:  # fmt: skip
    """What can be chosen, and which files of recipes can't; ``own_data`` is what ``QuantizeService.own_data`` gives."""
    models = [
        {"id": pair.engine_id(pair.base), "label": f"{pair.title} · {pair.base.label}"}
        for pair in catalog.pairs
        if pair.base.source.kind != "remote"
    ]
    return {
        "models": models,
        "recipes": [_recipe_view(recipe) for recipe in recipes],
        "may_control": may_control,
        "own_data": list(own_data) if may_control else [],
        "problems": [str(error) for error in problems] if may_control else [],
    }


def _recipe_view(recipe: RecipeProfile) -> dict[str, Any]:
    chips = [recipe.scheme, _METHODS.get(recipe.method, recipe.method)]
    chips += [f"card {recipe.card}"] if recipe.card else []
    chips += ["needs a GPU"] if recipe.needs_gpu else []
    return {
        "id": recipe.id,
        "title": recipe.title,
        "description": recipe.description,
        "chips": chips,
        "differs": list(recipe.differs_from_card),
        "fields": _fields(recipe),
        "sources": [_source_words(source) for source in recipe.calibration.sources] if recipe.calibration else [],
        "takes_data": recipe.calibration is not None,
    }


def _fields(recipe: RecipeProfile) -> list[dict[str, Any]]:
    """The recipe's numbers and lists that people change most; every other field can be set as YAML."""
    fields = [
        _field("group_size", "Group size", recipe.group_size, "Weights that share a scale; empty = the scheme's own"),
        _field("seed", "Seed", recipe.seed, "Of shuffling and sampling"),
    ]
    if recipe.method == "autoround":
        fields.append(_field("iterations", "Iterations", recipe.iterations, "Steps per block; fewer is faster"))
    if recipe.method == "smoothquant-gptq":
        strength = recipe.smoothing_strength
        fields.append(
            _field("smoothing_strength", "Smoothing strength", strength, "How much moves to the weights, 0 to 1")
        )
    if recipe.calibration is not None:
        data = recipe.calibration
        fields += [
            _field("calibration.samples", "Samples", data.samples, "Calibration samples"),
            _field("calibration.max_seq_length", "Longest sample", data.max_seq_length, "Tokens"),
            _field("calibration.batch_size", "Batch", data.batch_size, "Samples computed together"),
        ]
    ignored = "Names of modules, or re: and an expression; one a line"
    return [*fields, _field("ignore", "Stays in 16 bits", list(recipe.ignore), ignored)]


def _field(name: str, label: str, value: Any, help_text: str) -> dict[str, Any]:
    kind = "lines" if isinstance(value, list) else "number"
    return {"name": name, "label": label, "value": value, "help": help_text, "kind": kind}


def _source_words(source: Any) -> str:
    if isinstance(source, BundledSource):
        return f"{source.name}, comes with Diptych"
    if isinstance(source, HubDataSource):
        return f"{source.label} ({source.repo_id}, from the hub)"
    if isinstance(source, SlotSource):
        return f"{source.label}: a place for your own file"
    if isinstance(source, FileSource):
        return source.label or source.file
    if isinstance(source, ReviewSource):
        return f"review items: {source.outcome or 'all'}"
    if isinstance(source, FlipsSource):
        return f"benchmark items that {source.model} lost"
    return f"{len(source.trace_ids)} turns of this app"


def read_spec(data: Mapping[str, Any]) -> dict[str, Any]:
    """The form's values as a spec: ``{model, recipe, overrides}``.

    Raises:
        InputError: the YAML is none, or is no mapping; the field is named.
    """
    overrides = dict(data.get("overrides") or {}) if isinstance(data.get("overrides"), dict) else {}
    text = str(data.get("yaml") or "")
    if len(text) > _MAX_YAML_CHARACTERS:
        raise InputError(
            "The further settings are too long.", f"At most {_MAX_YAML_CHARACTERS:,} characters.", field="overrides"
        )
    if text.strip():
        try:
            further = parse(text.encode("utf-8", errors="replace"), "overrides").plain()
        except ProfileError as exc:
            raise InputError(exc.message, exc.hint, field="overrides") from exc
        if not isinstance(further, dict):
            raise InputError(
                "The further settings are no mapping.", "Write lines like: block_size: 64", field="overrides"
            )
        overrides = merge(overrides, further)
    return {"model": str(data.get("model") or ""), "recipe": str(data.get("recipe") or ""), "overrides": overrides}


def wish_of(spec: Mapping[str, Any], recipes: Sequence[RecipeProfile], known_pairs: Collection[str]) -> dict[str, Any]:
    """What a person would have to ask for to get a job with this spec (a ``JobSpec``'s fields): for "Duplicate".

    Its recipe is told as differences from the recipe of that name as it is now.
    """
    pair, used = spec.get("pair") or {}, spec.get("recipe") or {}
    if not isinstance(pair, dict) or not isinstance(used, dict):
        return {"model": "", "recipe": "", "overrides": {}}
    source: dict[str, Any] = next(
        (model["source"] for model in pair.get("models", ()) if model.get("id") == spec.get("model_id")), {}
    )
    outside = source.get("repo_id") or source.get("folder") or ""
    model = f"{pair.get('id')}/{spec.get('model_id')}" if pair.get("id") in known_pairs else outside
    recipe = next((one for one in recipes if one.id == used.get("id")), None)
    overrides = differences(recipe.model_dump(mode="json"), used) if recipe else {}
    return {"model": model, "recipe": str(used.get("id") or ""), "overrides": overrides}


def differences(old: Mapping[str, Any], new: Mapping[str, Any]) -> dict[str, Any]:
    """What of ``new`` is not so in ``old``; nested mappings field by field."""
    found: dict[str, Any] = {}
    for name, value in new.items():
        own = old.get(name)
        if isinstance(own, dict) and isinstance(value, dict):
            if inner := differences(own, value):
                found[name] = inner
        elif own != value:
            found[name] = value
    return found


def plan_view(plan: Plan, recipes: Sequence[RecipeProfile]) -> dict[str, Any]:
    """What a job would do and need, and what of its recipe differs from the one that was chosen."""
    chosen = next((recipe for recipe in recipes if recipe.id == plan.recipe.id), plan.recipe)
    before, after = plan.size_before_bytes, plan.size_after_bytes
    facts = [
        ["Model", plan.model],
        [
            "Size",
            f"{size(before)} → about {size(after)}" if before and after else "not known before the files are here",
        ],
    ]
    if plan.needs.gpu_memory_bytes:
        facts.append(["GPU memory", f"about {in_gib(plan.needs.gpu_memory_bytes)}"])
    time = f"about {duration(plan.time_estimate_s)}" if plan.time_estimate_s is not None else "not known"
    facts.append(["Time", f"{time} ({plan.time_basis})" if plan.time_basis else time])
    kept = [
        [part.name, size(part.size_bytes) if part.size_bytes is not None else "not known"] for part in plan.stays_16_bit
    ]
    items = [
        {"name": item.name, "verdict": item.verdict, "sign": _VERDICTS[item.verdict], "sentence": item.sentence}
        for item in plan.preflight
    ]
    return {
        "facts": facts,
        "kept": kept,
        "preflight": items,
        "changes": change_rows(chosen.model_dump(mode="json"), plan.recipe.model_dump(mode="json")),
        "takes_data": plan.recipe.calibration is not None,
        "can_start": plan.can_start and not plan.not_yet_run_here,
        "notes": _notes(plan),
        "stops": list(plan.stops),
        "script": plan.script,
        "requirements": list(plan.requirements),
        "tool": plan.tool,
    }


def change_rows(old: Mapping[str, Any], new: Mapping[str, Any], within: str = "") -> list[list[str]]:
    """Fields that differ: name, before, after."""
    rows = []
    for name, value in differences(old, new).items():
        before = old.get(name)
        if isinstance(before, dict) and isinstance(value, dict):
            rows += change_rows(before, {**before, **value}, f"{within}{name}.")
        else:
            rows.append([within + name, _value_words(before), _value_words(value)])
    return rows


def _value_words(value: Any) -> str:
    if value is None:
        return "nothing"
    if isinstance(value, dict):
        return " ".join(str(part) for key, part in value.items() if key in _NAMING and part) or str(value)
    if isinstance(value, list):
        return ", ".join(_value_words(part) for part in value) or "nothing"
    return str(value)


def preview_view(preview: Mapping[str, Any] | None) -> dict[str, Any]:
    """The calibration set in words and samples."""
    if preview is None:
        hint = "The data or the model's tokenizer is not on this machine yet; the job reads them when it starts."
        return {"facts": [["Preview", hint]], "sources": [], "samples": []}
    tokens = preview["tokens"]
    facts = [
        [
            "Samples",
            f"{preview['samples']} of {preview['samples_asked']} asked for, "
            f"{preview['samples_with_pictures']} with pictures",
        ],
        ["Tokens", f"{tokens['all']:,} in all, {tokens['shortest']:,} to {tokens['longest']:,} a sample"],
        ["Tokenizer", str(preview["tokenizer"])],
    ]
    sources = [
        [str(source["name"]), f"{source['rows']:,} rows, {source['tokens']:,} tokens" + _dropped(source["dropped"])]
        for source in preview["sources"]
    ]
    samples = [
        {"title": f"{sample['tokens']:,} tokens" + _pictures(sample["pictures"]), "text": str(sample["text"])}
        for sample in preview["shown"]
    ]
    return {"facts": facts, "sources": sources, "samples": samples}


def _dropped(dropped: Mapping[str, int]) -> str:
    return "; left out: " + ", ".join(f"{count} {reason}" for reason, count in dropped.items()) if dropped else ""


def _pictures(sizes: Sequence[Sequence[int]]) -> str:
    return "".join(f", picture of {width} × {height} pixels" for height, width in sizes)


def _notes(plan: Plan) -> list[str]:
    notes = []
    if plan.not_yet_run_here:
        notes.append(
            "Not yet run here: this machine can't run it. The script below is complete; take it to one that can."
        )
    if plan.emulated:
        notes.append("Emulated: this machine has no kernel for the scheme, so its result is served decompressed.")
    return notes


def refusal_view(error: AppError) -> dict[str, Any]:
    """Why there is no plan: the field and what is accepted."""
    return {"field": error.field or "", "message": error.message, "hint": error.hint}
