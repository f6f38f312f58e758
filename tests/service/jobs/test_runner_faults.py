"""Jobs as real processes, and all that can happen to them and to the app: nothing is lost, nothing is left."""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys
import time
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
import pytest_asyncio

from components.core.errors import DiskFullError
from components.core.jobs import JobNeeds, ProcessMark
from components.core.states import JobState
from components.jobs.process_group import ProcessIdentity
from tests.service.jobs.bench import ROOT, Bench

pytestmark = pytest.mark.service
CANCEL_LIMIT_S = 10.0


@pytest_asyncio.fixture
async def bench(tmp_path: Path) -> AsyncIterator[Bench]:
    made = Bench(tmp_path)
    made.start()
    yield made
    await made.close()


async def test_a_job_reports_and_its_result_is_kept(bench: Bench) -> None:
    job = bench.submit(
        ["event", {"phase": "Calibrating", "step": 1, "steps": 4, "loss": 0.5, "remaining_s": 30}],
        ["write", "model.safetensors"],
        ["sleep", 0.5],
        ["event", {"phase": "Checking", "message": "Asking about a picture", "peak_memory_bytes": 7}],
        ["finish"],
    )
    await bench.until_true(lambda: bench.jobs.view(job.id).progress.step == 1)
    view = bench.jobs.view(job.id)
    assert view.job.state is JobState.RUNNING
    assert view.message == "Calibrating"
    assert view.fraction is not None and view.fraction < 0.5
    done = await bench.until(job, JobState.SUCCEEDED)
    assert done.result == {"folder": "result", "files": ["model.safetensors"]}
    assert done.started_at is not None and done.ended_at is not None
    view = bench.jobs.view(job.id)
    assert (view.fraction, view.message) == (1.0, "Done.")
    assert (view.progress.phases, view.progress.losses) == (("Calibrating", "Checking"), (0.5,))
    assert view.progress.peak_memory_bytes == 7
    assert any("stand-in job" in line for line in bench.jobs.log_tail(job.id))
    assert bench.members() == {}
    assert [path.name for path in bench.folder(job).path.iterdir() if "reserve" in path.name] == []


async def test_memory_is_measured_where_the_driver_gives_none(bench: Bench) -> None:
    job = bench.submit(["sleep", 1.0], ["fail", "over"], needs=JobNeeds(memory_bytes=2**40))
    await bench.until_true(lambda: (bench.jobs.view(job.id).progress.peak_memory_bytes or 0) > 2**20)
    assert bench.room.used[job.id] > 2**20
    await bench.until(job, JobState.FAILED)


async def test_one_runs_at_a_time(bench: Bench, tmp_path: Path) -> None:
    first, second = bench.submit(["sleep", 0.6], name="first"), bench.submit(["sleep", 0.1], name="second")
    await bench.until(first, JobState.RUNNING)
    await bench.until_true(lambda: bench.jobs.view(second.id).waiting)
    assert bench.jobs.view(second.id).waiting == "Waits for the job that runs now."
    await bench.until(first, JobState.FAILED)  # no result, which is an error of the driver
    await bench.until(second, JobState.FAILED)
    assert first.id != second.id


@pytest.mark.parametrize(
    ("action", "reason"),
    [
        (["fail", "The group size does not divide."], "The group size does not divide. Do something about it."),
        (["crash"], "The job stopped on an unforeseen error: KeyError: 'nobody thought of this'"),
        (["exit", 7], "The job's driver ended with code 7 before it could say why."),
    ],
)
async def test_f53_a_failed_job_says_why_and_leaves_no_output(bench: Bench, action: list[object], reason: str) -> None:
    job = bench.submit(["write", "model.safetensors"], action)
    failed = await bench.until(job, JobState.FAILED)
    assert failed.failure_reason is not None and failed.failure_reason.startswith(reason)
    assert not bench.folder(job).partial.exists()
    assert not bench.folder(job).result.exists()


