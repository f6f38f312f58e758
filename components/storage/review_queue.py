"""The queue of review: who is given which item, and every verdict with its history.

Each step is one transaction of the one writer, so two reviewers can never be given the same item, and a verdict that
was confirmed is on disk. A lock that ran out frees its item; what its holder had noted stays.
"""

from __future__ import annotations

import random
import secrets
from collections.abc import Callable, Sequence
from datetime import datetime, timedelta

from sqlalchemy import ColumnElement, func, or_, select
from sqlalchemy.orm import Session

from components.core.clock import utc_now
from components.core.errors import InputError, RecordNotFoundError
from components.core.reviews import (
    ItemState,
    Side,
    Verdict,
    other_side,
    outcome_of,
    settled,
)
from components.storage.database import Database
from components.storage.review_given import Given, Judgement, Wish
from components.storage.review_rows import (
    assignment_record,
    get_batch,
    get_item,
    item_record,
    verdict_record,
    verdict_row,
)
from components.storage.review_search import filtered, open_with_text
from components.storage.review_tables import ReviewAssignmentRow, ReviewItemRow, ReviewVerdictRow

LOCK = timedelta(minutes=30)
_SLICE_EVERY = 5  # each fifth item comes from the random slice
_REPEAT_EVERY = 20  # 5 % of a reviewer's items come again with sides flipped
_REPEAT_AFTER = 10  # and not right after the first time


