"""A batch of Review on real engines, from the page's upload to exact divergences; one engine is killed in between."""

from __future__ import annotations

import io
import os
import signal
import zipfile
from typing import Any

import httpx
import pytest
import yaml

from components.core.reviews import Batch, BatchState, Item, ItemState
from components.storage.database import Database, sqlite_url
from components.storage.reviews import ReviewRepository
from tests.engine.test_app_kills import server_pid
from tests.running_app import EMBEDDED, ROOT, RunningApp, wait_until

pytestmark = [
    pytest.mark.engine,
    pytest.mark.skipif(not EMBEDDED.exists(), reason="the embedded pair is not built"),
]

BASE, COARSE = "embedded/base", "embedded/coarse"
SAMPLES = ROOT / "assets" / "samples"
ROUNDS = 2  # of the ten samples: enough that some are still to be asked when the engine dies


def start_batch(app: RunningApp) -> None:
    """What the page sends: a zip with pictures and rows, then the form."""
    entries: list[dict[str, str]] = yaml.safe_load((SAMPLES / "index.yaml").read_text(encoding="utf-8"))
    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w") as archive:
        rows = ["id,image,prompt,reference"]
        for entry in entries:
            archive.write(SAMPLES / entry["file"], entry["file"])
            for n in range(ROUNDS):
                rows.append(f'{n}-{entry["file"]},{entry["file"]},"{entry["question"]}","{entry["answer"]}"')
        archive.writestr("rows.csv", "\n".join(rows))
    with httpx.Client(base_url=app.url, trust_env=False, timeout=30) as http:
        token = http.post("review/upload", params={"name": "all.zip"}, content=packed.getvalue()).json()["token"]
        config = http.get("config").json()
        side = next(c["id"] for c in config["components"] if c["props"].get("elem_id") == "dt-review-batches")
        create = next(d["id"] for d in config["dependencies"] if [side, "create"] in [list(t) for t in d["targets"]])
        form = {"key": "k", "name": "Samples", "upload": token, "base": BASE, "candidates": [COARSE]}
        body = {"data": [], "event_data": form, "fn_index": create, "session_hash": "batch", "trigger_id": None}
        http.post("gradio_api/queue/join", json=body).raise_for_status()


class Records:
    """What the app stores, read beside it."""

    def __init__(self, app: RunningApp) -> None:
        self._database = Database(sqlite_url(app.state_dir / "diptych.db"))
        self._database.open()
        self._reviews = ReviewRepository(self._database)

    def batch(self) -> Batch | None:
        return next((found for found in self._reviews.batches() if found.name == "Samples"), None)

    def items(self) -> list[Item]:
        batch = self.batch()
        return [] if batch is None else list(self._reviews.every_item(batch.id))

    def done(self) -> int:
        return sum(item.state is ItemState.DONE for item in self.items())

    def close(self) -> None:
        self._database.close()


def test_a_batch_is_measured_exactly_and_loses_nothing_when_an_engine_is_killed(app: RunningApp) -> None:
    records = Records(app)
    try:
        start_batch(app)
        wait_until("some items are answered", lambda: records.done() >= 2, 120, app.said)
        os.kill(server_pid(app, COARSE), signal.SIGKILL)
        left = [item for item in records.items() if item.state is not ItemState.DONE]
        wait_until("the batch has ended", lambda: _state(records) is not BatchState.RUNNING, 180, app.said)
        items = records.items()
    finally:
        records.close()
    assert left, "it was killed too late to show anything"
    assert [item.failure for item in items if item.state is not ItemState.DONE] == []
    assert len({item.trace_id for item in items}) == len(items) == 20
    for item in items:
        check(app, item)
    worst = max(item.answered.divergence_nats or 0 for item in items if item.answered)
    assert worst > 0.1, "the coarse one is of another opinion somewhere"


def _state(records: Records) -> BatchState | None:
    batch = records.batch()
    return None if batch is None else batch.state


def check(app: RunningApp, item: Item) -> None:
    """An item's figures are those of its trace's own same-path score."""
    answered = item.answered
    assert answered is not None
    assert (answered.method, answered.floor_nats is not None) == ("exact", True)
    assert answered.base_matches is not None
    stored: dict[str, Any] = httpx.get(f"{app.url}traces/{item.trace_id}.json").json()["traces"][0]
    texts = {column["answer"]["text"] for column in stored["columns"]}
    assert {answered.base_text, answered.candidate_text} == texts
    (score,) = stored["scores"]
    assert (score["method"], score["path_of"]) == ("exact", "base")
    worst = max(token["kl_base_to_candidate_nats"] for token in score["tokens"])
    assert answered.divergence_nats is not None
    assert 0 <= answered.divergence_nats <= worst + 1e-12
