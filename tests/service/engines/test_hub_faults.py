"""The engine hub over real processes that do as they are told: running, dying, coming back and stopping."""

from __future__ import annotations

import asyncio
import os
import signal
import sys
import time
from dataclasses import replace
from pathlib import Path

import pytest

from components.core.errors import EngineNotReadyError, InputError
from components.core.restart import RestartPolicy
from components.core.states import EngineState, Sight
from components.engines.status import Report
from components.engines.transport import EngineClient
from components.jobs.process_group import ProcessGroup
from tests.service.engines.hub_bench import NAME, STAND_IN, Bench, Finding, in_state, reach

pytestmark = pytest.mark.service


async def test_start_serve_stop(bench: Bench) -> None:
    hub = bench.hub(bench.spec())
    assert hub.status(NAME).state is EngineState.STOPPED
    with pytest.raises(EngineNotReadyError):
        hub.client(NAME)
    await hub.start(NAME)
    status = await hub.wait_ready(NAME, 10)
    assert (status.state, status.sight, status.message) == (EngineState.RUNNING, Sight.NONE, "Ready")
    assert (status.engine_version, status.max_model_len, status.progress) == ("stand-in", 2048, None)
    assert await hub.client(NAME).healthy()
    assert bench.socket().stat().st_mode & 0o777 == 0o700, "umask 077"
    stopped = await hub.stop(NAME)
    assert (stopped.state, stopped.ready, stopped.pid, stopped.reason) == (EngineState.STOPPED, False, None, "")
    assert bench.members() == {}
    assert bench.states() == ["STARTING", "RUNNING", "STOPPING", "STOPPED"]


async def test_unknown_engine_is_named(bench: Bench) -> None:
    with pytest.raises(InputError, match="Accepted: pair/base"):
        await bench.hub(bench.spec()).start("pair/nobody")


async def test_f06_killed_server_with_a_surviving_child_comes_back_alone(bench: Bench) -> None:
    serve = f"serve={bench.socket()},{NAME}"
    hub = bench.hub(bench.spec("grandchild", serve))
    await hub.start(NAME)
    first = await hub.wait_ready(NAME, 10)
    members = bench.members()
    assert len(members) == 3
    server = next(pid for pid in members if serve in Path(f"/proc/{pid}/cmdline").read_text() and pid != first.pid)
    os.kill(server, signal.SIGKILL)
    again = await reach(hub, lambda status: status.restarts == 1 and status.ready)
    assert again.pid != first.pid
    assert members.keys().isdisjoint(bench.members())
    assert bench.states()[2:] == ["EXITED", "BACKOFF", "STARTING", "RUNNING"]


async def test_f02_exit_code_zero_without_being_asked_is_a_death(bench: Bench) -> None:
    hub = bench.hub(bench.spec())
    await hub.start(NAME)
    await hub.wait_ready(NAME, 10)
    bench.set_health("die")
    exited = await reach(hub, lambda status: "exit code 0" in status.reason)
    assert not exited.ready
    assert "EXITED" in bench.states()
    Path(f"{bench.socket()}.status").unlink()
    await reach(hub, lambda status: status.ready)


@pytest.mark.parametrize("status", ["503", "hang"])
async def test_f16_server_that_stops_answering_is_restarted(bench: Bench, status: str) -> None:
    hub = bench.hub(bench.spec())
    await hub.start(NAME)
    first = await hub.wait_ready(NAME, 10)
    bench.set_health(status)
    unready = await reach(hub, lambda now: not now.ready)
    assert "/health" in unready.reason or "within" in unready.reason
    await reach(hub, lambda now: now.restarts == 1)
    Path(f"{bench.socket()}.status").unlink()
    again = await reach(hub, lambda now: now.ready)
    assert again.pid != first.pid
    assert again.reason == ""


async def test_f16_stopped_server_is_restarted(bench: Bench) -> None:
    hub = bench.hub(bench.spec())
    await hub.start(NAME)
    first = await hub.wait_ready(NAME, 10)
    for pid in bench.members():
        if pid != first.pid:
            os.kill(pid, signal.SIGSTOP)
    again = await reach(hub, lambda status: status.ready and status.pid != first.pid)
    assert again.restarts == 1


