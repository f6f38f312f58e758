"""The endpoints of review on the real app: blind, named refusals, several reviewers at once, a kill in between."""

from __future__ import annotations

import base64
import io
import json
import threading
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pyarrow.parquet
import pytest

from components.storage.database import Database, sqlite_url
from components.storage.reviews import ReviewRepository
from tests.data.reviews import batch, items
from tests.running_app import RefusedError, RunningApp, new_state_dir
from tests.service.app.conftest import NO_ENGINES

pytestmark = pytest.mark.service
COUNT = 60
SECRETS = ("candidate", "base", "coarse", "embedded", "nats", "trace", "_ms")


def store_batch(state: Path, count: int = COUNT, **changes: Any) -> None:
    database = Database(sqlite_url(state / "diptych.db"))
    database.open()
    answered = [
        found.model_copy(
            update={
                "answered": found.answered.model_copy(update={"base_text": f"{n}: seven", "candidate_text": f"{n}: 7"})
            }
        )
        for n, found in enumerate(items(count))
        if found.answered
    ]
    ReviewRepository(database).add_answered(batch(**changes), answered)
    database.close()


def running(*arguments: str, **environment: str) -> Iterator[RunningApp]:
    state = new_state_dir()
    store_batch(state)
    app = RunningApp(state, *arguments, environment={**NO_ENGINES, **environment}).start()
    try:
        app.wait_for_page()
        yield app
    finally:
        app.close()


@pytest.fixture(scope="module")
def reviewed() -> Iterator[RunningApp]:
    yield from running()


@pytest.fixture(scope="module")
def signed_in() -> Iterator[RunningApp]:
    yield from running("--public", DIPTYCH_USERS="owner:one-word,ann:two-words")


def test_a_round_trip_is_blind_until_the_verdict(reviewed: RunningApp) -> None:
    given = reviewed.call("review_next", "rita")
    assert reviewed.call("review_next", "rita") == given, "the same until it is judged"
    told = json.dumps(given)
    assert not [secret for secret in SECRETS if secret in told]
    texts = {side: given["answers"][side]["text"] for side in ("a", "b")}
    right = "a" if texts["a"].endswith("seven") else "b"
    claim = {"answer": "a", "error_type": "misread_text", "severity": "minor", "text": texts["a"][:1], "start": 0}
    verdict = {"item_id": given["item_id"], "verdict": right, "claims": [claim], "note": "<b>seen</b>"}
    record = reviewed.call("review_submit", "rita", verdict)
    assert (record["outcome"], record["verdict"], record["reviewer"]) == ("regressed", right, "rita")
    assert record[f"{record['a_is']}_text"] == texts["a"]
    assert record["claims"][0]["side"] == record["a_is"]
    rows = reviewed.call("review_export", {"reviewer": "rita"})
    assert [row["verdict_id"] for row in rows] == [record["verdict_id"]]
    told = reviewed.call("review_export", {"reviewer": "rita", "batch": "b1", "format": "jsonl"})
    assert json.loads(told["text"]) == rows[0]
    file = base64.b64decode(reviewed.call("review_export", {"reviewer": "rita", "format": "parquet"})["base64"])
    assert pyarrow.parquet.read_table(io.BytesIO(file)).column("verdict_id").to_pylist() == [record["verdict_id"]]
    address = f"{reviewed.url}review/export/b1.parquet?reviewer=rita"
    downloaded = httpx.get(address, trust_env=False)
    assert downloaded.headers["content-type"] == "application/vnd.apache.parquet"
    assert pyarrow.parquet.read_table(io.BytesIO(downloaded.content)).num_rows == 1
    assert "&lt;b&gt;seen" in reviewed.call("review_export", {"batch": "b1", "format": "html"})["text"]
    assert reviewed.call("review_next", "rita")["item_id"] != given["item_id"]


@pytest.mark.parametrize(
    ("endpoint", "data", "words"),
    [
        ("review_next", [""], "reviewer: A reviewer needs a name. Accepted: 1 to 80"),
        ("review_submit", ["ann", {}], "item_id: item_id is missing."),
        ("review_submit", ["ann", {"item_id": "x", "verdict": "better"}], "Accepted: a, b, tie, both_bad."),
        ("review_submit", ["ann", {"item_id": "x", "verdict": "a"}], "item_id: There is no item"),
        ("review_submit", ["ann", {"item_id": "b1-i0", "verdict": "a"}], "item_id: This item was not given"),
        ("review_export", [{"batch": "none"}], "batch: There is no batch"),
        ("review_export", [{"format": "xml"}], "Accepted: json, jsonl, csv, parquet, html, markdown."),
        ("review_export", [{"outcome": "lost"}], "Accepted: regressed, improved"),
    ],
)
def test_refusals_name_the_field(reviewed: RunningApp, endpoint: str, data: list[Any], words: str) -> None:
    with pytest.raises(RefusedError) as caught:
        reviewed.call(endpoint, *data)
    assert words in caught.value.args[0]
    assert "Traceback" not in caught.value.args[0]


