"""The app is killed in the middle of a batch: the next start goes on by itself, with what is missing and no more."""

from __future__ import annotations

import shutil
import sqlite3
from collections import Counter
from dataclasses import replace
from pathlib import Path

import pytest

from components.core.reviews import BatchState, ItemState, Question
from components.storage.blobs import BlobStore
from components.storage.database import Database, sqlite_url
from components.storage.reviews import ReviewRepository
from components.storage.traces import TraceRepository
from tests.browser.scripted import USUAL, ScriptedEngines
from tests.data.reviews import batch
from tests.running_app import RunningApp, copy_of_app, new_state_dir, wait_until

pytestmark = pytest.mark.service
COUNT, AT_ONCE = 24, 4
ANSWERED = "batch_id = 'b1' AND state = 'DONE'"


def store_batch(state: Path) -> None:
    database = Database(sqlite_url(state / "diptych.db"))
    database.open()
    waiting = batch(
        pair="scripted", base_engine="scripted/base", candidate_engines=("scripted/slow",), state=BatchState.RUNNING
    )
    questions = [Question(key=str(n), prompt=f"Question {n}?") for n in range(COUNT)]
    ReviewRepository(database).add_batch(waiting, questions)
    database.close()


def count(state: Path, condition: str) -> int:
    """Items as another process may count them: it only reads."""
    connection = sqlite3.connect(f"file:{state / 'diptych.db'}?mode=ro", uri=True)
    try:
        return int(connection.execute(f"SELECT count(*) FROM review_items WHERE {condition}").fetchone()[0])
    finally:
        connection.close()


def test_a_batch_goes_on_by_itself_after_kill_9() -> None:
    state, copy = new_state_dir(), new_state_dir()
    try:
        store_batch(state)
        with ScriptedEngines() as engines:
            engines.base.options = engines.slow.options = replace(USUAL, ttft_s=0.1, itl_s=0.05, tokens=6)
            root = copy_of_app(copy, {"scripted": engines.profile()})
            app = RunningApp(state, "--pair", "scripted", root=root).start()
            try:
                wait_until("some are answered", lambda: count(state, ANSWERED) >= 6, 60.0, app.said)
                app.kill()
                app.wait_gone(20.0)
                answered = count(state, ANSWERED)
                assert answered < COUNT, "it was killed too late to show anything"
                app.start().wait_for_page()
                wait_until("all are answered", lambda: count(state, ANSWERED) == COUNT, 60.0, app.said)
            finally:
                app.stop()
            # The request that scores an answer ends with the answer, not with the question.
            asked = Counter(
                last["content"]
                for hit in engines.base.hits
                if (last := (hit["body"].get("messages") or [{}])[-1]).get("role") == "user"
                and str(last["content"]).startswith("Question")
            )
        check(state, asked)
    finally:
        shutil.rmtree(state, ignore_errors=True)
        shutil.rmtree(copy, ignore_errors=True)


def check(state: Path, asked: Counter[str]) -> None:
    """Every item has the answers of one whole turn, and only what was under way was asked a second time."""
    assert len(asked) == COUNT
    assert sum(asked.values()) - COUNT <= AT_ONCE
    database = Database(sqlite_url(state / "diptych.db"))
    database.open()
    try:
        reviews, traces = ReviewRepository(database), TraceRepository(database, BlobStore(state / "blobs"))
        assert reviews.batch("b1").state is BatchState.SUCCEEDED
        found = list(reviews.every_item("b1"))
        assert [item.state for item in found] == [ItemState.DONE] * COUNT
        assert len({item.trace_id for item in found}) == COUNT
        for item in found:
            assert item.answered is not None
            texts = [stored.answer.text for stored in traces.get(item.trace_id).answers]
            assert texts == [item.answered.base_text, item.answered.candidate_text]
    finally:
        database.close()
