"""Tiny checkpoints for the preparation tests: real safetensors files, made without torch."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
from safetensors.numpy import save_file

HEADS, WIDTH = 2, 8


def vision_tensors() -> dict[str, np.ndarray]:
    """The vision part of a one-layer Pixtral under Hugging Face's names, every value different."""
    shapes = {
        "vision_tower.patch_conv.weight": (WIDTH, 3, 2, 2),
        "vision_tower.ln_pre.weight": (WIDTH,),
        "vision_tower.transformer.layers.0.attention_norm.weight": (WIDTH,),
        "vision_tower.transformer.layers.0.ffn_norm.weight": (WIDTH,),
        "vision_tower.transformer.layers.0.attention.q_proj.weight": (WIDTH, WIDTH),
        "vision_tower.transformer.layers.0.attention.k_proj.weight": (WIDTH, WIDTH),
        "vision_tower.transformer.layers.0.attention.v_proj.weight": (WIDTH, WIDTH),
        "vision_tower.transformer.layers.0.attention.o_proj.weight": (WIDTH, WIDTH),
        "vision_tower.transformer.layers.0.feed_forward.gate_proj.weight": (16, WIDTH),
        "vision_tower.transformer.layers.0.feed_forward.up_proj.weight": (16, WIDTH),
        "vision_tower.transformer.layers.0.feed_forward.down_proj.weight": (WIDTH, 16),
        "multi_modal_projector.norm.weight": (WIDTH,),
        "multi_modal_projector.patch_merger.merging_layer.weight": (WIDTH, 4 * WIDTH),
        "multi_modal_projector.linear_1.weight": (WIDTH, WIDTH),
        "multi_modal_projector.linear_2.weight": (WIDTH, WIDTH),
    }
    tensors, start = {}, 0
    for name, shape in shapes.items():
        count = int(np.prod(shape))
        tensors[name] = np.arange(start, start + count, dtype=np.float32).reshape(shape)
        start += count
    return tensors


def language_tensors(prefix: str = "language_model.model.") -> dict[str, np.ndarray]:
    return {f"{prefix}layers.{n}.mlp.up_proj.weight": np.full((4, 4), n, dtype=np.float32) for n in range(2)}


def write_json(path: Path, document: dict[str, Any]) -> None:
    path.write_text(json.dumps(document))


def write_small_files(folder: Path, **config: Any) -> None:
    vision = {"num_attention_heads": HEADS, "image_size": 1540}
    write_json(folder / "config.json", {"model_type": "mistral3", "vision_config": vision, **config})
    write_json(folder / "params.json", {"dim": 8, "vision_encoder": vision | {"max_image_size": 1540}})
    write_json(folder / "tekken.json", {"config": {}, "vocab": [], "image": {"max_image_size": 1540}})


def write_sharded(folder: Path, **config: Any) -> Path:
    """A repository of two shards; the second holds some language tensors and the vision part."""
    folder.mkdir(parents=True)
    language, vision = language_tensors(), vision_tensors()
    first, second = [dict([item]) for item in language.items()]
    shards = {"model-00001-of-00002.safetensors": first, "model-00002-of-00002.safetensors": second | vision}
    for file, tensors in shards.items():
        save_file(tensors, folder / file)
    weight_map = {name: file for file, tensors in shards.items() for name in tensors}
    write_json(folder / "model.safetensors.index.json", {"metadata": {}, "weight_map": weight_map})
    write_small_files(folder, **config)
    return folder


def pair_document(folder: str = "model", *, prepare: str = "mistral-vision-names", **model: Any) -> dict[str, Any]:
    base = {"id": "base", "role": "base", "label": "Base", "scheme": "BF16", "description": "A base.",
            "source": {"kind": "local", "folder": folder}, "prepare": prepare, **model}  # fmt: skip
    return {"schema_version": 1, "kind": "pair", "id": "tiny", "title": "Tiny", "description": "A tiny pair.",
            "vision": True, "max_image_size": 1024, "max_images": 1, "models": [base]}  # fmt: skip
