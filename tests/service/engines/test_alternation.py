"""Engines that take turns, over real processes that do as they are told: one up at a time, fair, and never stuck."""

from __future__ import annotations

import asyncio
from contextlib import suppress
from dataclasses import replace
from pathlib import Path

import pytest

from components.core.errors import EngineError, EngineNotReadyError, EngineStartError
from components.core.states import EngineState, Sight, Turn
from components.engines.status import EngineSpec
from components.engines.supervisor import EngineHub
from tests.service.engines.hub_bench import GIB, Bench, Finding, in_state, reach

pytestmark = pytest.mark.service
A, B, C = "pair/a", "pair/b", "pair/c"


def spec(bench: Bench, name: str, *actions: str, **server: object) -> EngineSpec:
    return bench.spec(*actions, name=name, takes_turns=True, **server)


async def begun(bench: Bench, *specs: EngineSpec, stint_s: float = 30.0) -> EngineHub:
    """A hub whose engines all take part; the first one is awake."""
    hub = bench.hub(*specs, stint_s=stint_s)
    for one in specs:
        await hub.start(one.engine_id)
    await reach(hub, lambda status: status.ready, specs[0].engine_id)
    return hub


def up(bench: Bench, hub: EngineHub) -> set[str]:
    """Engines that have a process."""
    return {status.engine_id for status in hub.statuses() if bench.members(status.engine_id)}


class Visit:
    """Somebody who needs an engine for as long as the test likes."""

    def __init__(self, hub: EngineHub, name: str, log: list[str] | None = None) -> None:
        self.inside, self._leave = asyncio.Event(), asyncio.Event()
        self.task = asyncio.create_task(self._run(hub, name, log if log is not None else []))

    async def _run(self, hub: EngineHub, name: str, log: list[str]) -> None:
        async with hub.use(name, 10):
            log.append(name)
            self.inside.set()
            await self._leave.wait()

    async def leave(self) -> None:
        self._leave.set()
        await asyncio.wait_for(self.task, 10)


async def test_only_the_one_that_is_needed_is_up(bench: Bench) -> None:
    hub = await begun(bench, spec(bench, A), spec(bench, B))
    assert (hub.status(A).turn, hub.status(B).turn) == (Turn.AWAKE, Turn.ASLEEP)
    assert (hub.status(B).state, hub.status(B).message) == (EngineState.STOPPED, "Asleep")
    for name, other in ((B, A), (A, B), (A, B)):
        async with hub.use(name, 10) as client:
            assert await client.healthy()
            assert up(bench, hub) == {name}
            assert hub.status(other).is_asleep and not hub.status(other).ready
    with pytest.raises(EngineNotReadyError):
        hub.client(B)


async def test_who_waits_is_told_for_whom_and_may_give_up(bench: Bench) -> None:
    hub = await begun(bench, spec(bench, A), spec(bench, B))
    first = Visit(hub, A)
    await asyncio.wait_for(first.inside.wait(), 10)
    waiting = Visit(hub, B)
    await reach(hub, lambda status: status.message == "Waits for its turn: a is answering", B)
    waiting.task.cancel()
    with suppress(asyncio.CancelledError):
        await waiting.task
    await reach(hub, lambda status: status.message == "Asleep", B)
    await first.leave()
    await asyncio.sleep(0.1)
    assert hub.status(A).ready, "nobody needs the other one any more"


async def test_questions_to_the_one_that_is_awake_go_first(bench: Bench) -> None:
    hub = await begun(bench, spec(bench, A), spec(bench, B))
    log: list[str] = []
    visits = [Visit(hub, name, log) for name in (B, A, B, A)]
    await asyncio.wait_for(asyncio.gather(visits[1].inside.wait(), visits[3].inside.wait()), 10)
    late = Visit(hub, A, log)
    await asyncio.wait_for(late.inside.wait(), 10)
    assert log == [A, A, A]
    for visit in (visits[1], visits[3], late):
        await visit.leave()
    await asyncio.wait_for(asyncio.gather(visits[0].inside.wait(), visits[2].inside.wait()), 10)
    assert log == [A, A, A, B, B]
    for visit in (visits[0], visits[2]):
        await visit.leave()


