"""What a quantization changed, counted from the files: sizes, bits per weight, what is packed and what is not."""

from __future__ import annotations

import math
from typing import Any

from components.engines.tensor_parts import canonical_name, part_of
from components.quantize.folders import Tensors


def summarize(before: Tensors, after: Tensors) -> dict[str, Any]:
    """Sizes in bytes, weights as counts, bits per weight with scales and all."""
    there = {canonical_name(name): tensor for name, tensor in after.by_name.items()}
    weights, packed = 0, 0
    kept_bytes: dict[str, int] = {}
    for name, tensor in before.by_name.items():
        count = math.prod(tensor.shape)
        weights += count
        same = there.get(canonical_name(name))
        if same is not None and same.dtype == tensor.dtype and same.shape == tensor.shape:
            part = part_of(name)
            kept_bytes[part] = kept_bytes.get(part, 0) + tensor.size_bytes
        else:
            packed += count
    packed_bytes = after.size_bytes - sum(kept_bytes.values())
    return {
        "size_before_bytes": before.size_bytes,
        "size_after_bytes": after.size_bytes,
        "weights": weights,
        "quantized_weights": packed,
        "bits_per_weight": round(8 * after.size_bytes / weights, 3),
        "bits_per_quantized_weight": round(8 * packed_bytes / packed, 3) if packed else None,
        "stays_16_bit": [{"name": name, "size_bytes": size} for name, size in sorted(kept_bytes.items())],
    }