def test_four_reviewers_and_a_kill_lose_and_double_nothing() -> None:
    (app,) = running_once = list(_start())
    confirmed: list[tuple[str, str]] = []
    lock = threading.Lock()

    def review(name: str, rounds: int) -> None:
        try:
            for _ in range(rounds):
                given = app.call("review_next", name, timeout_s=30)
                record = app.call("review_submit", name, {"item_id": given["item_id"], "verdict": "tie"}, timeout_s=30)
                with lock:
                    confirmed.append((record["item_id"], name))
        except (httpx.HTTPError, RefusedError, AssertionError, ValueError, KeyError):
            return  # the app was killed under it

    try:
        names = ("ann", "ben", "cem", "dia")
        threads = [threading.Thread(target=review, args=(name, 50)) for name in names]
        for thread in threads:
            thread.start()
        while len(confirmed) < 12:
            threads[0].join(0.05)
        app.kill()
        for thread in threads:
            thread.join()
        before = list(confirmed)
        app.start()
        app.wait_for_page()
        stored = {(row["item_id"], row["reviewer"]) for row in app.call("review_export", {})}
        assert set(before) <= stored, "a confirmed verdict survives"
        for name in names:
            review(name, 2)
        rows = app.call("review_export", {})
        assert max(Counter(row["item_id"] for row in rows).values()) == 1
        assert {(row["item_id"], row["reviewer"]) for row in rows} >= set(confirmed)
        assert len(confirmed) > len(before)
    finally:
        for each in running_once:
            each.close()


def _start() -> Iterator[RunningApp]:
    state = new_state_dir()
    store_batch(state)
    app = RunningApp(state, environment=NO_ENGINES).start()
    app.wait_for_page()
    yield app


def test_visitors_review_nothing(signed_in: RunningApp) -> None:
    for endpoint, data in (("review_next", ["eve"]), ("review_submit", ["eve", {}]), ("review_export", [{}])):
        with pytest.raises(RefusedError, match="Visitors can't review"):
            signed_in.call(endpoint, *data)
    for method, address in (("GET", "review/export/b1.csv"), ("POST", "review/upload?name=a.csv")):
        refused = httpx.request(method, signed_in.url + address, trust_env=False)
        assert (refused.status_code, refused.json()["error"]["code"]) == (400, "not_permitted")


def call_as(app: RunningApp, auth: tuple[str, str], endpoint: str, *data: Any) -> Any:
    with httpx.Client(trust_env=False, auth=auth) as http:
        base = f"{app.url}gradio_api/call/{endpoint}"
        event = http.post(base, json={"data": list(data)}).json()["event_id"]
        lines = http.get(f"{base}/{event}", timeout=30).text.splitlines()
    kind, value = lines[0].removeprefix("event: "), lines[1].removeprefix("data: ")
    if kind != "complete":
        raise RefusedError(value)
    return json.loads(value)[0]


def test_an_account_reviews_under_its_name_and_sees_its_own(signed_in: RunningApp) -> None:
    ann, owner = ("ann", "two-words"), ("owner", "one-word")
    with pytest.raises(RefusedError, match="You are signed in as ann"):
        call_as(signed_in, ann, "review_next", "owner")
    for auth in (ann, owner):
        given = call_as(signed_in, auth, "review_next", "")
        call_as(signed_in, auth, "review_submit", "", {"item_id": given["item_id"], "verdict": "tie"})
    assert {row["reviewer"] for row in call_as(signed_in, ann, "review_export", {})} == {"ann"}
    assert {row["reviewer"] for row in call_as(signed_in, ann, "review_export", {"reviewer": "owner"})} == {"ann"}
    assert {row["reviewer"] for row in call_as(signed_in, owner, "review_export", {})} == {"ann", "owner"}
    told = httpx.get(signed_in.url + "review/export/b1.jsonl", auth=ann, trust_env=False)
    assert {json.loads(line)["reviewer"] for line in told.text.splitlines()} == {"ann"}


@pytest.mark.parametrize("name", ["../../evil.csv", "a.exe", "x.html", "..", ""])
def test_an_upload_stays_in_its_folder(reviewed: RunningApp, name: str) -> None:
    answer = httpx.post(reviewed.url + "review/upload", params={"name": name}, content=b"id,prompt", trust_env=False)
    found = list(reviewed.state_dir.parent.rglob("evil.csv"))
    if answer.status_code == httpx.codes.OK:
        assert all(path.is_relative_to(reviewed.state_dir / "uploads" / "review") for path in found)
    else:
        assert answer.json()["error"]["field"] == "source"
    bad = httpx.post(
        reviewed.url + "review/upload", params={"name": "a.csv", "token": "../../x"}, content=b"", trust_env=False
    )
    assert bad.json()["error"]["message"] == "That is no upload."