async def test_nobody_starves_once_the_stint_is_over(bench: Bench) -> None:
    hub = await begun(bench, spec(bench, A), spec(bench, B), stint_s=0.0)
    log: list[str] = []
    first = Visit(hub, A, log)
    await asyncio.wait_for(first.inside.wait(), 10)
    patient, newcomer = Visit(hub, B, log), Visit(hub, A, log)
    await asyncio.sleep(0.1)
    assert log == [A], "the newcomer lines up behind who has waited"
    await first.leave()
    await asyncio.wait_for(patient.inside.wait(), 10)
    await patient.leave()
    await asyncio.wait_for(newcomer.inside.wait(), 10)
    assert log == [A, B, A]
    await newcomer.leave()


async def test_three_engines_and_many_visitors_all_get_their_turn(bench: Bench) -> None:
    hub = await begun(bench, *(spec(bench, name) for name in (A, B, C)), stint_s=0.2)
    most = 0

    async def visit(name: str) -> None:
        nonlocal most
        async with hub.use(name, 20):
            most = max(most, len(up(bench, hub)))
            await asyncio.sleep(0.02)

    async with asyncio.timeout(60):
        await asyncio.gather(*(visit((A, B, C)[number % 3]) for number in range(30)))
    assert most == 1


async def test_one_that_can_not_start_fails_its_own_questions_only(bench: Bench) -> None:
    hub = await begun(bench, spec(bench, A), spec(bench, B, "exit=2"))
    with pytest.raises(EngineStartError):
        async with hub.use(B, 10):
            pass
    status = await reach(hub, in_state(EngineState.FATAL), B)
    assert status.turn is None
    with pytest.raises(EngineStartError):
        async with hub.use(B, 10):
            pass
    async with hub.use(A, 10) as client:
        assert await client.healthy()


async def test_a_stopped_one_takes_no_part_until_it_is_started(bench: Bench) -> None:
    hub = await begun(bench, spec(bench, A), spec(bench, B))
    first = Visit(hub, A)
    await asyncio.wait_for(first.inside.wait(), 10)
    waiting = Visit(hub, B)
    await asyncio.sleep(0.05)
    await hub.stop(B)
    with pytest.raises(EngineStartError, match="stopped"):
        await waiting.task
    assert (hub.status(B).turn, hub.status(B).message) == (None, "")
    await hub.stop(A)
    assert up(bench, hub) == set()
    await first.leave()
    await hub.start(B)
    await hub.wait_ready(B, 10)
    await hub.start(A)
    assert hub.status(A).is_asleep
    await hub.wake(A)
    await reach(hub, lambda status: status.ready, A)
    assert up(bench, hub) == {A}


async def test_sight_is_checked_at_the_first_wake_and_remembered(bench: Bench) -> None:
    checked: list[str] = []

    def seeing(name: str) -> EngineSpec:
        async def check(*_: object) -> Finding:
            checked.append(name)
            return Finding(Sight.SEES)

        return replace(spec(bench, name), check_sight=check)

    hub = await begun(bench, seeing(A), seeing(B))
    for name in (B, A, B, A):
        async with hub.use(name, 10):
            assert hub.status(name).sight is Sight.SEES
    assert checked == [A, B]
    assert hub.status(B).is_asleep and hub.status(B).sight is Sight.SEES, "answers that come later say so too"
    await hub.stop(A)
    async with hub.use(B, 10):
        await hub.start(A)
    async with hub.use(A, 10):
        assert checked == [A, B, A], "a person's restart has it checked anew"


async def test_memory_of_one_at_a_time_is_enough(bench: Bench) -> None:
    bench.free_bytes = 3 * GIB
    hub = await begun(bench, spec(bench, A, memory_bytes=2 * GIB), spec(bench, B, memory_bytes=2 * GIB))
    async with hub.use(B, 10):
        assert hub.status(B).ready


def posts(bench: Bench, name: str) -> list[str]:
    path = Path(f"{bench.socket(name)}.posts")
    return path.read_text().split() if path.exists() else []


