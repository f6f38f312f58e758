"""Turns and answers: what is stored comes back, nothing is overwritten, a dead app's answers are ended."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from components.core.answers import Answer
from components.core.errors import InputError, RecordNotFoundError
from components.core.states import Outcome, RepeatState
from components.core.traces import Alarm, StoredAnswer
from components.storage.blobs import BlobStore
from components.storage.database import Database
from components.storage.repeats import RepeatRepository
from components.storage.traces import TraceRepository
from tests.data.repeats import repeat
from tests.data.traces import MOMENT, finished, image, slot, turn

pytestmark = pytest.mark.service


@pytest.fixture
def blobs(tmp_path: Path) -> BlobStore:
    return BlobStore(tmp_path / "blobs")


@pytest.fixture
def traces(tmp_path: Path, database_url: str, blobs: BlobStore) -> Iterator[TraceRepository]:
    database = Database(database_url)
    database.open()
    yield TraceRepository(database, blobs, lambda: MOMENT)
    database.close()


def test_a_turn_comes_back_exactly(traces: TraceRepository) -> None:
    asked = turn("t1", images=(image(), image(name="second")), alarms=(Alarm(code="x", severity="error", message="m"),))
    traces.create_turn(asked)
    assert traces.get("t1") == asked
    answers = [finished(steps=30), finished("", outcome=Outcome.FAILED, tokens=(), finish_reason=None)]
    for number, answer in enumerate(answers):
        traces.finish_answer(f"t1-a{number}", answer)
    back = traces.get("t1")
    assert [stored.answer for stored in back.answers] == answers
    assert [stored.slot for stored in back.answers] == [stored.slot for stored in asked.answers]
    assert all(stored.finished_at == MOMENT for stored in back.answers)


def test_a_turn_that_is_already_answered_can_be_stored_whole(traces: TraceRepository) -> None:
    done = StoredAnswer(slot=slot("a"), answer=finished(), started_at=MOMENT, finished_at=MOMENT)
    asked = turn("t1", answers=(done,))
    traces.create_turn(asked)
    assert traces.get("t1") == asked


def test_f37_hostile_texts_are_stored_exactly(traces: TraceRepository) -> None:
    hostile = "a\x00b\u202e\ud800\x1a\x1b[31m" + "x" * 2_000_000
    traces.create_turn(turn("t1", prompt=hostile, system=hostile[:20], images=(image(name=hostile[:20]),)))
    traces.save_partial("t1-a0", hostile[:50])
    traces.finish_answer("t1-a1", finished(hostile[:50]))
    back = traces.get("t1")
    assert back.prompt == hostile
    assert back.images[0].name == hostile[:20]
    assert [stored.answer.text for stored in back.answers] == [hostile[:50]] * 2
    assert [found.id for found in traces.recent(query="a\x00b")] == ["t1"]


def test_ids_are_never_used_twice_and_a_failed_turn_leaves_nothing(traces: TraceRepository) -> None:
    traces.create_turn(turn("t1"))
    with pytest.raises(InputError, match="already is turn t1"):
        traces.create_turn(turn("t1"))
    taken = (turn("x").answers[0], turn("t1").answers[1])
    with pytest.raises(InputError, match="already is answer t1-a1"):
        traces.create_turn(turn("t2", answers=taken))
    with pytest.raises(RecordNotFoundError):
        traces.get("t2")
    with pytest.raises(RecordNotFoundError, match="no turn 'nobody'"):
        traces.create_turn(turn("t3", parent_id="nobody"))


def test_a_retry_is_a_sibling(traces: TraceRepository) -> None:
    traces.create_turn(turn("t1"))
    traces.finish_answer("t1-a0", finished("first"))
    traces.add_answer("t1", slot("again", 0, 2))
    with pytest.raises(InputError, match="attempt 2 of column 0"):
        traces.add_answer("t1", slot("again2", 0, 2))
    traces.finish_answer("again", finished("second"))
    back = traces.get("t1")
    assert [stored.answer.text for stored in back.answers] == ["first", "second", ""]
    assert [stored.slot.id for stored in back.latest_answers] == ["again", "t1-a1"]


def test_an_ending_is_final(traces: TraceRepository) -> None:
    traces.create_turn(turn("t1"))
    with pytest.raises(InputError, match="still streaming"):
        traces.finish_answer("t1-a0", Answer())
    traces.finish_answer("t1-a0", finished("end"))
    with pytest.raises(InputError, match="already ended"):
        traces.finish_answer("t1-a0", finished("other"))
    traces.save_partial("t1-a0", "late")
    assert traces.get("t1").answers[0].answer.text == "end"
    for call in (lambda: traces.save_partial("no", "x"), lambda: traces.finish_answer("no", finished())):
        with pytest.raises(RecordNotFoundError):
            call()


def test_answers_of_a_dead_app_are_ended_once_with_a_reason(traces: TraceRepository) -> None:
    traces.create_turn(turn("t1"))
    traces.save_partial("t1-a0", "Two re")
    traces.finish_answer("t1-a1", finished("whole"))
    assert traces.recover() == 1
    assert traces.recover() == 0
    lost, whole = traces.get("t1").answers
    assert lost.answer.text == "Two re"
    assert lost.answer.outcome is Outcome.TRUNCATED
    assert lost.answer.error is not None
    assert "ended while this answer" in lost.answer.error.message
    assert lost.finished_at == MOMENT
    assert whole.answer == finished("whole")


def test_only_what_a_dead_app_has_open_is_ended(database_url: str, tmp_path: Path) -> None:
    apps = []
    for name in ("dead", "living", None):  # None: of a version that left no name
        database = Database(database_url, app_id=name)
        database.open()
        apps.append((database, TraceRepository(database, BlobStore(tmp_path / "blobs"))))
        apps[-1][1].create_turn(turn(f"t-{name}"))
        RepeatRepository(database).create(
            repeat(f"r-{name}", trace_id=f"t-{name}", state=RepeatState.RUNNING, finished_at=None)
        )
    reader, repeats = apps[1][1], RepeatRepository(apps[1][0])
    assert reader.recover({"living"}) == 4
    repeats.recover({"living"})
    outcomes = {name: {a.answer.outcome for a in reader.get(f"t-{name}").answers} for name in ("dead", "living", None)}
    assert outcomes == {"dead": {Outcome.TRUNCATED}, "living": {Outcome.STREAMING}, None: {Outcome.TRUNCATED}}
    states = [repeats.of_turn(f"t-{name}")[0].state for name in ("dead", "living", None)]
    assert states == [RepeatState.INTERRUPTED, RepeatState.RUNNING, RepeatState.INTERRUPTED]
    for database, _ in apps:
        database.close()


def test_a_conversation_follows_the_parents_only(traces: TraceRepository) -> None:
    traces.create_turn(turn("t1"))
    traces.create_turn(turn("t2", parent_id="t1"))
    traces.create_turn(turn("edited", parent_id="t1"))
    traces.create_turn(turn("t3", parent_id="t2"))
    assert [trace.id for trace in traces.conversation("t3")] == ["t1", "t2", "t3"]
    assert [trace.id for trace in traces.conversation("edited")] == ["t1", "edited"]
    with pytest.raises(RecordNotFoundError):
        traces.conversation("none")


def test_f60_the_newest_is_the_last_stored_whatever_the_clock_said(traces: TraceRepository) -> None:
    for number in range(3):
        traces.create_turn(turn(f"t{number}", created_at=MOMENT.replace(day=20 - number)))
    assert [found.id for found in traces.recent(2)] == ["t2", "t1"]


def test_search_finds_prompts_and_answers_literally(traces: TraceRepository) -> None:
    traces.create_turn(turn("t1", prompt="100% of Circles_"))
    traces.create_turn(turn("t2", prompt="squares"))
    traces.finish_answer("t2-a1", finished("A Purple star"))
    for query, ids in (
        ("circles", ["t1"]),
        ("0%", ["t1"]),
        ("s_", ["t1"]),
        ("purple", ["t2"]),
        ("%", ["t1"]),
        ("zz", []),
    ):
        assert [found.id for found in traces.recent(query=query)] == ids, query
    line = traces.recent()[0]
    assert line.models == ("Embedded base", "Embedded candidate")
    assert line.outcomes == (Outcome.STREAMING, Outcome.FINISHED)
    assert line.images == 1


def test_alarms_are_replaced(traces: TraceRepository) -> None:
    traces.create_turn(turn("t1"))
    alarms = (Alarm(code="identical_logprobs", severity="error", message="m", columns=(0, 1)),)
    traces.set_alarms("t1", alarms)
    assert traces.get("t1").alarms == alarms
    assert traces.recent()[0].alarms == 1


def test_a_damaged_token_file_is_an_alarm_and_the_text_stays(traces: TraceRepository, blobs: BlobStore) -> None:
    traces.create_turn(turn("t1"))
    traces.finish_answer("t1-a0", finished("still here"))
    for path in blobs.temp_dir.parent.rglob("*.json.gz"):
        path.write_bytes(b"rot")
    back = traces.get("t1")
    assert back.answers[0].answer.text == "still here"
    assert back.answers[0].answer.tokens == ()
    assert [(alarm.code, alarm.columns) for alarm in back.alarms] == [("blob_damaged", (0,))]


@pytest.mark.parametrize("name", ["../t1", "t1%00", "t1\x00", "\ud800", "", "' OR 1=1 --", "t" * 5000])
def test_f45_a_broken_link_is_simply_not_found(traces: TraceRepository, name: str) -> None:
    traces.create_turn(turn("t1"))
    with pytest.raises(RecordNotFoundError):
        traces.get(name)
