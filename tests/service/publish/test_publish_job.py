"""An upload from dry run to commit: the real driver and huggingface_hub, against a hub that fails on demand."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from components.core.errors import InputError, JobError
from components.core.jobs import Job
from components.jobs.queue import JobQueue
from components.jobs.records import JobExit, JobFolder
from components.publish import hub as hub_calls
from components.publish.records import PublishSpec
from components.publish.service import PublishService, PublishSettings, fingerprint
from components.storage.database import Database, sqlite_url
from components.storage.jobs import JobRepository
from tests.data.made import ENGINE_ID, JOB_ID, WEIGHTS, store_made_candidate
from tests.fakes.hub import TOKEN, Hub
from tests.running_app import ROOT, wait_until

pytestmark = pytest.mark.service
NAME = "ann/small-w4a16"
CARD = "---\nlicense: apache-2.0\n---\n# A card\n"


@pytest.fixture
def hub() -> Iterator[Hub]:
    with Hub() as running:
        yield running


class Bench:
    """A state folder with one finished quantize job, its service, and the driver as a process."""

    def __init__(self, state: Path, hub: Hub) -> None:
        self.state, self.hub, self.number = state, hub, 0
        self.database = Database(sqlite_url(state / "diptych.db"))
        self.database.open()
        repository = JobRepository(self.database)
        self.queue = JobQueue(repository)
        store_made_candidate(state, repository)
        settings = PublishSettings(state, ROOT, Path("/home/nobody"))
        self.service = PublishService(self.queue, lambda _: (CARD, ("Throughput",)), settings)

    def wish(self, **changes: Any) -> dict[str, Any]:
        return {"model": ENGINE_ID, "repo_id": NAME, **changes}

    def submit(self, **changes: Any) -> Job:
        plan = self.service.plan(self.wish(**changes))
        return self.queue.get(self.service.submit(self.wish(**changes, confirm=fingerprint(plan))))

    def start(self, job: Job) -> tuple[JobFolder, subprocess.Popen[bytes]]:
        self.number += 1
        folder = JobFolder(self.state / "jobs" / f"{job.id}-{self.number}")
        folder.create(job.spec)
        env = {"PATH": os.environ["PATH"], "HOME": str(self.state), "HF_ENDPOINT": self.hub.url, "HF_TOKEN": TOKEN}
        with folder.log.open("wb") as log:
            argv = [sys.executable, "-m", "components.publish.job", str(folder.path)]
            return folder, subprocess.Popen(argv, cwd=ROOT, env=env, stdout=log, stderr=log)

    def run(self, job: Job) -> tuple[JobFolder, JobExit]:
        folder, process = self.start(job)
        process.wait(60)
        ended = folder.read_exit()
        assert ended is not None, folder.log.read_text()
        return folder, ended


@pytest.fixture
def bench(tmp_path: Path, hub: Hub, monkeypatch: pytest.MonkeyPatch) -> Iterator[Bench]:
    monkeypatch.setattr("huggingface_hub.constants.ENDPOINT", hub.url)
    monkeypatch.setenv("HF_TOKEN", TOKEN)
    bench = Bench(tmp_path, hub)
    yield bench
    bench.database.close()


def test_what_was_shown_arrives_and_the_token_is_nowhere(bench: Bench, hub: Hub) -> None:
    plan = bench.service.plan(bench.wish())
    assert plan.can_start
    assert [finding.sentence for finding in plan.findings][:2] == [f"You are ann at {hub.url}.", f"{NAME} is free."]
    assert not hub.repositories  # a dry run makes nothing
    folder, ended = bench.run(bench.submit())
    assert ended.state == "SUCCEEDED", ended.failure_reason
    repository = hub.repositories[NAME]
    assert repository.private
    assert {name: len(content) for name, content in repository.files.items()} == {
        file.name: file.size_bytes for file in plan.spec.files
    }
    assert set(repository.files) == {
        *WEIGHTS, "README.md", "config.json", "recipe.yaml", "diptych/quantize.py", "diptych/requirements.txt",
    }  # fmt: skip
    assert repository.files["README.md"].decode() == CARD
    result = bench.state / "jobs" / JOB_ID / "result"
    for name in WEIGHTS:
        assert repository.files[name] == (result / name).read_bytes()
    assert repository.files["recipe.yaml"] == b"file: STATE/uploads/mine.jsonl\n"
    assert str(bench.state).encode() not in b"".join(repository.files.values())
    assert ended.result is not None
    assert ended.result["url"] == f"{hub.url}/{NAME}"
    events, _ = folder.read_events(0)
    assert events[-1].step == events[-1].steps
    for file in bench.state.rglob("*"):
        if file.is_file():
            assert TOKEN.encode() not in file.read_bytes(), file
            assert b"a-secret-of-the-hub" not in file.read_bytes(), file


@pytest.mark.parametrize(
    ("call", "status", "words"),
    [
        ("repos/create", 401, "The hub refused the token (401: no). Log in with `hf auth login`"),
        ("repos/create", 403, f"The token may not write to {NAME} (403: no)."),
        ("repos/create", 409, f"{NAME} exists at the hub (409: no)."),
        ("preupload", 403, f"The token may not write to {NAME} (403: no)."),
        ("commit", 400, "The hub answered 400: no."),
    ],
)
def test_a_refusal_is_told_in_words(bench: Bench, hub: Hub, call: str, status: int, words: str) -> None:
    spec = _spec(bench.submit())
    hub.faults.refuse = {call: (status, "no")}
    with pytest.raises(JobError) as caught:
        _all_steps(spec)
    assert words in str(caught.value)
    assert not any(repository.files for repository in hub.repositories.values())


def test_a_cut_connection_fails_with_its_reason_and_a_retry_goes_on(
    bench: Bench, hub: Hub, monkeypatch: pytest.MonkeyPatch
) -> None:
    job = bench.submit()
    monkeypatch.setattr("huggingface_hub.utils._http.time.sleep", lambda _: None)
    hub_calls.create_repository(_spec(job))
    (bench.state / "publish").mkdir()
    (bench.state / "publish" / f"{_spec(job).work_key}.made").touch()
    hub.faults.cut_uploads = 6  # the library tries five times more
    with pytest.raises(JobError, match=r"The connection to the hub was cut .* Retry sends only what has not arrived"):
        hub_calls.upload(_spec(job), lambda *_: None)
    assert hub.repositories[NAME].commits == 0
    hub.calls.clear()
    assert bench.run(job)[1].state == "SUCCEEDED"  # in the repository that the first attempt made
    assert not any("repos/create" in call for call in hub.calls)
    sent = [call for call in hub.calls if call.startswith("PUT")]
    again, ended = bench.run(job)
    assert ended.state == "SUCCEEDED", again.log.read_text()
    assert [call for call in hub.calls if call.startswith("PUT")] == sent  # what is there is not sent twice


def test_a_cancel_ends_an_upload_at_once(bench: Bench, hub: Hub) -> None:
    hub.faults.slow_upload_s = 30.0
    folder, process = bench.start(bench.submit())
    wait_until("it uploads", lambda: any(call.startswith("PUT") for call in hub.calls), 30.0, folder.log.read_text)
    process.send_signal(signal.SIGINT)
    took_s = wait_until("it has ended", lambda: process.poll() is not None, 10.0)
    ended = folder.read_exit()
    assert (ended and ended.state, ended and ended.failure_reason) == ("STOPPED", "Cancelled.")
    assert took_s < 5.0
    assert hub.repositories[NAME].files == {}


def test_only_what_was_shown_is_sent(bench: Bench, hub: Hub) -> None:
    plan = bench.service.plan(bench.wish())
    for confirm in ("", "x", None):
        with pytest.raises(InputError, match="not what the last dry run showed") as caught:
            bench.service.submit(bench.wish(confirm=confirm))
        assert caught.value.field == "confirm"
    with pytest.raises(InputError, match="not what the last dry run showed"):
        bench.service.submit(bench.wish(confirm=fingerprint(plan), private=False))
    job = bench.queue.get(bench.service.submit(bench.wish(confirm=fingerprint(plan))))
    assert bench.service.submit(bench.wish(confirm=fingerprint(plan))) == job.id  # twice clicked is one job
    (bench.state / "jobs" / JOB_ID / "result" / "model-1.safetensors").write_bytes(b"other")
    _, ended = bench.run(job)
    assert ended.failure_reason == "model-1.safetensors is not what it was in the dry run. Look at a new dry run."
    assert hub.repositories[NAME].files == {}


def test_a_private_upload_never_goes_to_a_public_repository(bench: Bench, hub: Hub) -> None:
    assert bench.run(bench.submit(private=False))[1].state == "SUCCEEDED"
    assert not hub.repositories[NAME].private
    bench.queue.cancel(bench.queue.active()[0].id)
    plan = bench.service.plan(bench.wish(existing=True))
    assert f"{NAME} is public, and you ask for a private one." in [finding.sentence for finding in plan.findings]
    with pytest.raises(InputError, match="is public"):
        bench.service.submit(bench.wish(existing=True, confirm=fingerprint(plan)))
    spec = plan.spec
    with pytest.raises(JobError, match="is public, and a private one was asked for"):
        hub_calls.check_visibility(spec)
    folder, ended = bench.run(bench.submit(existing=True, private=False))
    assert ended.state == "SUCCEEDED", folder.log.read_text()
    assert hub.repositories[NAME].commits == 2


def test_what_the_hub_says_is_in_the_dry_run(bench: Bench, hub: Hub, monkeypatch: pytest.MonkeyPatch) -> None:
    def said() -> list[tuple[str, str]]:
        return [(one.verdict, one.sentence) for one in bench.service.plan(bench.wish()).findings]

    hub.faults.refuse = {"whoami": (401, "Invalid token")}
    assert said()[0] == ("fail", f"{hub.url} refused it. Log in again with `hf auth login`, or mend HF_TOKEN.")
    hub.faults.refuse = {}
    bench.run(bench.submit())
    made = next((bench.state / "publish").glob("*.made"))
    assert said()[1] == ("ok", f"{NAME} exists and gets a further commit.")
    made.unlink()
    assert said()[1] == ("fail", f"{NAME} exists. Choose another name, or add to it.")
    monkeypatch.setattr("huggingface_hub.constants.ENDPOINT", "http://127.0.0.1:9")
    assert said()[0] == ("warn", "http://127.0.0.1:9 could not be asked now; the upload itself will tell.")
    monkeypatch.delenv("HF_TOKEN")
    monkeypatch.setattr("huggingface_hub.constants.HF_TOKEN_PATH", str(bench.state / "none"))
    assert said()[0][0] == "fail"
    assert "None was found. Log in" in said()[0][1]


@pytest.mark.parametrize(
    ("wish", "field"),
    [
        ({"repo_id": "no-owner"}, "repo_id"),
        ({"repo_id": "ann/$(touch x)"}, "repo_id"),
        ({"repo_id": "ann/a..b"}, "repo_id"),
        ({"repo_id": None}, "repo_id"),
        ({"model": "embedded/w4a16"}, "model"),
        ({"model": None, "job_id": "quantize-no"}, "job_id"),
        ({"private": "no"}, "private"),
        ({"token": "x"}, "token"),
    ],
)
def test_a_bad_wish_is_refused_by_field(bench: Bench, wish: dict[str, Any], field: str) -> None:
    with pytest.raises(InputError) as caught:
        bench.service.plan(bench.wish(**wish))
    assert caught.value.field == field


def _spec(job: Job) -> PublishSpec:
    return PublishSpec.model_validate(job.spec)


def _all_steps(spec: PublishSpec) -> None:
    hub_calls.create_repository(spec)
    hub_calls.check_visibility(spec)
    hub_calls.upload(spec, lambda *_: None)
