"""Which engines there are: every model of every loaded pair, by its engine id. Read-only."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from components.core.errors import InputError
from components.profiles.schema import ModelProfile, PairProfile


@dataclass(frozen=True)
class CatalogEntry:
    """One model and the pair it belongs to."""

    engine_id: str
    pair: PairProfile
    model: ModelProfile


class Catalog:
    """Engines by id, in the order of the profiles: of each pair the base first, then its default candidate."""

    def __init__(self, pairs: Sequence[PairProfile]) -> None:
        self.pairs = tuple(pairs)
        self._entries = {
            pair.engine_id(model): CatalogEntry(pair.engine_id(model), pair, model)
            for pair in pairs
            for model in (pair.base, *pair.candidates)
        }

    def entries(self) -> tuple[CatalogEntry, ...]:
        """Every engine."""
        return tuple(self._entries.values())

    def of_pair(self, pair_id: str) -> tuple[CatalogEntry, ...]:
        """The engines of one pair, base first."""
        return tuple(entry for entry in self._entries.values() if entry.pair.id == pair_id)

    def find(self, engine_id: str, field: str = "engine") -> CatalogEntry:
        """The engine of that id.

        Raises:
            InputError: there is none; the hint names those there are.
        """
        entry = self._entries.get(engine_id)
        if entry is None:
            raise InputError(
                f"There is no engine {engine_id!r}.", f"Accepted: {', '.join(self._entries)}.", field=field
            )
        return entry
