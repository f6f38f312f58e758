"""The app's own records as calibration data: question, picture and the base's answer, coded by the tokenizer."""

from __future__ import annotations

import json
import random
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from components.benchmark.recorder import Recorder
from components.core.answers import ImageRecord
from components.core.errors import InputError
from components.core.reviews import Choice
from components.core.states import Outcome
from components.engines.catalog import Catalog
from components.engines.prepare import ModelPreparer
from components.jobs.queue import JobQueue
from components.profiles.loader import list_pairs
from components.quantize.app_rows import StoredRows
from components.quantize.service import QuantizeService, QuantizeSettings
from components.storage.benchmarks import BenchmarkRepository
from components.storage.blobs import BlobStore
from components.storage.database import Database, sqlite_url
from components.storage.images import ImageLimits, ImageStore
from components.storage.jobs import JobRepository
from components.storage.review_given import Judgement, Wish
from components.storage.review_queue import ReviewQueue
from components.storage.reviews import ReviewRepository
from components.storage.traces import TraceRepository
from tests.data.reviews import batch, item
from tests.data.traces import finished, turn

pytestmark = pytest.mark.service
ROOT = Path(__file__).parents[3]
LOSER = "embedded/w4a16"


class NoSlice(random.Random):
    """Draws that put no item into the random slice, so that the most divergent one comes first."""

    def random(self) -> float:
        return 0.5


class Bench:
    """A database with two turns about a picture, and the service that reads them."""

    def __init__(self, folder: Path, database: Database) -> None:
        blobs = BlobStore(folder / "blobs")
        traces, images = TraceRepository(database, blobs), ImageStore(blobs, ImageLimits(), database)
        picture: ImageRecord = images.ingest(ROOT / "assets" / "samples" / "four-shapes.png", "four-shapes.png")
        traces.create_turn(turn("t1", prompt="Describe the picture.", system="Be brief.", images=(picture,)))
        traces.finish_answer("t1-a0", finished("A red circle."))
        traces.finish_answer("t1-a1", finished("A blue circle."))
        traces.create_turn(turn("t2", prompt="How many shapes are there?", system="", images=(picture,)))
        traces.finish_answer("t2-a0", finished("half an answer", outcome=Outcome.STOPPED))
        self.state_dir = folder
        reviews, records = ReviewRepository(database, NoSlice()), BenchmarkRepository(database)
        reviews.add_answered(batch(), [item(2, trace_id="t1"), item(1, trace_id="t2")])
        queue = ReviewQueue(database)
        given = queue.next("ann", Wish("b1"))
        assert given is not None
        queue.submit("ann", given.item.id, Judgement(Choice.BOTH_BAD))  # the most divergent one, t1
        recorder = Recorder("run-1")
        lost = {"id": "a", "lost": True, "question": "Which word is printed?", "images": ["000-0.png"], "base": "ALPHA"}
        rows = [lost, {**lost, "id": "b", "lost": False}, {**lost, "id": "c", "images": ["../../../../etc/passwd"]}]
        recorder.add("accuracy", LOSER, "embedded-questions", "flipped_items", 3.0, details={"items": rows})
        records.add(recorder.records)
        self.service = QuantizeService(
            Catalog(list_pairs(ROOT / "profiles")[0]), ModelPreparer(folder / "models", ROOT),
            JobQueue(JobRepository(database)), QuantizeSettings(folder, ROOT, "embedded"),
            rows=StoredRows(traces, images, reviews, records, ROOT / "assets" / "benchmark"),
        )  # fmt: skip

    def spec(self, *trace_ids: str) -> dict[str, object]:
        return spec_of({"kind": "traces", "trace_ids": list(trace_ids)})


def spec_of(source: dict[str, Any]) -> dict[str, object]:
    return {"recipe": "w4a16-gptq", "overrides": {"calibration": {"sources": [source]}}}


@pytest.fixture
def bench(tmp_path: Path) -> Iterator[Bench]:
    database = Database(sqlite_url(tmp_path / "db.sqlite"))
    database.open()
    yield Bench(tmp_path, database)
    database.close()


def test_selected_turns_become_samples_with_their_pictures(bench: Bench) -> None:
    preview = bench.service.preview(bench.spec("t1", "t2"))
    assert preview is not None
    assert preview["samples"] == preview["samples_with_pictures"] == 2
    first, second = (shown["text"] for shown in preview["shown"])
    assert "Be brief." in first
    assert first.endswith("A red circle.</s>"), "the base's answer, not the candidate's"
    assert "half an answer" not in second, "only a finished answer is one to learn from"
    (folder,) = (bench.state_dir / "quantize" / "calibration").iterdir()
    rows = [json.loads(line) for line in (folder / "rows.jsonl").read_text().splitlines()]
    assert [message["role"] for message in rows[0]["messages"]] == ["system", "user", "assistant"]
    assert (folder / rows[0]["images"][0]).is_file()


def test_a_job_keeps_a_copy_and_an_unknown_turn_is_refused(bench: Bench) -> None:
    plan, job = bench.service.prepare(bench.spec("t1"))
    assert plan.can_start
    assert job.calibration is not None
    with pytest.raises(InputError, match="no turn 'gone'") as refused:
        bench.service.plan(bench.spec("gone"))
    assert refused.value.field == "overrides.calibration.sources"


def test_items_of_a_review_batch_become_samples(bench: Bench) -> None:
    judged = {"kind": "review", "batch_id": "b1", "outcome": "both_wrong"}
    preview = bench.service.preview(spec_of(judged))
    assert preview is not None
    assert [source["name"] for source in preview["sources"]] == ["review items: both_wrong"]
    assert [shown["text"].endswith("A red circle.</s>") for shown in preview["shown"]] == [True]
    every = bench.service.preview(spec_of({"kind": "review", "batch_id": "b1"}))
    assert every is not None
    assert every["samples"] == 2
    for source, words in (
        ({**judged, "batch_id": "gone"}, "There is no review batch 'gone'. Accepted: b1."),
        ({**judged, "outcome": "improved"}, "no answered item that is improved"),
    ):
        with pytest.raises(InputError) as refused:
            bench.service.plan(spec_of(source))
        assert words in str(refused.value)
        assert str(refused.value.field).startswith("overrides.calibration.sources")


def test_benchmark_items_that_a_candidate_lost_become_samples(bench: Bench) -> None:
    preview = bench.service.preview(spec_of({"kind": "flips", "model": LOSER}))
    assert preview is not None
    assert (preview["samples"], preview["samples_with_pictures"]) == (1, 1)
    assert preview["shown"][0]["text"].endswith("Which word is printed?[/INST]ALPHA</s>")
    with pytest.raises(InputError, match="No benchmark item is known that embedded/coarse lost") as refused:
        bench.service.plan(spec_of({"kind": "flips", "model": "embedded/coarse"}))
    assert refused.value.field == "overrides.calibration.sources[0].model"


def test_what_can_be_picked_is_listed(bench: Bench) -> None:
    picked = bench.service.own_data()
    assert [one["source"] for one in picked] == [
        {"kind": "review", "batch_id": "b1", "outcome": None},
        {"kind": "review", "batch_id": "b1", "outcome": "both_wrong"},
        {"kind": "flips", "model": LOSER},
    ]
    for one in picked:
        assert bench.service.preview(spec_of(one["source"])) is not None