async def test_f53_kill_9_of_the_driver(bench: Bench, tmp_path: Path) -> None:
    pids = tmp_path / "pids"
    job = bench.submit(["note", str(pids)], ["write", "model.safetensors"], ["stubborn"], ["sleep", 60])
    await bench.until_true(
        lambda: "python" in str(bench.members(job)) and (bench.folder(job).path / "stubborn").exists()
    )
    os.kill(int(pids.read_text()), signal.SIGKILL)
    failed = await bench.until(job, JobState.FAILED)
    assert failed.failure_reason is not None and "killed (signal 9)" in failed.failure_reason
    assert "stand-in job: 4 actions" in failed.failure_reason
    assert bench.members() == {}
    assert not bench.folder(job).partial.exists()
    again = bench.queue.retry(job.id)
    await bench.until(again, JobState.RUNNING)
    assert bench.queue.get(job.id).state is JobState.FAILED
    bench.queue.cancel(again.id)
    await bench.until(again, JobState.STOPPED)


async def test_f53_kill_9_of_the_whole_group(bench: Bench) -> None:
    job = bench.submit(["stubborn"], ["sleep", 60])
    await bench.until_true(lambda: (bench.folder(job).path / "stubborn").exists())
    process = bench.queue.get(job.id).process
    assert process is not None
    os.killpg(process.pid, signal.SIGKILL)  # launcher and driver; the child in its own session lives on
    failed = await bench.until(job, JobState.FAILED)
    assert failed.failure_reason is not None and "nobody noted why" in failed.failure_reason
    assert bench.members() == {}


@pytest.mark.parametrize("actions", [[], [["stubborn"]], [["deaf"], ["stubborn"]]], ids=["willing", "child", "deaf"])
async def test_f54_cancel_leaves_nothing_within_10_s(bench: Bench, actions: list[list[str]]) -> None:
    job = bench.submit(["write", "model.safetensors"], *actions, ["event", {"phase": "Working"}], ["sleep", 60])
    await bench.until_true(lambda: bench.jobs.view(job.id).progress.phase == "Working")
    begun = time.monotonic()
    assert bench.queue.cancel(job.id).state is JobState.STOPPING
    stopped = await bench.until(job, JobState.STOPPED)
    assert time.monotonic() - begun < CANCEL_LIMIT_S
    assert stopped.failure_reason == "Cancelled."
    assert bench.members() == {}
    assert not bench.folder(job).partial.exists()


async def test_f54_cancel_while_queued_starting_and_finished(bench: Bench) -> None:
    running = bench.submit(["sleep", 60], name="running")
    queued = bench.submit(["sleep", 60], name="queued")
    assert bench.queue.cancel(queued.id).state is JobState.STOPPED
    await bench.until(running, JobState.RUNNING)
    bench.queue.cancel(running.id)  # the interpreter is still starting
    await bench.until(running, JobState.STOPPED)
    finishing = bench.submit(["write", "a"], ["finish"], ["linger", 2.0], name="finishing")
    await bench.until_true(lambda: bench.folder(finishing).exit.exists())
    assert bench.queue.cancel(finishing.id).state is JobState.STOPPING
    assert (await bench.until(finishing, JobState.SUCCEEDED)).result is not None
    assert bench.folder(finishing).result.is_dir()


async def test_a_driver_that_does_not_end_after_its_record_is_ended(tmp_path: Path) -> None:
    bench = Bench(tmp_path, linger_s=0.3)
    bench.start()
    try:
        job = bench.submit(["write", "a"], ["finish"], ["linger", 3600.0])
        await bench.until(job, JobState.SUCCEEDED)
        assert bench.members() == {}
    finally:
        await bench.close()


