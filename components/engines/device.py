"""What engines and jobs share: devices that load one model at a time, and one book of who holds which memory."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable
from dataclasses import dataclass

from components.engines.memory import in_gib
from components.engines.start_failures import Failure
from components.engines.status import LocalServer

_FULL_SHARE = 1.0 + 1e-9  # sums of decimal fractions


@dataclass
class JobBooking:
    """What a job was promised, and how much of the host's memory it has taken so far."""

    memory_bytes: int
    used_bytes: int = 0
    gpu: str | None = None
    gpu_share: float = 0.0

    @property
    def outstanding_bytes(self) -> int:
        """What it will still take: it looks free and is not."""
        return max(self.memory_bytes - self.used_bytes, 0)


class MemoryBook:
    """Who holds memory on this machine. Read and written from the event loop and from threads."""

    def __init__(self, free_memory_bytes: Callable[[], int]) -> None:
        self._free_memory_bytes = free_memory_bytes
        self._engines: dict[str, tuple[float, tuple[str, ...]]] = {}  # share on each of these devices
        self._jobs: dict[str, JobBooking] = {}
        # Holds the invariant "whoever finds room books it before another one measures".
        self._lock = threading.Lock()

    def take_engine(self, engine_id: str, server: LocalServer) -> Failure | None:
        """Book an engine's share; a failure says why there is no room for it."""
        places = server.devices or (server.device,)
        with self._lock:
            if server.device_share:
                refusal = self._check_share(engine_id, server.device_share, places)
            else:  # a GPU's memory is not the machine's: there the shares are the budget
                refusal = self._check_host(server.memory_bytes)
            if refusal is None:
                self._engines[engine_id] = (server.device_share, places)
            return refusal

    def note_asleep(self, engine_id: str, server: LocalServer) -> None:
        """An engine sleeps: of its GPUs it holds only what a sleeping process keeps."""
        with self._lock:
            self._engines[engine_id] = (server.sleeping_share, server.devices or (server.device,))

    def take_job(self, holder: str, booking: JobBooking) -> bool:
        """Book for a job if there is room."""
        with self._lock:
            self._jobs.pop(holder, None)
            room = self._has_room(booking)
            if room:
                self._jobs[holder] = booking
            return room

    def has_room(self, booking: JobBooking) -> bool:
        """Whether there is room for a job now; books nothing."""
        with self._lock:
            return self._has_room(booking)

    def hold_job(self, holder: str, booking: JobBooking) -> None:
        """Book for a job that runs already, whether there is room or not."""
        with self._lock:
            self._jobs[holder] = booking

    def note_use(self, holder: str, used_bytes: int) -> None:
        """A job has taken so much of the host's memory."""
        with self._lock:
            if holder in self._jobs:
                self._jobs[holder].used_bytes = used_bytes

    def give_back(self, holder: str) -> None:
        """An engine or a job is gone."""
        with self._lock:
            self._engines.pop(holder, None)
            self._jobs.pop(holder, None)

    def free_bytes(self) -> int:
        """Of the host's memory, less what running jobs were promised and have not taken yet."""
        with self._lock:
            return self._free_bytes()

    def shares(self, place: str) -> dict[str, float]:
        """Who holds which share of a GPU's memory."""
        with self._lock:
            return self._shares(place)

    def _has_room(self, booking: JobBooking) -> bool:
        if booking.gpu is not None and sum(self._shares(booking.gpu).values()) + booking.gpu_share > _FULL_SHARE:
            return False
        return booking.memory_bytes <= self._free_bytes()

    def _free_bytes(self) -> int:
        return self._free_memory_bytes() - sum(job.outstanding_bytes for job in self._jobs.values())

    def _shares(self, place: str) -> dict[str, float]:
        shares = {name: share for name, (share, places) in self._engines.items() if place in places and share}
        return shares | {name: job.gpu_share for name, job in self._jobs.items() if job.gpu == place}

    def _check_share(self, engine_id: str, share: float, places: tuple[str, ...]) -> Failure | None:
        for place in places:
            taken = {other: part for other, part in self._shares(place).items() if other != engine_id}
            if sum(taken.values()) + share > _FULL_SHARE:
                others = ", ".join(f"{other} {part:.0%}" for other, part in taken.items())
                return Failure(
                    "NOT_ENOUGH_MEMORY",
                    f"This engine asks for {share:.0%} of the GPU memory; others have: {others}.",
                    "Stop one of them, or lower gpu_memory_utilization in their profiles so that the sum is at most 1.",
                    deterministic=True,
                )
        return None

    def _check_host(self, memory_bytes: int) -> Failure | None:
        free = self._free_bytes()
        if memory_bytes <= free:
            return None
        promised = sum(job.outstanding_bytes for job in self._jobs.values())
        kept = f" ({in_gib(promised)} more is kept for a running job)" if promised else ""
        return Failure(
            "NOT_ENOUGH_MEMORY",
            f"This engine needs about {in_gib(memory_bytes)} of memory, and {in_gib(max(free, 0))} is free{kept}.",
            "Stop another engine or program, or lower cpu_kv_cache_gib or max_model_len in the profile.",
            deterministic=True,
        )


class Device:
    """One device, such as "cpu" or "cuda:0": engines start there one after the other."""

    def __init__(self, book: MemoryBook) -> None:
        # Holds the invariant "one engine at a time measures and takes this device's memory": a start that measures
        # while another one still loads would count memory that is as good as gone.
        self.start_lock = asyncio.Lock()
        self._book = book

    def take(self, engine_id: str, server: LocalServer) -> Failure | None:
        """Book an engine's share; a failure says why there is no room for it."""
        return self._book.take_engine(engine_id, server)

    def note_asleep(self, engine_id: str, server: LocalServer) -> None:
        """The engine sleeps and holds little."""
        self._book.note_asleep(engine_id, server)

    def give_back(self, engine_id: str) -> None:
        """The engine is gone."""
        self._book.give_back(engine_id)
