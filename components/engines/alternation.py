"""Turns on one device: of its engines only one is up at a time; the others sleep until somebody needs them.

Whoever needs an engine takes a lease of it. Leases of the engine that is up are given at once, so that the questions of
many users are answered together; leases of another engine wait until those are over. Nobody starves: once somebody has
waited for another engine for ``stint_s``, newcomers line up too. Belongs to one event loop.
"""

from __future__ import annotations

import asyncio
import logging
from collections import deque
from collections.abc import AsyncGenerator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass

from components.core.errors import EngineStartError
from components.core.states import EngineState
from components.engines.turn_taker import ASLEEP, TurnTaker

_MOST_DOZING = 2  # processes that sleep on a GPU, each with a share of its memory (placement.SLEEPING_SHARE)
_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class _Wait:
    engine_id: str
    since_s: float
    admitted: asyncio.Future[None]


class Alternation:
    """Of one device.

    Args:
        monotonic: a clock, s.
        stint_s: see above.
        linger_s: how long an engine that nobody needs stays up while another one is waited for.
    """

    def __init__(self, monotonic: Callable[[], float], stint_s: float, linger_s: float) -> None:
        self._monotonic, self._stint_s, self._linger_s = monotonic, stint_s, linger_s
        self._engines: dict[str, TurnTaker] = {}
        self._taking_part: set[str] = set()
        self._up: str | None = None  # that has the device; None while it changes hands, and at first
        self._promised: str | None = None  # that ``enter`` said may be woken, until it is
        self._last_up: list[str] = []  # in the order in which they had the device last
        self._leases = 0  # of that one
        self._freed = asyncio.Event()
        self._queue: deque[_Wait] = deque()
        self._driver: asyncio.Task[None] | None = None

    def add(self, engine: TurnTaker) -> None:
        """One more engine of the device."""
        self._engines[engine.spec.engine_id] = engine

    async def enter(self, engine_id: str) -> bool:
        """Let an engine take part; whether it may be woken at once, since no other one is up or waited for."""
        engine = self._engines[engine_id]
        if engine_id not in self._taking_part:
            self._taking_part.add(engine_id)
            await engine.rest()
        if engine.status.state is EngineState.FATAL:
            return True
        is_up = self._up is not None and self._engines[self._up].status.turn is not None
        if is_up or self._promised or self._queue or self._changing:
            return False
        self._promised = engine_id
        return True

    def leave(self, engine_id: str) -> None:
        """It takes no part any more; who waits for it is told so."""
        self._taking_part.discard(engine_id)
        for wait in [wait for wait in self._queue if wait.engine_id == engine_id]:
            self._queue.remove(wait)
            if not wait.admitted.done():
                wait.admitted.set_exception(_stopped(engine_id))

    @asynccontextmanager
    async def turn(self, engine_id: str, *, again: bool = False) -> AsyncGenerator[None, None]:
        """Within the block the engine has the device: it is up, or on its way, and is not sent to sleep.

        Args:
            again: try even one that was given up.

        Raises:
            EngineStartError: it takes no part, was stopped meanwhile, or was given up.
        """
        await self._admit(engine_id, again=again)
        try:
            yield
        finally:
            self._leases -= 1
            self._freed.set()
            self._tell()

    async def _admit(self, engine_id: str, *, again: bool) -> None:
        if self._promised == engine_id:
            self._promised = None
        if engine_id not in self._taking_part:
            raise _stopped(engine_id)
        status = self._engines[engine_id].status
        if status.state is EngineState.FATAL and not again:
            raise EngineStartError(f"{engine_id}: {status.reason}", status.hint, detail="\n".join(status.log_lines))
        if engine_id == self._up and status.turn is not None and not self._others_waited_long(engine_id):
            self._leases += 1
            self._tell()
            return
        wait = _Wait(engine_id, self._monotonic(), asyncio.get_running_loop().create_future())
        self._queue.append(wait)
        if not self._changing:
            self._driver = asyncio.create_task(self._drive(), name="turns of a device")
        self._tell()
        try:
            await wait.admitted
        except asyncio.CancelledError:
            if wait in self._queue:
                self._queue.remove(wait)
            elif wait.admitted.done() and not wait.admitted.cancelled() and wait.admitted.exception() is None:
                self._leases -= 1  # it was let in, and went in this very moment
            self._freed.set()
            self._tell()
            raise

    def _others_waited_long(self, engine_id: str) -> bool:
        long_ago_s = self._monotonic() - self._stint_s
        return any(wait.engine_id != engine_id and wait.since_s <= long_ago_s for wait in self._queue)

    @property
    def _changing(self) -> bool:
        return self._driver is not None and not self._driver.done()

    async def _drive(self) -> None:
        """Let in whoever waits, the oldest wait first, until nobody does."""
        while self._queue:
            target = self._queue[0].engine_id
            if target == self._up and self._engines[target].status.turn is not None:
                self._let_in(target)
            elif self._leases:
                self._freed.clear()
                await self._freed.wait()
            elif not await self._goes_on() and target in {wait.engine_id for wait in self._queue}:
                await self._hand_over(target)

    async def _goes_on(self) -> bool:
        """Whether somebody asks the engine that is up again: who stores an answer before the next question does."""
        if self._up is None or self._engines[self._up].status.turn is None:
            return False
        await asyncio.sleep(self._linger_s)
        return self._leases > 0

    async def _hand_over(self, target: str) -> None:
        self._up = None
        self._tell()
        try:
            for engine_id, engine in self._engines.items():
                if engine_id == target:
                    continue
                await engine.rest() if engine_id in self._taking_part else await engine.stop()
                if engine.status.reason_code == "SURVIVORS":
                    raise EngineStartError(engine.status.reason, engine.status.hint)
            await self._make_room(target)
            if any(wait.engine_id == target for wait in self._queue):  # they may have gone meanwhile
                await self._engines[target].wake()
                self._up = target
                if target not in self._taking_part:  # a person stopped it in this very moment
                    await self._engines[target].stop()
        except Exception as exc:  # noqa: BLE001  # whoever waits must hear of it, and the next one has a turn
            _log.warning("%s could not be woken: %r", target, exc)
            self._refuse(target, exc)
        self._let_in(target)

    async def _make_room(self, target: str) -> None:
        """End the processes that have slept longest where too many sleep."""
        dozing = [engine for engine in self._engines.values() if engine.dozes and engine.spec.engine_id != target]
        dozing.sort(key=lambda engine: self._last_up.index(engine.spec.engine_id))
        for engine in dozing[:-_MOST_DOZING]:
            await engine.end_doze()
        self._last_up = [engine_id for engine_id in self._last_up if engine_id != target] + [target]

    def _let_in(self, target: str) -> None:
        for wait in [wait for wait in self._queue if wait.engine_id == target and self._up == target]:
            self._queue.remove(wait)
            if not wait.admitted.done():
                wait.admitted.set_result(None)
                self._leases += 1
        self._tell()

    def _refuse(self, target: str, exc: Exception) -> None:
        for wait in [wait for wait in self._queue if wait.engine_id == target]:
            self._queue.remove(wait)
            if not wait.admitted.done():
                wait.admitted.set_exception(exc)

    def _tell(self) -> None:
        """Say to each sleeping engine what it waits for."""
        waited_for = {wait.engine_id for wait in self._queue}
        up = self._up.rpartition("/")[2] if self._up else ""
        for engine_id in self._taking_part:
            words = ASLEEP
            if engine_id in waited_for and engine_id != self._up:
                words = f"Waits for its turn: {up} is answering" if up else "Waits for its turn: another goes to sleep"
            self._engines[engine_id].say(words)

    async def close(self) -> None:
        """Tell who still waits that the engine stops; returns when nothing is handed over any more."""
        for engine_id in list(self._taking_part):
            self.leave(engine_id)
        self._freed.set()
        if self._driver is not None:
            await self._driver  # not cancelled: an engine that is half stopped would be left behind


def _stopped(engine_id: str) -> EngineStartError:
    return EngineStartError(f"{engine_id}: it is stopped.", "Start it on the Models tab.")
