"""All engines together: starts, stops and tells about them. The one door for pages, the API and comparisons.

Belongs to one event loop; ``status``, ``statuses``, ``version`` and ``log_tail`` may be read from any thread, for they
return immutable records. Must know nothing of profiles, pictures or the page.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncGenerator, Coroutine, Sequence
from contextlib import asynccontextmanager
from typing import Any

from components.core.errors import AppError, EngineNotReadyError, EngineStartError, InputError, NotPermittedError
from components.core.states import EngineState, Sight
from components.engines.alternation import Alternation
from components.engines.device import Device, MemoryBook
from components.engines.status import EngineSpec, EngineStatus
from components.engines.supervised import SupervisedEngine
from components.engines.transport import EngineClient
from components.engines.turn_taker import TurnTaker
from components.engines.vocabulary import Vocabulary
from components.engines.world import World
from components.jobs.logs import LogTail

__all__ = ["EngineHub", "EngineSpec", "EngineStatus", "World"]

_WAKE_LIMIT_S = 3600.0
_ENDED = (EngineState.FATAL, EngineState.STOPPED)


class EngineHub:
    """Supervises one engine per spec. Nothing starts before ``start``."""

    def __init__(self, specs: Sequence[EngineSpec], world: World | None = None, *, closed: str = "") -> None:
        """``closed``: why this app runs no engine, in a sentence; empty = it does."""
        self._world, self._closed = world or World(), closed
        self.book = MemoryBook(self._world.free_memory_bytes)
        self.version = 0  # moves on every change of any status
        self._change = asyncio.Event()
        self._devices: dict[str, Device] = {}
        self._alternations: dict[str, Alternation] = {}  # by device
        self._engines: dict[str, SupervisedEngine] = {}
        for spec in specs:
            self._enter(spec)
        self._commands: set[asyncio.Task[None]] = set()  # that go on when whoever gave them goes away

    def add(self, spec: EngineSpec) -> None:
        """One more engine, stopped. One that is known already stays as it is."""
        if spec.engine_id not in self._engines:
            self._enter(spec)
            self._note_change()

    async def start(self, engine_id: str) -> EngineStatus:
        """Start an engine, or do nothing when it is up or on its way (F17). Returns at once; see ``wait_ready``.

        One that takes turns is let take part; it sleeps until it is asked where another one is up.

        Raises:
            NotPermittedError: no engine is started by this app.
        """
        engine = self._find(engine_id)
        self.check_open()
        turns = self._alternation_of(engine)
        if turns is None:
            await engine.start()
        elif await turns.enter(engine_id):
            self._go_on_with(self._have_a_turn(engine_id))
        return engine.status

    async def wake(self, engine_id: str) -> EngineStatus:
        """Let an engine have its turn, as a question to it would; one that takes no turns is started.

        Raises:
            NotPermittedError: no engine is started by this app.
        """
        status = await self.start(engine_id)
        if status.is_asleep:
            self._go_on_with(self._have_a_turn(engine_id))
        return status

    async def _have_a_turn(self, engine_id: str) -> None:
        with contextlib.suppress(AppError):  # its status says it
            async with self.use(engine_id, _WAKE_LIMIT_S, again=True):
                pass

    @asynccontextmanager
    async def use(
        self, engine_id: str, limit_s: float, *, blind_too: bool = False, again: bool = False
    ) -> AsyncGenerator[EngineClient, None]:
        """An engine that is ready. One that takes turns stays awake within the block, so nobody may wait for another
        one's turn in it.

        Args:
            limit_s: how long it may load; waiting for a turn does not count.
            blind_too: one that does not see will do.
            again: try even one that was given up, where engines take turns.

        Raises:
            EngineStartError: it was given up or stopped. EngineNotReadyError: it is blind, or the time is over.
        """
        turns = self._alternation_of(self._find(engine_id))
        async with turns.turn(engine_id, again=again) if turns else contextlib.nullcontext():
            await self.wait_ready(engine_id, limit_s, blind_too=blind_too)
            yield self.client(engine_id)

    def takes_turns(self, engine_id: str) -> bool:
        """Whether an engine shares its device by turns."""
        return isinstance(self._find(engine_id), TurnTaker)

    def check_open(self) -> None:
        """Refuse what needs an engine in an app that runs none.

        Raises:
            NotPermittedError: so it is.
        """
        if self._closed:
            raise NotPermittedError(self._closed, "Run Diptych yourself, without --recorded.")

    async def stop(self, engine_id: str) -> EngineStatus:
        """Stop an engine and return when no process of it is left, or the status says which is."""
        engine = self._find(engine_id)
        turns = self._alternation_of(engine)
        if turns is not None:
            turns.leave(engine_id)
        # The stop goes on when the one who asked for it (a closed page) goes away.
        await asyncio.shield(self._go_on_with(engine.stop()))
        return engine.status

    def _go_on_with(self, command: Coroutine[Any, Any, None]) -> asyncio.Task[None]:
        task = asyncio.create_task(command)
        self._commands.add(task)
        task.add_done_callback(self._commands.discard)
        return task

    async def restart(self, engine_id: str) -> EngineStatus:
        """Stop it if it runs, start it again."""
        await self.stop(engine_id)
        return await self.start(engine_id)

    async def close(self) -> None:
        """Stop all engines, at the same time."""
        for turns in self._alternations.values():
            await turns.close()
        await asyncio.gather(*(self.stop(engine_id) for engine_id in self._engines))

    def status(self, engine_id: str) -> EngineStatus:
        """What an engine is doing now."""
        return self._find(engine_id).status

    def statuses(self) -> tuple[EngineStatus, ...]:
        """Of all engines, in the order of the specs."""
        return tuple(engine.status for engine in self._engines.values())

    def local_up(self) -> tuple[str, ...]:
        """Engines of this machine that hold memory or are about to."""
        return tuple(
            engine_id
            for engine_id, engine in self._engines.items()
            if engine.spec.server is not None and engine.status.state not in _ENDED
        )

    def is_starting_one(self) -> bool:
        """Whether an engine is loading now, so that what is free can't be measured."""
        return any(device.start_lock.locked() for device in self._devices.values())

    def log_tail(self, engine_id: str, count: int = 200) -> list[str]:
        """The last lines of an engine's log, as they are; empty for a remote one. Reads a file, briefly."""
        server = self._find(engine_id).spec.server
        return LogTail(server.log).last(count) if server else []

    def client(self, engine_id: str) -> EngineClient:
        """To talk to a running engine; good until it ends.

        Raises:
            EngineNotReadyError: it is not running.
        """
        engine = self._find(engine_id)
        if engine.client is None or engine.status.state is not EngineState.RUNNING:
            raise _not_ready(engine.status)
        return engine.client

    def vocabulary(self, engine_id: str) -> Vocabulary | None:
        """An engine's tokens, also while it sleeps; None where they are not known.

        Raises:
            EngineNotReadyError: it is not running.
        """
        engine = self._find(engine_id)
        return engine.vocabulary if engine.status.is_asleep else self.client(engine_id).vocabulary

    async def wait_change(self, version: int, timeout_s: float) -> int:
        """Until ``version`` is no longer the newest, or the time is over; the newest."""
        try:
            async with asyncio.timeout(timeout_s):
                while self.version == version:
                    await self._change.wait()
        except TimeoutError:
            pass
        return self.version

    async def wait_ready(self, engine_id: str, timeout_s: float, *, blind_too: bool = False) -> EngineStatus:
        """Until an engine is ready, or, with ``blind_too``, was found blind.

        Raises:
            EngineStartError: it was given up or stopped.
            EngineNotReadyError: it is blind, or the time is over.
        """
        engine = self._find(engine_id)
        loop = asyncio.get_running_loop()
        deadline = loop.time() + timeout_s
        while not (status := engine.status).ready:
            if status.state in _ENDED and not status.is_asleep:  # which waits for its turn
                raise EngineStartError(
                    f"{engine_id}: {status.reason or 'it is stopped.'}", status.hint, detail="\n".join(status.log_lines)
                )
            if blind_too and status.sight is Sight.BLIND:
                return status
            if status.sight is Sight.BLIND or loop.time() >= deadline:
                raise _not_ready(status)
            await self.wait_change(self.version, deadline - loop.time())
        return status

    def _enter(self, spec: EngineSpec) -> None:
        name = spec.server.device if spec.server else "remote"
        device = self._devices.setdefault(name, Device(self.book))
        if spec.server is None or not spec.server.takes_turns:
            self._engines[spec.engine_id] = SupervisedEngine(spec, device, self._world, self._note_change)
            return
        engine = TurnTaker(spec, device, self._world, self._note_change)
        turns = Alternation(self._world.monotonic, self._world.stint_s, self._world.linger_s)
        self._alternations.setdefault(name, turns).add(engine)
        self._engines[spec.engine_id] = engine

    def _alternation_of(self, engine: SupervisedEngine) -> Alternation | None:
        server = engine.spec.server
        return self._alternations[server.device] if server is not None and isinstance(engine, TurnTaker) else None

    def _note_change(self) -> None:
        self.version += 1
        self._change.set()  # wakes all who wait now …
        self._change = asyncio.Event()  # … and nobody who begins to wait later

    def _find(self, engine_id: str) -> SupervisedEngine:
        if engine_id not in self._engines:
            accepted = ", ".join(self._engines)
            raise InputError(f"There is no engine {engine_id!r}.", f"Accepted: {accepted}.", field="engine")
        return self._engines[engine_id]


def _not_ready(status: EngineStatus) -> EngineNotReadyError:
    now = status.reason or status.message or f"it is {status.state}."
    return EngineNotReadyError(f"The engine {status.engine_id} is not ready: {now}", status.hint)