async def test_f10_crash_loop_ends_and_only_a_person_leaves_it(bench: Bench) -> None:
    hub = bench.hub(bench.spec("exit=1"))
    await hub.start(NAME)
    status = await reach(hub, in_state(EngineState.FATAL))
    assert bench.waits_s == [1, 2, 4, 8]
    assert status.restarts == 4
    assert "5 starts" in status.message
    assert "exit code 1" in status.reason
    await hub.stop(NAME)
    assert hub.status(NAME).state is EngineState.FATAL
    await hub.start(NAME)
    assert hub.status(NAME).state is EngineState.STARTING
    await reach(hub, in_state(EngineState.FATAL))


@pytest.mark.parametrize(("kills", "code"), [(0, "KILLED"), (1, "HOST_OUT_OF_MEMORY")])
async def test_f14_kill_from_outside_is_told_from_out_of_memory(bench: Bench, kills: int, code: str) -> None:
    go = bench.folder / "go"
    hub = bench.hub(bench.spec(f"barrier={go}", "kill=9"), policy=RestartPolicy(max_starts=1))
    await hub.start(NAME)
    await reach(hub, lambda status: status.pid)
    bench.oom_kills += kills
    go.touch()
    assert (await reach(hub, in_state(EngineState.FATAL))).reason_code == code


async def test_f15_engine_that_ignores_term_is_killed(bench: Bench) -> None:
    hub = bench.hub(bench.spec("ignore_term", f"note={bench.folder / 'up'}", "sleep"))
    await hub.start(NAME)
    await reach(hub, lambda _: (bench.folder / "up").exists())
    started = time.monotonic()
    assert (await hub.stop(NAME)).state is EngineState.STOPPED
    assert 1.9 < time.monotonic() - started < 4
    assert bench.members() == {}


async def test_f17_many_starts_make_one_process(bench: Bench) -> None:
    note = bench.folder / "pids"
    hub = bench.hub(bench.spec(f"note={note}", f"serve={bench.socket()},{NAME}"))
    await asyncio.gather(*(hub.start(NAME) for _ in range(20)))
    await hub.wait_ready(NAME, 10)
    await hub.start(NAME)
    assert len(note.read_text().split()) == 1


@pytest.mark.parametrize("moment", ["preparing", "waiting", "spawned", "backing off"])
async def test_f18_stop_wins_at_every_moment_of_a_start(bench: Bench, moment: str) -> None:
    release = bench.folder / "release"
    preparing = bench.folder / "preparing"

    def prepare(report: Report) -> str:
        preparing.touch()
        while moment == "preparing" and not release.exists():
            report("Preparing", 0.5)
            time.sleep(0.01)
        return "folder"

    actions = ["exit=1"] if moment == "backing off" else [f"barrier={release}", f"serve={bench.socket()},{NAME}"]
    hub = bench.hub(bench.spec(*actions, prepare=prepare))
    if moment == "backing off":
        hub._engines[NAME]._world = replace(hub._engines[NAME]._world, sleep=asyncio.sleep)
    if moment == "waiting":
        await hub._engines[NAME]._device.start_lock.acquire()
    await hub.start(NAME)
    await reach(
        hub,
        {
            "preparing": lambda status: status.progress == 0.5,
            "waiting": lambda status: "Waiting for other" in status.message,
            "spawned": lambda status: status.pid,
            "backing off": in_state(EngineState.BACKOFF),
        }[moment],
    )
    await hub.stop(NAME)
    version = hub.version
    release.touch()
    assert await hub.wait_change(version, 0.3) == version, "a late change after the stop"
    assert bench.states()[-2:] == ["STOPPING", "STOPPED"]
    assert "RUNNING" not in bench.states()
    assert bench.members() == {}