class ReviewQueue:
    """Gives items and takes verdicts. Calls block and may come from several threads."""

    def __init__(
        self, database: Database, utc_now: Callable[[], datetime] = utc_now, rng: random.Random | None = None
    ) -> None:
        self._database, self._now = database, utc_now
        self._rng = rng or random.SystemRandom()

    # ---- giving -----------------------------------------------------------------------------------------------------

    def next(self, reviewer: str, wish: Wish) -> Given | None:
        """The item this reviewer has open, else the next one, held for this reviewer from now on; None = none is left.

        Raises:
            RecordNotFoundError: there is no such batch. InputError: the filter is not acceptable.
        """

        def take(session: Session) -> Given | None:
            get_batch(session, wish.batch_id)
            held = self._held(session, reviewer, wish.batch_id)
            if held is not None:
                return held
            again = self._repeat(session, reviewer, wish.batch_id)
            item = again or self._pick(session, reviewer, wish)
            return None if item is None else self._give(session, reviewer, item, wish, is_repeat=again is not None)

        return self._database.write(take)

    def _held(self, session: Session, reviewer: str, batch_id: str) -> Given | None:
        row = ReviewAssignmentRow
        mine = select(row).where(row.reviewer == reviewer, row.batch_id == batch_id, row.is_open.is_(True))
        for assignment in session.scalars(mine.order_by(row.given_at)):
            item = get_item(session, assignment.item_id)
            if self._may_hold(item, assignment):
                self._lock(item, reviewer)
                return self._given(session, item, assignment)
            assignment.is_open = False  # it went to another reviewer after the lock ran out
        return None

    def _may_hold(self, item: ReviewItemRow, assignment: ReviewAssignmentRow) -> bool:
        if assignment.round > 1 or assignment.settles:
            return True
        return item.is_open and not self._locked_by_another(item, assignment.reviewer)

    def _locked_by_another(self, item: ReviewItemRow, reviewer: str) -> bool:
        return (
            item.locked_by is not None
            and item.locked_by != reviewer
            and item.locked_until is not None
            and item.locked_until > self._now()
        )

    def _repeat(self, session: Session, reviewer: str, batch_id: str) -> ReviewItemRow | None:
        """An item this reviewer judged some time ago, now and then: does it agree with itself?"""
        row = ReviewVerdictRow
        mine = (row.batch_id == batch_id, row.reviewer == reviewer, row.state == "current")
        judged = session.scalar(select(func.count()).select_from(row).where(*mine, row.round == 1)) or 0
        repeated = session.scalar(select(func.count()).select_from(row).where(*mine, row.round == 2)) or 0
        if repeated >= judged // _REPEAT_EVERY:
            return None
        twice = select(ReviewAssignmentRow.item_id).where(
            ReviewAssignmentRow.reviewer == reviewer, ReviewAssignmentRow.round == 2
        )
        old = select(row.item_id).where(*mine, row.round == 1, row.settles.is_(False)).order_by(row.seq)
        ids = session.scalars(old.limit(max(judged - _REPEAT_AFTER, 0))).all()
        known = set(session.scalars(twice).all())
        left = [item_id for item_id in ids if item_id not in known]
        return get_item(session, self._rng.choice(left)) if left else None

    def _pick(self, session: Session, reviewer: str, wish: Wish) -> ReviewItemRow | None:
        row, mine = ReviewItemRow, ReviewAssignmentRow
        free = or_(row.locked_until.is_(None), row.locked_until <= self._now(), row.locked_by == reviewer)
        judged = self._judged_by(reviewer)
        skipped = select(mine.item_id).where(mine.item_id == row.id, mine.reviewer == reviewer, mine.skipped.is_(True))
        if wish.order == "conflicts":
            conflicts = [*filtered(wish.batch_id, wish.filter), row.outcome == "conflict", free, ~judged]
            return session.scalars(select(row).where(*conflicts).order_by(row.seq).limit(1)).first()
        conditions = [row.batch_id == wish.batch_id, row.is_open.is_(True), free, ~judged, *wish.filter.conditions()]
        if wish.filter.text:
            found_text = open_with_text(session, wish.batch_id, wish.filter.text)
            if found_text is None:
                return None
            conditions.append(found_text)
        own = (mine.reviewer == reviewer, mine.batch_id == wish.batch_id)
        given = select(func.count()).select_from(mine).where(*own)
        from_slice = ((session.scalar(given) or 0) + 1) % _SLICE_EVERY == 0
        has_skipped = session.scalar(select(mine.item_id).where(*own, mine.skipped.is_(True)).limit(1)) is not None
        for fresh in ([~skipped.exists()], []) if has_skipped else ([],):  # skipped ones when nothing else is left
            for in_slice in (from_slice, not from_slice):
                found = self._first(session, [*conditions, *fresh], wish.order, in_slice=in_slice)
                if found is not None:
                    return found
        return None

    @staticmethod
    def _judged_by(reviewer: str) -> ColumnElement[bool]:
        row = ReviewVerdictRow
        return (
            select(row.item_id)
            .where(row.item_id == ReviewItemRow.id, row.reviewer == reviewer, row.state == "current")
            .exists()
        )

    @staticmethod
    def _first(
        session: Session, conditions: Sequence[ColumnElement[bool]], order: str, *, in_slice: bool
    ) -> ReviewItemRow | None:
        row = ReviewItemRow
        column = {"divergence": row.divergence_nats, "disagreement": row.disagreement}.get(order, row.random_key)
        # The slice has an order of its own, or what is judged of it would not be a random part.
        by = row.random_key if in_slice else column
        query = select(row).where(*conditions, row.in_slice.is_(in_slice)).limit(1)
        # Two steps and not "nulls last", for which PostgreSQL would not walk along the index.
        measured = session.scalars(query.where(by.is_not(None)).order_by(by.desc(), row.seq.desc())).first()
        if measured is not None or by is row.random_key:
            return measured
        return session.scalars(query.where(by.is_(None)).order_by(row.seq.desc())).first()

    def _give(
        self, session: Session, reviewer: str, item: ReviewItemRow, wish: Wish, *, is_repeat: bool
    ) -> Given:  # fmt: skip
        number = 2 if is_repeat else 1
        row = session.get(ReviewAssignmentRow, (item.id, reviewer, number))
        if row is None:
            row = ReviewAssignmentRow(
                item_id=item.id, reviewer=reviewer, round=number, batch_id=item.batch_id, draft="",
                settles=wish.order == "conflicts", a_is=self._side(session, item.id, reviewer, is_repeat=is_repeat),
                given_at=self._now(), is_open=True, skipped=False,
            )  # fmt: skip
            session.add(row)
        row.is_open, row.skipped, row.given_at = True, False, self._now()
        if not is_repeat:
            self._lock(item, reviewer)
        session.flush()
        return self._given(session, item, row)

    def _side(self, session: Session, item_id: str, reviewer: str, *, is_repeat: bool) -> Side:
        first = session.get(ReviewAssignmentRow, (item_id, reviewer, 1)) if is_repeat else None
        if first is not None:
            return other_side("base" if first.a_is == "base" else "candidate")
        return "base" if self._rng.random() < 0.5 else "candidate"

    def _lock(self, item: ReviewItemRow, reviewer: str) -> None:
        item.locked_by, item.locked_until = reviewer, self._now() + LOCK

    def _given(self, session: Session, item: ReviewItemRow, assignment: ReviewAssignmentRow) -> Given:
        mine = self._mine(session, item.id, assignment.reviewer, assignment.round)
        return Given(
            item_record(item),
            assignment_record(assignment, item),
            None if mine is None else verdict_record(mine),
            is_repeat=assignment.round > 1,
        )

    # ---- what a reviewer does with an item ------------------------------------------------------------------------

    def open(self, reviewer: str, item_id: str) -> Given:
        """An item that this reviewer was given before, to look at it or to change the verdict.

        Raises:
            RecordNotFoundError: there is no such item, or it was never given to this reviewer.
        """

        def find(session: Session) -> Given:
            item = get_item(session, item_id)
            return self._given(session, item, self._assignment(session, item_id, reviewer))

        return self._database.read(find)

    def save_draft(self, reviewer: str, item_id: str, draft: str) -> None:
        """Keep what is not submitted yet, and hold the item longer."""

        def store(session: Session) -> None:
            assignment = self._assignment(session, item_id, reviewer)
            assignment.draft = draft
            item = get_item(session, item_id)
            if assignment.is_open and item.locked_by == reviewer:
                self._lock(item, reviewer)

        self._database.write(store)

    def skip(self, reviewer: str, item_id: str) -> None:
        """Give an item back without a verdict; it comes again when nothing else is left."""

        def store(session: Session) -> None:
            assignment, item = self._assignment(session, item_id, reviewer), get_item(session, item_id)
            assignment.is_open, assignment.skipped = False, True
            if item.locked_by == reviewer:
                item.locked_by = item.locked_until = None

        self._database.write(store)

    def submit(self, reviewer: str, item_id: str, judgement: Judgement) -> Given:
        """Store a verdict; an earlier one of the same reviewer and round stays as replaced.

        Raises:
            RecordNotFoundError: no such item, or it was not given to this reviewer. InputError: another reviewer has it
            meanwhile. StorageError: nothing was stored.
        """

        def store(session: Session) -> Given:
            item, assignment = get_item(session, item_id), self._assignment(session, item_id, reviewer)
            earlier = self._mine(session, item_id, reviewer, assignment.round)
            if earlier is None and not self._may_hold(item, assignment):
                raise InputError(
                    "The hold on this item ran out, and another reviewer has it now.",
                    "What you noted is kept; take the next item.",
                    field="item_id",
                )
            if earlier is not None:
                earlier.state = "replaced"
            verdict = self._verdict(reviewer, assignment, judgement)
            session.add(verdict_row(verdict, item.batch_id))
            assignment.is_open, assignment.skipped, assignment.draft = False, False, ""
            if item.locked_by == reviewer:
                item.locked_by = item.locked_until = None
            session.flush()
            self._sum_up(session, item)
            return self._given(session, item, assignment)

        return self._database.write(store)

    def _verdict(self, reviewer: str, assignment: ReviewAssignmentRow, judgement: Judgement) -> Verdict:
        a_is: Side = "base" if assignment.a_is == "base" else "candidate"
        rights = (judgement.a_right, judgement.b_right)
        follows = outcome_of(judgement.verdict, a_is, *rights)
        now = self._now()
        return Verdict(
            id=secrets.token_hex(12), item_id=assignment.item_id, reviewer=reviewer, round=assignment.round,
            verdict=judgement.verdict, a_is=a_is, a_right=judgement.a_right, b_right=judgement.b_right,
            outcome=judgement.outcome if judgement.outcome and None in rights else follows,
            claims=judgement.claims, note=judgement.note, zoomed=judgement.zoomed,
            seconds=max(0.0, (now - assignment.given_at).total_seconds()) if assignment.is_open else None,
            settles=assignment.settles, created_at=now,
        )  # fmt: skip

    def undo(self, reviewer: str, batch_id: str) -> Given | None:
        """Take back this reviewer's last verdict of a batch; the one it replaced counts again. None = there is none.

        Without an earlier one the item is open to this reviewer again, with its sides as they were.
        """

        def store(session: Session) -> Given | None:
            row = ReviewVerdictRow
            mine = select(row).where(row.batch_id == batch_id, row.reviewer == reviewer, row.state == "current")
            last = session.scalars(mine.order_by(row.seq.desc()).limit(1)).first()
            if last is None:
                return None
            last.state = "withdrawn"
            item, key = get_item(session, last.item_id), (last.item_id, reviewer, last.round)
            before = select(row).where(
                row.item_id == last.item_id, row.reviewer == reviewer, row.round == last.round, row.state == "replaced"
            )
            restored = session.scalars(before.order_by(row.seq.desc()).limit(1)).first()
            assignment = session.get_one(ReviewAssignmentRow, key)
            if restored is not None:
                restored.state = "current"
            else:
                self._close_others(session, reviewer, batch_id)
                assignment.is_open, assignment.given_at = True, self._now()
                if last.round == 1:
                    self._lock(item, reviewer)
            session.flush()
            self._sum_up(session, item)
            return self._given(session, item, assignment)

        return self._database.write(store)

    def _close_others(self, session: Session, reviewer: str, batch_id: str) -> None:
        """One item at a time: what was open goes back to the queue; its sides and its draft are kept."""
        row = ReviewAssignmentRow
        mine = select(row).where(row.reviewer == reviewer, row.batch_id == batch_id, row.is_open.is_(True))
        for assignment in session.scalars(mine):
            item = get_item(session, assignment.item_id)
            if item.locked_by == reviewer:
                item.locked_by = item.locked_until = None
            assignment.is_open = False

    def judged(self, reviewer: str, batch_id: str) -> list[str]:
        """Ids of the items with a verdict of this reviewer, in the order of the verdicts."""
        row = ReviewVerdictRow
        mine = select(row.item_id).where(row.batch_id == batch_id, row.reviewer == reviewer, row.state == "current")
        return self._database.read(lambda session: list(dict.fromkeys(session.scalars(mine.order_by(row.seq)))))

    def own_conflicts(self, reviewer: str, batch_id: str) -> int:
        """How many conflicts this reviewer has a part in: others settle them."""
        row = ReviewItemRow
        mine = (row.batch_id == batch_id, row.outcome == "conflict", self._judged_by(reviewer))
        return self._database.read(lambda session: session.scalar(select(func.count()).where(*mine)) or 0)

    # ---- helpers ----------------------------------------------------------------------------------------------------

    @staticmethod
    def _assignment(session: Session, item_id: str, reviewer: str) -> ReviewAssignmentRow:
        get_item(session, item_id)
        row = ReviewAssignmentRow
        mine = select(row).where(row.item_id == item_id, row.reviewer == reviewer)
        found = session.scalars(mine.order_by(row.is_open.desc(), row.round.desc()).limit(1)).first()
        if found is None:
            raise RecordNotFoundError(
                "This item was not given to this reviewer.", "Ask /review_next for one.", field="item_id"
            )
        return found

    @staticmethod
    def _mine(session: Session, item_id: str, reviewer: str, number: int) -> ReviewVerdictRow | None:
        row = ReviewVerdictRow
        mine = select(row).where(
            row.item_id == item_id, row.reviewer == reviewer, row.round == number, row.state == "current"
        )
        return session.scalars(mine.order_by(row.seq.desc()).limit(1)).first()

    @staticmethod
    def _sum_up(session: Session, item: ReviewItemRow) -> None:
        """What the item repeats of its verdicts, for the queue and the filters."""
        row = ReviewVerdictRow
        first = select(row).where(row.item_id == item.id, row.round == 1, row.state == "current").order_by(row.seq)
        found = session.scalars(first).all()
        deciding = [verdict.outcome for verdict in found if verdict.settles]
        ordinary = [verdict.outcome for verdict in found if not verdict.settles]
        item.outcome = settled(ordinary, deciding[-1] if deciding else None)
        item.verdicts = len(ordinary)
        item.is_open = item.state == ItemState.DONE.value and item.verdicts < item.wanted
