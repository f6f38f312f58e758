"""The small JSON files of a prepared folder: params.json and tekken.json as vLLM needs them. Pure."""

from __future__ import annotations

from typing import Any

from components.core.errors import PreparationError

Json = dict[str, Any]

# What vLLM 0.32 (compressed-tensors 0.17) reads. Anything else would fail minutes later, with a stack trace (F44).
QUANTIZATION_METHODS = frozenset(
    {"compressed-tensors", "auto-round", "inc", "gptq", "awq", "fp8", "modelopt", "bitsandbytes", "mxfp4"}
)


def quantization_of(config: Json, beside: Json | None) -> Json | None:
    """The quantization settings of a checkpoint: of ``config.json``, else of ``quantization_config.json``.

    Raises:
        PreparationError: the format is one that the server can't read.
    """
    found = config.get("quantization_config") or (config.get("text_config") or {}).get("quantization_config") or beside
    if not found:
        return None
    method = str(found.get("quant_method", "")).replace("_", "-")
    if method not in QUANTIZATION_METHODS:
        raise PreparationError(
            f"config.json: the checkpoint is quantized by {method or 'an unnamed method'}, which this vLLM can't read.",
            f"It reads: {', '.join(sorted(QUANTIZATION_METHODS))}.",
        )
    return dict(found)


def with_quantization(params: Json, quantization: Json | None) -> Json:
    """params.json with the quantization settings under the key where vLLM looks for that method.

    Under ``quantization`` vLLM 0.32 knows compressed-tensors and Mistral's own FP8 only and stops at anything else with
    "Found unknown quantization"; what stands under ``quantization_config`` it takes as config.json's.
    """
    if quantization is None:
        return params
    rest = {key: value for key, value in params.items() if key not in ("quantization", "quantization_config")}
    key = "quantization" if quantization["quant_method"] == "compressed-tensors" else "quantization_config"
    return rest | {key: quantization}


def with_image_limit(params: Json, tekken: Json, max_image_size: int) -> tuple[Json, Json]:
    """Both files with the pair's limit for the longer side of a picture, in pixels.

    Raises:
        PreparationError: the model has no vision part, or can't take pictures that large.
    """
    vision = _vision_settings(params)
    largest = int(vision.get("image_size", max_image_size))
    if max_image_size > largest:
        raise PreparationError(
            f"The pair's max_image_size is {max_image_size}, but the model takes at most {largest} pixels.",
            f"Set max_image_size to {largest} or less in the pair's profile.",
        )
    key = next((key for key in ("image", "multimodal") if isinstance(tekken.get(key), dict)), None)
    if key is None:
        raise PreparationError(
            "tekken.json says nothing about pictures.", "The tokenizer is of another model; fetch the right file."
        )
    limit = {"max_image_size": max_image_size}
    return _with_vision_settings(params, vision | limit), tekken | {key: tekken[key] | limit}


def vision_heads(params: Json, config: Json) -> int:
    """Attention heads of the vision tower.

    Raises:
        PreparationError: neither file says so.
    """
    for settings in (config.get("vision_config") or {}, _vision_settings(params, required=False)):
        heads = settings.get("num_attention_heads")
        if isinstance(heads, int) and heads > 0:
            return heads
    raise PreparationError(
        "Neither config.json nor params.json tells the number of attention heads of the vision part.",
        "Fetch the repository's config.json again.",
    )


def _vision_settings(params: Json, *, required: bool = True) -> Json:
    found = params.get("vision_encoder") or (params.get("multimodal") or {}).get("vision_encoder_args")
    if not isinstance(found, dict):
        if required:
            raise PreparationError(
                "params.json describes no vision part.", "Check that the pair's profile names the right repository."
            )
        return {}
    return found


def _with_vision_settings(params: Json, vision: Json) -> Json:
    if "vision_encoder" in params:
        return params | {"vision_encoder": vision}
    return params | {"multimodal": params["multimodal"] | {"vision_encoder_args": vision}}
