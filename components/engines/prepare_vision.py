"""The vision part of a Mistral 3 / Pixtral checkpoint: from Hugging Face's names to those that vLLM reads.

With the Mistral config format vLLM 0.32 loads Hugging Face names without a word, but skips the projector and uses the
vision tower's q and k in the wrong rotary layout: a fluent model that sees nothing (environment.md, "the trap").
Leaving the old tensors beside the new ones is not enough, for the loader reads every tensor of a listed file.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass

from components.core.errors import PreparationError
from components.engines.prepare_shards import Piece, Tensor

VISION_SHARD = "model-vision.safetensors"

_LAYER_PARTS = {
    "attention.q_proj": "attention.wq",
    "attention.k_proj": "attention.wk",
    "attention.v_proj": "attention.wv",
    "attention.o_proj": "attention.wo",
    "feed_forward.gate_proj": "feed_forward.w1",
    "feed_forward.down_proj": "feed_forward.w2",
    "feed_forward.up_proj": "feed_forward.w3",
    "attention_norm": "attention_norm",
    "ffn_norm": "ffn_norm",
}
_WHOLE_PARTS = {
    "vision_tower.patch_conv": "vision_encoder.patch_conv",
    "vision_tower.ln_pre": "vision_encoder.ln_pre",
    "multi_modal_projector.norm": "pre_mm_projector_norm",
    "multi_modal_projector.patch_merger.merging_layer": "patch_merger.merging_layer",
    "multi_modal_projector.linear_1": "vision_language_adapter.w_in",
    "multi_modal_projector.linear_2": "vision_language_adapter.w_out",
}
_LAYER = re.compile(r"vision_tower\.(transformer\.layers\.\d+)\.(.+)")
_MISTRAL_LAYER = re.compile(r"vision_encoder\.(transformer\.layers\.\d+)\.(.+)")
_ROTARY = (".attention.wq.weight", ".attention.wk.weight")
_HUGGING_FACE_VISION = (
    "vision_tower.",
    "multi_modal_projector.",
    "model.vision_tower.",
    "model.multi_modal_projector.",
)
_MISTRAL_VISION = ("vision_encoder.", "vision_language_adapter.", "patch_merger.", "pre_mm_projector_norm.")


@dataclass(frozen=True)
class ShardPlan:
    """What becomes of the shards: ``rewrite`` maps a file name to its new content, the other files are linked."""

    rewrite: Mapping[str, tuple[Piece, ...]]

    @property
    def size_bytes(self) -> int:
        """Bytes that will be written."""
        return sum(piece.source.size_bytes for pieces in self.rewrite.values() for piece in pieces)


def is_hugging_face_vision(name: str) -> bool:
    """Whether a tensor belongs to the vision part and has Hugging Face's name."""
    return name.startswith(_HUGGING_FACE_VISION)


def mistral_name(name: str) -> str:
    """Mistral's name of a vision tensor with Hugging Face's.

    Raises:
        PreparationError: there is none, because the architecture is another or the tensor is quantized.
    """
    path, _, kind = name.removeprefix("model.").rpartition(".")
    layer = _LAYER.fullmatch(path)
    if kind in ("weight", "bias"):
        if layer and layer[2] in _LAYER_PARTS:
            return f"vision_encoder.{layer[1]}.{_LAYER_PARTS[layer[2]]}.{kind}"
        if path in _WHOLE_PARTS:
            return f"{_WHOLE_PARTS[path]}.{kind}"
    raise PreparationError(
        f"The vision tensor {name} has no counterpart in Mistral's format.",
        "Only unquantized vision parts of Mistral 3 and Pixtral models can be prepared; set prepare: none to serve "
        "the folder as it is.",
    )


def is_mistral_vision(name: str) -> bool:
    """Whether a tensor belongs to the vision part and has Mistral's name."""
    return name.startswith(_MISTRAL_VISION)


def hugging_face_piece(tensor: Tensor, heads: int) -> Piece:
    """A vision tensor with Mistral's name under Hugging Face's, for tools that read no other.

    Raises:
        PreparationError: it has none.
    """
    path, _, kind = tensor.name.rpartition(".")
    layer = _MISTRAL_LAYER.fullmatch(path)
    parts = {new: old for old, new in _LAYER_PARTS.items()}
    whole = {new: old for old, new in _WHOLE_PARTS.items()}
    if layer and layer[2] in parts:
        name = f"vision_tower.{layer[1]}.{parts[layer[2]]}.{kind}"
    elif path in whole:
        name = f"{whole[path]}.{kind}"
    else:
        raise PreparationError(f"The vision tensor {tensor.name} has no counterpart in Hugging Face's format.", "")
    return Piece(name, tensor, heads if tensor.name.endswith(_ROTARY) else None, back=True)


def language_name(name: str) -> str:
    """A language tensor's name as vLLM's Pixtral class expects it: newer transformers put ``model.`` in front."""
    if name.startswith("model.language_model."):
        return "language_model.model." + name.removeprefix("model.language_model.")
    return f"language_model.{name}" if name.startswith("lm_head.") else name


def plan_shards(shards: Mapping[str, Mapping[str, Tensor]], heads: int) -> ShardPlan:
    """Which shards are rewritten, and how; empty when the vision part already has Mistral's names.

    Args:
        shards: file name → its tensors by name.
        heads: attention heads of the vision tower.

    Raises:
        PreparationError: there is no vision part, both kinds of names, or a tensor that has no counterpart.
    """
    names = [name for tensors in shards.values() for name in tensors]
    old = [name for name in names if is_hugging_face_vision(name)]
    new = [name for name in names if is_mistral_vision(name)]
    if bool(old) == bool(new):
        raise PreparationError(
            "The checkpoint has its vision part twice, under two sets of names."
            if old
            else "The checkpoint has no vision part: no tensor is named vision_tower.* or vision_encoder.*.",
            "Check that it is the right repository; prepare: none serves it as it is.",
        )
    rewrite: dict[str, tuple[Piece, ...]] = {}
    vision: list[Piece] = []
    for file, tensors in shards.items():
        kept = tuple(Piece(language_name(n), t) for n, t in tensors.items() if not is_hugging_face_vision(n))
        vision += [_vision_piece(n, t, heads) for n, t in tensors.items() if is_hugging_face_vision(n)]
        if len(kept) < len(tensors) or any(piece.name != piece.source.name for piece in kept):
            rewrite[file] = kept
    if vision:
        rewrite[VISION_SHARD] = tuple(vision)
    return ShardPlan(rewrite)


def _vision_piece(name: str, tensor: Tensor, heads: int) -> Piece:
    renamed = mistral_name(name)
    return Piece(renamed, tensor, heads if renamed.endswith(_ROTARY) else None)
