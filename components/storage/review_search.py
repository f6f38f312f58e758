"""Free text in items of review: one narrow row per item with all its texts in lower case, read through as a whole.

A scan of short rows is the same on every database, finds any part of a word in any script, and takes tens of
milliseconds for 100,000 items; the items' own rows are too wide for that.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from sqlalchemy import ColumnElement, Integer, select
from sqlalchemy.ext.compiler import compiles
from sqlalchemy.orm import Session
from sqlalchemy.sql.compiler import SQLCompiler
from sqlalchemy.sql.functions import GenericFunction

from components.storage.review_rows import ItemFilter
from components.storage.review_tables import ReviewItemRow, ReviewTextRow

_FEW = 500


class _Place(GenericFunction[int]):
    """Where a text stands in another, from 1; 0 = nowhere. Quicker than LIKE, and nothing needs to be escaped."""

    type = Integer()
    name = "diptych_place"
    inherit_cache = True


@compiles(_Place, "sqlite")
def _sqlite(element: _Place, compiler: SQLCompiler, **options: Any) -> str:
    return f"instr({compiler.process(element.clauses, **options)})"


@compiles(_Place, "postgresql")
def _postgresql(element: _Place, compiler: SQLCompiler, **options: Any) -> str:
    return f"strpos({compiler.process(element.clauses, **options)})"


def searchable(row: ReviewItemRow) -> str:
    """All texts of an item as they are searched."""
    return "\n".join(part for part in (row.key, row.prompt, row.base_text, row.candidate_text) if part).casefold()


def add_texts(session: Session, rows: Iterable[ReviewItemRow]) -> None:
    """Make new items searchable; they must have been flushed."""
    session.add_all(ReviewTextRow(seq=row.seq, batch_id=row.batch_id, text=searchable(row)) for row in rows)


def renew_text(session: Session, row: ReviewItemRow) -> None:
    """The texts of an item have changed."""
    session.get_one(ReviewTextRow, row.seq).text = searchable(row)


def holds_text(batch_id: str, words: str) -> ColumnElement[bool]:
    """The items of a batch that hold these words, whatever their case."""
    text = ReviewTextRow
    return ReviewItemRow.seq.in_(select(text.seq).where(text.batch_id == batch_id, _holds(words)))


def filtered(batch_id: str, wanted: ItemFilter) -> list[ColumnElement[bool]]:
    """The items of a batch that a filter takes."""
    found = [ReviewItemRow.batch_id == batch_id, *wanted.conditions()]
    return [*found, holds_text(batch_id, wanted.text)] if wanted.text else found


def open_with_text(session: Session, batch_id: str, words: str) -> ColumnElement[bool] | None:
    """The same for a walk along the queue; None = no open item holds the words.

    A walk that looks at each item is quick where many hold them, a list of items where few do.
    """
    row, text = ReviewItemRow, ReviewTextRow
    both = select(row.seq).join(text, text.seq == row.seq).where(text.batch_id == batch_id, _holds(words))
    few = session.scalars(both.where(row.is_open.is_(True)).limit(_FEW + 1)).all()
    if not few:
        return None
    if len(few) <= _FEW:
        return row.seq.in_(few)
    return select(text.seq).where(text.seq == row.seq, _holds(words)).exists()


def _holds(words: str) -> ColumnElement[bool]:
    return _Place(ReviewTextRow.text, words.casefold(), type_=Integer()) > 0
