"""The stand-in job on a real Ray cluster of this machine: state, log, cancel and result as on the machine itself."""

from __future__ import annotations

import asyncio
import dataclasses
import os
import signal
import sys
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest
import pytest_asyncio

from components.core.jobs import ClusterMark, Job
from components.core.states import JobState
from components.jobs.lease import Grant
from components.jobs.node_entry import GIVEN_UP, START
from components.jobs.ray_place import RayPlace, RaySettings
from tests.ray_cluster import HEAD_CPUS, RayCluster, free_port
from tests.service.jobs.bench import ROOT, Bench

pytestmark = pytest.mark.service
PASSED = {b"PATH", b"CUDA_VISIBLE_DEVICES", b"DIPTYCH_GROUP", b"SPT_NOENV", b"LC_CTYPE"}
CANCEL_LIMIT_S = 10.0
LIMIT_S = 60.0  # Ray starts a process for each job, and the machine may be busy


@pytest.fixture(scope="module")
def cluster() -> Iterator[RayCluster]:
    cluster = RayCluster()
    yield cluster
    cluster.close()


def settings(cluster: RayCluster, **changes: Any) -> RaySettings:
    made = RaySettings(
        address=cluster.address, token=cluster.token, python=Path(sys.executable), cwd=ROOT,
        kinds=frozenset({"stand-in"}), inherited=("PATH",), cpus=0.5,
    )  # fmt: skip
    return dataclasses.replace(made, **changes)


@pytest_asyncio.fixture
async def bench(tmp_path: Path, cluster: RayCluster) -> AsyncIterator[Bench]:
    made = Bench(tmp_path, settings(cluster))
    made.start()
    yield made
    await made.close()


async def gone(bench: Bench) -> None:
    """Until no process of a job is left. Its end is told from elsewhere; the last process goes a little later."""
    await bench.until_true(lambda: bench.members() == {}, CANCEL_LIMIT_S, lambda: str(bench.members()))


async def running(bench: Bench, job: Job) -> None:
    await bench.until_true(
        lambda: bench.jobs.view(job.id).progress.phase == "Working", LIMIT_S, lambda: bench.tell(job)
    )


WORKING = ["event", {"phase": "Working"}]


async def test_a_job_reports_logs_and_ends_as_on_this_machine(bench: Bench, tmp_path: Path) -> None:
    actions: list[list[Any]] = [
        ["event", {"phase": "Calibrating", "step": 1, "steps": 4, "loss": 0.5}],
        ["write", "model.safetensors"],
        ["event", {"phase": "Checking", "message": "Asking about a picture"}],
        ["finish"],
    ]
    job = bench.submit(*actions)
    done = await bench.until(job, JobState.SUCCEEDED, JobState.FAILED, limit_s=LIMIT_S)
    (tmp_path / "local").mkdir()
    local = Bench(tmp_path / "local")
    local.start()
    try:
        here = await local.until(local.submit(*actions), JobState.SUCCEEDED)
        assert (done.state, done.result) == (here.state, here.result)
        there, near = bench.jobs.view(job.id).progress, local.jobs.view(here.id).progress
        assert (there.phases, there.losses, there.message) == (near.phases, near.losses, near.message)
        assert bench.jobs.log_tail(job.id) == local.jobs.log_tail(here.id) == ["stand-in job: 4 actions"]
        files = {
            path.relative_to(bench.folder(job).result): path.read_bytes() for path in bench.folder(job).result.iterdir()
        }
        assert files == {Path("model.safetensors"): b"weights"}
    finally:
        await local.close()
    assert isinstance(done.process, ClusterMark)
    await gone(bench)
    assert bench.room.held == {}, "it took memory of this machine"


async def test_whatever_ends_a_job_is_said_and_nothing_is_left(bench: Bench, tmp_path: Path) -> None:
    fails = bench.submit(["write", "a"], ["fail", "The group size does not divide."])
    driver = bench.submit(["note", str(tmp_path / "pid")], ["stubborn"], WORKING, ["sleep", 60])
    group = bench.submit(["stubborn"], WORKING, ["sleep", 61])
    await running(bench, driver)
    os.kill(int((tmp_path / "pid").read_text()), signal.SIGKILL)
    await running(bench, group)
    launcher = next(
        pid for pid in bench.members(group) if b"--tethered" in Path(f"/proc/{pid}/cmdline").read_bytes().split(b"\0")
    )
    os.kill(launcher, signal.SIGKILL)
    killed, swept = "The job was killed (signal 9).", "The job "  # asked to end, or killed where it was slow
    for job, words in ((fails, "The group size does not divide."), (driver, killed), (group, swept)):
        failed = await bench.until(job, JobState.FAILED, limit_s=LIMIT_S)
        assert failed.failure_reason is not None and failed.failure_reason.startswith(words)
        assert not bench.folder(job).partial.exists()
    await gone(bench)


