"""What the supervision of engines takes from outside: waits, clocks, memory, chance."""

from __future__ import annotations

import asyncio
import random
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path

from components.core.clock import utc_now
from components.core.restart import RestartPolicy
from components.engines.memory import free_memory_bytes, oom_kills
from components.engines.status import Timeouts


@dataclass(frozen=True)
class World:
    """Tests give their own."""

    cwd: Path = Path("/")
    timeouts: Timeouts = field(default_factory=Timeouts)
    policy: RestartPolicy = field(default_factory=RestartPolicy)
    monotonic: Callable[[], float] = time.monotonic
    utc_now: Callable[[], datetime] = utc_now
    sleep: Callable[[float], Awaitable[object]] = asyncio.sleep  # between two starts only
    chance: Callable[[], float] = random.random
    free_memory_bytes: Callable[[], int] = free_memory_bytes
    oom_kills: Callable[[], int] = oom_kills
    stint_s: float = 30.0  # how long engines that take turns let newcomers in while another one is waited for
    linger_s: float = 0.2  # how long one that nobody needs stays up then
