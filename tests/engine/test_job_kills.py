"""A real quantization under kill -9 of the app and of its driver, and under a cancel: the app tells the truth."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from components.jobs.launcher import find_members
from tests.running_app import EMBEDDED, RunningApp, new_state_dir, wait_until

pytestmark = [
    pytest.mark.engine,
    pytest.mark.skipif(not EMBEDDED.exists(), reason="the embedded pair is not built; see scripts/embedded"),
    pytest.mark.usefixtures("quantizer"),
]
SPEC = {"recipe": "w4a16-gptq", "overrides": {"calibration": {"samples": 64}}}
START_LIMIT_S = 180.0
CANCEL_LIMIT_S = 10.0


@pytest.fixture
def app() -> Iterator[RunningApp]:
    app = RunningApp(new_state_dir(), environment={"DIPTYCH_START_ENGINES": "false"}).start()
    try:
        app.wait_for_page()
        yield app
    finally:
        app.close()


def members(app: RunningApp, job_id: str) -> dict[int, str]:
    return find_members(str(app.state_dir / "jobs" / job_id))


def quantizing(app: RunningApp) -> str:
    """A job whose tool is at work."""
    job_id = str(app.call("quantize", SPEC)["job_id"])
    assert app.call("quantize", SPEC)["job_id"] == job_id  # the same job, while it waits or runs

    def at_work() -> bool:
        job = app.call("job", job_id)
        assert job["state"] in ("PENDING", "RUNNING"), job
        return job["phase"] == "Quantizing" and job["steps"] is not None

    wait_until("the tool is at work", at_work, START_LIMIT_S, lambda: str(app.call("job", job_id)), pause_s=0.5)
    return job_id


def test_kills_and_a_cancel(app: RunningApp) -> None:
    job_id = quantizing(app)
    before = members(app, job_id)
    app.kill()
    assert set(before) & set(members(app, job_id)) == set(before), "the job died with the app"
    app.start().wait_for_page()
    found = app.call("job", job_id)
    assert (found["state"], found["phase"], found["attempt"]) == ("RUNNING", "Quantizing", 1)
    assert app.call("quantize", SPEC)["job_id"] == job_id

    driver = next(pid for pid in members(app, job_id) if b"components.quantize.job" in _command(pid))
    os.kill(driver, signal.SIGKILL)
    wait_until("it has failed", lambda: app.call("job", job_id)["state"] == "FAILED", 15.0)
    failed = app.call("job", job_id)
    assert "killed (signal 9)" in failed["failure_reason"]
    assert members(app, job_id) == {}
    folder = app.state_dir / "jobs" / job_id
    assert not (folder / "result").exists()
    assert not (folder / "result.partial").exists()

    again = quantizing(app)
    assert again != job_id
    begun = time.monotonic()
    assert app.call("cancel", again)["state"] == "STOPPING"
    wait_until("nothing of it is left", lambda: not members(app, again), CANCEL_LIMIT_S)
    wait_until("it has stopped", lambda: app.call("job", again)["state"] == "STOPPED", CANCEL_LIMIT_S)
    assert time.monotonic() - begun < CANCEL_LIMIT_S
    assert not (app.state_dir / "jobs" / again / "result.partial").exists()


def _command(pid: int) -> bytes:
    try:
        found = Path(f"/proc/{pid}/cmdline").read_bytes()
    except OSError:
        return b""
    return b"" if b"launcher.py" in found else found.replace(b"\0", b" ")
