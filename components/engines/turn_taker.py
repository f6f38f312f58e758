"""An engine that shares its device by turns: it wakes and rests, and its sight, once checked, is remembered.

Where it runs with vLLM's sleep mode its process goes on and gives up its GPU memory (not yet tried on a GPU); else, and
wherever that does not work, it is stopped and started.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable
from typing import Any

from components.core.errors import AppError
from components.core.states import EngineState, Sight, Turn
from components.engines.status import LocalServer, SightFinding, SightProbe
from components.engines.supervised import SupervisedEngine
from components.engines.transport import EngineClient

_log = logging.getLogger(__name__)
ASLEEP = "Asleep"
_SPARE_BYTES = 2 * 2**30  # of main memory, beside the weights that go there


class TurnTaker(SupervisedEngine):
    """Commanded by an ``Alternation``; ``start`` and ``stop`` are those of every engine."""

    _remembered: tuple[tuple[str, ...], SightFinding] | None = None  # of which command line

    async def wake(self) -> None:
        """Begin to be up; returns before it is ready."""
        async with self._commands:
            if self._lives:
                if not self.status.is_asleep or await self._got_up():
                    return
                await self._end_life("Stopping, since it did not wake", ASLEEP)
            self._set(turn=Turn.AWAKE)
        await self.start()

    async def rest(self) -> None:
        """Give the device's memory to others; returns when it is free."""
        async with self._commands:
            if self._lives and not self.status.is_asleep and not await self._dozed_off():
                self._set(turn=Turn.ASLEEP)
                await self._end_life("Going to sleep", ASLEEP)
                self._keep_sight()
            elif self.status.state is EngineState.STOPPED:
                self._set(turn=Turn.ASLEEP, message=ASLEEP)

    @property
    def dozes(self) -> bool:
        """Whether it sleeps with its process going on, which keeps some of the GPU's memory."""
        return self._lives and self.status.is_asleep

    async def end_doze(self) -> None:
        """Let its process end; it stays asleep, and is started when it is asked."""
        async with self._commands:
            if self.dozes:
                await self._end_life("Going to sleep", ASLEEP)
                self._keep_sight()

    async def stop(self) -> None:
        """End it; it takes part in no turn until it is started again, and its sight is checked anew then."""
        await super().stop()
        self._remembered = None
        self._set(turn=None, message="" if self.status.state is EngineState.STOPPED else self.status.message)

    def say(self, words: str) -> None:
        """What it waits for while it sleeps."""
        if self.status.is_asleep:
            self._set(message=words)

    def _keep_sight(self) -> None:
        if self._remembered is not None:
            self._set(sight=self._remembered[1].sight)

    @property
    def _lives(self) -> bool:
        return self._life is not None and not self._life.done()

    def _move(self, state: EngineState, **changes: Any) -> None:
        super()._move(state, **changes | ({"turn": None} if state is EngineState.FATAL else {}))

    async def _find_out_sight(self, check: SightProbe, client: EngineClient) -> SightFinding:
        if self._remembered is None or self._remembered[0] != self._argv:
            self._remembered = (self._argv, await super()._find_out_sight(check, client))
        return self._remembered[1]

    # -- vLLM's sleep mode --------------------------------------------------------------------------------------------

    async def _dozed_off(self) -> bool:
        """Whether its process sleeps now; False = it has to be stopped."""
        server, client = self.spec.server, self.client
        if server is None or client is None or not await self._may_doze(server):
            return False
        self._set(turn=Turn.ASLEEP, ready=False, message="Going to sleep", progress=None)
        if not await self._obeyed(client.sleep(server.sleep_level), "did not fall asleep and is stopped"):
            return False
        self._device.note_asleep(self.spec.engine_id, server)
        self._set(message=ASLEEP)
        return True

    async def _may_doze(self, server: LocalServer) -> bool:
        # Before it was found to see it has nothing worth keeping, and its check would go on without its weights.
        if not server.sleep_level or self.status.sight in (Sight.UNKNOWN, Sight.CHECKING):
            return False
        if server.sleep_level > 1:
            return True
        needed = await asyncio.to_thread(server.main_memory_asleep, self._model_path)
        return needed is not None and needed + _SPARE_BYTES <= self._world.free_memory_bytes()

    async def _got_up(self) -> bool:
        """Whether its process is awake again; False = it has to be started anew."""
        server, client = self.spec.server, self.client
        if server is None or client is None or self._device.take(self.spec.engine_id, server) is not None:
            return False
        self._set(message="Waking up")
        if not await self._obeyed(client.wake_up(server.sleep_level), "did not wake and is started anew"):
            return False
        self._set(turn=Turn.AWAKE)
        self._set_readiness()
        return True

    async def _obeyed(self, command: Awaitable[None], otherwise: str) -> bool:
        try:
            async with asyncio.timeout(self._world.timeouts.sleep_timeout_s):
                await command
        except (AppError, TimeoutError) as exc:
            _log.warning("%s %s: %s", self.spec.engine_id, otherwise, exc)
            return False
        return True
