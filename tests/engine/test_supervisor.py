"""The engine hub over real vLLM on the CPU: it starts, dies in every way and leaves nothing behind."""

from __future__ import annotations

import asyncio
import os
import shutil
import signal
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import pytest

from components.core.errors import AppError
from components.core.states import EngineState
from components.engines.status import EngineSpec, EngineStatus, LocalServer, Timeouts
from components.engines.supervisor import EngineHub, World
from components.engines.transport import EngineClient
from components.jobs.launcher import find_members
from components.jobs.process_group import end_leftovers

ROOT = Path(__file__).parents[2]
MODEL = ROOT / "assets" / "embedded" / "base"
NAME = "embedded/base"
KEY = "test-key"
GIB = 2**30

pytestmark = [
    pytest.mark.engine,
    pytest.mark.skipif(not (MODEL / "params.json").exists(), reason="the embedded pair is not built"),
]


@dataclass(frozen=True)
class Command:
    argv: Sequence[str]
    env: dict[str, str]


def command(folder: Path, model: str, *extra: str) -> Command:
    flags = {
        "model": model,
        "served-model-name": NAME,
        "uds": str(folder / "e.sock"),
        "tokenizer-mode": "mistral",
        "config-format": "mistral",
        "load-format": "safetensors",
        "dtype": "bfloat16",
        "max-model-len": "1024",
        "max-num-seqs": "2",
        "limit-mm-per-prompt": '{"image":1}',
        "shutdown-timeout": "10",
    }
    argv = [sys.executable, "-m", "vllm.entrypoints.openai.api_server", "--enforce-eager"]
    env = {
        "PATH": os.environ["PATH"],
        "HOME": str(folder),
        "PYTHONPATH": str(ROOT / "components" / "engines" / "inside_vllm"),
        "VLLM_API_KEY": KEY,
        "VLLM_CPU_KVCACHE_SPACE": "1",
        "VLLM_CACHE_ROOT": str(folder / "cache"),
        "VLLM_NO_USAGE_STATS": "1",
        "HF_HUB_OFFLINE": "1",
        "DO_NOT_TRACK": "1",
    }
    return Command([*argv, *(f"--{flag}={value}" for flag, value in flags.items()), *extra], env)


def spec(folder: Path, *extra: str, model: str = str(MODEL), served: str = NAME) -> EngineSpec:
    socket = folder / "e.sock"
    server = LocalServer(
        device="cpu",
        prepare=lambda report: model,
        command=lambda path: command(folder, path, *extra),
        socket=socket,
        log=folder / "e.log",
        memory_bytes=2 * GIB,
        start_timeout_s=400,
    )
    return EngineSpec(NAME, served, lambda: EngineClient(NAME, uds=socket, api_key=KEY), server)


@pytest.fixture
def folder() -> Iterator[Path]:
    path = Path(tempfile.mkdtemp(prefix="vllm-", dir="/tmp"))  # a socket path must be short
    yield path
    left = members(path)
    asyncio.run(end_leftovers(str(path / "e.sock")))  # of a test that failed half-way
    shutil.rmtree(path)
    assert not left


def members(folder: Path) -> dict[int, str]:
    return find_members(str(folder / "e.sock"))


# A start takes 20-30 s on two free cores, and minutes when others want them too.
async def reach(hub: EngineHub, condition: Callable[[EngineStatus], object], limit_s: float = 400) -> EngineStatus:
    deadline = time.monotonic() + limit_s
    while not condition(hub.status(NAME)):
        assert time.monotonic() < deadline, f"stuck at {hub.status(NAME)}\n" + "\n".join(hub.log_tail(NAME, 40))
        await hub.wait_change(hub.version, 0.5)
    return hub.status(NAME)


async def answer(client: EngineClient) -> int:
    """Status of a short completion; an error shows as 0."""
    body = b'{"model": "%s", "prompt": "hello", "max_tokens": 4}' % NAME.encode()
    try:
        async with client.request_stream("/v1/completions", body) as response:
            await response.read_error()
            return response.status
    except AppError:
        return 0


def pid_of(folder: Path, title: str) -> int:
    """The server's process of that title, else the API server."""
    for pid in sorted(members(folder)):
        words = Path(f"/proc/{pid}/cmdline").read_bytes().replace(b"\0", b" ").decode()
        if title in words and "launcher.py" not in words:
            return pid
    raise AssertionError(f"no {title} among {members(folder)}")


async def test_real_engine_comes_back_from_every_death(folder: Path) -> None:
    """One hub, one engine: ready, killed in two ways (F02, F16), stopped. ``test_app_kills`` has the third (F01)."""
    hub = EngineHub([spec(folder)], World(cwd=folder, timeouts=Timeouts(health_timeout_s=2.0)))
    seen = set()
    await hub.start(NAME)
    await reach(hub, lambda status: seen.add(status.message) or status.ready)
    status = hub.status(NAME)
    assert (status.state, status.engine_version, status.max_model_len) == (EngineState.RUNNING, "0.32.0", 1024)
    assert {"Reading the model's settings", "Starting the engine's processes"} <= seen
    assert await answer(hub.client(NAME)) == 200

    for restarts, title, number in (
        (1, "VLLM::EngineCore", signal.SIGKILL),
        (2, "api_server", signal.SIGSTOP),
    ):
        before = members(folder)
        os.kill(pid_of(folder, title), number)
        unready = await reach(hub, lambda status: not status.ready, 60)
        assert unready.state in (EngineState.RUNNING, EngineState.EXITED)
        await reach(hub, lambda status, wanted=restarts: status.ready and status.restarts == wanted)
        assert before.keys().isdisjoint(members(folder)), "the dead engine's processes are gone"
        assert await answer(hub.client(NAME)) == 200

    await hub.stop(NAME)
    assert hub.status(NAME).state is EngineState.STOPPED
    assert members(folder) == {}


async def test_f18_real_engine_stopped_three_seconds_after_its_start(folder: Path) -> None:
    hub = EngineHub([spec(folder)], World(cwd=folder))
    await hub.start(NAME)
    await reach(hub, lambda status: status.pid)
    await asyncio.sleep(3)
    assert members(folder)
    await hub.stop(NAME)
    assert hub.status(NAME).state is EngineState.STOPPED
    assert members(folder) == {}


@pytest.mark.parametrize(
    ("extra", "model", "code"),
    [
        (("--no-such-flag=1",), str(MODEL), "BAD_OPTION"),
        ((), "/no/such/folder", "MODEL_NOT_FOUND"),
        (("--max-model-len=100000000",), str(MODEL), "CONTEXT_OVER_MODEL"),
    ],
)
async def test_f09_real_start_failures_are_explained(
    folder: Path, extra: tuple[str, ...], model: str, code: str
) -> None:
    hub = EngineHub([spec(folder, *extra, model=model)], World(cwd=folder))
    await hub.start(NAME)
    status = await reach(hub, lambda status: status.state is EngineState.FATAL)
    assert (status.reason_code, status.restarts) == (code, 0)
    assert status.log_lines
    assert status.hint