async def test_f51_the_app_ends_and_comes_back(bench: Bench, tmp_path: Path) -> None:
    pids = tmp_path / "pids"
    job = bench.submit(
        ["note", str(pids)],
        ["event", {"phase": "Working", "step": 1, "steps": 2}],
        ["sleep", 1.5],
        ["write", "a"],
        ["finish"],
    )
    await bench.until_true(lambda: bench.jobs.view(job.id).progress.step == 1)
    await bench.stop()
    await asyncio.sleep(0.2)
    assert bench.members() != {}, "the end of the app ended its job"
    bench._open()
    bench.start()
    await bench.until_true(lambda: bench.runner.live(job.id) is not None)
    assert bench.jobs.view(job.id).progress.step == 1
    assert job.id in bench.room.held
    await bench.until(job, JobState.SUCCEEDED)
    assert len(pids.read_text().split()) == 1, "it ran twice"


# An app that starts a job and is then killed by the test.
DOOMED_APP = """
import asyncio, sys
from pathlib import Path
from tests.service.jobs.bench import Bench

async def main():
    bench = Bench(Path(sys.argv[1]))
    bench.start()
    job = bench.submit(["note", sys.argv[2]], ["event", {"phase": "Working"}], ["sleep", 2], ["write", "a"], ["finish"])
    await bench.until_true(lambda: bench.jobs.view(job.id).progress.phase == "Working")
    print(job.id, flush=True)
    await asyncio.sleep(60)

asyncio.run(main())
"""


async def test_f51_kill_9_of_the_app(tmp_path: Path) -> None:
    state, pids = tmp_path / "state", tmp_path / "pids"
    state.mkdir()
    app = await asyncio.create_subprocess_exec(
        sys.executable, "-c", DOOMED_APP, str(state), str(pids), cwd=ROOT, stdout=subprocess.PIPE,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
    )  # fmt: skip
    assert app.stdout is not None
    job_id = (await app.stdout.readline()).decode().strip()
    app.kill()
    await app.wait()
    bench = Bench(state)
    try:
        job = bench.queue.get(job_id)
        assert bench.members(job) != {}, "the job died with the app"
        bench.start()
        await bench.until_true(lambda: bench.runner.live(job_id) is not None)
        assert bench.queue.get(job_id).state is JobState.RUNNING
        await bench.until(job, JobState.SUCCEEDED)
        assert len(pids.read_text().split()) == 1, "it ran twice"
    finally:
        await bench.close()


@pytest.mark.parametrize("meanwhile", ["finished", "killed", "rebooted"])
async def test_f51_a_job_that_ended_while_no_app_looked(bench: Bench, meanwhile: str) -> None:
    endings = {
        "finished": [["write", "a"], ["finish"]],
        "killed": [["write", "a"], ["exit", 3]],
        "rebooted": [["sleep", 60]],
    }
    job = bench.submit(["event", {"phase": "Working"}], ["sleep", 0.5], *endings[meanwhile])
    await bench.until_true(lambda: bench.jobs.view(job.id).progress.phase == "Working")
    await bench.stop()
    await bench.until_true(lambda: meanwhile == "rebooted" or not bench.members())
    if meanwhile == "rebooted":
        pid = next(iter(bench.members()))
        for left in bench.members():
            os.kill(left, signal.SIGKILL)
        await bench.until_true(lambda: not bench.members())
        bench._open()
        bench.repository.set_process(job.id, ProcessMark(pid=pid, start_ticks=1, boot_id="an-earlier-boot"))
        bench.database.close()
    bench._open()
    bench.start()
    ended = await bench.until(job, JobState.SUCCEEDED, JobState.FAILED)
    words = {"finished": None, "killed": "ended with code 3", "rebooted": "The machine was restarted"}[meanwhile]
    assert (ended.state is JobState.SUCCEEDED) == (meanwhile == "finished")
    assert (words or "") in (ended.failure_reason or "")
    assert bench.folder(job).result.exists() == (meanwhile == "finished")


