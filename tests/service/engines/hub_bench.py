"""What the hub's tests share: engines that run a stand-in doing as it is told, and the record of their states."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

from components.core.restart import RestartPolicy
from components.core.states import EngineState, Sight
from components.engines.status import EngineSpec, EngineStatus, LocalServer, Timeouts
from components.engines.supervisor import EngineHub, World
from components.engines.transport import EngineClient
from components.jobs.launcher import find_members

STAND_IN = Path(__file__).parents[2] / "fakes" / "stand_in.py"
GIB = 2**30
NAME = "pair/base"
FAST = Timeouts(
    start_poll_s=0.05,
    health_poll_s=0.1,
    remote_poll_s=0.1,
    health_timeout_s=0.3,
    term_timeout_s=2.0,
    hung_term_timeout_s=0.3,
    kill_timeout_s=2.0,
    sight_retry_s=0.1,
)


@dataclass(frozen=True)
class FakeCommand:
    argv: Sequence[str]
    env: dict[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Finding:
    sight: Sight
    causes: Sequence[str] = ()


class Bench:
    """Makes specs and hubs in one short folder, and remembers every state an engine went through."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.hubs: list[EngineHub] = []
        self.history: list[tuple[str, EngineState]] = []
        self.waits_s: list[float] = []
        self.free_bytes = 8 * GIB
        self.oom_kills = 0

    def socket(self, name: str = NAME) -> Path:
        return self.folder / f"{name.replace('/', '-')}.sock"

    def spec(self, *actions: str, name: str = NAME, model: str | None = None, **server: object) -> EngineSpec:
        """An engine that runs the stand-in; without actions it serves."""
        path = self.socket(name)
        argv = [sys.executable, "-S", str(STAND_IN), *(actions or [f"serve={path},{model or name}"])]
        local = LocalServer(
            device="cpu",
            prepare=lambda report: "folder",
            command=lambda model_path: FakeCommand(argv),
            socket=path,
            log=self.folder / "logs" / f"{path.stem}.log",
            start_timeout_s=10,
        )
        return EngineSpec(
            engine_id=name,
            served_name=name,
            connect=lambda: EngineClient(name, uds=path),
            server=replace(local, **server),  # type: ignore[arg-type]
        )

    def hub(self, *specs: EngineSpec, policy: RestartPolicy | None = None, stint_s: float = 30.0) -> EngineHub:
        async def note_wait(wait_s: float) -> None:
            self.waits_s.append(wait_s)

        world = World(
            cwd=self.folder,
            timeouts=FAST,
            policy=policy or RestartPolicy(jitter=0),
            sleep=note_wait,
            free_memory_bytes=lambda: self.free_bytes,
            oom_kills=lambda: self.oom_kills,
            stint_s=stint_s,
            linger_s=0.0,
        )
        hub = EngineHub(specs, world)
        self.hubs.append(hub)
        for engine in hub._engines.values():
            self._record(engine)
        return hub

    def _record(self, engine: object) -> None:
        inner = engine._changed  # type: ignore[attr-defined]

        def changed() -> None:
            entry = (engine.spec.engine_id, engine.status.state)  # type: ignore[attr-defined]
            if not self.history or self.history[-1] != entry:
                self.history.append(entry)
            inner()

        engine._changed = changed  # type: ignore[attr-defined]

    def states(self) -> list[str]:
        return [state.value for _, state in self.history]

    def members(self, name: str = NAME) -> dict[int, str]:
        return find_members(str(self.socket(name)))

    def set_health(self, status: str) -> None:
        Path(f"{self.socket()}.status").write_text(status)


async def reach(hub: EngineHub, condition: Callable[[EngineStatus], object], name: str = NAME) -> EngineStatus:
    deadline = time.monotonic() + 10
    while not condition(hub.status(name)):
        assert time.monotonic() < deadline, f"stuck at {hub.status(name)}"
        await hub.wait_change(hub.version, 0.2)
    return hub.status(name)


def in_state(state: EngineState) -> Callable[[EngineStatus], bool]:
    return lambda status: status.state is state
