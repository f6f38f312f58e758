"""Turns and answers in the database, token steps beside it as files.

A repository: typed records in, typed records out, nothing half-written. An answer's ending is final: a retry is a
sibling, so nothing is ever overwritten. Must not know how an answer is made or shown.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Collection, Sequence
from datetime import datetime
from typing import TypeVar

from sqlalchemy import ColumnElement, func, or_, select, update
from sqlalchemy.orm import InstrumentedAttribute, Session

from components.core.answers import Answer, ErrorRecord
from components.core.clock import utc_now
from components.core.errors import BlobDamagedError, InputError, RecordNotFoundError
from components.core.states import Outcome
from components.core.traces import Alarm, AnswerSlot, StoredAnswer, Trace, TraceSummary
from components.storage.blobs import BlobStore
from components.storage.database import Database
from components.storage.review_tables import ReviewItemRow
from components.storage.steps import STEPS_SUFFIX, Steps, pack_steps, unpack_steps
from components.storage.tables import AnswerRow, TurnImageRow, TurnRow, left_by_the_dead
from components.storage.trace_rows import (
    alarm_list,
    answer_columns,
    answer_row,
    image_row,
    stored_answer,
    summary_record,
    trace_record,
    turn_row,
)

MAX_RECENT = 500
_ENDED_WITH_APP = ErrorRecord(
    code="app_ended",
    message="Diptych ended while this answer was being written. What had been saved until then is kept.",
    hint="Retry to get a whole answer.",
)
_Row = TypeVar("_Row", AnswerRow, TurnImageRow)


class TraceRepository:
    """All turns of one state directory. Calls block and may come from several threads."""

    def __init__(self, database: Database, blobs: BlobStore, utc_now: Callable[[], datetime] = utc_now) -> None:
        self._database = database
        self._blobs = blobs
        self._utc_now = utc_now

    def create_turn(self, turn: Trace) -> None:
        """Store a turn with its images and answers, begun or ended. When this returns, it is on disk.

        Raises:
            InputError: its id or an answer's id is taken. RecordNotFoundError: its parent does not exist.
            StorageError: nothing was stored.
        """
        steps = [self._store_steps(stored.answer) for stored in turn.answers]

        def insert(session: Session) -> None:
            if _find_turn(session, turn.id) is not None:
                raise _taken("turn", turn.id)
            if turn.parent_id is not None:
                _get_turn(session, turn.parent_id)
            session.add(turn_row(turn))
            session.flush()
            session.add_all(image_row(turn.id, position, image) for position, image in enumerate(turn.images))
            for stored, digest in zip(turn.answers, steps, strict=True):
                self._insert_answer(session, turn.id, stored, digest)

        self._database.write(insert)

    def add_answer(self, trace_id: str, slot: AnswerSlot) -> None:
        """Store the place of one more answer: a retry is a sibling with the next attempt.

        Raises:
            InputError: its id, or this attempt of the column, is taken. RecordNotFoundError: no such turn.
        """
        stored = StoredAnswer(slot=slot, started_at=self._utc_now())

        def insert(session: Session) -> None:
            _get_turn(session, trace_id)
            self._insert_answer(session, trace_id, stored, None)

        self._database.write(insert)

    def save_partial(self, answer_id: str, text: str) -> None:
        """Keep what an answer has so far, for the case that the app dies. Without effect once it has ended."""

        def save(session: Session) -> None:
            if _get_answer(session, answer_id).outcome == Outcome.STREAMING:
                session.execute(update(AnswerRow).where(AnswerRow.id == answer_id).values(text=text))

        self._database.write(save)

    def finish_answer(self, answer_id: str, answer: Answer) -> datetime:
        """Store how an answer ended; the time it is stored with (UTC). When this returns, it is on disk.

        Raises:
            InputError: it has already ended, or ``answer`` has not. RecordNotFoundError: there is no such answer.
            StorageError: nothing was stored.
        """
        if answer.outcome is Outcome.STREAMING:
            raise InputError("An answer that is still streaming can't be finished.", field="answer")
        digest = self._store_steps(answer)  # first the file, then the row that names it
        ended_at = self._utc_now()

        def finish(session: Session) -> None:
            if _get_answer(session, answer_id).outcome != Outcome.STREAMING:
                raise InputError(f"The answer {answer_id} has already ended.", "A retry is a new answer.")
            values = answer_columns(answer) | {"steps_sha256": digest, "finished_at": ended_at}
            session.execute(update(AnswerRow).where(AnswerRow.id == answer_id).values(values))

        self._database.write(finish)
        return ended_at

    def set_alarms(self, trace_id: str, alarms: Sequence[Alarm]) -> None:
        """Replace the alarms of a turn."""

        def replace(session: Session) -> None:
            _get_turn(session, trace_id).alarms = alarm_list(alarms)

        self._database.write(replace)

    def get(self, trace_id: str) -> Trace:
        """The whole record. Token files that are missing or damaged show as an alarm; the text is still there.

        Raises:
            RecordNotFoundError: there is no such turn.
        """
        return self._assemble(
            *self._database.read(lambda session: _with_parts(session, [_get_turn(session, trace_id)]))
        )[0]

    def conversation(self, trace_id: str) -> list[Trace]:
        """The turns that led to this one, root first, this one last. Turns edited away are not among them."""

        def chain(session: Session) -> _Parts:
            newest = _get_turn(session, trace_id)
            same = select(TurnRow).where(TurnRow.conversation_id == newest.conversation_id)
            by_id = {row.id: row for row in session.scalars(same)}
            turns = [newest]
            # A parent is older than its child, so this ends whatever the rows say.
            while (parent := by_id.get(turns[0].parent_id or "")) is not None and parent.seq < turns[0].seq:
                turns.insert(0, parent)
            return _with_parts(session, turns)

        return self._assemble(*self._database.read(chain))

    def recent(self, limit: int = 50, query: str = "", only: Sequence[str] | None = None) -> list[TraceSummary]:
        """The newest turns first; with ``query``, those whose prompt or an answer holds it, whatever its case.

        Turns of review batches are left out: there may be thousands, and a sealed answer must not be one click away.
        ``only``: of these ids, whatever they belong to.
        """

        def search(session: Session) -> list[TraceSummary]:
            reviewed = select(ReviewItemRow.seq).where(ReviewItemRow.trace_id == TurnRow.id).exists()
            among = ~reviewed if only is None else TurnRow.id.in_(only)
            wanted = select(TurnRow).where(among).order_by(TurnRow.seq.desc()).limit(max(1, min(limit, MAX_RECENT)))
            if query:
                in_answer = select(AnswerRow.turn_id).where(_holds(AnswerRow.text, query))
                wanted = wanted.where(or_(_holds(TurnRow.prompt, query), TurnRow.id.in_(in_answer)))
            turns, images, answers = _with_parts(session, list(session.scalars(wanted)))
            return [summary_record(row, len(images[row.id]), answers[row.id]) for row in turns]

        return self._database.read(search)

    def recover(self, living: Collection[str] = ()) -> int:
        """End the answers that a dead app left open, whose text is kept; return how many.

        ``living``: the ids of apps that work on the same records, whose answers stay open. Without any, files that a
        dead app left half-written are deleted too: so it is for the start, before anything writes.
        """
        if not living:
            self._blobs.remove_leftovers()
        values = {
            "outcome": Outcome.TRUNCATED.value,
            "error": _ENDED_WITH_APP.model_dump(mode="json"),
            "finished_at": self._utc_now(),
        }

        def end(session: Session) -> int:
            left = (AnswerRow.outcome == Outcome.STREAMING.value, left_by_the_dead(AnswerRow.app_id, living))
            count = session.scalar(select(func.count()).select_from(AnswerRow).where(*left)) or 0
            session.execute(update(AnswerRow).where(*left).values(values))
            return count

        return self._database.write(end)

    def _insert_answer(self, session: Session, trace_id: str, stored: StoredAnswer, steps_sha256: str | None) -> None:
        slot, row = stored.slot, AnswerRow
        same_place = (row.turn_id == trace_id, row.position == slot.position, row.attempt == slot.attempt)
        if session.get(AnswerRow, slot.id) is not None:
            raise _taken("answer", slot.id)
        if session.scalar(select(AnswerRow.id).where(*same_place)) is not None:
            raise _taken("attempt", f"{slot.attempt} of column {slot.position}")
        session.add(answer_row(trace_id, stored, steps_sha256, app_id=self._database.app_id))
        session.flush()

    def _store_steps(self, answer: Answer) -> str | None:
        data = pack_steps(answer)
        return None if data is None else self._blobs.put(data, STEPS_SUFFIX)

    def _assemble(
        self, turns: list[TurnRow], images: dict[str, list[TurnImageRow]], answers: dict[str, list[AnswerRow]]
    ) -> list[Trace]:
        return [self._trace(row, images[row.id], answers[row.id]) for row in turns]

    def _trace(self, row: TurnRow, images: list[TurnImageRow], answers: list[AnswerRow]) -> Trace:
        stored: list[StoredAnswer] = []
        found: list[Alarm] = []
        for answer in answers:
            try:
                steps = unpack_steps(self._blobs.get(answer.steps_sha256)) if answer.steps_sha256 else Steps()
            except BlobDamagedError as exc:
                message = f"The tokens of this answer can't be shown. {exc}"
                found.append(Alarm(code=exc.code, severity="error", message=message, columns=(answer.position,)))
                steps = Steps()
            stored.append(stored_answer(answer, steps))
        return trace_record(row, images, stored, found)


_Parts = tuple[list[TurnRow], dict[str, list[TurnImageRow]], dict[str, list[AnswerRow]]]


def _with_parts(session: Session, turns: list[TurnRow]) -> _Parts:
    ids = [row.id for row in turns]
    images = select(TurnImageRow).where(TurnImageRow.turn_id.in_(ids)).order_by(TurnImageRow.position)
    answers = select(AnswerRow).where(AnswerRow.turn_id.in_(ids)).order_by(AnswerRow.position, AnswerRow.attempt)
    return turns, _by_turn(session.scalars(images).all()), _by_turn(session.scalars(answers).all())


def _by_turn(rows: Sequence[_Row]) -> dict[str, list[_Row]]:
    grouped: dict[str, list[_Row]] = defaultdict(list)
    for row in rows:
        grouped[row.turn_id].append(row)
    return grouped


def _find_turn(session: Session, trace_id: str) -> TurnRow | None:
    if not (trace_id.isascii() and trace_id.isprintable()):  # a broken link, which drivers refuse in their own ways
        return None
    return session.scalar(select(TurnRow).where(TurnRow.id == trace_id))


def _get_turn(session: Session, trace_id: str) -> TurnRow:
    row = _find_turn(session, trace_id)
    if row is None:
        raise RecordNotFoundError(f"There is no turn {trace_id!r} here.", "Look at the list of recent turns.")
    return row


def _get_answer(session: Session, answer_id: str) -> AnswerRow:
    row = session.get(AnswerRow, answer_id)
    if row is None:
        raise RecordNotFoundError(f"There is no answer {answer_id!r} here.", "Look at the list of recent turns.")
    return row


def _taken(what: str, name: str) -> InputError:
    return InputError(f"There already is {what} {name}.", "Nothing stored is ever overwritten: use a new one.")


def _holds(column: InstrumentedAttribute[str], query: str) -> ColumnElement[bool]:
    return column.icontains(query, autoescape=True)  # ExactText does its own escaping of the value
