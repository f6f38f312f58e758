"""Model folders on both sides of a tool: Hugging Face names for it to read, and what it wrote made servable.

Works on bytes of safetensors files: names, places and the order of rows; it computes nothing. See
``engines/prepare_vision.py`` for the names and why a wrong one makes a model blind.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import orjson

from components.core.errors import JobError
from components.engines.prepare_files import INDEX, Files, link_all, list_files, new_index, read_json, read_shards
from components.engines.prepare_settings import vision_heads, with_quantization
from components.engines.prepare_shards import Piece, Tensor, write_shard
from components.engines.prepare_vision import hugging_face_piece, is_mistral_vision, plan_shards
from components.engines.tensor_parts import canonical_name

Json = dict[str, Any]
_WEIGHT_SETTINGS = frozenset({"config.json", "params.json", "quantization_config.json", INDEX, "recipe.yaml"})
_VISION_PATTERNS = ("re:.*vision.*", "re:.*multi_modal_projector.*", "re:.*patch_merger.*")
# What a tool puts in the place of a weight.
_PACKED = (".weight_packed", ".qweight", ".weight")


@dataclass(frozen=True)
class Tensors:
    """The tensors of a checkpoint by name, each where the index says."""

    by_name: Mapping[str, Tensor]

    @property
    def size_bytes(self) -> int:
        """Of all of them."""
        return sum(tensor.size_bytes for tensor in self.by_name.values())


def tensors_of(files: Files) -> Tensors:
    """Every tensor once: a tool that went on after a stop can leave one in two files, and the index decides."""
    shards = read_shards(files)
    weight_map = read_json(files[INDEX]).get("weight_map", {}) if INDEX in files else {}
    found: dict[str, Tensor] = {}
    for file, tensors in shards.items():
        for name, tensor in tensors.items():
            if weight_map.get(name, file) == file:
                found[name] = tensor
    return Tensors(found)


def write_hugging_face_folder(files: Files, target: Path) -> None:
    """Links, and a rewritten vision part where it has Mistral's names.

    Raises:
        PreparationError: it has a tensor without a counterpart.
    """
    target.mkdir(parents=True, exist_ok=True)
    shards = read_shards(files)
    heads = vision_heads(_json(files, "params.json"), _json(files, "config.json")) if _is_mistral(shards) else 0
    weight_map: dict[str, list[str]] = {}
    kept = dict(files)
    kept.pop(INDEX, None)
    for file, tensors in shards.items():
        pieces = [
            hugging_face_piece(tensor, heads) if is_mistral_vision(name) else Piece(name, tensor)
            for name, tensor in tensors.items()
        ]
        if any(piece.name != piece.source.name for piece in pieces):
            write_shard(target / file, pieces, lambda _count: None)
            kept.pop(file)
        weight_map[file] = [piece.name for piece in pieces]
    link_all(kept, target)
    total = sum(tensor.size_bytes for tensors in shards.values() for tensor in tensors.values())
    (target / INDEX).write_bytes(new_index(weight_map, total))


def _is_mistral(shards: Mapping[str, Mapping[str, Tensor]]) -> bool:
    return any(is_mistral_vision(name) for tensors in shards.values() for name in tensors)


def write_served_folder(written: Path, base: Files, target: Path, *, vision: bool, recipe_text: str) -> None:
    """What a tool wrote, as a folder that vLLM serves rightly, with everything of the base that serving needs.

    Args:
        written: the tool's output.
        base: the base's files; its tokenizer, processor and generation settings are taken over as they are.
        vision: the model has a vision part.

    Raises:
        JobError: tensors are missing. PreparationError: a tensor has no counterpart in the served format.
    """
    target.mkdir(parents=True, exist_ok=True)
    made = list_files(written)
    mistral = "params.json" in base and "tekken.json" in base
    _write_weights(made, target, mistral=mistral and vision)
    small = {
        name: path for name, path in base.items() if not name.endswith(".safetensors") and name not in _WEIGHT_SETTINGS
    }
    for name, path in small.items():
        (target / name).write_bytes(path.read_bytes())
    config = _patched(read_json(made["config.json"]), vision=vision)
    (target / "config.json").write_bytes(_text(config))
    if "params.json" in base:
        params = with_quantization(read_json(base["params.json"]), config.get("quantization_config"))
        (target / "params.json").write_bytes(_text(params))
    if "quantization_config.json" in made:
        (target / "quantization_config.json").write_bytes(made["quantization_config.json"].read_bytes())
    (target / "recipe.yaml").write_text(recipe_text, encoding="utf-8")
    tied = bool(config.get("tie_word_embeddings"))
    check_complete(tensors_of(base), tensors_of(list_files(target)), tied=tied)


def _write_weights(made: Files, target: Path, *, mistral: bool) -> None:
    unique = tensors_of(made).by_name
    shards: dict[str, dict[str, Tensor]] = {}
    for name, tensor in unique.items():
        shards.setdefault(tensor.file.name, {})[name] = tensor
    pieces = {file: [Piece(name, tensor) for name, tensor in tensors.items()] for file, tensors in shards.items()}
    if mistral:
        plan = plan_shards(shards, vision_heads({}, _json(made, "config.json")))
        pieces |= {file: list(new) for file, new in plan.rewrite.items()}
    for file, kept in pieces.items():
        if kept:
            write_shard(target / file, kept, lambda _count: None)
    names = {file: [piece.name for piece in kept] for file, kept in pieces.items() if kept}
    total = sum(tensor.size_bytes for tensor in unique.values())
    (target / INDEX).write_bytes(new_index(names, total))


def _patched(config: Json, *, vision: bool) -> Json:
    """The tool's config.json; its list of modules left alone also covers the vision part's served names."""
    settings = config.get("quantization_config")
    if settings and vision and "ignore" in settings:
        kept = [name for name in settings["ignore"] if not name.startswith(("vision_tower.", "multi_modal_projector."))]
        kept = [name for name in kept if not name.startswith(("model.vision_tower.", "model.multi_modal_projector."))]
        config = config | {"quantization_config": settings | {"ignore": [*kept, *_VISION_PATTERNS]}}
    return config


def check_complete(base: Tensors, made: Tensors, *, tied: bool) -> None:
    """Every weight of the base is there, as it was or packed.

    Raises:
        JobError: one is missing, or a tensor of the vision part is not the base's.
    """
    there = {canonical_name(name): tensor for name, tensor in made.by_name.items()}
    for name, tensor in base.by_name.items():
        wanted = canonical_name(name)
        stem = wanted.removesuffix(".weight")
        if wanted not in there and not any(stem + ending in there for ending in _PACKED):
            if tied and wanted.endswith("lm_head.weight"):
                continue  # the head is the embedding, which is checked itself
            raise JobError(f"The tool's output lacks {name}.", "Look at the job's log; report this.")
        if is_mistral_vision(name) and there[wanted].size_bytes != tensor.size_bytes:
            raise JobError(f"{name} of the vision part was changed.", "Add it to the recipe's ignore list.")


def _json(files: Files, name: str) -> Json:
    return read_json(files[name]) if name in files else {}


def _text(document: Json) -> bytes:
    return orjson.dumps(document, option=orjson.OPT_INDENT_2) + b"\n"
