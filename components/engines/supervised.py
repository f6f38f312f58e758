"""One engine's life: prepared, started, watched, restarted, stopped. State and readiness are kept apart.

All of it runs in one asyncio task per engine; ``stop`` ends that task and then clears the process group itself, so a
stop wins at any moment and no late RUNNING can follow it (F18).
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from typing import Any

from components.core.errors import AppError, EngineStartError
from components.core.restart import restart_delay_s
from components.core.states import ENGINE_TRANSITIONS, EngineState, Sight
from components.engines.device import Device
from components.engines.progress import expected_fraction, stage_in_words
from components.engines.readiness import Look, Probe, look
from components.engines.sockets import free_socket_path
from components.engines.start_failures import Failure, explain_exit, killed_for_memory, meaningful_lines
from components.engines.status import EngineSpec, EngineStatus, LocalServer, SightFinding, SightProbe
from components.engines.transport import EngineClient
from components.engines.vocabulary import Vocabulary
from components.engines.world import World
from components.jobs.logs import LogTail
from components.jobs.process_group import ProcessGroup, end_leftovers

logger = logging.getLogger(__name__)

LOG_LINES_READ = 3000  # a refused command line prints its whole usage first
_NOTHING_WRONG: dict[str, Any] = {"reason": "", "reason_code": "", "hint": "", "log_lines": ()}


class StartFailedError(EngineStartError):
    """Carries a failure out of the start."""

    def __init__(self, failure: Failure) -> None:
        super().__init__(failure.reason, failure.hint)
        self.failure = failure


class SupervisedEngine:
    """Runs what its spec says. Belongs to one event loop."""

    def __init__(self, spec: EngineSpec, device: Device, world: World, changed: Callable[[], None]) -> None:
        self.spec = spec
        self.status = EngineStatus(engine_id=spec.engine_id, since=world.utc_now(), remote=spec.server is None)
        self.client: EngineClient | None = None  # while the engine is RUNNING
        self.vocabulary: Vocabulary | None = None  # of the newest client
        self._device = device
        self._world = world
        self._changed = changed
        # Holds the invariant "at most one life, so at most one process": start and stop don't interleave (F17).
        self._commands = asyncio.Lock()
        self._life: asyncio.Task[None] | None = None
        self._group: ProcessGroup | None = None
        self._starts_s: list[float] = []
        self._failed_starts = 0
        self._expected_start_s = spec.server.expected_start_s if spec.server else 0.0
        self._serving = False  # answers and lists the right model
        self._oom_kills_before = 0
        self._argv: tuple[str, ...] = ()  # of the newest process
        self._model_path = ""

    async def start(self) -> None:
        """Begin a life unless there is one."""
        async with self._commands:
            if self._life is not None and not self._life.done():
                return
            self._starts_s, self._failed_starts = [], 0
            self._move(EngineState.STARTING, message="Waiting to start", restarts=0, **_NOTHING_WRONG)
            self._life = asyncio.create_task(self._guarded_life(), name=f"engine {self.spec.engine_id}")

    async def stop(self) -> None:
        """End the life, wherever it stands, and everything that belongs to it."""
        async with self._commands:
            await self._end_life("Stopping", "")

    async def _end_life(self, words: str, in_the_end: str) -> None:
        """Under the lock: what ``stop`` does, telling ``words`` meanwhile. Nothing where there is no life."""
        if self._life is None or self._life.done():
            return
        self._life.cancel()
        await asyncio.wait({self._life})
        self._life = None
        if self.status.state in (EngineState.FATAL, EngineState.STOPPED):  # it gave up in this very moment
            return
        self._move(EngineState.STOPPING, message=words, ready=False, progress=None)
        trouble = await self._clear(self._world.timeouts.term_timeout_s)
        self._move(EngineState.STOPPED, message=in_the_end, sight=Sight.UNKNOWN, **(trouble or _NOTHING_WRONG))

    # -- the life ---------------------------------------------------------------------------------------------------

    async def _guarded_life(self) -> None:
        try:
            await (self._live_remote() if self.spec.server is None else self._live(self.spec.server))
        except Exception:
            logger.exception("supervision of %s failed", self.spec.engine_id)
            await self._clear(0.0)
            self._set(state=EngineState.FATAL, ready=False, reason="Diptych itself failed here; see its log.")

    async def _live(self, server: LocalServer) -> None:
        while True:
            self._starts_s.append(self._world.monotonic())
            failure = await self._run_once(server)
            delay_s = await self._settle(failure)
            if delay_s is None:
                return
            await self._world.sleep(delay_s)
            self._move(EngineState.STARTING, message="Waiting to start", restarts=self.status.restarts + 1)

    async def _run_once(self, server: LocalServer) -> Failure:
        """From the preparation to the death; returns what ended it."""
        try:
            group, client = await self._bring_up(server)
        except StartFailedError as exc:
            return exc.failure
        except AppError as exc:
            return Failure(exc.code.upper(), exc.message, exc.hint, deterministic=True)
        return await self._serve(client, group)

    async def _settle(self, failure: Failure) -> float | None:
        """Tell what happened, clear up, and decide: the delay until the next start, or None when given up."""
        ran = self.status.state is EngineState.RUNNING
        why: dict[str, Any] = _in_status(failure)
        if ran:
            self._move(EngineState.EXITED, message="Ended", ready=False, **why)
        trouble = await self._clear(self._world.timeouts.hung_term_timeout_s)
        if self.status.is_asleep and trouble is None:  # whoever asks it next starts it anew
            self._move(EngineState.STOPPING)
            self._move(EngineState.STOPPED, message="Asleep", sight=Sight.UNKNOWN, **_NOTHING_WRONG)
            return None
        self._failed_starts = 0 if ran else self._failed_starts + 1
        delay_s = None
        if trouble is None and (ran or not failure.deterministic):
            delay_s = restart_delay_s(
                self._world.policy, self._starts_s, self._failed_starts, self._world.monotonic(), self._world.chance()
            )
        if delay_s is None:
            given_up = "" if failure.deterministic or trouble else f"Given up after {len(self._starts_s)} starts"
            self._move(EngineState.FATAL, message=given_up, progress=None, **(trouble or why))
        else:
            self._move(EngineState.BACKOFF, message=f"Trying again in {delay_s:.0f} s", progress=None, **why)
        return delay_s

    async def _clear(self, term_timeout_s: float) -> dict[str, Any] | None:
        """End what is left of the process and let go of all it held; what could not be ended, for the status."""
        self._serving = False
        if self.client is not None:
            await self.client.close()
            self.client = None
        survivors = {}
        if self._group is not None:
            report = await self._group.stop(term_timeout_s, self._world.timeouts.kill_timeout_s)
            survivors = dict(report.survivors)
            self._group = None
        self._device.give_back(self.spec.engine_id)
        self._set(pid=None, ready=False)
        return _in_status(_survived(survivors)) if survivors else None

    # -- the start --------------------------------------------------------------------------------------------------

    async def _bring_up(self, server: LocalServer) -> tuple[ProcessGroup, EngineClient]:
        self._set(message="Preparing files", progress=None)
        if left := await end_leftovers(str(server.socket)):
            raise StartFailedError(_survived(left))
        model_path = await asyncio.to_thread(server.prepare, self._reporter())
        self._set(message="Waiting for other engines to start", progress=None)
        async with self._device.start_lock:
            if refusal := self._device.take(self.spec.engine_id, server):
                raise StartFailedError(refusal)
            await asyncio.to_thread(free_socket_path, server.socket)
            self._oom_kills_before = self._world.oom_kills()
            command = server.command(model_path)
            self._argv, self._model_path = tuple(command.argv), model_path
            group = ProcessGroup.spawn(command.argv, command.env, self._world.cwd, server.log, name=str(server.socket))
            self._group = group
            self._set(pid=group.pid, **_NOTHING_WRONG)
            self.client = self.spec.connect()
            self.vocabulary = self.client.vocabulary
            first = await self._until_alive(server, group, self.client)
        self._move(EngineState.RUNNING, message="Asking which model it serves", progress=None, **_NOTHING_WRONG)
        self._set(engine_version=await self.client.version(), max_model_len=first.max_model_len)
        return group, self.client

    async def _until_alive(self, server: LocalServer, group: ProcessGroup, client: EngineClient) -> Look:
        times, log = self._world.timeouts, LogTail(server.log)
        started_s = self._world.monotonic()
        while (elapsed_s := self._world.monotonic() - started_s) < server.start_timeout_s:
            if (code := await _ended_within(group, times.start_poll_s)) is not None:
                raise StartFailedError(self._explain(code, server))
            seen = await look(client, self.spec.served_name, times.health_timeout_s)
            if seen.alive:
                self._expected_start_s = self._world.monotonic() - started_s
                return seen
            words = stage_in_words(log.current(LOG_LINES_READ))
            self._set(message=words, progress=expected_fraction(elapsed_s, self._expected_start_s))
        raise StartFailedError(
            Failure(
                "READINESS_TIMEOUT",
                f"The server did not answer within {server.start_timeout_s:g} s.",
                "Its log shows how far it came; the first start of a model can need longer than later ones.",
                deterministic=True,  # another try would take as long
                log_lines=tuple(log.current(20)),
            )
        )

    def _explain(self, exit_code: int, server: LocalServer) -> Failure:
        failure = explain_exit(exit_code, LogTail(server.log).current(LOG_LINES_READ))
        return killed_for_memory(failure) if self._world.oom_kills() > self._oom_kills_before else failure

    # -- the service ------------------------------------------------------------------------------------------------

    async def _serve(self, client: EngineClient, group: ProcessGroup | None) -> Failure:
        """Check sight once, watch for ever; returns what ended it."""
        sight = asyncio.create_task(self._check_sight(client))
        try:
            return await self._watch(client, group, sight)
        finally:
            sight.cancel()
            await asyncio.wait({sight})

    async def _watch(self, client: EngineClient, group: ProcessGroup | None, sight: asyncio.Task[None]) -> Failure:
        times, silent = self._world.timeouts, 0
        while True:
            settled = self._serving and group is not None
            seen = await look(client, self.spec.served_name, times.health_timeout_s, settled=settled)
            silent = silent + 1 if seen.probe is Probe.SILENT else 0
            self._note_look(seen, silent)
            if silent >= (times.health_failures if group else 1):
                return self._fell_silent(seen)
            if sight.done():
                sight.result()  # a mistake in the check must not pass unnoticed
            code = await _ended_within(group, times.health_poll_s if group else times.remote_poll_s)
            if code is not None and self.spec.server is not None:
                return self._explain(code, self.spec.server)

    def _fell_silent(self, seen: Look) -> Failure:
        server = self.spec.server
        lines = meaningful_lines(LogTail(server.log).current(LOG_LINES_READ)) if server else ()
        return Failure("SILENT", f"The engine stopped answering: {seen.detail}.", log_lines=lines)

    def _note_look(self, seen: Look, silent: int) -> None:
        if seen.probe is Probe.SERVING:
            self._serving = True
            self._set_readiness(**({"max_model_len": seen.max_model_len} if seen.max_model_len else {}))
        elif silent != 1:  # one slow answer under load is not yet a finding
            self._serving = False
            self._set(ready=False, reason=f"Not ready: {seen.detail}.", reason_code=seen.probe.name)

    async def _check_sight(self, client: EngineClient) -> None:
        """Ask about the built-in pictures until there is a verdict; a text model has nothing to see."""
        check = self.spec.check_sight
        if check is None:
            self._set_readiness(sight=Sight.NONE)
            return
        while self.status.sight in (Sight.UNKNOWN, Sight.CHECKING):
            if not self._serving:
                await asyncio.sleep(self._world.timeouts.start_poll_s)
                continue
            self._set(sight=Sight.CHECKING, message="Checking sight")
            try:
                finding = await self._find_out_sight(check, client)
            except AppError as exc:
                self._set(reason=f"The sight check could not be done: {exc.message}", hint=exc.hint)
                await asyncio.sleep(self._world.timeouts.sight_retry_s)
                continue
            self._set_readiness(sight=finding.sight, hint=" ".join(finding.causes))

    async def _find_out_sight(self, check: SightProbe, client: EngineClient) -> SightFinding:
        return await check(client, self._reporter())

    def _set_readiness(self, **changes: Any) -> None:
        """Ready = awake, serving the right model, and its sight was looked at and it is not blind."""
        sight = changes.get("sight", self.status.sight)
        ready = self._serving and sight not in (Sight.UNKNOWN, Sight.CHECKING, Sight.BLIND)
        if self.status.is_asleep:  # its process may go on, without its weights
            self._set(ready=False, **changes)
            return
        if ready:
            changes |= {"message": "Ready", "progress": None}
        if ready and sight is not Sight.UNCLEAR:
            changes = {**_NOTHING_WRONG, **changes}
        elif self._serving and sight is Sight.BLIND:
            reason = "The engine is blind: it answers alike with and without the picture."
            changes |= {"message": "Blind", "progress": None, "reason": reason, "reason_code": "BLIND"}
        elif ready:
            reason = "Its answers follow the picture, but are wrong."
            changes |= {"reason": reason, "reason_code": "UNCLEAR_SIGHT"}
        self._set(ready=ready, **changes)

    # -- remote endpoints -------------------------------------------------------------------------------------------

    async def _live_remote(self) -> None:
        """RUNNING and EXITED mirror whether the endpoint can be reached."""
        self.client = self.spec.connect()
        self.vocabulary = self.client.vocabulary
        while True:
            self._set(message=f"Waiting for {self.client.address}")
            seen = await look(self.client, self.spec.served_name, self._world.timeouts.health_timeout_s)
            if seen.alive:
                if self.status.state is EngineState.EXITED:
                    self._move(EngineState.STARTING, restarts=self.status.restarts + 1)
                self._move(EngineState.RUNNING, sight=Sight.UNKNOWN, **_NOTHING_WRONG)
                self._set(engine_version=await self.client.version())
                failure = await self._serve(self.client, None)
                self._serving = False
                self._move(EngineState.EXITED, ready=False, sight=Sight.UNKNOWN, **_in_status(failure))
            else:
                self._set(reason=f"Not reachable: {seen.detail}.", reason_code="UNREACHABLE")
                await asyncio.sleep(self._world.timeouts.remote_poll_s)

    # -- the status -------------------------------------------------------------------------------------------------

    def _reporter(self) -> Callable[[str, float | None], None]:
        """What a thread or a check calls to say how far it is; it ends a thread whose engine was stopped meanwhile."""
        loop, life = asyncio.get_running_loop(), asyncio.current_task()

        def tell(message: str, progress: float | None) -> None:
            if life is not None and not life.done():  # it may have ended since the thread asked
                self._set(message=message, progress=progress)

        def report(message: str, progress: float | None) -> None:
            if loop.is_closed() or (life is not None and life.done()):
                raise EngineStartError("The engine was stopped.")
            loop.call_soon_threadsafe(tell, message, progress)

        return report

    def _move(self, state: EngineState, **changes: Any) -> None:
        if state not in ENGINE_TRANSITIONS[self.status.state]:
            raise RuntimeError(f"{self.spec.engine_id}: {self.status.state} may not become {state}")
        if state is EngineState.STARTING:
            changes |= {"sight": Sight.UNKNOWN}
        self._set(state=state, since=self._world.utc_now(), **changes)

    def _set(self, **changes: Any) -> None:
        new = self.status.model_copy(update=changes)
        if new != self.status:
            self.status = new
            self._changed()


async def _ended_within(group: ProcessGroup | None, timeout_s: float) -> int | None:
    """Sleep, but wake at the group's end; its exit code."""
    if group is None:
        await asyncio.sleep(timeout_s)
        return None
    try:  # not wait_for: in Python 3.11 it may swallow the cancellation that a stop is
        async with asyncio.timeout(timeout_s):
            return await group.wait()
    except TimeoutError:
        return None


def _survived(left: dict[int, str]) -> Failure:
    names = ", ".join(f"{pid} {name}" for pid, name in left.items())
    return Failure(
        "SURVIVORS",
        f"Processes of this engine could not be ended: {names}.",
        "They hold its memory; end them by hand (kill -9), then start it again.",
        deterministic=True,
    )


def _in_status(failure: Failure) -> dict[str, Any]:
    return {
        "reason": failure.reason,
        "reason_code": failure.code,
        "hint": failure.hint,
        "log_lines": failure.log_lines,
    }
