"""What a model is made of, as numbers: its matrices, what they take in a scheme, the shape of its attention. Pure."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from components.core.errors import InputError

BYTES_16_BIT = 2
# Weights that share a scale where the scheme itself says so; every other scheme has one scale for a whole row.
GROUP_OF_SCHEME: Mapping[str, int] = {"NVFP4A16": 16, "NVFP4": 16, "MXFP4": 32, "W4A16": 128}
_BITS = {"W8A8": 8, "W8A16": 8, "FP8-Dynamic": 8, "W4A16": 4, "NVFP4A16": 4, "NVFP4": 4, "MXFP4": 4}
_SCALE_BYTES = {"NVFP4A16": 1.0, "NVFP4": 1.0, "MXFP4": 1.0}
_ZERO_BYTES = 0.5
# Names of the same figure: Hugging Face's config.json, Mistral's params.json, assets/published/models.yaml.
_NAMES = {
    "layers": ("num_hidden_layers", "n_layers", "layers"),
    "hidden": ("hidden_size", "dim"),
    "intermediate": ("intermediate_size", "hidden_dim"),
    "heads": ("num_attention_heads", "n_heads", "attention_heads"),
    "kv_heads": ("num_key_value_heads", "n_kv_heads", "kv_heads", "num_attention_heads", "n_heads"),
    "vocabulary": ("vocab_size", "vocabulary"),
}
_MISTRAL_HEADS = 32  # transformers' default, which saved configurations of Mistral models leave out


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
class Architecture:
    """The figures of a model's configuration on which its memory rests; sizes as counts."""

    layers: int
    hidden: int
    intermediate: int
    heads: int
    kv_heads: int
    head_dim: int
    vocabulary: int
    patch: int | None = None  # pixels of a picture's side that become one token; None = takes no pictures

    def layer_matrices(self) -> tuple[Linear, ...]:
        """The matrices of one decoder layer, by the names that Llama's and Mistral's layers give them."""
        queries, keys = self.heads * self.head_dim, self.kv_heads * self.head_dim
        hidden, wide = self.hidden, self.intermediate
        return (
            Linear("self_attn.q_proj", queries, hidden), Linear("self_attn.k_proj", keys, hidden),
            Linear("self_attn.v_proj", keys, hidden), Linear("self_attn.o_proj", hidden, queries),
            Linear("mlp.gate_proj", wide, hidden), Linear("mlp.up_proj", wide, hidden),
            Linear("mlp.down_proj", hidden, wide),
        )  # fmt: skip

    def splits_over(self, gpus: int) -> bool:
        """Whether vLLM can cut it into that many equal parts (tensor parallel)."""
        shared = self.kv_heads % gpus == 0 or gpus % self.kv_heads == 0
        return self.heads % gpus == 0 and shared and self.intermediate % gpus == 0


def architecture_of(config: Mapping[str, Any]) -> Architecture:
    """From config.json, params.json or an entry of assets/published/models.yaml.

    Raises:
        InputError: a figure is missing; names it.
    """
    inner = config.get("text_config")
    text: Mapping[str, Any] = inner if isinstance(inner, dict) else config

    def figure(wanted: str) -> int | None:
        return next((text[name] for name in _NAMES[wanted] if isinstance(text.get(name), int)), None)

    found = {name: figure(name) for name in _NAMES}
    if found["heads"] is None and text.get("model_type") == "mistral":
        found["heads"] = _MISTRAL_HEADS
    missing = [_NAMES[name][0] for name, value in found.items() if not value]
    if missing:
        hint = "A decoder of Llama's or Mistral's kind is needed, with these figures in its config.json."
        raise InputError(f"The model's configuration does not tell {', '.join(missing)}.", hint, field="model")
    known = {name: int(value) for name, value in found.items() if value}
    head_dim = text.get("head_dim")
    head_dim = head_dim if isinstance(head_dim, int) and head_dim else known["hidden"] // known["heads"]
    return Architecture(**known, head_dim=head_dim, patch=_patch(config))


def _patch(config: Mapping[str, Any]) -> int | None:
    vision = config.get("vision_config") or config.get("vision_encoder")
    if isinstance(vision, dict) and isinstance(vision.get("patch_size"), int):
        merge = config.get("spatial_merge_size") or vision.get("spatial_merge_size") or 1
        return int(vision["patch_size"]) * int(merge)
    patch = config.get("picture_patch")
    return patch if isinstance(patch, int) else None


def packed_bytes(matrix: Linear, scheme: str, group: int | None, *, zero_points: bool) -> float:
    """One matrix in a scheme, scales (and 4-bit zero points) included.

    Args:
        group: weights of a row that share a scale; None = the whole row.
    """
    scales = matrix.rows * (math.ceil(matrix.columns / group) if group else 1)
    per_scale = _SCALE_BYTES.get(scheme, 2.0) + (_ZERO_BYTES if zero_points else 0.0)
    return matrix.weights * _BITS[scheme] / 8 + scales * per_scale
