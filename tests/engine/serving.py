"""Starts a real vLLM on the CPU for a test, straight from a profile's command, and ends all of it."""

from __future__ import annotations

import asyncio
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from components.core.answers import Sampling
from components.engines.exact_scoring import PathTokens
from components.engines.prepare import ModelPreparer
from components.engines.stream import ChatRequest, FinishedEvent, TokensEvent, stream_chat
from components.engines.transport import EngineClient
from components.engines.vocabulary import load_vocabulary
from components.profiles.argv import engine_command
from components.profiles.loader import load_pair

ROOT = Path(__file__).parents[2]
BASE = ROOT / "assets" / "embedded" / "base"
HOOK = ROOT / "components" / "engines" / "inside_vllm"
KEY = "test-key"
START_LIMIT_S = 400.0  # 20-30 s on two free cores, minutes when others want them too


@dataclass(frozen=True)
class Server:
    """A vLLM that is starting, or serves; on a socket, or as a server elsewhere does on a port."""

    process: subprocess.Popen[bytes]
    folder: Path
    port: int | None

    @property
    def socket(self) -> Path:
        return self.folder / "e.sock"

    async def wait_healthy(self) -> None:
        client = client_of(self.socket) if self.port is None else remote_client(self.port)
        deadline = time.monotonic() + START_LIMIT_S
        while not await client.healthy():
            assert self.process.poll() is None, self._said()
            assert time.monotonic() < deadline, self._said()
            await asyncio.sleep(0.25)
        await client.close()

    def _said(self) -> str:
        return (self.folder / "log").read_text()[-3000:]


@contextmanager
def launched(
    model_path: Path, *, exchange: Path | None = None, all_logprobs: bool = False, port: int | None = None
) -> Iterator[Server]:
    """A server of this folder, with the settings of the embedded pair; it is still starting. Several that start at once
    use both cores.

    ``exchange``: with exact scoring through that folder. ``all_logprobs``: a request may ask for the whole vocabulary.
    ``port``: it listens there and not on the socket.
    """
    pair = load_pair(ROOT / "profiles", "embedded")
    folder = Path(tempfile.mkdtemp(prefix="vllm-", dir="/tmp"))  # a socket path must be short
    command = engine_command(
        pair,
        pair.base,
        model_path=str(model_path),
        socket=folder / "e.sock",
        device="cpu",
        python=Path(sys.executable),
        api_key=KEY,
        cache_root=folder / "cache",
        hook_path=HOOK,
        exchange=exchange,
        cpu_threads=1,
        inherited={"PATH": os.environ["PATH"], "HOME": str(folder)},
    )
    argv = [*command.argv, *(["--max-logprobs=-1"] if all_logprobs else [])]
    if port is not None:
        argv = [*(part for part in argv if not part.startswith("--uds=")), "--host=127.0.0.1", f"--port={port}"]
    with (folder / "log").open("wb") as log:
        process = subprocess.Popen(argv, env=command.env, stdout=log, stderr=log, start_new_session=True)
    try:
        yield Server(process, folder, port)
    finally:
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()
        shutil.rmtree(folder)


@contextmanager
def served(model_path: Path, *, exchange: Path | None = None) -> Iterator[Path]:
    """The socket of a server that is ready."""
    with launched(model_path, exchange=exchange) as server:
        asyncio.run(server.wait_healthy())
        yield server.socket


def prepared(candidate_id: str, state: Path) -> Path:
    """The folder that serves a candidate of the embedded pair."""
    profile = load_pair(ROOT / "profiles", "embedded")
    model = next(m for m in profile.candidates if m.id == candidate_id)
    return Path(ModelPreparer(state, ROOT).prepare(profile, model, lambda _text, _share: None))


@dataclass(frozen=True)
class ScoredPair:
    """Sockets of a base and a candidate that score through one exchange folder."""

    base: Path
    candidate: Path
    exchange: Path


@dataclass(frozen=True)
class Engines:
    """The embedded base, which tells every log-probability, and two of its candidates; all score."""

    base: Path
    w4a16: Path
    coarse: Path
    exchange: Path


@contextmanager
def embedded_engines() -> Iterator[Engines]:
    """Three engines, started at once."""
    with ExitStack() as stack:
        exchange = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="exchange-")))
        folders = [BASE, *(prepared(name, exchange / "models") for name in ("w4a16", "coarse"))]
        servers = [
            stack.enter_context(launched(folder, exchange=exchange, all_logprobs=folder == BASE)) for folder in folders
        ]
        for server in servers:
            asyncio.run(server.wait_healthy())
        yield Engines(*(server.socket for server in servers), exchange)


async def answered_path(client: EngineClient, messages: list[dict[str, Any]], **sampling: Any) -> PathTokens:
    """What an engine answers to a chat, as tokens on a path."""
    request = ChatRequest(messages=tuple(messages), sampling=Sampling(**sampling))
    ids: list[int] = []
    prompt_ids: tuple[int, ...] = ()
    async for event in stream_chat(client, request):
        if isinstance(event, TokensEvent):
            ids += [step.token_id for step in event.raw_steps if step.token_id is not None]
        elif isinstance(event, FinishedEvent):
            prompt_ids = event.prompt_token_ids
    parts = [part for m in messages if isinstance(m["content"], list) for part in m["content"]]
    urls = tuple(part["image_url"]["url"] for part in parts if part["type"] == "image_url")
    return PathTokens(prompt_ids, tuple(ids), urls)


def client_of(socket: Path, *, with_vocabulary: bool = False) -> EngineClient:
    vocabulary = load_vocabulary(BASE) if with_vocabulary else None
    return EngineClient("embedded/base", uds=socket, api_key=KEY, vocabulary=vocabulary)


def remote_client(port: int) -> EngineClient:
    """Of a server that was given a port; it knows no vocabulary, as of a server elsewhere."""
    client = EngineClient("embedded/base", url=f"http://127.0.0.1:{port}/v1", api_key=KEY)
    client.is_vllm = True  # the app learns it from the server's version
    return client
