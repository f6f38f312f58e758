"""How much memory machine and GPUs have, what is free, whether the system has killed for want. Linux; reads only."""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path

import psutil

_CGROUPS = Path("/sys/fs/cgroup")
# Version 2, then version 1: limit, use, and the file that counts kills. In a container these are its own.
_FILES = (
    ("memory.max", "memory.current", "memory.events"),
    ("memory/memory.limit_in_bytes", "memory/memory.usage_in_bytes", "memory/memory.oom_control"),
)


def free_memory_bytes(cgroups: Path = _CGROUPS) -> int:
    """What a new process could take without swapping: the machine's, or the container's when that is less."""
    free = int(psutil.virtual_memory().available)
    for limit_file, used_file, _ in _FILES:
        limit, used = _number(cgroups / limit_file), _number(cgroups / used_file)
        if limit is not None and used is not None:
            free = min(free, max(limit - used, 0))
    return free


def oom_kills(cgroups: Path = _CGROUPS) -> int:
    """How many processes of this control group the system has killed for memory so far; 0 where it does not tell."""
    for *_, events_file in _FILES:
        for line in _text(cgroups / events_file).splitlines():
            name, _, count = line.partition(" ")
            if name == "oom_kill" and count.isdigit():
                return int(count)
    return 0


def count_gpus() -> int:
    """How many NVIDIA GPUs the driver tells of; 0 without a driver, or where ``CUDA_VISIBLE_DEVICES`` hides all."""
    if os.environ.get("CUDA_VISIBLE_DEVICES") == "":
        return 0
    program = shutil.which("nvidia-smi")
    if program is None:
        return 0
    listed = subprocess.run([program, "-L"], capture_output=True, text=True, timeout=30, check=False)
    return sum(line.startswith("GPU ") for line in listed.stdout.splitlines()) if listed.returncode == 0 else 0


def gpu_memory_bytes() -> tuple[int, ...]:
    """Memory of each NVIDIA GPU, by index, as its driver tells; empty without a driver."""
    program = shutil.which("nvidia-smi")
    if program is None:
        return ()
    argv = [program, "--query-gpu=memory.total", "--format=csv,noheader,nounits"]
    listed = subprocess.run(argv, capture_output=True, text=True, timeout=30, check=False)
    lines = listed.stdout.split() if listed.returncode == 0 else []
    return tuple(int(line) * 2**20 for line in lines if line.isdigit())


def in_gib(count: int) -> str:
    """A number of bytes for people."""
    return f"{count / 2**30:.1f} GiB"


def _number(path: Path) -> int | None:
    text = _text(path).strip()
    return int(text) if text.isdigit() else None  # "max" means no limit


def _text(path: Path) -> str:
    try:
        return path.read_text(encoding="ascii")
    except OSError:
        return ""
