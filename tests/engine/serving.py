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


@contextmanager
def served(
    model_path: Path, *, exchange: Path | None = None, all_logprobs: bool = False, port: int | None = None
) -> Iterator[Path]:
    """The socket of a server of this folder, with the settings of the embedded pair.

    ``exchange``: with exact scoring through that folder. ``all_logprobs``: a request may ask for the whole vocabulary.
    ``port``: it listens there, as a server elsewhere does, and not on the socket.
    """
    pair = load_pair(ROOT / "profiles", "embedded")
    folder = Path(tempfile.mkdtemp(prefix="vllm-", dir="/tmp"))  # a socket path must be short
    socket = folder / "e.sock"
    command = engine_command(
        pair,
        pair.base,
        model_path=str(model_path),
        socket=socket,
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
        client = client_of(socket) if port is None else remote_client(port)
        asyncio.run(_until_healthy(process, client, folder / "log"))
        yield socket
    finally:
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()
        shutil.rmtree(folder)


@dataclass(frozen=True)
class ScoredPair:
    """Sockets of a base and a candidate that score through one exchange folder."""

    base: Path
    candidate: Path
    exchange: Path


@contextmanager
def scored_pair(candidate_id: str, *, all_logprobs: bool = False) -> Iterator[ScoredPair]:
    """The embedded base and one of its candidates; ``all_logprobs`` is the base's."""
    with ExitStack() as stack:
        exchange = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="exchange-")))
        profile = load_pair(ROOT / "profiles", "embedded")
        model = next(m for m in profile.candidates if m.id == candidate_id)
        folder = ModelPreparer(exchange / "models", ROOT).prepare(profile, model, lambda _text, _share: None)
        base = stack.enter_context(served(BASE, exchange=exchange, all_logprobs=all_logprobs))
        candidate = stack.enter_context(served(Path(folder), exchange=exchange))
        yield ScoredPair(base, candidate, exchange)


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


async def _until_healthy(process: subprocess.Popen[bytes], client: EngineClient, log: Path) -> None:
    deadline = time.monotonic() + START_LIMIT_S
    while not await client.healthy():
        assert process.poll() is None, log.read_text()[-3000:]
        assert time.monotonic() < deadline, log.read_text()[-3000:]
        await asyncio.sleep(0.25)
    await client.close()
