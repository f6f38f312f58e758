"""A model's layers and what a recipe does to them, from the headers of its files or from published figures. Pure."""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from components.core.errors import InputError
from components.profiles.recipe import RecipeProfile
from components.quantize.folders import Tensors
from components.quantize.plan_records import KeptPart
from components.quantize.summary import part_of

BYTES_16_BIT = 2
_GROUP_OF_SCHEME = {"NVFP4A16": 16, "NVFP4": 16, "MXFP4": 32, "W4A16": 128}
_BITS = {"W8A8": 8, "W8A16": 8, "FP8-Dynamic": 8, "W4A16": 4, "NVFP4A16": 4, "NVFP4": 4, "MXFP4": 4}
_SCALE_BYTES = {"W4A16": 2.0, "NVFP4A16": 1.0, "NVFP4": 1.0, "MXFP4": 1.0}
_LINEAR_DIMENSIONS = 2


@dataclass(frozen=True)
class Linear:
    """One matrix; ``name`` as the tool knows it."""

    name: str
    rows: int
    columns: int

    @property
    def weights(self) -> int:
        """How many."""
        return self.rows * self.columns


@dataclass(frozen=True)
class ModelShape:
    """What is known of a model without running it."""

    architecture: str
    layers: int
    hidden: int
    linears: tuple[Linear, ...]  # every matrix that could be quantized
    other_bytes: Mapping[str, int]  # the rest in 16 bits, by part
    from_files: bool

    @property
    def size_bytes(self) -> int:
        """Of the whole model in 16 bits."""
        return BYTES_16_BIT * sum(one.weights for one in self.linears) + sum(self.other_bytes.values())


def shape_of_files(tensors: Tensors, config: Mapping[str, Any]) -> ModelShape:
    """From the headers of the weight files and config.json."""
    text = config.get("text_config") or config
    linears, others = [], dict[str, int]()
    for name, tensor in tensors.by_name.items():
        part = part_of(name)
        is_matrix = len(tensor.shape) == _LINEAR_DIMENSIONS and name.endswith(".weight") and part != "embeddings"
        if is_matrix:
            linears.append(Linear(tool_name(name), *tensor.shape))
        else:
            others[part] = others.get(part, 0) + tensor.size_bytes
    return ModelShape(
        architecture=str((config.get("architectures") or ["unknown"])[0]),
        layers=int(text.get("num_hidden_layers", 0)),
        hidden=int(text.get("hidden_size", 0)),
        linears=tuple(linears),
        other_bytes=others,
        from_files=True,
    )


def shape_of_figures(figures: Mapping[str, Any]) -> ModelShape:
    """From published figures; the vision part is one number without layers."""
    hidden, wide = figures["hidden_size"], figures["intermediate_size"]
    queries = figures["attention_heads"] * figures["head_dim"]
    keys = figures["kv_heads"] * figures["head_dim"]
    vision = figures["architecture"].endswith("ForConditionalGeneration")
    prefix = "model.language_model.layers" if vision else "model.layers"
    shapes = {
        "self_attn.q_proj": (queries, hidden), "self_attn.k_proj": (keys, hidden), "self_attn.v_proj": (keys, hidden),
        "self_attn.o_proj": (hidden, queries), "mlp.gate_proj": (wide, hidden), "mlp.up_proj": (wide, hidden),
        "mlp.down_proj": (hidden, wide),
    }  # fmt: skip
    linears = [
        Linear(f"{prefix}.{layer}.{name}", *shape)
        for layer in range(figures["layers"])
        for name, shape in shapes.items()
    ]
    table = figures["vocabulary"] * hidden
    if not figures["tied_head"]:
        linears.append(Linear("lm_head", figures["vocabulary"], hidden))
    others = {"embeddings": BYTES_16_BIT * table}
    if figures["other_parameters"]:
        others["vision tower and projector"] = BYTES_16_BIT * figures["other_parameters"]
    return ModelShape(figures["architecture"], figures["layers"], hidden, tuple(linears), others, from_files=False)


