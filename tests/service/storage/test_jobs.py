"""The queue's table under any order of claims, cancels and ends: states go forward only, the history says how."""

from __future__ import annotations

import tempfile
from datetime import UTC, datetime
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import Bundle, RuleBasedStateMachine, invariant, rule

from components.core.errors import JobStateError, RecordNotFoundError
from components.core.jobs import ENDED, Job, JobNeeds, ProcessMark
from components.core.states import JOB_TRANSITIONS, JobState
from components.storage.database import Database, sqlite_url
from components.storage.jobs import JobRepository

pytestmark = pytest.mark.service
NOW = datetime(2026, 11, 21, tzinfo=UTC)


def job(name: str, **changes: Any) -> Job:
    values = {"id": name, "kind": "k", "title": name, "fingerprint": name, "spec": {"a": [1, None]}, "created_at": NOW}
    return Job.model_validate({**values, **changes})


def test_a_job_comes_back_exactly(database_url: str) -> None:
    database = Database(database_url)
    database.open()
    try:
        jobs = JobRepository(database, lambda: NOW)
        title = "a\x00b\ud800 $(rm -rf ~) <b>"
        stored = jobs.submit(job("j1", title=title, needs=JobNeeds(memory_bytes=7)), 10)
        assert stored == jobs.get("j1") == job("j1", title=title, needs=JobNeeds(memory_bytes=7), position=1)
        jobs.change("j1", JobState.RUNNING)
        mark = ProcessMark(pid=1, start_ticks=2, boot_id="b")
        assert jobs.set_process("j1", mark).process == mark
        done = jobs.change("j1", JobState.SUCCEEDED, "ignored", result={"files": ["a"], "kl": 0.5})
        assert (done.result, done.failure_reason, done.ended_at) == ({"files": ["a"], "kl": 0.5}, None, NOW)
        assert jobs.ended(5) == [done]
        for strange in ("nothing", "nul\x00", "half \ud800"):
            with pytest.raises(RecordNotFoundError):
                jobs.get(strange)
        assert jobs.active() == []
    finally:
        database.close()


class AnyOrder(RuleBasedStateMachine):
    """What the runner, a person and a crash may do, in any order."""

    def __init__(self) -> None:
        super().__init__()
        self.folder = tempfile.TemporaryDirectory()
        self.database = Database(sqlite_url(Path(self.folder.name) / "diptych.db"))
        self.database.open()
        self.jobs = JobRepository(self.database, lambda: NOW)
        self.seen: dict[str, Job] = {}
        self.count = 0

    names = Bundle("names")

    @rule(target=names, fingerprint=st.sampled_from("abc"))
    def submit(self, fingerprint: str) -> str:
        self.count += 1
        return self.jobs.submit(job(f"j{self.count}", fingerprint=fingerprint), 100).id

    @rule(name=names, state=st.sampled_from(JobState))
    def move(self, name: str, state: JobState) -> None:
        before = self.jobs.get(name).state
        try:
            self.jobs.change(name, state, "why")
        except JobStateError:
            assert state not in JOB_TRANSITIONS[before]
        else:
            assert state in JOB_TRANSITIONS[before]

    @rule(name=names)
    def cancel(self, name: str) -> None:
        before = self.jobs.get(name).state
        try:
            self.jobs.change(name, JobState.STOPPED, "Cancelled.", only_from={JobState.PENDING})
        except JobStateError:
            assert before is not JobState.PENDING

    @rule(name=names, direction=st.sampled_from(["up", "down"]))
    def swap(self, name: str, direction: Any) -> None:
        try:
            self.jobs.swap(name, direction)
        except JobStateError:
            assert self.jobs.get(name).state is not JobState.PENDING

    @invariant()
    def nothing_that_ended_changes_and_equal_work_is_active_once(self) -> None:
        active, ended = self.jobs.active(), self.jobs.ended(1000)
        assert all(one.state in ENDED for one in ended)
        assert len({one.fingerprint for one in active}) == len(active)
        assert len({one.position for one in active}) == len(active)
        for one in ended:
            assert self.seen.get(one.id, one) == one
            self.seen[one.id] = one

    @invariant()
    def the_history_is_a_legal_path(self) -> None:
        for one in (*self.jobs.active(), *self.jobs.ended(1000)):
            states = [change.state for change in self.jobs.changes(one.id)]
            assert states[0] is JobState.PENDING
            assert states[-1] is one.state
            assert all(after in JOB_TRANSITIONS[before] for before, after in pairwise(states))

    def teardown(self) -> None:
        self.database.close()
        self.folder.cleanup()


TestAnyOrder = AnyOrder.TestCase
TestAnyOrder.settings = settings(max_examples=25, stateful_step_count=20, deadline=None)
