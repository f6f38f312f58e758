"""Batches and items of review in the database, and what can be read of them. The queue is in ``review_queue.py``."""

from __future__ import annotations

import random
import secrets
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

from sqlalchemy import func, select, text
from sqlalchemy.orm import Session

from components.core.errors import InputError, RecordNotFoundError
from components.core.reviews import Answered, Batch, BatchState, Item, ItemState, Question, Verdict
from components.storage.database import Database
from components.storage.review_rows import (
    ItemFilter,
    answered_columns,
    batch_record,
    batch_row,
    get_batch,
    get_item,
    item_record,
    item_row,
    verdict_record,
)
from components.storage.review_search import add_texts, filtered, renew_text
from components.storage.review_tables import ReviewBatchRow, ReviewItemRow, ReviewTextRow, ReviewVerdictRow

SLICE_SHARE = 0.05
_CHUNK = 1000


@dataclass(frozen=True)
class Progress:
    """How far a batch is, in items."""

    items: int
    answered: int
    failed: int
    open: int  # waiting for a reviewer
    conflicts: int = 0  # judged differently by two, waiting for a third


@dataclass(frozen=True)
class Pending:
    """A question that the engines have still to answer."""

    position: int
    trace_id: str
    question: Question
    candidates: tuple[str, ...]