def gpu(bench: Bench, name: str, level: int, **server: object) -> EngineSpec:
    """An engine with vLLM's sleep mode."""
    shares = {"device": "cuda:0", "device_share": 0.9, "sleeping_share": 0.04, "sleep_level": level}

    async def check(*_: object) -> Finding:
        return Finding(Sight.SEES)

    return replace(spec(bench, name, **shares, **server), check_sight=check)


@pytest.mark.parametrize("level", [1, 2])
async def test_on_a_gpu_the_process_goes_on_and_sleeps(bench: Bench, level: int) -> None:
    hub = await begun(bench, gpu(bench, A, level), gpu(bench, B, level))
    pid = hub.status(A).pid
    for name in (B, A, B):
        async with hub.use(name, 10):
            assert hub.status(name).ready
    assert hub.status(A).pid == pid and up(bench, hub) == {A, B}
    assert (hub.status(A).state, hub.status(A).is_asleep, hub.status(A).ready) == (EngineState.RUNNING, True, False)
    woken = ["/wake_up"] if level == 1 else ["/wake_up?tags=weights", "/collective_rpc", "/wake_up?tags=kv_cache"]
    assert posts(bench, A) == [f"/sleep?level={level}", *woken, f"/sleep?level={level}"]
    assert hub.book.shares("cuda:0") == {A: 0.04, B: 0.9}


async def test_of_many_only_two_sleep_beside_the_one_that_is_awake(bench: Bench) -> None:
    names = [A, B, C, "pair/d"]
    hub = await begun(bench, *(gpu(bench, name, 1) for name in names))
    for name in names[1:]:
        async with hub.use(name, 10):
            assert hub.status(name).ready
    assert up(bench, hub) == {B, C, "pair/d"}, "the first one slept longest"
    assert hub.status(A).is_asleep and hub.status(A).sight is Sight.SEES
    async with hub.use(A, 10):
        assert up(bench, hub) == {A, C, "pair/d"}


async def test_weights_that_main_memory_has_no_room_for_are_loaded_anew(bench: Bench) -> None:
    asleep = {"main_memory_asleep": lambda _: 7 * GIB}
    hub = await begun(bench, gpu(bench, A, 1, **asleep), gpu(bench, B, 1, **asleep))
    async with hub.use(B, 10):
        assert up(bench, hub) == {B}
    assert posts(bench, A) == []


async def test_one_that_does_not_sleep_or_wake_is_stopped_and_started(bench: Bench) -> None:
    hub = await begun(bench, gpu(bench, A, 1), gpu(bench, B, 1))
    refuse = Path(f"{bench.socket(A)}.refuse")
    refuse.touch()
    async with hub.use(B, 10):
        assert up(bench, hub) == {B}, "it did not fall asleep"
    refuse.unlink()
    async with hub.use(A, 10):
        pass
    async with hub.use(B, 10):
        refuse.touch()
        pid = hub.status(A).pid
    async with hub.use(A, 10):
        assert hub.status(A).pid != pid, "it did not wake"


async def test_one_that_dies_in_its_sleep_is_started_when_it_is_asked(bench: Bench) -> None:
    hub = await begun(bench, gpu(bench, A, 1), gpu(bench, B, 1))
    async with hub.use(B, 10):
        Path(f"{bench.socket(A)}.status").write_text("die")
        status = await reach(hub, in_state(EngineState.STOPPED), A)
        assert status.is_asleep and status.reason == ""
        Path(f"{bench.socket(A)}.status").unlink()
    async with hub.use(A, 10):
        assert hub.status(A).ready


async def test_closing_the_hub_leaves_nobody_waiting(bench: Bench) -> None:
    hub = await begun(bench, spec(bench, A), spec(bench, B))
    first = Visit(hub, A)
    await asyncio.wait_for(first.inside.wait(), 10)
    waiting = Visit(hub, B)
    await asyncio.sleep(0.05)
    await hub.close()
    with pytest.raises(EngineError):
        await waiting.task
    await first.leave()
