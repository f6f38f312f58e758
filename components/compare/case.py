"""What is scored: one answer of a stored turn between a base and a candidate. Pure but for the catalog it is given."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from components.core.errors import InputError
from components.core.scores import Side
from components.core.traces import StoredAnswer, Trace
from components.engines.catalog import Catalog, CatalogEntry

PATHS = ("base", "candidate")
METHODS = ("auto", "exact", "stock", "top_k")


@dataclass(frozen=True)
class Wanted:
    """What to score of a turn."""

    path: Side = "base"
    method: str = "auto"
    candidate: str | None = None  # engine id; None = the turn's first candidate

    @classmethod
    def read(cls, options: Mapping[str, object]) -> Wanted:
        """From the options of a call.

        Raises:
            InputError: naming the option and what it accepts.
        """
        path, method = str(options.get("path") or "base"), str(options.get("method") or "auto")
        if path not in PATHS:
            raise InputError(f"{path!r} is no path.", f"Accepted: {', '.join(PATHS)}.", field="path")
        if method not in METHODS:
            raise InputError(f"{method!r} is no method.", f"Accepted: {', '.join(METHODS)}.", field="method")
        candidate = options.get("candidate")
        return cls("base" if path == "base" else "candidate", method, str(candidate) if candidate else None)


@dataclass(frozen=True)
class Case:
    """A turn's answer between two engines."""

    trace: Trace
    parents: tuple[Trace, ...]
    stored: StoredAnswer  # whose tokens are scored
    other: StoredAnswer | None  # the other side's own answer, where the turn has one
    base: CatalogEntry
    candidate: CatalogEntry
    wanted: Wanted

    @property
    def candidates(self) -> tuple[str, ...]:
        """Engine ids of the turn's candidates, from the left; any of them can be asked for."""
        return tuple(a.slot.label.engine_id for a in self.trace.latest_answers if a.slot.label.role == "candidate")

    @property
    def sides(self) -> tuple[StoredAnswer, StoredAnswer] | None:
        """Base's and candidate's own answers; None where the turn has not both."""
        if self.other is None:
            return None
        return (self.stored, self.other) if self.wanted.path == "base" else (self.other, self.stored)


def case_of(chain: Sequence[Trace], wanted: Wanted, catalog: Catalog) -> Case:
    """The case of a conversation's last turn.

    Args:
        chain: the turn with all turns before it, oldest first.

    Raises:
        InputError: the turn can't be scored so; says why.
    """
    trace = chain[-1]
    bases = [a for a in trace.latest_answers if a.slot.label.role == "base"]
    candidates = [
        a for a in trace.latest_answers
        if a.slot.label.role == "candidate" and wanted.candidate in (None, a.slot.label.engine_id)
    ]  # fmt: skip
    mine, others = (bases, candidates) if wanted.path == "base" else (candidates, bases)
    if not mine:
        raise InputError(
            f"This turn has no answer of a {wanted.path}.", f"Ask a {wanted.path} too, or score the other path.",
            field="path",
        )  # fmt: skip
    stored, other = mine[0], others[0] if others else None
    base, candidate = _engines(catalog, trace, bases, candidates, wanted)
    if base.pair.id != candidate.pair.id:
        raise InputError("Base and candidate belong to different pairs.", "Their tokens can't be compared.")
    return Case(trace, tuple(chain[:-1]), stored, other, base, candidate, wanted)


def _engines(
    catalog: Catalog, trace: Trace, bases: list[StoredAnswer], candidates: list[StoredAnswer], wanted: Wanted
) -> tuple[CatalogEntry, CatalogEntry]:
    of_pair = catalog.of_pair(trace.pair)
    if bases:
        base = catalog.find(bases[0].slot.label.engine_id)
    else:
        base = next(entry for entry in of_pair if entry.model.role == "base")
    if wanted.candidate or candidates:
        name = wanted.candidate or candidates[0].slot.label.engine_id
        return base, catalog.find(name, field="candidate")
    first = next((entry for entry in of_pair if entry.model.role == "candidate"), None)
    if first is None:
        raise InputError("This pair has no candidate.", field="candidate")
    return base, first
