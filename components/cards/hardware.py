"""The card's hardware table: the memory plan of the candidate alone, by size of GPU. Blocking; reads headers only."""

from __future__ import annotations

from pathlib import Path

from components.cards.facts import HardwareFact
from components.core.errors import AppError
from components.engines.catalog import CatalogEntry
from components.engines.model_memory import ModelMemoryReader
from components.profiles.loader import load_hardware
from components.profiles.memory_fit import GPU_COUNTS, by_size, hardware_fit, use_of


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
        for gb, same in by_size(load_hardware(self._profiles)[0]).items():
            fits = (hardware_fit(((memory, serve),), use_of(serve), same[0], gpus) for gpus in GPU_COUNTS)
            first = next((found for found in fits if found.fit.verdict == "fits"), None)
            rows.append(
                HardwareFact(
                    gpu_gb=gb, examples=", ".join(one.label.removesuffix(f" ({gb} GB)") for one in same),
                    gpus=first.gpus if first else None, context=first.fit.seats[0].context if first else None,
                    flags=first.flags[0] if first else (),
                )
            )  # fmt: skip
        return tuple(rows)
