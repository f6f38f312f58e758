"""The engine hub over real processes that do as they are told: every way of starting, dying and stopping."""

from __future__ import annotations

import asyncio
import os
import shutil
import signal
import socket
import sys
import tempfile
import time
from collections.abc import AsyncIterator, Callable, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

import pytest

from components.core.errors import EngineNotReadyError, EngineStartError, InputError
from components.core.restart import RestartPolicy
from components.core.states import EngineState, Sight
from components.engines.status import EngineSpec, EngineStatus, LocalServer, Report, Timeouts
from components.engines.supervisor import EngineHub, World
from components.engines.transport import EngineClient
from components.jobs.launcher import find_members
from components.jobs.process_group import ProcessGroup

pytestmark = pytest.mark.service

STAND_IN = Path(__file__).parents[2] / "fakes" / "stand_in.py"
GIB = 2**30
NAME = "pair/base"
FAST = Timeouts(
    start_poll_s=0.05,
    health_poll_s=0.1,
    remote_poll_s=0.1,
    health_timeout_s=0.3,
    term_timeout_s=2.0,
    hung_term_timeout_s=0.3,
    kill_timeout_s=2.0,
    sight_retry_s=0.1,
)


@dataclass(frozen=True)
class FakeCommand:
    argv: Sequence[str]
    env: dict[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Finding:
    sight: Sight
    causes: Sequence[str] = ()


class Bench:
    """Makes specs and hubs in one short folder, and remembers every state an engine went through."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.hubs: list[EngineHub] = []
        self.history: list[tuple[str, EngineState]] = []
        self.waits_s: list[float] = []
        self.free_bytes = 8 * GIB
        self.oom_kills = 0

    def socket(self, name: str = NAME) -> Path:
        return self.folder / f"{name.replace('/', '-')}.sock"

    def spec(self, *actions: str, name: str = NAME, model: str | None = None, **server: object) -> EngineSpec:
        """An engine that runs the stand-in; without actions it serves."""
        path = self.socket(name)
        argv = [sys.executable, "-S", str(STAND_IN), *(actions or [f"serve={path},{model or name}"])]
        local = LocalServer(
            device="cpu",
            prepare=lambda report: "folder",
            command=lambda model_path: FakeCommand(argv),
            socket=path,
            log=self.folder / "logs" / f"{path.stem}.log",
            start_timeout_s=10,
        )
        return EngineSpec(
            engine_id=name,
            served_name=name,
            connect=lambda: EngineClient(name, uds=path),
            server=replace(local, **server),  # type: ignore[arg-type]
        )

    def hub(self, *specs: EngineSpec, policy: RestartPolicy | None = None) -> EngineHub:
        async def note_wait(wait_s: float) -> None:
            self.waits_s.append(wait_s)

        world = World(
            cwd=self.folder,
            timeouts=FAST,
            policy=policy or RestartPolicy(jitter=0),
            sleep=note_wait,
            free_memory_bytes=lambda: self.free_bytes,
            oom_kills=lambda: self.oom_kills,
        )
        hub = EngineHub(specs, world)
        self.hubs.append(hub)
        for engine in hub._engines.values():
            self._record(engine)
        return hub

    def _record(self, engine: object) -> None:
        inner = engine._changed  # type: ignore[attr-defined]

        def changed() -> None:
            entry = (engine.spec.engine_id, engine.status.state)  # type: ignore[attr-defined]
            if not self.history or self.history[-1] != entry:
                self.history.append(entry)
            inner()

        engine._changed = changed  # type: ignore[attr-defined]

    def states(self) -> list[str]:
        return [state.value for _, state in self.history]

    def members(self, name: str = NAME) -> dict[int, str]:
        return find_members(str(self.socket(name)))

    def set_health(self, status: str) -> None:
        Path(f"{self.socket()}.status").write_text(status)


@pytest.fixture
async def bench() -> AsyncIterator[Bench]:
    folder = Path(tempfile.mkdtemp(prefix="hub-", dir="/tmp"))  # a socket path must be short
    bench = Bench(folder)
    yield bench
    for hub in bench.hubs:
        await hub.close()
    left = [bench.members(name) for hub in bench.hubs for name in hub._engines]
    shutil.rmtree(folder)
    assert not any(left)


async def reach(hub: EngineHub, condition: Callable[[EngineStatus], object], name: str = NAME) -> EngineStatus:
    deadline = time.monotonic() + 10
    while not condition(hub.status(name)):
        assert time.monotonic() < deadline, f"stuck at {hub.status(name)}"
        await hub.wait_change(hub.version, 0.2)
    return hub.status(name)


def in_state(state: EngineState) -> Callable[[EngineStatus], bool]:
    return lambda status: status.state is state


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


async def test_f08_our_stale_socket_is_removed(bench: Bench) -> None:
    with socket.socket(socket.AF_UNIX) as stale:
        stale.bind(str(bench.socket()))
    hub = bench.hub(bench.spec())
    await hub.start(NAME)
    assert (await hub.wait_ready(NAME, 10)).ready


@pytest.mark.parametrize("kind", ["file", "symlink", "listener"])
async def test_f08_anything_else_in_the_way_is_refused_and_left(bench: Bench, kind: str) -> None:
    path = bench.socket()
    with socket.socket(socket.AF_UNIX) as listener:
        if kind == "file":
            path.write_text("mine")
        elif kind == "symlink":
            path.symlink_to("/etc/passwd")
        else:
            listener.bind(str(path))
            listener.listen()
        hub = bench.hub(bench.spec())
        await hub.start(NAME)
        status = await reach(hub, in_state(EngineState.FATAL))
        assert str(path) in status.reason
        assert status.hint
        assert path.is_symlink() or path.exists()


async def test_f08_too_long_a_path_is_refused(bench: Bench) -> None:
    hub = bench.hub(bench.spec(socket=bench.folder / ("x" * 90)))
    await hub.start(NAME)
    status = await reach(hub, in_state(EngineState.FATAL))
    assert "longer than 99 bytes" in status.reason


async def test_f09_known_failure_is_final_after_one_try(bench: Bench) -> None:
    text = bench.folder / "usage"
    text.write_text("usage: api_server.py\napi_server.py: error: unrecognized arguments: --no-such-flag=1\n")
    hub = bench.hub(bench.spec(f"text={text}", "exit=2"))
    await hub.start(NAME)
    with pytest.raises(EngineStartError, match="does not accept an option") as caught:
        await hub.wait_ready(NAME, 10)
    assert "--no-such-flag" in caught.value.detail
    status = hub.status(NAME)
    assert (status.state, status.restarts, status.reason_code) == (EngineState.FATAL, 0, "BAD_OPTION")
    assert hub.log_tail(NAME)[-1].endswith("--no-such-flag=1")
    assert bench.states() == ["STARTING", "FATAL"]


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


async def test_f11_start_that_takes_too_long_is_ended(bench: Bench) -> None:
    hub = bench.hub(bench.spec("sleep", start_timeout_s=1.0))
    await hub.start(NAME)
    status = await reach(hub, in_state(EngineState.FATAL))
    assert status.reason_code == "READINESS_TIMEOUT"
    assert status.log_lines == ("stand-in: sleep",)
    assert bench.members() == {}


@pytest.mark.parametrize("model", ["", "another/model"])
async def test_f12_wrong_model_is_never_ready(bench: Bench, model: str) -> None:
    hub = bench.hub(bench.spec(f"serve={bench.socket()},{model}"))
    await hub.start(NAME)
    status = await reach(hub, lambda status: status.reason_code == "WRONG_MODEL")
    assert (status.state, status.ready) == (EngineState.RUNNING, False)
    assert (model or "no model at all") in status.reason


async def test_f13_out_of_memory_is_final_with_the_knobs(bench: Bench) -> None:
    text = bench.folder / "oom"
    text.write_text(
        "(EngineCore pid=7) ERROR 11-20 10:00:00 [core.py:1510] torch.OutOfMemoryError: CUDA out of memory. "
        "Tried to allocate 20.00 MiB. GPU 0 has a total capacity of 23.69 GiB of which 11.38 MiB is free.\n"
        "RuntimeError: Engine core initialization failed. See root cause above. Failed core proc(s): {}\n"
    )
    hub = bench.hub(bench.spec(f"text={text}", "exit=1"))
    await hub.start(NAME)
    status = await reach(hub, in_state(EngineState.FATAL))
    assert (status.reason_code, status.restarts) == ("OUT_OF_MEMORY", 0)
    for knob in ("max_model_len", "gpu_memory_utilization", "tensor_parallel_size"):
        assert knob in status.hint


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
    argv = [sys.executable, "-S", str(STAND_IN), "ignore_term", "sleep"]
    orphan = ProcessGroup.spawn(argv, {}, bench.folder, bench.folder / "old.log", name=str(bench.socket()))
    while len(bench.members()) < 2:
        await asyncio.sleep(0.02)
    os.kill(orphan.pid, signal.SIGKILL)
    await orphan.wait()
    # On a busy machine the child may be between fork and exec, where /proc shows no environment of it.
    async with asyncio.timeout(10):
        while len(left := bench.members()) != 1:
            await asyncio.sleep(0.02)
    hub = bench.hub(spec)
    await hub.start(NAME)
    await hub.wait_ready(NAME, 10)
    assert left.keys().isdisjoint(bench.members())


async def test_engines_of_one_device_start_one_after_the_other(bench: Bench) -> None:
    release = bench.folder / "release"
    slow = bench.spec(f"barrier={release}", f"serve={bench.socket('p/a')},p/a", name="p/a")
    hub = bench.hub(slow, bench.spec(name="p/b"), bench.spec(name="p/c", device="cuda"))
    await hub.start("p/a")
    await reach(hub, lambda status: status.pid, "p/a")
    await hub.start("p/b")
    await hub.start("p/c")
    await hub.wait_ready("p/c", 10)
    assert hub.status("p/b").message == "Waiting for other engines to start"
    assert hub.status("p/b").pid is None
    release.touch()
    await hub.wait_ready("p/a", 10)
    await hub.wait_ready("p/b", 10)


async def test_engine_that_needs_more_memory_than_is_free_is_refused(bench: Bench) -> None:
    bench.free_bytes = GIB
    hub = bench.hub(bench.spec(memory_bytes=2 * GIB))
    await hub.start(NAME)
    status = await reach(hub, in_state(EngineState.FATAL))
    assert status.reason == "This engine needs about 2.0 GiB of memory, and 1.0 GiB is free."
    bench.free_bytes = 3 * GIB
    await hub.start(NAME)
    await hub.wait_ready(NAME, 10)


async def test_shares_of_a_gpu_are_not_given_twice(bench: Bench) -> None:
    shares = {"p/a": 0.45, "p/b": 0.55, "p/c": 0.1}
    hub = bench.hub(*(bench.spec(name=name, device="cuda", device_share=share) for name, share in shares.items()))
    for name in ("p/a", "p/b"):
        await hub.start(name)
        await hub.wait_ready(name, 10)
    await hub.start("p/c")
    refused = await reach(hub, in_state(EngineState.FATAL), "p/c")
    assert "p/a 45%, p/b 55%" in refused.reason
    await hub.stop("p/a")
    await hub.start("p/c")
    await hub.wait_ready("p/c", 10)


async def test_failed_preparation_says_why(bench: Bench) -> None:
    def prepare(report: Report) -> str:
        raise EngineStartError("The folder is missing.", "Fetch it.")

    hub = bench.hub(bench.spec(prepare=prepare))
    await hub.start(NAME)
    status = await reach(hub, in_state(EngineState.FATAL))
    assert (status.reason, status.hint) == ("The folder is missing.", "Fetch it.")


async def test_a_mistake_of_ours_ends_in_fatal_not_in_silence(bench: Bench) -> None:
    def prepare(report: Report) -> str:
        raise ZeroDivisionError

    hub = bench.hub(bench.spec(prepare=prepare))
    await hub.start(NAME)
    assert "Diptych itself failed" in (await reach(hub, in_state(EngineState.FATAL))).reason


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
