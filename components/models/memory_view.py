"""A memory plan → plain values that assets/js/memory.js draws, and the result of the API. Pure."""

from __future__ import annotations

from typing import Any

from components.core.memory_plan import Fit, ModelMemory, calibration_cache_bytes, kv_bytes_per_token, layer_work_bytes
from components.models.memory_plan import MemoryPlan
from components.models.start_lines import seat_line, start_line
from components.profiles.memory_fit import HardwareFit

_SOURCES = {
    "files": "from the headers of its files",
    "hub": "from the headers on the hub; no weight was fetched",
    "formula": "by formula from published figures; its files are not here",
}
_WORDS = {
    "alternately": "One after the other", "base_only": "Base only", "candidate_only": "Candidate only",
    "fits": "Fits", "no": "Does not fit",
}  # fmt: skip
_PLAIN = frozenset({"BF16", "F16", "F32"})
# A common calibration set: 512 samples of 2048 tokens.
_CALIBRATION_TOKENS = 512 * 2048


def plan_to_dict(plan: MemoryPlan) -> dict[str, Any]:
    """Result of the API endpoint ``/memory_plan``; sizes in bytes, contexts in tokens."""
    return {
        "model": plan.named,
        "users": plan.use.users,
        "context": plan.use.context,
        "kv_cache_dtype": plan.kv_cache_dtype,
        "gpu_memory_utilization": plan.use.utilization,
        "models": [_model(memory, plan) for memory, _ in plan.models],
        "picture_tokens": [{"width": w, "height": h, "tokens": tokens} for w, h, tokens in plan.picture_tokens],
        "fits": [_cell(cell, plan) for cell in plan.fits],
    }


def plan_view(plan: MemoryPlan) -> dict[str, Any]:
    """The same with the words of the page."""
    shown = plan_to_dict(plan)
    for cell, found in zip(shown["fits"], plan.fits, strict=True):
        cell["words"], cell["note"] = _words(found.fit), _note(found.fit, plan)
    return shown


def _model(memory: ModelMemory, plan: MemoryPlan) -> dict[str, Any]:
    model, use = memory.architecture, plan.use
    per_token = kv_bytes_per_token(model, use.kv_bits)
    layer = model.layer_matrices()
    return {
        "id": memory.name,
        "source": memory.source,
        "quantized": any(part.dtype not in _PLAIN for part in memory.parts),
        "source_words": _SOURCES[memory.source],
        "weights_bytes": memory.weights_bytes,
        "weights": [{"part": p.part, "dtype": p.dtype, "size_bytes": p.size_bytes} for p in memory.parts],
        "kv_bytes_per_token": per_token,
        "kv_bytes": int(per_token * use.context * use.users),
        "calibration": {
            "tokens": _CALIBRATION_TOKENS,
            "cache_bytes": calibration_cache_bytes(_CALIBRATION_TOKENS, model.hidden),
            "gptq_layer_bytes": layer_work_bytes(layer, "gptq"),
            "autoround_layer_bytes": layer_work_bytes(layer, "autoround"),
        },
    }


def _cell(cell: HardwareFit, plan: MemoryPlan) -> dict[str, Any]:
    return {
        "hardware": cell.hardware.label,
        "memory_gb": cell.hardware.sold_as_gb,
        "memory_gib": cell.hardware.memory_gib,
        "gpus": cell.gpus,
        "verdict": cell.fit.verdict,
        "shared": cell.fit.shared,
        "start": start_line(plan, cell),
        "seats": [
            {
                "model": seat.model, "gpus": list(seat.gpus), "tensor_parallel_size": seat.grid.tensor,
                "pipeline_parallel_size": seat.grid.pipeline, "data_parallel_size": seat.grid.replicas,
                "weights_bytes": seat.weights_bytes, "kv_bytes": seat.kv_bytes, "reserve_bytes": seat.reserve_bytes,
                "context": seat.context, "gpu_memory_utilization": seat.share, "flags": list(flags),
                "command": seat_line(plan, seat),
            }
            for seat, flags in zip(cell.fit.seats, cell.flags, strict=True)
        ],
    }  # fmt: skip


def _words(fit: Fit) -> str:
    if fit.verdict == "together":
        return "Together, shared" if fit.shared else "Together, apart"
    return _WORDS[fit.verdict]


def _note(fit: Fit, plan: MemoryPlan) -> str:
    """How many GPUs a model is spread over and a shortened context, in few words."""
    parts = [f"tensor parallel {fit.tensor_parallel}"] if fit.tensor_parallel > 1 else []
    spread = plan.use.spread
    if fit.seats:
        parts += [f"pipeline {spread.pipeline}"] if spread.pipeline > 1 else []
        parts += [f"{spread.replicas} copies"] if spread.replicas > 1 else []
    least = min((seat.context for seat in fit.seats), default=plan.use.context)
    if least < plan.use.context:
        parts.append(f"context {least:,}")
    return ", ".join(parts)
