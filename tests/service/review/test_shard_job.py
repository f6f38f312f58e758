"""The driver of a part of a batch, as a real process on two scripted engines: what it hands over, and when."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from components.core.answers import ImageRecord
from components.core.reviews import Question
from components.jobs.records import JobFolder
from components.profiles.loader import load_pair
from components.review.shard import ShardAnswer, ShardQuestion, ShardSpec, read_answers
from components.storage.blobs import BlobStore
from components.storage.images import ImageStore
from tests.browser.scripted import USUAL, ScriptedEngines
from tests.data.reviews import batch
from tests.running_app import ROOT, wait_until

pytestmark = pytest.mark.service
LIMIT_S = 120


@pytest.fixture(scope="module")
def engines() -> Iterator[ScriptedEngines]:
    with ScriptedEngines() as engines:
        yield engines


def part(state: Path, engines: ScriptedEngines, questions: list[Question]) -> JobFolder:
    """A job's folder beside the app's pictures."""
    (state / "profiles" / "pairs").mkdir(parents=True)
    (state / "profiles" / "pairs" / "scripted.yaml").write_text(engines.profile())
    asked = [
        ShardQuestion(position=n, trace_id=f"{n:032x}", question=question, candidates=("scripted/slow",))
        for n, question in enumerate(questions)
    ]
    given = batch(pair="scripted", base_engine="scripted/base", candidate_engines=("scripted/slow",))
    spec = ShardSpec(
        batch=given, pair=load_pair(state / "profiles", "scripted"), questions=tuple(asked), state_dir=str(state),
        repository=str(ROOT),
    )  # fmt: skip
    folder = JobFolder(state / "jobs" / "batch-1")
    folder.create(json.loads(spec.as_json()))
    return folder


def driver(folder: JobFolder) -> subprocess.Popen[bytes]:
    scratch = folder.path.parent / "tmp"
    scratch.mkdir()
    with folder.log.open("wb") as log:
        return subprocess.Popen(
            [sys.executable, "-m", "components.review.job", str(folder.path)], cwd=ROOT, stdout=log, stderr=log,
            env={**os.environ, "TMPDIR": str(scratch)},
        )  # fmt: skip


def picture(state: Path) -> ImageRecord:
    sample = ROOT / "assets" / "samples" / "number.png"
    return ImageStore(BlobStore(state / "blobs")).ingest(sample, "number.png")


def answers_of(folder: JobFolder) -> list[ShardAnswer]:
    return read_answers(folder, 0)[0]


def test_every_question_is_handed_over_with_its_turn(tmp_path: Path, engines: ScriptedEngines) -> None:
    engines.reset()
    questions = [
        Question(key="1", prompt="Which digit is shown?", images=(picture(tmp_path),), reference="It is seven."),
        Question(key="2", prompt="What else?"),
        Question(key="3", prompt=" "),  # which no column takes
    ]
    folder = part(tmp_path, engines, questions)
    driver(folder).wait(LIMIT_S)
    ended = folder.read_exit()
    assert ended is not None and ended.state == "SUCCEEDED", (ended, folder.log.read_text()[-3000:])
    assert ended.result == {"batch": "b1", "questions": 3, "failed": 1}
    first, second, third = sorted(answers_of(folder), key=lambda answer: answer.position)
    answered = first.answered["scripted/slow"]
    assert (answered.base_text, answered.candidate_text, answered.base_matches) == (
        "It is seven.",
        "It is seven.",
        True,
    )
    assert first.trace is not None and first.trace.id == first.asked_as == answered.trace_id
    assert [image.sha256 for image in first.trace.images] == [questions[0].images[0].sha256]
    assert first.scores == (), "these two can't be scored; the engine tests have two that can"
    assert second.answered and not second.failures
    assert third.trace is None and not third.answered
    assert third.failures["scripted/slow"].startswith("The prompt is empty")
    events = folder.read_events(0)[0]
    assert (events[-1].step, events[-1].steps) == (3, 3)
    assert list((folder.path.parent / "tmp").iterdir()) == [], "its own records go with it"


def test_a_part_that_is_ended_keeps_what_was_answered(tmp_path: Path, engines: ScriptedEngines) -> None:
    engines.base.options = engines.slow.options = replace(USUAL, ttft_s=0.1, itl_s=0.05, tokens=10)
    folder = part(tmp_path, engines, [Question(key=str(n), prompt=f"Question {n}?") for n in range(40)])
    process = driver(folder)
    try:
        wait_until("some are answered", lambda: len(answers_of(folder)) >= 4, LIMIT_S, folder.log.read_text)
        process.send_signal(signal.SIGINT)
        process.wait(10)
    finally:
        process.kill()
    ended = folder.read_exit()
    assert ended is not None and (ended.state, ended.failure_reason) == ("STOPPED", "Cancelled.")
    kept = answers_of(folder)
    assert 4 <= len(kept) < 40
    assert all(answer.answered for answer in kept)
