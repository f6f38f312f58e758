"""Turns of this app as calibration data: prompt, picture and the base's answer, then coded by the model's tokenizer."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from components.core.answers import ImageRecord
from components.core.errors import InputError
from components.core.states import Outcome
from components.engines.catalog import Catalog
from components.engines.prepare import ModelPreparer
from components.jobs.queue import JobQueue
from components.profiles.loader import list_pairs
from components.quantize.service import QuantizeService, QuantizeSettings
from components.quantize.trace_rows import TraceExport
from components.storage.blobs import BlobStore
from components.storage.database import Database, sqlite_url
from components.storage.images import ImageLimits, ImageStore
from components.storage.jobs import JobRepository
from components.storage.traces import TraceRepository
from tests.data.traces import finished, turn

pytestmark = pytest.mark.service
ROOT = Path(__file__).parents[3]


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
        self.service = QuantizeService(
            Catalog(list_pairs(ROOT / "profiles")[0]), ModelPreparer(folder / "models", ROOT),
            JobQueue(JobRepository(database)), QuantizeSettings(folder, ROOT, "embedded"),
            export=TraceExport(traces, images).write,
        )  # fmt: skip

    def spec(self, *trace_ids: str) -> dict[str, object]:
        sources = [{"kind": "traces", "trace_ids": list(trace_ids)}]
        return {"recipe": "w4a16-gptq", "overrides": {"calibration": {"sources": sources}}}


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
