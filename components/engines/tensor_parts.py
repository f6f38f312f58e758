"""Names of tensors: one spelling for all formats, and the part of the model that each belongs to. Pure."""

from __future__ import annotations

from components.core.errors import PreparationError
from components.engines.prepare_vision import is_hugging_face_vision, language_name, mistral_name

_PARTS = (
    ("vision tower", ("vision_encoder.", "vision_tower.")),
    ("projector", ("vision_language_adapter.", "patch_merger.", "pre_mm_projector_norm.", "multi_modal_projector.")),
)


def part_of(name: str) -> str:
    """Which part of the model a tensor belongs to, in words."""
    name = canonical_name(name)
    for part, prefixes in _PARTS:
        if name.startswith(prefixes):
            return part
    if "embed_tokens" in name:
        return "embeddings"
    if "lm_head" in name:
        return "lm_head"
    return "norms" if "norm" in name else "decoder layers"


def canonical_name(name: str) -> str:
    """One spelling for names that transformers writes in more than one way; Mistral's for the vision part."""
    if is_hugging_face_vision(name):
        return hugging_face_to_mistral(name)
    return language_name(name)


def hugging_face_to_mistral(name: str) -> str:
    """Mistral's name of a vision tensor; its own where there is none (another architecture)."""
    try:
        return mistral_name(name)
    except PreparationError:
        return name
