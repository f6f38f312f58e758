"""Servers of a job's own: started from a profile like the app's engines, ended with the block that uses them.

They are children of the job's driver, in its session and group, so that a cancel ends them with it.
"""

from __future__ import annotations

import asyncio
import os
import secrets
import subprocess
import sys
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import psutil

from components.core.errors import JobError
from components.engines.prepare import ModelPreparer
from components.engines.readiness import look
from components.engines.sockets import free_socket_path
from components.engines.start_failures import explain_exit
from components.engines.transport import EngineClient
from components.engines.vocabulary import load_vocabulary
from components.jobs.launcher import GROUP_VARIABLE
from components.jobs.logs import LogTail
from components.profiles.argv import engine_command
from components.profiles.schema import ModelProfile, PairProfile

HOOK = Path(__file__).parent / "inside_vllm"
_START_LIMIT_S = 1800.0
_END_LIMIT_S = 20.0


@dataclass(frozen=True)
class ServingPlace:
    """Where a job's servers run and write."""

    state_dir: Path
    repository: Path
    device: Literal["cpu", "cuda"]
    logs: Path
    exchange: Path  # through which they score exactly
    gpu_share: float = 0.45  # of a GPU's memory, for each of two
    cpu_threads: int = max(1, (os.cpu_count() or 2) // 2)


@dataclass(frozen=True)
class Served:
    """A running server and the folder it serves."""

    client: EngineClient
    folder: Path
    max_model_len: int
    pid: int


@asynccontextmanager
async def serve_model(pair: PairProfile, model: ModelProfile, place: ServingPlace) -> AsyncIterator[Served]:
    """A server of one model of a pair, ready to answer.

    Raises:
        JobError: it does not start, with the known cause. PreparationError: its files are not at hand.
    """
    preparer = ModelPreparer(place.state_dir / "models", place.repository, hub_token=os.environ.get("HF_TOKEN"))
    folder = await asyncio.to_thread(preparer.prepare, pair, model, lambda _text, _share: None)
    socket = place.state_dir / "run" / f"job-{secrets.token_hex(4)}.sock"
    free_socket_path(socket)
    await asyncio.to_thread(place.exchange.mkdir, mode=0o700, parents=True, exist_ok=True)
    key, log = secrets.token_urlsafe(24), place.logs / f"serve-{model.id}.log"
    command = engine_command(
        pair, model, model_path=folder, socket=socket, device=place.device, python=Path(sys.executable), api_key=key,
        cache_root=place.state_dir / "vllm-cache", hook_path=HOOK, exchange=place.exchange,
        cpu_threads=place.cpu_threads, inherited=dict(os.environ), gpu_memory_utilization=place.gpu_share,
    )  # fmt: skip
    mark = {name: os.environ[name] for name in (GROUP_VARIABLE, "SPT_NOENV") if name in os.environ}
    with log.open("wb") as lines:
        process = subprocess.Popen(  # noqa: ASYNC220  # some milliseconds
            command.argv, env={**command.env, **mark}, stdout=lines, stderr=lines, stdin=subprocess.DEVNULL
        )
    client = EngineClient(pair.engine_id(model), uds=socket, api_key=key, vocabulary=load_vocabulary(Path(folder)))
    try:
        await _until_alive(process, client, log)
        length = (await client.served_models()).get(client.served_model) or pair.serve_of(model).max_model_len
        yield Served(client, Path(folder), length, process.pid)
    finally:
        await client.close()
        _end(process)
        socket.unlink(missing_ok=True)


async def _until_alive(process: subprocess.Popen[bytes], client: EngineClient, log: Path) -> None:
    deadline = time.monotonic() + _START_LIMIT_S
    while not (await look(client, client.served_model, 5.0)).alive:
        code = process.poll()
        if code is not None or time.monotonic() > deadline:
            failure = explain_exit(code or 0, LogTail(log).current(3000))
            detail = "\n".join(failure.log_lines)
            sys.stderr.write(f"{detail}\n")
            raise JobError(f"vLLM could not serve {client.served_model}: {failure.reason}", failure.hint, detail=detail)
        await asyncio.sleep(0.25)


def _end(process: subprocess.Popen[bytes]) -> None:
    """The server with all its children; only these."""
    with suppress(psutil.NoSuchProcess):
        children = psutil.Process(process.pid).children(recursive=True)
        process.terminate()
        with suppress(subprocess.TimeoutExpired):
            process.wait(_END_LIMIT_S)
        for one in [*children, psutil.Process(process.pid)] if process.poll() is None else children:
            with suppress(psutil.NoSuchProcess):
                one.kill()
    process.wait()
