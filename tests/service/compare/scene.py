"""Two scripted engines with the services that ask them, for tests of what Compare does when an engine misbehaves."""

from __future__ import annotations

import asyncio
from contextlib import aclosing
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from components.compare.repeat import RepeatService
from components.compare.repeat_request import RepeatWish
from components.compare.request import Ask, ColumnRequest
from components.compare.turns import TurnService
from components.core.answers import Sampling
from components.core.repeats import Repeat
from components.engines.catalog import Catalog
from components.engines.status import EngineSpec, Timeouts
from components.engines.supervisor import EngineHub, World
from components.engines.transport import EngineClient
from components.profiles.loader import load_pair
from components.storage.blobs import BlobStore
from components.storage.database import Database, sqlite_url
from components.storage.images import ImageLimits, ImageStore
from components.storage.repeats import RepeatRepository
from components.storage.traces import TraceRepository
from tests.fakes.fake_vllm import Fake, Options


def now() -> datetime:
    """In UTC."""
    return datetime.now(UTC)


KEY = "ab" * 16
SIDES = ("base", "slow")
_PROFILE = """
schema_version: 1
kind: pair
id: scripted
title: Scripted pair
description: Two endpoints.
vision: false
models:
- {id: base, role: base, label: Base, scheme: BF16, description: B,
   source: {kind: remote, url: "http://127.0.0.1:9/v1", served_model: served}}
- {id: slow, role: candidate, label: Slow, scheme: W4A16, description: S,
   source: {kind: remote, url: "http://127.0.0.1:9/v1", served_model: served}}
"""


class Scene:
    """Two scripted engines, the services, and one answered turn."""

    def __init__(self, folder: Path, world: World | None = None) -> None:
        (folder / "pairs").mkdir()
        (folder / "pairs" / "scripted.yaml").write_text(_PROFILE, encoding="utf-8")
        self.folder = folder
        self.fakes = {side: Fake(Options(), "served", None) for side in SIDES}
        self.servers: list[asyncio.Server] = []
        self.catalog = Catalog([load_pair(folder, "scripted")])
        world = world or World(timeouts=Timeouts(remote_poll_s=0.1))
        self.hub = EngineHub([self._spec(side) for side in SIDES], world)
        self.database = Database(sqlite_url(folder / "diptych.db"))
        self.database.open()
        self.blobs = BlobStore(folder / "blobs")
        self.traces = TraceRepository(self.database, self.blobs)
        images = ImageStore(self.blobs, ImageLimits(max_bytes=1000), self.database)
        self.turns = TurnService(catalog=self.catalog, hub=self.hub, traces=self.traces, images=images, now=now)
        self.records = RepeatRepository(self.database)
        self.service = RepeatService(
            turns=self.turns, catalog=self.catalog, hub=self.hub, repeats=self.records, now=now
        )

    def _spec(self, side: str) -> EngineSpec:
        path = self.folder / f"{side}.sock"
        return EngineSpec(f"scripted/{side}", "served", connect=lambda: EngineClient("served", uds=path))

    async def start(self) -> None:
        for side, fake in self.fakes.items():
            self.servers.append(await asyncio.start_unix_server(fake.handle, path=str(self.folder / f"{side}.sock")))
            await self.hub.start(f"scripted/{side}")
            await self.hub.wait_ready(f"scripted/{side}", 10)

    async def ask(self, sampling: Sampling | None = None, key: str = KEY, parent_id: str | None = None) -> str:
        sampling = sampling or Sampling(temperature=0.3, max_tokens=50, seed=100, stop=("x",))
        columns = [
            ColumnRequest(position=i, engine_id=f"scripted/{side}", sampling=sampling) for i, side in enumerate(SIDES)
        ]
        asked = Ask(key=key, prompt="How many?", system="Brief.", columns=tuple(columns), parent_id=parent_id)
        live = await self.turns.begin(asked)
        for stored in live.trace.answers:
            async for _ in self.turns.stream(live, stored.slot, lambda: 0.05):
                pass
        return live.trace.id

    def script(self, side: str, **options: Any) -> None:
        self.fakes[side].options = replace(self.fakes[side].options, **options)

    def requests(self, side: str) -> list[dict[str, Any]]:
        """Bodies of the samples' requests: the first one was the turn's own."""
        return [hit["body"] for hit in self.fakes[side].hits if hit["path"].endswith("completions")][1:]

    async def repeat(self, trace_id: str, *, visitor: bool = False, **wish: Any) -> Repeat:
        async with aclosing(self.service.run(trace_id, RepeatWish.read(wish), visitor=visitor)) as progresses:
            return [progress.repeat async for progress in progresses][-1]

    async def close(self) -> None:
        await self.hub.close()
        for server in self.servers:
            server.close()
        self.database.close()
