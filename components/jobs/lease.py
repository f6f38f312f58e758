"""What a job must be granted before it starts. The engines' bookkeeping grants it; jobs know no engine."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Protocol

from components.core.jobs import JobNeeds


@dataclass(frozen=True)
class Grant:
    """It may start, with these additions to its environment (which GPU)."""

    env: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Wait:
    """Why it can't start now, in a sentence, and which engines would make room by stopping."""

    reason: str
    engines: tuple[str, ...] = ()


class Lease(Protocol):
    """Room on the machine, shared with the engines."""

    def take(self, holder: str, needs: JobNeeds) -> Grant | Wait:
        """Book room, or say why there is none. Booking again for the same holder replaces its booking."""

    def hold(self, holder: str, needs: JobNeeds) -> None:
        """Book for one that runs already, whether there is room or not."""

    def note_use(self, holder: str, used_bytes: int) -> None:
        """How much of its booking a holder has taken, so that it isn't counted twice."""

    def give_back(self, holder: str) -> None:
        """The holder is gone."""