def tool_name(name: str) -> str:
    """A tensor's module as the tools name it in memory."""
    module = name.removesuffix(".weight")
    for old, new in (
        ("language_model.model.", "model.language_model."),
        ("language_model.lm_head", "lm_head"),
        ("vision_encoder.", "model.vision_tower."),
        ("vision_tower.", "model.vision_tower."),
        ("multi_modal_projector.", "model.multi_modal_projector."),
        ("vision_language_adapter.", "model.multi_modal_projector."),
        ("patch_merger.", "model.multi_modal_projector.patch_merger."),
    ):
        if module.startswith(old):
            return new + module.removeprefix(old)
    return module


def quantized_linears(shape: ModelShape, recipe: RecipeProfile) -> tuple[Linear, ...]:
    """The matrices that a recipe quantizes: its targets but its ignore list; AutoRound's are the decoder's."""
    kept = [one for one in shape.linears if any(_matches(pattern, one.name) for pattern in recipe.targets)]
    kept = [one for one in kept if not any(_matches(pattern, one.name) for pattern in recipe.ignore)]
    if recipe.method == "autoround":
        kept = [one for one in kept if "layers." in one.name and "vision" not in one.name]
    return tuple(kept)


def _matches(pattern: str, name: str) -> bool:
    if not pattern.startswith("re:"):
        return pattern in (name, "Linear")
    try:
        return re.match(pattern.removeprefix("re:"), name) is not None
    except re.error as exc:
        raise InputError(f"{pattern} is no regular expression: {exc}.", field="overrides.ignore") from exc


def group_size_of(recipe: RecipeProfile) -> int | None:
    """Weights that share a scale; None = a whole row."""
    return recipe.group_size or _GROUP_OF_SCHEME.get(recipe.scheme)


def check_groups(linears: Iterable[Linear], recipe: RecipeProfile) -> None:
    """Refuse a group size that does not divide a layer.

    Raises:
        InputError: names the layer, its width, and what would divide all of them.
    """
    group = group_size_of(recipe)
    if group is None:
        return
    listed = list(linears)
    for one in listed:
        if one.columns % group:
            fitting = [size for size in (256, 128, 64, 32, 16) if all(each.columns % size == 0 for each in listed)]
            hint = f"Accepted for this model: {', '.join(map(str, fitting))}." if fitting else "Choose another scheme."
            message = f"A group size of {group} does not divide {one.name}, which has {one.columns} inputs."
            raise InputError(message, hint, field="overrides.group_size")


def size_after_bytes(shape: ModelShape, recipe: RecipeProfile) -> int:
    """By formula, scales and zero points included."""
    chosen = quantized_linears(shape, recipe)
    group = group_size_of(recipe)
    scale = _SCALE_BYTES.get(recipe.scheme, 2.0)
    with_zeros = recipe.method == "autoround" or recipe.symmetric is False
    zero = 0.5 if with_zeros else 0.0
    packed = 0.0
    for one in chosen:
        scales = one.rows * (math.ceil(one.columns / group) if group else 1)
        packed += one.weights * _BITS[recipe.scheme] / 8 + scales * (scale + zero)
    plain = shape.size_bytes - BYTES_16_BIT * sum(one.weights for one in chosen)
    return int(plain + packed)


def kept_parts(shape: ModelShape, recipe: RecipeProfile) -> tuple[KeptPart, ...]:
    """What stays in 16 bits, by part."""
    sizes = dict(shape.other_bytes)
    chosen = {one.name for one in quantized_linears(shape, recipe)}
    for one in shape.linears:
        if one.name not in chosen:
            part = _part(one.name)
            sizes[part] = sizes.get(part, 0) + BYTES_16_BIT * one.weights
    return tuple(KeptPart(name=name, size_bytes=size) for name, size in sorted(sizes.items()))


def _part(name: str) -> str:
    if "vision" in name:
        return "vision tower"
    if "projector" in name:
        return "projector"
    return "lm_head" if name.endswith("lm_head") else "decoder layers"
