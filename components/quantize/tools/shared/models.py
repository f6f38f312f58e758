"""Loading the model to quantize, and folders that the scripts write. Needs torch and transformers."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from components.jobs.tool_reporting import ScriptError

VISION_LANGUAGE = frozenset({"Mistral3ForConditionalGeneration", "LlavaForConditionalGeneration"})


def resolve_model(name: str) -> Path:
    """The folder of a model: itself, or a repository's snapshot, which is fetched. Safetensors only.

    Raises:
        ScriptError: it can't be fetched.
    """
    if Path(name).is_dir():
        return Path(name)
    from huggingface_hub import snapshot_download

    patterns = ["*.json", "*.txt", "*.model", "*.jinja", "LICENSE*", "model*.safetensors"]
    try:
        return Path(snapshot_download(name, allow_patterns=patterns))
    except Exception as exc:  # network, gated, unknown: the library has many of its own
        reason = f"{type(exc).__name__}: {exc}".splitlines()[0][:300]
        raise ScriptError(f"model: {name} can't be fetched ({reason}).", "model") from exc


def architecture_of(folder: Path) -> str:
    """The class named by config.json."""
    config = json.loads((folder / "config.json").read_text(encoding="utf-8"))
    return str((config.get("architectures") or ["unknown"])[0])


def load_model(folder: Path, layers: int | None = None) -> Any:
    """The model in 16 bits, from safetensors, without running code of its repository; only its first layers if told.

    Raises:
        ScriptError: its architecture is not one that can be quantized here.
    """
    import torch
    import transformers

    architecture = architecture_of(folder)
    if architecture not in VISION_LANGUAGE and not architecture.endswith("ForCausalLM"):
        raise ScriptError(f"model: {architecture} can't be quantized here.", "model")
    kind = getattr(transformers, architecture, None)
    if kind is None:
        raise ScriptError(f"model: transformers {transformers.__version__} has no {architecture}.", "model")
    options: dict[str, Any] = {}
    if layers is not None:
        options["config"] = transformers.AutoConfig.from_pretrained(folder, trust_remote_code=False)
        getattr(options["config"], "text_config", options["config"]).num_hidden_layers = layers
    return kind.from_pretrained(
        folder, dtype=torch.bfloat16, use_safetensors=True, trust_remote_code=False, **options
    )  # fmt: skip


def tensors_of(batch: dict[str, Any], dtype: Any) -> dict[str, Any]:
    """The arrays of a sample as tensors, pixels in the model's type."""
    import torch

    tensors = {name: torch.from_numpy(value) for name, value in batch.items()}
    if "pixel_values" in tensors:
        tensors["pixel_values"] = tensors["pixel_values"].to(dtype)
    return tensors


def versions() -> dict[str, str]:
    """Versions of the packages that decide the result."""
    from importlib.metadata import PackageNotFoundError, version

    found = {}
    for name in ("llmcompressor", "auto-round", "compressed-tensors", "torch", "transformers", "mistral-common"):
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            continue
    return found
