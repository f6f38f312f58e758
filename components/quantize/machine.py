"""What this machine has, as far as quantizing asks: kind of device, its schemes, and how fast it multiplies."""

from __future__ import annotations

import shutil
import subprocess
import time
from functools import cache
from typing import Literal

import numpy as np

_SIDE = 768


def this_device() -> Literal["cpu", "cuda"]:
    """What vLLM would run on."""
    program = shutil.which("nvidia-smi")
    if program is None:
        return "cpu"
    listed = subprocess.run([program, "-L"], capture_output=True, text=True, timeout=30, check=False)
    return "cuda" if listed.returncode == 0 and "GPU " in listed.stdout else "cpu"


@cache
def cpu_flops_per_s() -> float:
    """Measured once, on a product of two matrices in 32 bits; some 50 ms."""
    matrix = np.ones((_SIDE, _SIDE), dtype=np.float32)
    matrix @ matrix
    started_s = time.perf_counter()
    for _ in range(3):
        matrix @ matrix
    return 3 * 2 * _SIDE**3 / (time.perf_counter() - started_s)
