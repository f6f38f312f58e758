"""What engines share: a device that loads one model at a time and has only so much memory."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from components.engines.memory import in_gib
from components.engines.start_failures import Failure
from components.engines.status import LocalServer

_FULL_SHARE = 1.0 + 1e-9  # sums of decimal fractions


class Device:
    """One device, such as "cpu" or "cuda" (all GPUs together)."""

    def __init__(self, free_memory_bytes: Callable[[], int]) -> None:
        # Holds the invariant "one engine at a time measures and takes this device's memory": a start that measures
        # while another one still loads would count memory that is as good as gone.
        self.start_lock = asyncio.Lock()
        self._free_memory_bytes = free_memory_bytes
        self._shares: dict[str, float] = {}

    def take(self, engine_id: str, server: LocalServer) -> Failure | None:
        """Book an engine's share; a failure says why there is no room for it."""
        taken = {other: share for other, share in self._shares.items() if other != engine_id}
        if server.device_share and sum(taken.values()) + server.device_share > _FULL_SHARE:
            others = ", ".join(f"{other} {share:.0%}" for other, share in taken.items())
            return Failure(
                "NOT_ENOUGH_MEMORY",
                f"This engine asks for {server.device_share:.0%} of the GPU memory; others have: {others}.",
                "Stop one of them, or lower gpu_memory_utilization in their profiles so that the sum is at most 1.",
                deterministic=True,
            )
        # A GPU's memory is not the machine's: there the shares are the budget.
        free = 0 if server.device_share else self._free_memory_bytes()
        if not server.device_share and server.memory_bytes > free:
            return Failure(
                "NOT_ENOUGH_MEMORY",
                f"This engine needs about {in_gib(server.memory_bytes)} of memory, and {in_gib(free)} is free.",
                "Stop another engine or program, or lower cpu_kv_cache_gib or max_model_len in the profile.",
                deterministic=True,
            )
        self._shares[engine_id] = server.device_share
        return None

    def give_back(self, engine_id: str) -> None:
        """The engine is gone."""
        self._shares.pop(engine_id, None)
