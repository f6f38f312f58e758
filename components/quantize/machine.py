"""What this machine has, as far as quantizing asks: kind of device, and which schemes its servers can run."""

from __future__ import annotations

import shutil
import subprocess
from typing import Literal


def this_device() -> Literal["cpu", "cuda"]:
    """What vLLM would run on; the question that ``services.count_gpus`` asks too."""
    program = shutil.which("nvidia-smi")
    if program is None:
        return "cpu"
    listed = subprocess.run([program, "-L"], capture_output=True, text=True, timeout=30, check=False)
    return "cuda" if listed.returncode == 0 and "GPU " in listed.stdout else "cpu"
