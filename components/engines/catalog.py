"""Which engines there are: every model of every loaded pair, by its engine id."""

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
    """Engines by id, in the order of the profiles: of each pair the base first, then its default candidate.

    Grows while the app runs, by what jobs make. Readable from any thread: it is replaced, never changed.
    """

    def __init__(self, pairs: Sequence[PairProfile]) -> None:
        self.version = 0  # moves when something was added
        self._fill(pairs)

    def _fill(self, pairs: Sequence[PairProfile]) -> None:
        self._entries = {
            pair.engine_id(model): CatalogEntry(pair.engine_id(model), pair, model)
            for pair in pairs
            for model in (pair.base, *pair.candidates)
        }
        self.pairs = tuple(pairs)

    def add(self, pair: PairProfile, model: ModelProfile) -> CatalogEntry:
        """One more candidate of a pair, after those it has; the pair too when it is new. A known one stays as it is."""
        known = {own.id: own for own in self.pairs}
        own = known.get(pair.id, pair)
        if own.engine_id(model) not in self._entries or pair.id not in known:
            if all(other.id != model.id for other in own.models):
                own = own.model_copy(update={"models": (*own.models, model)})
            self._fill(tuple({**known, own.id: own}.values()))
            self.version += 1
        return self._entries[own.engine_id(model)]

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
