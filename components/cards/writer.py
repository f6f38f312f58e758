"""Collects a card's sections. A figure gets in only with its source, and what has none is listed as missing. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from components.cards.markdown import code, table, text
from components.core.benchmarks import BenchmarkRecord, by_numbers

NOT_MEASURED = "not measured"


class CardWriter:
    """Sections, figures with their sources, and what is missing."""

    def __init__(self, records: Iterable[BenchmarkRecord]) -> None:
        """``records`` are one model's, of each task and metric one."""
        self._records = {(record.task, record.metric): record for record in records}
        self._parts: list[str] = []
        self.missing: list[str] = []
        self.figures: dict[str, str] = {}

    @property
    def markdown(self) -> str:
        """All sections so far."""
        return "\n\n".join(part for part in self._parts if part) + "\n"

    def write(self, *parts: str) -> None:
        """Markdown that holds no figure, or figures that ``figure`` and ``fact`` have given."""
        self._parts += parts

    def heading(self, words: str, level: int = 2) -> None:
        """A heading; its words are ours."""
        self._parts.append(f"{'#' * level} {words}")

    def lacks(self, what: str) -> None:
        """Something that was not measured or is not known."""
        if what not in self.missing:
            self.missing.append(what)

    def tasks(self, suite: str, metric: str) -> list[str]:
        """Tasks of a suite that have this figure, in the order of their names and numbers."""
        found = [t for (t, m), record in self._records.items() if m == metric and record.suite == suite]
        return sorted(found, key=by_numbers)

    def record(self, task: str, metric: str) -> BenchmarkRecord | None:
        """That figure."""
        return self._records.get((task, metric))

    def figure(
        self, record: BenchmarkRecord | None, *, unit: str = "", digits: int = 4, absent: str = NOT_MEASURED
    ) -> str:
        """A figure with its interval, as text; its source is remembered."""
        if record is None or record.value is None:
            return absent
        shown = self._number(record.value, digits, record.id)
        if record.low is not None and record.high is not None:
            ends = f"{self._number(record.low, digits, record.id)} to {self._number(record.high, digits, record.id)}"
            return f"{shown}{unit} ({ends})"
        return f"{shown}{unit}"

    def plain(self, value: float, source: str, *, digits: int = 4) -> str:
        """A figure without an interval, from a record's details or a file."""
        return self._number(value, digits, source)

    def fact(self, value: object, source: str) -> str:
        """Something that a profile or a file says, escaped; its source is remembered."""
        shown = str(value)
        self.figures[shown] = source
        return text(shown)

    def figures_table(self, head: Sequence[str], rows: Sequence[tuple[str, BenchmarkRecord | None, str]]) -> None:
        """Rows of (words, record, unit), each with the record's id; those without a record say so."""
        cells = [
            [words, self.figure(record, unit=unit), code(record.id) if record else "—"] for words, record, unit in rows
        ]
        self.write(table([*head, "Record"], cells))

    def _number(self, value: float, digits: int, source: str) -> str:
        shown = f"{value:.{digits}g}" if abs(value) < 10**digits else f"{value:,.0f}"
        if "e" in shown:
            shown = f"{value:.2e}"
        self.figures[shown] = source
        return shown
