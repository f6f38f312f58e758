"""The scripted server, served by the test's own event loop over a Unix socket."""

from __future__ import annotations

import asyncio
import shutil
import tempfile
from collections.abc import AsyncIterator, Callable
from dataclasses import replace
from pathlib import Path

import pytest

from components.engines.transport import EngineClient
from components.engines.vocabulary import Vocabulary
from tests.fakes.fake_vllm import Fake, Options
from tests.service.engines.hub_bench import Bench


class FakeEngine:
    """A fake server with the client that talks to it."""

    def __init__(self, fake: Fake, socket: Path) -> None:
        self.fake = fake
        self.socket = socket
        self.client = EngineClient("fake/base", uds=socket)

    def script(self, **options: object) -> None:
        self.fake.options = replace(self.fake.options, **options)  # type: ignore[arg-type]

    def with_vocabulary(self, vocabulary: Vocabulary) -> EngineClient:
        return EngineClient("fake/base", uds=self.socket, vocabulary=vocabulary)


@pytest.fixture
async def engine(tmp_path: Path) -> AsyncIterator[FakeEngine]:
    fake = Fake(Options(), "fake/base", None)
    socket = tmp_path / "e.sock"
    server = await asyncio.start_unix_server(fake.handle, path=str(socket))
    engine = FakeEngine(fake, socket)
    yield engine
    await engine.client.close()
    server.close()


@pytest.fixture
def tiny_vocabulary() -> Callable[[], Vocabulary]:
    tokens = {number: f"t{number}".encode() for number in range(1000, 1200)}
    return lambda: Vocabulary(tokens, {1: "<s>", 3: "[INST]", 10: "[IMG]", 12: "[IMG_BREAK]", 13: "[IMG_END]"})


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
