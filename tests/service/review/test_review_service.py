"""Batches on real records and real pictures, without engines: intake, the bundled batch, restart of the runner."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from components.core.errors import InputError
from components.core.reviews import BatchState, ItemState
from components.review.bundled import BATCH_ID, import_bundled
from components.review.requests import NewBatch
from components.review.runner import BatchRunner
from components.services import Services
from components.storage.review_rows import ItemFilter
from tests.data.traces import answered_turn
from tests.running_app import ROOT

pytestmark = pytest.mark.service
SAMPLES = ROOT / "assets" / "samples"
WISH = NewBatch(
    name="Mine", upload="", folder="", prompts=(), base="embedded/base", candidates=("embedded/coarse",), system="",
    max_tokens=16, overlap=0.0,
)  # fmt: skip


@pytest.fixture
def source(tmp_path: Path) -> Path:
    folder = tmp_path / "source"
    folder.mkdir()
    (folder / "a.png").write_bytes((SAMPLES / "number.png").read_bytes())
    (folder / "same.png").write_bytes((SAMPLES / "number.png").read_bytes())
    (folder / "broken.png").write_bytes(b"\x89PNG\r\n\x1a\n and then nothing")
    return folder


def test_a_folder_becomes_a_batch_and_what_is_broken_is_named(services: Services, source: Path) -> None:
    made = services.review.create(replace(WISH, folder=str(source), prompts=("What?", "Where?")), "ann")
    assert made.batch is not None
    assert (made.questions, made.items) == (4, 4)
    assert {fault.row for fault in made.faults} == {"broken.png"}
    items, total = services.review.reviews.items(made.batch.id, ItemFilter())
    assert total == 4
    assert len({image.sha256 for item in items for image in item.question.images}) == 1, (
        "equal pictures are stored once"
    )
    assert made.batch.sampling.max_tokens == 16
    assert not list((services.settings.state_dir / "uploads" / "review").glob("unpacked-*"))


def test_several_candidates_share_a_turn(services: Services, source: Path) -> None:
    wish = replace(WISH, folder=str(source), prompts=("What?",), candidates=("embedded/coarse", "embedded/w4a16"))
    made = services.review.create(wish, "")
    assert made.batch is not None
    (question, _) = services.review.reviews.pending(made.batch.id, 10)
    assert question.candidates == ("embedded/coarse", "embedded/w4a16")
    items, _ = services.review.reviews.items(made.batch.id, ItemFilter())
    assert len({item.trace_id for item in items}) == 2


@pytest.mark.parametrize(
    ("changes", "field"),
    [
        ({"folder": "/no/such/folder"}, "folder"),
        ({"upload": "../../etc"}, "source"),
        ({}, "source"),
        ({"hub": "https://hub.example/some/set"}, "hub"),
        ({"base": "embedded/coarse"}, "base"),
        ({"candidates": ("embedded/base",)}, "candidates"),
        ({"candidates": ("smollm2-135m/fp8-dynamic",)}, "candidates"),
        ({"candidates": ("no/engine",)}, "candidates"),
    ],
)
def test_a_bad_wish_names_its_field(services: Services, changes: dict[str, Any], field: str) -> None:
    with pytest.raises(InputError) as caught:
        services.review.create(replace(WISH, **changes), "")
    assert caught.value.field == field


def test_looking_stores_nothing(services: Services, source: Path) -> None:
    found = services.review.look(replace(WISH, folder=str(source), prompts=("What?",)))
    assert (found.questions, found.batch) == (3, None)
    assert services.review.reviews.batches() == []


def test_the_bundled_batch_is_stored_once_and_can_be_judged(services: Services) -> None:
    review = services.review
    stored = (review.reviews, services.traces, services.scores, services.images)
    for _ in range(2):
        import_bundled(ROOT / "assets" / "review", *stored)
    progress = review.reviews.progress(BATCH_ID)
    assert (progress.items, progress.open, progress.failed) == (24, 24, 0)
    given = review.next_anywhere("ann")
    assert given is not None
    answered = given.item.answered
    assert answered is not None
    assert answered.method == "exact"
    turn = services.traces.conversation(given.item.trace_id)[-1]
    assert [stored.answer.text for stored in turn.latest_answers] == [answered.base_text, answered.candidate_text]
    assert services.images.png(given.item.question.images[0].sha256)
    (score,) = services.scores.of_turn(given.item.trace_id)
    assert score.answer_id == answered.base_answer_id
    assert services.traces.recent() == [], "turns of a batch are not in the history: a sealed answer is no click away"
    report = review.report(BATCH_ID)
    assert report["reference"]["items"] == 24


def test_a_folder_without_a_bundle_is_no_fault(services: Services, tmp_path: Path) -> None:
    import_bundled(tmp_path, services.review.reviews, services.traces, services.scores, services.images)
    assert services.review.reviews.batches() == []


async def test_the_runner_takes_a_turn_that_was_answered_before_the_app_was_killed(
    services: Services, source: Path
) -> None:
    review = services.review
    made = await asyncio.to_thread(review.create, replace(WISH, folder=str(source), prompts=("What?",)), "")
    assert made.batch is not None
    first, second = review.reviews.pending(made.batch.id, 5)
    whole = answered_turn(first.trace_id, texts=("It is 7.", "It is 9."), images=first.question.images, parent_id=None)
    renamed = [
        stored.model_copy(
            update={"slot": stored.slot.model_copy(
                update={"label": stored.slot.label.model_copy(update={"engine_id": engine})})}
        )
        for stored, engine in zip(whole.answers, ("embedded/base", "embedded/coarse"), strict=True)
    ]  # fmt: skip
    services.traces.create_turn(whole.model_copy(update={"answers": tuple(renamed)}))
    services.traces.create_turn(answered_turn(second.trace_id, texts=("half",), images=(), parent_id=None))

    class Scoring:
        async def find(self, *_: Any) -> None:
            raise InputError("These engines can't be scored here.")

        score = find

    runner = BatchRunner(review.reviews, services.turns, Scoring(), services.catalog, services.hub)  # type: ignore[arg-type]
    stored = await runner._stored(first.trace_id)
    assert stored is not None
    await runner._answer(made.batch, first, first.trace_id)
    item = next(found for found in review.reviews.every_item(made.batch.id) if found.trace_id == first.trace_id)
    assert item.state is ItemState.DONE
    assert item.answered is not None
    assert (item.answered.base_text, item.answered.divergence_nats) == ("It is 7.", None)
    assert 0 < item.answered.disagreement < 1
    assert review.reviews.progress(made.batch.id).open == 1


def test_stop_resume_and_ask_again(services: Services, source: Path) -> None:
    review = services.review
    made = review.create(replace(WISH, folder=str(source), prompts=("What?",)), "")
    assert made.batch is not None
    batch_id = made.batch.id
    assert review.change(batch_id, "stop").state is BatchState.STOPPED
    assert review.change(batch_id, "resume").state is BatchState.RUNNING
    (first, _) = review.reviews.pending(batch_id, 5)
    review.reviews.set_failed(batch_id, first.position, "The engine died.", first.candidates)
    assert review.reviews.progress(batch_id).failed == 1
    review.change(batch_id, "retry")
    again = review.reviews.pending(batch_id, 5)
    assert len(again) == 2
    assert again[0].trace_id != first.trace_id, "a further try is a new turn"
    with pytest.raises(InputError, match="no action"):
        review.change(batch_id, "explode")