async def test_cancel_leaves_nothing_within_10_s(bench: Bench) -> None:
    """Neither of a willing job nor of one that hears no signal; and a job knows only what the app lets pass."""
    willing = bench.submit(["write", "model.safetensors"], WORKING, ["sleep", 60])
    deaf = bench.submit(["write", "model.safetensors"], ["deaf"], ["stubborn"], WORKING, ["sleep", 60])
    for job in (willing, deaf):
        await running(bench, job)
        for pid, name in bench.members(job).items():
            lines = Path(f"/proc/{pid}/environ").read_bytes().split(b"\0")
            names = {line.partition(b"=")[0] for line in lines if line}
            assert names <= PASSED, (name, names)
    begun = time.monotonic()
    for job in (willing, deaf):
        bench.queue.cancel(job.id)
    for job in (willing, deaf):
        stopped = await bench.until(job, JobState.STOPPED)
        assert stopped.failure_reason == "Cancelled."
        assert not bench.folder(job).partial.exists()
    await gone(bench)
    assert time.monotonic() - begun < CANCEL_LIMIT_S


async def test_the_app_ends_and_comes_back_even_without_the_setting(bench: Bench, tmp_path: Path) -> None:
    pids = tmp_path / "pids"
    job = bench.submit(["note", str(pids)], WORKING, ["sleep", 3], ["write", "a"], ["finish"])
    await running(bench, job)
    assert bench.ray is not None
    bench.ray = dataclasses.replace(bench.ray, kinds=frozenset())  # new jobs would run here
    await bench.restart()
    await bench.until_true(lambda: bench.runner.live(job.id) is not None)
    assert bench.jobs.view(job.id).progress.phase == "Working"
    done = await bench.until(job, JobState.SUCCEEDED, JobState.FAILED, limit_s=LIMIT_S)
    assert done.state is JobState.SUCCEEDED, done.failure_reason
    assert len(pids.read_text().split()) == 1, "it ran twice"


async def test_one_that_was_written_down_but_not_handed_over_runs_once(bench: Bench, tmp_path: Path) -> None:
    """The app died between the two; and Ray is asked twice."""
    await bench.stop()
    bench._open()
    job = bench.submit(["note", str(tmp_path / "pids")], ["write", "a"], ["finish"])
    bench.repository.change(job.id, JobState.RUNNING)
    folder = bench.folder(job)
    folder.create(job.spec)
    assert bench.ray is not None
    argv = [sys.executable, "-m", "tests.fakes.stand_in_job", str(folder.path)]
    twice = RayPlace(bench.ray).start(job, folder, argv, Grant())
    bench.repository.set_process(job.id, twice.mark)
    assert twice.runs()
    bench.start()
    done = await bench.until(job, JobState.SUCCEEDED, JobState.FAILED, limit_s=LIMIT_S)
    assert done.state is JobState.SUCCEEDED, done.failure_reason
    assert len((tmp_path / "pids").read_text().split()) == 1
    assert not (folder.path / START).exists()


async def test_a_node_without_the_folder_says_so(bench: Bench, tmp_path: Path) -> None:
    await bench.stop()
    assert bench.ray is not None
    bench.ray = dataclasses.replace(bench.ray, cwd=tmp_path / "no-such-folder")
    await bench.restart()
    failed = await bench.until(bench.submit(WORKING), JobState.FAILED, limit_s=LIMIT_S)
    assert failed.failure_reason is not None
    assert failed.failure_reason.startswith("The cluster could not run the job: This node can't run Diptych")


async def test_a_cluster_that_is_away_makes_jobs_wait_with_a_reason(bench: Bench, cluster: RayCluster) -> None:
    await bench.stop()
    assert bench.ray is not None
    nobody = f"http://127.0.0.1:{free_port()}"
    words = {
        "away": f"Waits for the cluster. The Ray cluster at {nobody} can't be reached",
        "token": "asks for a token",
    }
    bench.ray = dataclasses.replace(bench.ray, address=nobody)
    await bench.restart()
    job = bench.submit(["write", "a"], ["finish"])
    await bench.until_true(lambda: words["away"] in bench.jobs.view(job.id).message, 20, lambda: bench.tell(job))
    bench.ray = dataclasses.replace(bench.ray, address=cluster.address, token="wrong")
    await bench.restart()
    await bench.until_true(lambda: words["token"] in bench.jobs.view(job.id).message, 20, lambda: bench.tell(job))
    assert bench.queue.get(job.id).state is JobState.PENDING
    bench.ray = settings(cluster)
    await bench.restart()
    await bench.until(job, JobState.SUCCEEDED, limit_s=LIMIT_S)