async def test_f20_another_process_of_that_pid_is_not_ours(bench: Bench) -> None:
    job = bench.submit(["sleep", 60])
    await bench.until(job, JobState.RUNNING)
    await bench.stop()
    for left in bench.members():
        os.kill(left, signal.SIGKILL)
    bench._open()
    mine = ProcessIdentity.read(os.getpid())
    assert mine is not None
    forged = ProcessMark(pid=mine.pid, start_ticks=mine.start_ticks - 1, boot_id=mine.boot_id)
    bench.repository.set_process(job.id, forged)
    bench.start()
    await bench.until(job, JobState.FAILED)  # and this process is still there to see it


async def test_f52_claimed_but_never_spawned_waits_again_and_keeps_its_turn(bench: Bench) -> None:
    await bench.stop()
    bench._open()
    job, later = (bench.submit(["write", "a"], ["finish"], name=name) for name in ("one", "two"))
    bench.repository.change(job.id, JobState.RUNNING)
    bench.start()
    await bench.until(later, JobState.SUCCEEDED)
    assert bench.repository.get(job.id).state is JobState.SUCCEEDED, "overtaken"
    states = [change.state for change in bench.queue.changes(job.id)]
    assert states == [JobState.PENDING, JobState.RUNNING, JobState.PENDING, JobState.RUNNING, JobState.SUCCEEDED]


async def test_a_kind_nobody_runs_fails_with_words(bench: Bench) -> None:
    job = bench.queue.submit("no-such-kind", {}, "Something")
    assert "can't run jobs of the kind" in ((await bench.until(job, JobState.FAILED)).failure_reason or "")


async def test_a_database_that_can_not_be_written_loses_no_end(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    job = bench.submit(["write", "a"], ["finish"])
    await bench.until(job, JobState.RUNNING)
    write, refused = bench.database.write, []

    def full(change: object) -> object:
        if len(refused) < 5:
            refused.append(1)
            raise DiskFullError("The disk is full.")
        return write(change)

    monkeypatch.setattr(bench.database, "write", full)
    await bench.until(job, JobState.SUCCEEDED)
    assert len(refused) == 5


# A whole app's part of jobs on a disk of 2 MiB.
ON_A_SMALL_DISK = """
import asyncio, sys
from pathlib import Path
from components.core.states import JobState
from tests.service.jobs.bench import Bench

async def main():
    bench = Bench(Path(sys.argv[1]))
    bench.start()
    job = bench.submit(["write", "first"], ["fill"])
    ended = await bench.until(job, JobState.FAILED, JobState.SUCCEEDED)
    print("state", ended.state, ended.failure_reason, flush=True)
    print("partial", bench.folder(job).partial.exists(), bench.folder(job).result.exists(), flush=True)
    again = bench.submit(["write", "small"], ["finish"], name="small")
    print("next", (await bench.until(again, JobState.FAILED, JobState.SUCCEEDED)).state, flush=True)
    await bench.close()

asyncio.run(main())
"""


def test_f55_a_full_disk_is_told_and_leaves_no_half_result(tmp_path: Path) -> None:
    disk = tmp_path / "disk"
    disk.mkdir()
    script = f'mount -t tmpfs -o size=2m none "{disk}" && exec "{sys.executable}" -c "$0" "{disk}"'
    ran = subprocess.run(
        ["unshare", "-rm", "sh", "-c", script, ON_A_SMALL_DISK], cwd=ROOT, capture_output=True, text=True, timeout=60,
        env={**os.environ, "PYTHONPATH": str(ROOT)}, check=False,
    )  # fmt: skip
    if "unshare failed" in ran.stderr or "permission denied" in ran.stderr.lower():
        pytest.skip("this machine allows no user namespaces")
    assert "state FAILED The disk is full" in ran.stdout, ran.stdout + ran.stderr
    assert "partial False False" in ran.stdout
    assert "next SUCCEEDED" in ran.stdout
