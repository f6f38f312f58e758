"""Process groups with a real launcher and a scriptable child: how they end, and that nothing is left."""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Callable
from pathlib import Path

import pytest
import pytest_asyncio

from components.jobs.launcher import find_members
from components.jobs.logs import LogTail
from components.jobs.process_group import ProcessGroup, ProcessIdentity, end_leftovers

pytestmark = pytest.mark.service

ROOT = Path(__file__).parents[3]
STAND_IN = ROOT / "tests" / "fakes" / "stand_in.py"
Spawn = Callable[..., ProcessGroup]


@pytest_asyncio.fixture
async def spawn(tmp_path: Path) -> AsyncIterator[Spawn]:
    """Starts stand-ins; whatever is left of them at the end fails the test."""
    name = str(tmp_path / "group")
    groups = []

    def start(*actions: str, **options: int) -> ProcessGroup:
        argv = [sys.executable, "-S", str(STAND_IN), *actions]
        log = tmp_path / "logs" / "child.log"
        group = ProcessGroup.spawn(argv, {"PATH": os.environ["PATH"]}, tmp_path, log, name=name, **options)
        groups.append(group)
        return group

    yield start
    left = find_members(name)
    for group in groups:
        await group.stop(0)
    assert not left


def log_of(tmp_path: Path) -> LogTail:
    return LogTail(tmp_path / "logs" / "child.log")


async def until(condition: Callable[[], object], limit_s: float = 10.0) -> None:
    deadline = time.monotonic() + limit_s
    while not condition():
        assert time.monotonic() < deadline, "the condition did not come true"
        await asyncio.sleep(0.02)


async def test_exit_code_and_output_arrive(spawn: Spawn, tmp_path: Path) -> None:
    group = spawn("exit=3")
    assert await group.wait() == 3
    assert log_of(tmp_path).last(5) == ["stand-in: exit=3"]
    assert (tmp_path / "logs" / "child.log").stat().st_mode & 0o777 == 0o600


async def test_a_missing_program_is_said_in_the_log(tmp_path: Path) -> None:
    log = tmp_path / "child.log"
    group = ProcessGroup.spawn(["/no/such/program"], {}, tmp_path, log, name=str(tmp_path))
    assert await group.wait() == 127
    assert LogTail(log).last(1) == ["[launcher] cannot start /no/such/program: No such file or directory"]
    await group.stop(0)


async def test_f14_death_by_a_signal_shows_as_that_signal(spawn: Spawn) -> None:
    assert await spawn("kill=9").wait() == -signal.SIGKILL


async def test_f15_child_that_ignores_term_is_killed_after_the_timeout(spawn: Spawn, tmp_path: Path) -> None:
    group = spawn("ignore_term", "note=started", "sleep")
    await until((tmp_path / "started").exists)
    report = await group.stop(term_timeout_s=0.3)
    assert report.killed and report.verified and report.exit_code == -signal.SIGKILL
    assert 0.3 <= report.took_s < 2


async def test_obedient_child_is_not_killed(spawn: Spawn, tmp_path: Path) -> None:
    group = spawn("note=started", "sleep")
    await until((tmp_path / "started").exists)
    report = await group.stop()
    assert not report.killed and report.verified and report.exit_code == -signal.SIGTERM
    assert (await group.stop()).verified, "a second stop only verifies"


@pytest.mark.parametrize("kind", ["grandchild", "escapee"])
async def test_f06_grandchildren_do_not_outlive_the_child(spawn: Spawn, tmp_path: Path, kind: str) -> None:
    group = spawn(kind, "barrier=go", "exit=0")
    await until(lambda: len(group.members()) == 3)
    (tmp_path / "go").touch()
    assert await group.wait() == 0
    assert group.members() == {}
    assert any("left these processes behind" in line for line in log_of(tmp_path).last(5))


async def test_f06_killed_launcher_leaves_nothing_after_stop(spawn: Spawn, tmp_path: Path) -> None:
    group = spawn("grandchild", "note=started", "sleep")
    # Up, not only forked: whoever still has to print its first line dies of the launcher's closed pipe.
    await until((tmp_path / "grandchild").exists)
    await until((tmp_path / "started").exists)
    assert len(group.members()) == 3
    os.kill(group.pid, signal.SIGKILL)
    assert await group.wait() == -signal.SIGKILL
    assert len(group.members()) == 2
    assert (await group.stop()).verified
    assert group.members() == {}


async def test_f19_flood_is_capped_and_does_not_block(spawn: Spawn, tmp_path: Path) -> None:
    group = spawn("flood=60", "exit=0", max_log_bytes=4 * 2**20)
    assert await asyncio.wait_for(group.wait(), 10) == 0
    assert sum(path.stat().st_size for path in (tmp_path / "logs").iterdir()) <= 4 * 2**20
    assert len(log_of(tmp_path).last(100)) == 100


async def test_f19_log_of_the_start_before_is_kept(spawn: Spawn, tmp_path: Path) -> None:
    for code in (4, 5):
        assert await spawn(f"exit={code}").wait() == code
    assert log_of(tmp_path).last(5) == ["stand-in: exit=4", "stand-in: exit=5"]
    assert log_of(tmp_path).current(5) == ["stand-in: exit=5"]


async def test_f20_identity_tells_a_process_from_a_later_one_with_its_pid(spawn: Spawn) -> None:
    group = spawn("sleep")
    assert group.identity is not None and group.identity.is_alive()
    forged = ProcessIdentity(group.pid, group.identity.start_ticks - 1, group.identity.boot_id)
    assert not forged.is_alive()
    await group.stop(0)
    assert not group.identity.is_alive()


async def test_f20_leftovers_of_another_name_are_not_touched(spawn: Spawn, tmp_path: Path) -> None:
    group = spawn("note=started", "sleep")
    await until((tmp_path / "started").exists)
    assert await end_leftovers(str(tmp_path)) == {}
    assert group.poll() is None
    assert await end_leftovers(group.name) == {}
    assert await group.wait() == -signal.SIGKILL


APP = """
import sys, time
from pathlib import Path
from components.jobs.process_group import ProcessGroup
argv, folder = sys.argv[2:], Path(sys.argv[1])
group = ProcessGroup.spawn(argv, {}, folder, folder / "child.log", name=str(folder))
time.sleep(60)
"""


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM])
async def test_f21_group_ends_when_the_app_dies(tmp_path: Path, number: signal.Signals) -> None:
    command = [sys.executable, str(STAND_IN), "grandchild", "note=started", "sleep"]
    app = subprocess.Popen([sys.executable, "-c", APP, str(tmp_path), *command], cwd=ROOT)
    await until((tmp_path / "started").exists)
    await until(lambda: len(find_members(str(tmp_path))) == 3)
    app.send_signal(number)
    app.wait()
    await until(lambda: not find_members(str(tmp_path)))


async def test_f21_stubborn_group_ends_within_ten_seconds(tmp_path: Path) -> None:
    command = [sys.executable, str(STAND_IN), "ignore_term", "note=started", "sleep"]
    app = subprocess.Popen([sys.executable, "-c", APP, str(tmp_path), *command], cwd=ROOT)
    await until((tmp_path / "started").exists)
    app.kill()
    app.wait()
    await until(lambda: not find_members(str(tmp_path)), limit_s=10)
