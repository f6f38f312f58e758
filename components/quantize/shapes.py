"""A model's layers and what a recipe does to them, from the headers of its files or from published figures. Pure."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from components.core.errors import InputError
from components.core.model_shape import BYTES_16_BIT, GROUP_OF_SCHEME, Linear, architecture_of, packed_bytes
from components.engines.tensor_parts import part_of
from components.profiles.recipe import RecipeProfile
from components.quantize.folders import Tensors
from components.quantize.plan_records import KeptPart

_LINEAR_DIMENSIONS = 2


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
    model = architecture_of(figures)
    vision = figures["architecture"].endswith("ForConditionalGeneration")
    prefix = "model.language_model.layers" if vision else "model.layers"
    linears = [
        Linear(f"{prefix}.{layer}.{matrix.name}", matrix.rows, matrix.columns)
        for layer in range(model.layers)
        for matrix in model.layer_matrices()
    ]
    table = model.vocabulary * model.hidden
    if not figures["tied_head"]:
        linears.append(Linear("lm_head", model.vocabulary, model.hidden))
    others = {"embeddings": BYTES_16_BIT * table}
    if figures["other_parameters"]:
        others["vision tower and projector"] = BYTES_16_BIT * figures["other_parameters"]
    return ModelShape(figures["architecture"], model.layers, model.hidden, tuple(linears), others, from_files=False)


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
    return recipe.group_size or GROUP_OF_SCHEME.get(recipe.scheme)


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
    with_zeros = recipe.method == "autoround" or recipe.symmetric is False
    packed = sum(packed_bytes(one, recipe.scheme, group, zero_points=with_zeros) for one in chosen)
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
