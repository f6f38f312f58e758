"""Runs inside vLLM's worker, not in the app: exact same-path scoring from hidden states.

Needs torch, numpy, safetensors and vLLM only; must never import from ``components``. The app asks through the
sampling parameter ``extra_args`` of ordinary requests (see ``jobs.py``) and reads what comes back as files.

This file is imported by the app too, for the versions; it imports nothing.
"""

SUPPORTED_VLLM = ("0.32.0",)  # whose private functions the extension hooks


def is_supported(engine_version: str | None) -> bool:
    """Whether the extension knows this vLLM."""
    return (engine_version or "").partition("+")[0] in SUPPORTED_VLLM