async def test_f20_f22_leftovers_of_a_dead_app_are_ended_before_the_start(bench: Bench) -> None:
    spec = bench.spec()
    assert spec.server is not None
    argv = [sys.executable, "-S", str(STAND_IN), "ignore_term", "note=started", "sleep"]
    orphan = ProcessGroup.spawn(argv, {}, bench.folder, bench.folder / "old.log", name=str(bench.socket()))
    # Up, not only forked: whoever still has to print its first line dies of the launcher's closed pipe.
    async with asyncio.timeout(10):
        while not (bench.folder / "started").exists():
            await asyncio.sleep(0.02)
    os.kill(orphan.pid, signal.SIGKILL)
    await orphan.wait()
    left = bench.members()
    assert len(left) == 1
    hub = bench.hub(spec)
    await hub.start(NAME)
    await hub.wait_ready(NAME, 10)
    assert left.keys().isdisjoint(bench.members())


@pytest.mark.parametrize(
    ("sight", "ready", "message"),
    [(Sight.SEES, True, "Ready"), (Sight.UNCLEAR, True, "Ready"), (Sight.BLIND, False, "Blind")],
)
async def test_sight_decides_about_readiness(bench: Bench, sight: Sight, ready: bool, message: str) -> None:
    asked = asyncio.Event()
    answer = asyncio.Event()

    async def check(client: EngineClient, report: Report) -> Finding:
        report("Checking sight 2/4", 0.5)
        asked.set()
        await answer.wait()
        return Finding(sight, () if sight is Sight.SEES else ("The weights have the wrong names.",))

    hub = bench.hub(replace(bench.spec(), check_sight=check))
    await hub.start(NAME)
    await asked.wait()
    checking = await reach(hub, lambda status: status.message == "Checking sight 2/4")
    assert (checking.state, checking.ready, checking.sight) == (EngineState.RUNNING, False, Sight.CHECKING)
    answer.set()
    status = await reach(hub, lambda status: status.sight is sight)
    assert (status.state, status.ready, status.message) == (EngineState.RUNNING, ready, message)
    assert bool(status.reason) == (sight is not Sight.SEES)
    assert status.hint == ("" if sight is Sight.SEES else "The weights have the wrong names.")
    if not ready:
        with pytest.raises(EngineNotReadyError, match="blind"):
            await hub.wait_ready(NAME, 10)
    version = hub.version
    assert await hub.wait_change(version, 0.4) == version, "a steady engine changes nothing"


async def test_sight_check_that_fails_is_tried_again(bench: Bench) -> None:
    tries = []

    async def check(client: EngineClient, report: Report) -> Finding:
        tries.append(1)
        if len(tries) < 2:
            raise EngineNotReadyError("no answer")
        return Finding(Sight.SEES)

    hub = bench.hub(replace(bench.spec(), check_sight=check))
    await hub.start(NAME)
    assert (await hub.wait_ready(NAME, 10)).reason == ""


async def test_remote_engine_mirrors_reachability(bench: Bench) -> None:
    server = bench.hub(bench.spec())
    remote = bench.hub(replace(bench.spec(), server=None))
    await remote.start(NAME)
    waiting = await reach(remote, lambda status: status.reason_code == "UNREACHABLE")
    assert (waiting.state, waiting.remote, waiting.ready) == (EngineState.STARTING, True, False)
    for _ in range(2):
        await server.start(NAME)
        assert (await remote.wait_ready(NAME, 10)).state is EngineState.RUNNING
        await server.stop(NAME)
        assert not (await reach(remote, in_state(EngineState.EXITED))).ready
    assert remote.log_tail(NAME) == []
    await remote.stop(NAME)
    assert remote.status(NAME).state is EngineState.STOPPED


async def test_stop_goes_on_when_the_asker_leaves(bench: Bench) -> None:
    hub = bench.hub(bench.spec("ignore_term", f"note={bench.folder / 'up'}", "sleep"))
    await hub.start(NAME)
    await reach(hub, lambda _: (bench.folder / "up").exists())
    asker = asyncio.create_task(hub.stop(NAME))
    await reach(hub, in_state(EngineState.STOPPING))
    asker.cancel()
    await reach(hub, in_state(EngineState.STOPPED))
    assert bench.members() == {}
