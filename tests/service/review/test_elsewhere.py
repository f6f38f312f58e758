"""Batches whose parts are jobs on a cluster, on real records; what the jobs answer is written by the test."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from components.core.errors import EngineError
from components.core.jobs import Job
from components.core.reviews import Answered, Batch, ItemState
from components.core.scores import Score, TokenScore
from components.core.states import JobState
from components.jobs.records import JobFolder
from components.review import elsewhere as elsewhere_module
from components.review.elsewhere import Elsewhere, ElsewhereSettings
from components.review.shard import ANSWERS, KIND, ShardAnswer, ShardQuestion, ShardSpec, append_answer
from components.services import Services, build_services
from components.settings import Settings
from components.storage.jobs import JobRepository
from tests.data.traces import MOMENT, answered_turn
from tests.service.review.test_review_service import SAMPLES, WISH

pytestmark = pytest.mark.service


@pytest.fixture
def services(tmp_path: Path) -> Iterator[Services]:
    """An app whose jobs go to a cluster that nobody asks: its runner does not run."""
    settings = Settings(state_dir=tmp_path / "state", start_engines=False, ray_address="http://127.0.0.1:9", ray_jobs=2)
    services = build_services(settings)
    yield services
    services.close()


@pytest.fixture
def batch(services: Services, tmp_path: Path) -> Batch:
    """Three questions about one picture."""
    source = tmp_path / "source"
    source.mkdir()
    (source / "a.png").write_bytes((SAMPLES / "number.png").read_bytes())
    made = services.review.create(replace(WISH, folder=str(source), prompts=("One?", "Two?", "Three?")), "")
    assert made.batch is not None
    return made.batch


@pytest.fixture
def parts(services: Services, monkeypatch: pytest.MonkeyPatch) -> Elsewhere:
    monkeypatch.setattr(elsewhere_module, "LEAST_QUESTIONS", 2)
    return another(services)


def another(services: Services) -> Elsewhere:
    """What the next app would have."""
    settings = ElsewhereSettings(
        services.settings.state_dir, Path("/repository"), services.settings.state_dir / "jobs", 2
    )
    return Elsewhere(
        services.catalog, services.jobs.queue, services.review.reviews, services.traces, services.scores, settings
    )


def jobs_of(services: Services) -> list[tuple[Job, ShardSpec]]:
    """Parts that wait or run, started."""
    repository, found = JobRepository(services.database), []
    for job in services.jobs.queue.active():
        assert job.kind == KIND
        if job.state is JobState.PENDING:
            JobFolder(services.settings.state_dir / "jobs" / job.id).create(job.spec)
            repository.change(job.id, JobState.RUNNING)
        found.append(
            (job, ShardSpec.model_validate_json(JobFolder(services.jobs.runner.folder(job.id).path).spec.read_bytes()))
        )
    return found


def answer(asked: ShardQuestion) -> ShardAnswer:
    """As the driver hands it over."""
    trace = answered_turn(asked.trace_id, texts=("It is 7.", "It is 9."), images=asked.question.images, parent_id=None)
    base, candidate = trace.answers
    score = Score(
        id=f"{asked.trace_id[:8]}-s", trace_id=trace.id, answer_id=base.slot.id, path="base",
        base_engine="embedded/base", candidate_engine="embedded/coarse", method="exact", precision="float64",
        created_at=MOMENT, tokens=(TokenScore(token_id=1, text="It", kl_base_to_candidate_nats=0.5),), seconds=0.1,
    )  # fmt: skip
    answered = Answered(
        trace_id=trace.id, base_answer_id=base.slot.id, candidate_answer_id=candidate.slot.id, base_text="It is 7.",
        candidate_text="It is 9.", disagreement=0.5, divergence_nats=0.5, method="exact",
    )  # fmt: skip
    return ShardAnswer(
        position=asked.position, asked_as=asked.trace_id, trace=trace, scores=(score,),
        answered={"embedded/coarse": answered}, failures={},
    )  # fmt: skip


def end(services: Services, job: Job, state: JobState, reason: str = "") -> None:
    JobRepository(services.database).change(job.id, state, reason)


def test_a_batch_is_cut_into_parts_and_taken_in_as_it_is_answered(
    services: Services, batch: Batch, parts: Elsewhere
) -> None:
    reviews = services.review.reviews
    assert parts.takes(batch)
    for _ in range(3):
        assert not parts.advance(batch)
    (first, one), (second, two) = jobs_of(services)
    assert [len(spec.questions) for spec in (one, two)] == [2, 1]
    assert first.title == "Mine, questions 1 to 2"
    assert first.needs.memory_bytes > 2 * 2**30
    folder = services.jobs.folder(first.id)
    append_answer(folder, answer(one.questions[0]))
    with (folder.path / ANSWERS).open("ab") as file:
        file.write(b"no answer\n" + answer(one.questions[1]).model_dump_json().encode()[:100])  # half a line
    assert not parts.advance(batch)
    assert (reviews.progress(batch.id).answered, reviews.progress(batch.id).open) == (1, 1)
    trace_id = one.questions[0].trace_id
    assert services.traces.get(trace_id).latest_answers[0].answer.text == "It is 7."
    assert [score.tokens[0].kl_base_to_candidate_nats for score in services.scores.of_turn(trace_id)] == [0.5]
    assert services.traces.recent() == [], "sealed answers are not in the history"
    assert services.jobs.files(first.id) == ["spec.json"], "nor are they offered among the files of their job"
    with (folder.path / ANSWERS).open("ab") as file:
        file.write(answer(one.questions[1]).model_dump_json().encode()[100:] + b"\n")
    append_answer(services.jobs.folder(second.id), answer(two.questions[0]))
    end(services, first, JobState.SUCCEEDED)
    assert not parts.advance(batch)
    end(services, second, JobState.SUCCEEDED)
    assert parts.advance(batch)
    assert reviews.progress(batch.id).answered == 3
    assert another(services).advance(batch), "the next app reads it all again, and nothing changes"
    assert len(services.scores.of_turn(trace_id)) == 1
    assert services.jobs.queue.active() == []


def test_a_part_that_fails_stops_the_batch_and_only_the_rest_is_asked_again(
    services: Services, batch: Batch, parts: Elsewhere
) -> None:
    parts.advance(batch)
    (first, one), (second, _) = jobs_of(services)
    append_answer(services.jobs.folder(first.id), answer(one.questions[0]))
    end(services, first, JobState.FAILED, "The cluster's node is gone.")
    with pytest.raises(EngineError, match="A part of it failed on the cluster: The cluster's node is gone"):
        parts.advance(batch)
    parts.cancel(batch)
    assert services.jobs.queue.get(second.id).state is JobState.STOPPING
    end(services, second, JobState.STOPPED)
    assert services.review.reviews.progress(batch.id).answered == 1
    assert not parts.advance(batch), "a person resumed it"
    asked = [q.position for _, spec in jobs_of(services) for q in spec.questions]
    assert sorted(asked) == [1, 2]


def test_a_part_that_was_cancelled_among_the_jobs_stops_the_batch(
    services: Services, batch: Batch, parts: Elsewhere
) -> None:
    parts.advance(batch)
    (first, _), _ = jobs_of(services)
    services.jobs.cancel(first.id)
    end(services, first, JobState.STOPPED)
    with pytest.raises(EngineError, match="A part of it was cancelled"):
        parts.advance(batch)


def test_a_failed_question_says_why_and_an_old_failure_does_not_count_for_a_new_try(
    services: Services, batch: Batch, parts: Elsewhere
) -> None:
    reviews = services.review.reviews
    parts.advance(batch)
    jobs = jobs_of(services)
    for job, spec in jobs:
        for asked in spec.questions:
            failed = ShardAnswer(
                position=asked.position, asked_as=asked.trace_id, trace=None, answered={},
                failures={"embedded/coarse": "It has too many pictures."},
            )  # fmt: skip
            append_answer(services.jobs.folder(job.id), failed if asked.position == 2 else answer(asked))
        end(services, job, JobState.SUCCEEDED)
    assert parts.advance(batch)
    failed_item = next(item for item in reviews.every_item(batch.id) if item.state is ItemState.FAILED)
    assert (failed_item.position, failed_item.failure) == (2, "It has too many pictures.")
    services.review.change(batch.id, "retry")
    later = another(services)
    assert not later.advance(batch)
    assert reviews.progress(batch.id).failed == 0
    ((_, spec),) = jobs_of(services)
    assert [asked.position for asked in spec.questions] == [2]


def test_questions_for_servers_elsewhere_are_asked_from_here(
    services: Services, batch: Batch, parts: Elsewhere
) -> None:
    pair = services.catalog.find("embedded/base").pair
    remote = services.catalog.find("embedded/coarse").model.model_copy(
        update={"id": "far", "source": pair.base.source.model_copy(update={"kind": "remote"})}
    )
    services.catalog.add(pair, remote)
    assert not parts.takes(batch.model_copy(update={"candidate_engines": ("embedded/far",)}))
