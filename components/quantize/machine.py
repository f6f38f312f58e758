"""What this machine has, as far as quantizing asks: kind of device, its schemes, and how fast it multiplies."""

from __future__ import annotations

import time
from functools import cache
from typing import Literal

import numpy as np

from components.engines.memory import count_gpus

_SIDE = 768


def this_device() -> Literal["cpu", "cuda"]:
    """What vLLM would run on."""
    return "cuda" if count_gpus() else "cpu"


@cache
def cpu_flops_per_s() -> float:
    """Measured once, on a product of two matrices in 32 bits; some 50 ms."""
    matrix = np.ones((_SIDE, _SIDE), dtype=np.float32)
    matrix @ matrix
    started_s = time.perf_counter()
    for _ in range(3):
        matrix @ matrix
    return 3 * 2 * _SIDE**3 / (time.perf_counter() - started_s)
