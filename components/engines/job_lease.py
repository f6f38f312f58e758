"""Room for jobs beside engines: a job never fights a serving engine for memory, it waits and says why.

The same book that engines are entered in (``device.MemoryBook``) grants it. Implements ``jobs.lease.Lease``.
"""

from __future__ import annotations

import shutil
from collections.abc import Callable, Sequence
from pathlib import Path

from components.core.jobs import JobNeeds
from components.engines.device import JobBooking
from components.engines.memory import in_gib
from components.engines.supervisor import EngineHub
from components.jobs.lease import Grant, Wait

_FREE_DISK_FLOOR_BYTES = 256 * 2**20  # records and logs need some room too


def free_disk_bytes(folder: Path) -> int:
    """What this account may still write there."""
    return shutil.disk_usage(folder).free


class JobLease:
    """Grants jobs their memory.

    Args:
        hub: the engines.
        folder: where jobs write.
        gpu_memory_bytes: memory of each GPU, by index.
        free_disk: how much room a folder's disk has, bytes.
    """

    def __init__(
        self,
        hub: EngineHub,
        folder: Path,
        gpu_memory_bytes: Sequence[int] = (),
        free_disk: Callable[[Path], int] = free_disk_bytes,
    ) -> None:
        self._hub, self._book = hub, hub.book
        self._folder, self._gpus, self._free_disk = folder, tuple(gpu_memory_bytes), free_disk

    def take(self, holder: str, needs: JobNeeds) -> Grant | Wait:
        """Book room, or say why there is none and which engines hold it."""
        return self._decide(needs, lambda booking: self._book.take_job(holder, booking))

    def look(self, needs: JobNeeds) -> Wait | None:
        """Why a job would have to wait if it were started now; None = it would not. Books nothing."""
        found = self._decide(needs, self._book.has_room)
        return found if isinstance(found, Wait) else None

    def _decide(self, needs: JobNeeds, take: Callable[[JobBooking], bool]) -> Grant | Wait:
        free_disk = self._free_disk(self._folder)
        if needs.disk_bytes + _FREE_DISK_FLOOR_BYTES > free_disk:
            wanted = in_gib(needs.disk_bytes + _FREE_DISK_FLOOR_BYTES)
            return Wait(f"Waits for disk space: it needs about {wanted}, and {in_gib(free_disk)} is free.")
        if self._hub.is_starting_one():
            return Wait("Waits until an engine that is starting has taken its memory.")
        if needs.gpu_memory_bytes:
            return self._take_gpu(needs, take)
        if take(JobBooking(needs.memory_bytes)):
            return Grant()
        return self._no_memory(needs)

    def hold(self, holder: str, needs: JobNeeds) -> None:
        """Book for a job that runs already; on which GPU is not known any more, so on the first that it fits."""
        fitting = [index for index, total in enumerate(self._gpus) if total >= needs.gpu_memory_bytes > 0]
        booking = JobBooking(needs.memory_bytes)
        if fitting:
            share = needs.gpu_memory_bytes / self._gpus[fitting[0]]
            booking = JobBooking(needs.memory_bytes, gpu=f"cuda:{fitting[0]}", gpu_share=share)
        self._book.hold_job(holder, booking)

    def note_use(self, holder: str, used_bytes: int) -> None:
        """How much of the host's memory it has taken."""
        self._book.note_use(holder, used_bytes)

    def give_back(self, holder: str) -> None:
        """The job has ended."""
        self._book.give_back(holder)

    def _take_gpu(self, needs: JobNeeds, take: Callable[[JobBooking], bool]) -> Grant | Wait:
        for index, total in enumerate(self._gpus):
            share = needs.gpu_memory_bytes / total
            booking = JobBooking(needs.memory_bytes, gpu=f"cuda:{index}", gpu_share=share)
            if share <= 1 and take(booking):
                return Grant({"CUDA_VISIBLE_DEVICES": str(index)})
        if not self._gpus or needs.gpu_memory_bytes > max(self._gpus):
            most = f"the largest here has {in_gib(max(self._gpus))}" if self._gpus else "there is none here"
            return Wait(
                f"It needs a GPU with {in_gib(needs.gpu_memory_bytes)}; {most}. Cancel it, or start it elsewhere."
            )
        if needs.memory_bytes > self._book.free_bytes():
            return self._no_memory(needs)
        holders = [name for index in range(len(self._gpus)) for name in self._book.shares(f"cuda:{index}")]
        named = ", ".join(dict.fromkeys(holders))
        reason = f"Waits for GPU memory: it needs {in_gib(needs.gpu_memory_bytes)}; {named} hold the rest."
        return Wait(reason, self._stoppable(holders))

    def _no_memory(self, needs: JobNeeds) -> Wait:
        free = max(self._book.free_bytes(), 0)
        reason = f"Waits for memory: it needs about {in_gib(needs.memory_bytes)}, and {in_gib(free)} is free."
        return Wait(reason, self._hub.local_up())

    def _stoppable(self, holders: Sequence[str]) -> tuple[str, ...]:
        return tuple(engine_id for engine_id in self._hub.local_up() if engine_id in holders)
