"""The two names every vision tensor has, and the permutation between their rotary layouts.

vLLM's Mistral config format builds a model that expects the vision part under Mistral's names. Under Hugging Face
names it loads without a word and sees nothing: the projector is skipped, and the tower's queries and keys are read
in the wrong rotary layout (split halves instead of interleaved pairs).
"""

from __future__ import annotations

import torch
from model import HEADS

# Hugging Face (as stored in a repository) → Mistral
LAYER_NAMES = {
    "attention.q_proj": "attention.wq",
    "attention.k_proj": "attention.wk",
    "attention.v_proj": "attention.wv",
    "attention.o_proj": "attention.wo",
    "feed_forward.gate_proj": "feed_forward.w1",
    "feed_forward.down_proj": "feed_forward.w2",
    "feed_forward.up_proj": "feed_forward.w3",
}
PREFIXES = {
    "multi_modal_projector.patch_merger.merging_layer.": "patch_merger.merging_layer.",
    "multi_modal_projector.norm.": "pre_mm_projector_norm.",
    "multi_modal_projector.linear_1.": "vision_language_adapter.w_in.",
    "multi_modal_projector.linear_2.": "vision_language_adapter.w_out.",
    "vision_tower.": "vision_encoder.",
}
# What transformers 5 calls the parts of a loaded model → what a repository calls them.
IN_MEMORY = {
    "model.language_model.": "language_model.model.",
    "model.vision_tower.": "vision_tower.",
    "model.multi_modal_projector.": "multi_modal_projector.",
    "lm_head.": "language_model.lm_head.",
}


def repository_name(name: str) -> str:
    """The repository's name of a parameter of a loaded transformers model."""
    for old, new in IN_MEMORY.items():
        if name.startswith(old):
            return new + name.removeprefix(old)
    return name


def is_vision(name: str) -> bool:
    """Whether a tensor, under either naming, belongs to the vision part."""
    return name.startswith((*PREFIXES, *PREFIXES.values()))


def to_mistral(name: str, tensor: torch.Tensor) -> tuple[str, torch.Tensor]:
    """A vision tensor of a repository under Mistral's name, queries and keys in interleaved pairs."""
    if ".attention.q_proj." in name or ".attention.k_proj." in name:
        size, width = tensor.shape
        tensor = tensor.view(HEADS, 2, size // HEADS // 2, width).transpose(1, 2).reshape(size, width).contiguous()
    return _rename(name, PREFIXES, LAYER_NAMES), tensor


def from_mistral(name: str, tensor: torch.Tensor) -> tuple[str, torch.Tensor]:
    """The inverse of `to_mistral`."""
    if ".attention.wq." in name or ".attention.wk." in name:
        size, width = tensor.shape
        tensor = tensor.view(HEADS, size // HEADS // 2, 2, width).transpose(1, 2).reshape(size, width).contiguous()
    back = {new: old for old, new in PREFIXES.items()}
    return _rename(name, back, {new: old for old, new in LAYER_NAMES.items()}), tensor


def _rename(name: str, prefixes: dict[str, str], parts: dict[str, str]) -> str:
    for old, new in prefixes.items():
        if name.startswith(old):
            name = new + name.removeprefix(old)
            break
    for old, new in parts.items():
        name = name.replace(f".{old}.", f".{new}.")
    return name