class ReviewRepository:
    """All batches of one state directory. Calls block and may come from several threads."""

    def __init__(self, database: Database, rng: random.Random | None = None) -> None:
        self._database = database
        self._rng = rng or random.SystemRandom()

    def add_batch(self, batch: Batch, questions: Iterable[Question]) -> int:
        """Store a batch with an item for each question and candidate, in one transaction; how many items.

        Raises:
            InputError: its id is taken. StorageError: nothing was stored.
        """

        def insert(session: Session) -> int:
            if session.scalar(select(ReviewBatchRow.seq).where(ReviewBatchRow.id == batch.id)) is not None:
                raise InputError(f"There is a batch {batch.id} already.", field="batch")
            session.add(batch_row(batch))
            session.flush()
            rows: list[ReviewItemRow] = []
            count = 0
            for position, question in enumerate(questions):
                trace_id = secrets.token_hex(16)
                for engine_id in batch.candidate_engines:
                    item = Item(
                        id=secrets.token_hex(12), batch_id=batch.id, position=position, candidate_engine=engine_id,
                        question=question, state=ItemState.PENDING, trace_id=trace_id,
                    )  # fmt: skip
                    rows.append(self._row(item, batch.overlap))
                    count += 1
                if len(rows) >= _CHUNK:
                    _insert(session, rows)
                    rows = []
            _insert(session, rows)
            _count_anew(session)
            return count

        return self._database.write(insert)

    def add_answered(self, batch: Batch, items: Sequence[Item]) -> None:
        """Store a batch whose answers are there already.

        Raises:
            StorageError: nothing was stored.
        """

        def insert(session: Session) -> None:
            session.add(batch_row(batch))
            session.flush()
            _insert(session, [self._row(item, batch.overlap) for item in items])
            _count_anew(session)

        self._database.write(insert)

    def _row(self, item: Item, overlap: float) -> ReviewItemRow:
        drawn = self._rng.random()
        in_slice = drawn < SLICE_SHARE
        wanted = 2 if self._rng.random() < overlap else 1
        return item_row(item.model_copy(update={"in_slice": in_slice}), random_key=drawn, wanted=wanted)

    # ---- the engines' side ----------------------------------------------------------------------------------------

    def pending(self, batch_id: str, limit: int) -> list[Pending]:
        """The next questions to be answered, in order."""
        row = ReviewItemRow
        open_ones = (row.batch_id == batch_id, row.state == ItemState.PENDING.value, row.is_open.is_(False))
        positions = select(row.position).distinct().where(*open_ones).order_by(row.position).limit(limit)

        def find(session: Session) -> list[Pending]:
            found = []
            for position in session.scalars(positions).all():
                rows = self._of_question(session, batch_id, position)
                candidates = tuple(r.candidate_engine for r in rows)
                found.append(Pending(position, rows[0].trace_id, item_record(rows[0]).question, candidates))
            return found

        return self._database.read(find)

    def set_answered(self, batch_id: str, position: int, by_candidate: dict[str, Answered]) -> None:
        """Store what came back for a question; its items are open to reviewers from now on."""

        def store(session: Session) -> None:
            for row in self._of_question(session, batch_id, position):
                answered = by_candidate.get(row.candidate_engine)
                if answered is None or row.state == ItemState.DONE.value:
                    continue
                for name, value in answered_columns(answered).items():
                    setattr(row, name, value)
                row.trace_id, row.state, row.failure, row.is_open = answered.trace_id, ItemState.DONE.value, None, True
                renew_text(session, row)

        self._database.write(store)

    def set_failed(
        self, batch_id: str, position: int, reason: str, engines: Sequence[str], of_trace: str | None = None
    ) -> None:
        """Say why a question has no answer of these candidates. A further try is a new turn.

        ``of_trace``: only while that is the turn that is tried; None = whichever is.
        """

        def store(session: Session) -> None:
            for row in self._of_question(session, batch_id, position):
                if of_trace is not None and row.trace_id != of_trace:
                    continue
                if row.candidate_engine in engines and row.state != ItemState.DONE.value:
                    row.state, row.failure = ItemState.FAILED.value, reason

        self._database.write(store)

    def renew_trace(self, batch_id: str, position: int) -> str:
        """A new id for the turn of a question whose first turn was cut off; gives it."""
        fresh = secrets.token_hex(16)

        def store(session: Session) -> None:
            for row in self._of_question(session, batch_id, position):
                if row.state != ItemState.DONE.value:
                    row.trace_id = fresh

        self._database.write(store)
        return fresh

    def retry_failed(self, batch_id: str) -> int:
        """Let the failed items be asked again, each in a new turn; how many."""

        def store(session: Session) -> int:
            failed = (ReviewItemRow.batch_id == batch_id, ReviewItemRow.state == ItemState.FAILED.value)
            rows = session.scalars(select(ReviewItemRow).where(*failed)).all()
            fresh: dict[int, str] = {}
            for row in rows:
                row.trace_id = fresh.setdefault(row.position, secrets.token_hex(16))
                row.state, row.failure = ItemState.PENDING.value, None
            return len(rows)

        return self._database.write(store)

    def set_state(self, batch_id: str, state: BatchState, message: str = "") -> Batch:
        """Where a batch stands, and why.

        Raises:
            RecordNotFoundError: there is no such batch.
        """

        def store(session: Session) -> Batch:
            row = get_batch(session, batch_id)
            row.state, row.message = state.value, message
            session.flush()
            return batch_record(row)

        return self._database.write(store)

    def _of_question(self, session: Session, batch_id: str, position: int) -> Sequence[ReviewItemRow]:
        row = ReviewItemRow
        return session.scalars(
            select(row).where(row.batch_id == batch_id, row.position == position).order_by(row.seq)
        ).all()

    # ---- reading ----------------------------------------------------------------------------------------------------

    def batch(self, batch_id: str) -> Batch:
        """One batch.

        Raises:
            RecordNotFoundError: there is none of that id.
        """
        return self._database.read(lambda session: batch_record(get_batch(session, batch_id)))

    def batches(self, state: BatchState | None = None) -> list[Batch]:
        """All batches, or those in a state, oldest first."""
        wanted = select(ReviewBatchRow).order_by(ReviewBatchRow.seq)
        if state is not None:
            wanted = wanted.where(ReviewBatchRow.state == state.value)
        return self._database.read(lambda session: [batch_record(row) for row in session.scalars(wanted)])

    def progress(self, batch_id: str) -> Progress:
        """Counts of a batch's items."""
        row = ReviewItemRow
        counts = select(row.state, row.is_open, func.count()).where(row.batch_id == batch_id)
        conflicts = select(func.count()).where(row.batch_id == batch_id, row.outcome == "conflict")

        def count(session: Session) -> Progress:
            found = list(session.execute(counts.group_by(row.state, row.is_open)))
            by_state = {state: sum(n for s, _, n in found if s == state.value) for state in ItemState}
            waiting = sum(n for _, is_open, n in found if is_open)
            return Progress(
                sum(by_state.values()), by_state[ItemState.DONE], by_state[ItemState.FAILED], waiting,
                session.scalar(conflicts) or 0,
            )  # fmt: skip

        return self._database.read(count)

    def item(self, item_id: str) -> Item:
        """One item.

        Raises:
            RecordNotFoundError: there is none of that id.
        """
        return self._database.read(lambda session: item_record(get_item(session, item_id)))

    def items(self, batch_id: str, wanted: ItemFilter, limit: int = 50, offset: int = 0) -> tuple[list[Item], int]:
        """A page of a batch's items, most divergent first, and how many there are in all."""
        row = ReviewItemRow
        conditions = filtered(batch_id, wanted)
        page = select(row).where(*conditions).order_by(row.divergence_nats.desc().nulls_last(), row.seq.desc())

        def find(session: Session) -> tuple[list[Item], int]:
            total = session.scalar(select(func.count()).select_from(row).where(*conditions)) or 0
            return [item_record(found) for found in session.scalars(page.limit(limit).offset(offset))], total

        return self._database.read(find)

    def every_item(self, batch_id: str) -> Iterator[Item]:
        """All items of a batch in order, read in parts."""
        row, last = ReviewItemRow, 0
        while True:
            wanted = select(row).where(row.batch_id == batch_id, row.seq > last).order_by(row.seq).limit(_CHUNK)
            found = self._database.read(lambda session, query=wanted: list(session.scalars(query)))  # type: ignore[misc]
            if not found:
                return
            last = found[-1].seq
            yield from (item_record(each) for each in found)

    def verdicts(self, batch_id: str, *, reviewer: str = "", current_only: bool = True) -> list[Verdict]:
        """Verdicts of a batch, oldest first; with ``current_only`` without those replaced or withdrawn."""
        row = ReviewVerdictRow
        wanted = select(row).where(row.batch_id == batch_id).order_by(row.seq)
        if reviewer:
            wanted = wanted.where(row.reviewer == reviewer)
        if current_only:
            wanted = wanted.where(row.state == "current")
        return self._database.read(lambda session: [verdict_record(found) for found in session.scalars(wanted)])

    def verdicts_of(self, item_id: str, reviewer: str) -> list[Verdict]:
        """Every verdict of a reviewer on an item, oldest first."""
        row = ReviewVerdictRow
        wanted = select(row).where(row.item_id == item_id, row.reviewer == reviewer).order_by(row.seq)
        return self._database.read(lambda session: [verdict_record(found) for found in session.scalars(wanted)])

    def judged_items(self, batch_id: str, wanted: ItemFilter) -> dict[str, Item]:
        """Items that have a verdict, by id, as far as the filter takes them."""
        row = ReviewItemRow
        verdicts = select(ReviewVerdictRow.item_id).where(ReviewVerdictRow.batch_id == batch_id)
        query = select(row).where(row.id.in_(verdicts), *filtered(batch_id, wanted))
        return self._database.read(lambda session: {found.id: item_record(found) for found in session.scalars(query)})

    def has_batch(self, batch_id: str) -> bool:
        """Whether there is such a batch."""
        try:
            self.batch(batch_id)
        except RecordNotFoundError:
            return False
        return True


def _insert(session: Session, rows: list[ReviewItemRow]) -> None:
    """New items with their texts; they are forgotten by the session, so that memory stays bounded."""
    session.add_all(rows)
    session.flush()
    add_texts(session, rows)
    session.flush()
    session.expunge_all()


def _count_anew(session: Session) -> None:
    """PostgreSQL plans by what it counted last; it would count by itself, but only after a minute of slow steps."""
    if session.get_bind().dialect.name == "postgresql":
        for table in (ReviewItemRow, ReviewTextRow):
            session.execute(text(f"ANALYZE {table.__tablename__}"))