async def test_a_job_ends_on_its_node_when_the_app_has_given_it_up(bench: Bench) -> None:
    """As one does that the cluster lost and that sees the shared folder again."""
    job = bench.submit(["write", "a"], WORKING, ["sleep", 60])
    await running(bench, job)
    (bench.folder(job).path / GIVEN_UP).touch()
    await gone(bench)
    failed = await bench.until(job, JobState.FAILED, limit_s=LIMIT_S)
    assert not bench.folder(job).partial.exists()
    assert failed.failure_reason is not None


class Line:
    """A line to the cluster that a test cuts and mends."""

    def __init__(self, address: str) -> None:
        parts = urlsplit(address)
        self._target, self._port = (parts.hostname, parts.port), free_port()
        self.address = f"http://127.0.0.1:{self._port}"
        self._server: asyncio.Server | None = None
        self._open: set[asyncio.StreamWriter] = set()

    async def mend(self) -> None:
        self._server = await asyncio.start_server(self._serve, "127.0.0.1", self._port)

    def cut(self) -> None:
        if self._server is not None:
            self._server.close()
        for writer in self._open:
            writer.transport.abort()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        there, away = await asyncio.open_connection(*self._target)
        self._open |= {writer, away}
        await asyncio.gather(self._pass(reader, away), self._pass(there, writer))
        self._open -= {writer, away}

    async def _pass(self, source: asyncio.StreamReader, target: asyncio.StreamWriter) -> None:
        with suppress(OSError):
            while data := await source.read(65536):
                target.write(data)
                await target.drain()
        target.close()


async def test_a_cut_line_loses_nothing(bench: Bench, cluster: RayCluster) -> None:
    await bench.stop()
    line = Line(cluster.address)
    await line.mend()
    bench.ray = settings(cluster, address=line.address)
    await bench.restart()
    first = bench.submit(WORKING, ["sleep", 4], ["write", "a"], ["finish"])
    second = bench.submit(WORKING, ["sleep", 60])
    try:
        for job in (first, second):
            await running(bench, job)
        line.cut()
        await bench.until_true(lambda: "can't be reached" in bench.jobs.view(second.id).message, LIMIT_S)
        bench.queue.cancel(second.id)
        await bench.until(first, JobState.SUCCEEDED)  # its record came through the folder
        assert bench.queue.get(second.id).state is JobState.STOPPING
        assert "can't be reached" in bench.jobs.view(second.id).message
        await line.mend()
        await bench.until(second, JobState.STOPPED)
        await gone(bench)
    finally:
        line.cut()


async def test_a_node_is_killed_and_what_waits_on_the_cluster_can_be_cancelled(
    bench: Bench, cluster: RayCluster
) -> None:
    await bench.stop()
    bench.ray = settings(cluster, cpus=HEAD_CPUS + 1)
    await bench.restart()
    job = bench.submit(["write", "a"], ["stubborn"], WORKING, ["sleep", 60])
    words = f"Waits on the cluster for a node with {HEAD_CPUS + 1} CPUs free."
    await bench.until_true(lambda: bench.jobs.view(job.id).message == words, LIMIT_S, lambda: bench.tell(job))
    node = cluster.add_node(cpus=HEAD_CPUS + 1)
    await running(bench, job)
    assert cluster.node_of(bench.folder(job).path) == node
    cluster.kill_node(node)
    failed = await bench.until(job, JobState.FAILED, limit_s=LIMIT_S)
    assert failed.failure_reason is not None
    assert failed.failure_reason.startswith("The cluster lost its node ")
    await gone(bench)
    assert not bench.folder(job).partial.exists()
    again = bench.queue.retry(job.id)
    await bench.until_true(lambda: bench.jobs.view(again.id).message == words, LIMIT_S, lambda: bench.tell(again))
    bench.queue.cancel(again.id)
    stopped = await bench.until(again, JobState.STOPPED)
    assert stopped.failure_reason == "Cancelled."
    assert not bench.folder(again).log.exists()
