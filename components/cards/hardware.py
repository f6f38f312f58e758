"""The card's hardware table: the memory plan of the candidate alone, by size of GPU. Blocking; reads headers only."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from components.cards.facts import HardwareFact
from components.core.errors import AppError
from components.engines.catalog import CatalogEntry
from components.engines.model_memory import ModelMemoryReader
from components.profiles.loader import load_hardware
from components.profiles.memory_fit import GPU_COUNTS, hardware_fit, use_of
from components.profiles.schema import HardwareProfile


class HardwareTable:
    """Plans a candidate by the settings of its profile."""

    def __init__(self, reader: ModelMemoryReader, profiles: Path) -> None:
        self._reader, self._profiles = reader, profiles

    def of(self, entry: CatalogEntry) -> tuple[HardwareFact, ...]:
        """A row for each size of GPU, smallest first; none where the model's shape is not known."""
        try:
            memory = self._reader.of_entry(entry)
        except AppError:
            return ()
        if memory is None:
            return ()
        serve = entry.pair.serve_of(entry.model)
        rows = []
        for gb, same in _by_size(load_hardware(self._profiles)[0]).items():
            fits = (hardware_fit(((memory, serve),), use_of(serve), same[0], gpus) for gpus in GPU_COUNTS)
            first = next((found for found in fits if found.fit.verdict == "fits"), None)
            rows.append(
                HardwareFact(
                    gpu_gb=gb, examples=", ".join(one.label for one in same), gpus=first.gpus if first else None,
                    context=first.fit.seats[0].context if first else None, flags=first.flags[0] if first else (),
                )
            )  # fmt: skip
        return tuple(rows)


def _by_size(hardware: Sequence[HardwareProfile]) -> dict[int, list[HardwareProfile]]:
    found: dict[int, list[HardwareProfile]] = {}
    for one in sorted(hardware, key=lambda one: one.sold_as_gb or 0):
        if one.sold_as_gb is not None and one.memory_gib is not None:
            found.setdefault(one.sold_as_gb, []).append(one)
    return found
