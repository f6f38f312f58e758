"""What is known about an engine, and what is needed to run one. Data only; no I/O.

``EngineStatus`` is what pages and the API show. ``EngineSpec`` is what the composition root builds from a profile; its
callables keep profiles, files and pictures out of the supervisor.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Protocol

from pydantic import Field

from components.core.answers import Record
from components.core.states import EngineState, Sight, Turn
from components.engines.transport import EngineClient

Report = Callable[[str, float | None], None]  # what is being done, in words; how much of it is done, 0..1


class SightFinding(Protocol):
    """What the supervisor wants to know of a sight check's result."""

    @property
    def sight(self) -> Sight:
        """The verdict."""

    @property
    def causes(self) -> Sequence[str]:
        """Known causes, in words, when the engine is blind or unclear."""


SightProbe = Callable[[EngineClient, Report], Awaitable[SightFinding]]


class Command(Protocol):
    """A command line with its whole environment."""

    @property
    def argv(self) -> Sequence[str]:
        """Program and arguments."""

    @property
    def env(self) -> Mapping[str, str]:
        """The environment; nothing is added from the app's own but the group's name."""


@dataclass(frozen=True)
class LocalServer:
    """How to run an engine's process."""

    device: str  # engines of one device start one after the other: "cpu", "cuda"
    prepare: Callable[[Report], str]  # model path; blocking, run in a thread; may take minutes
    command: Callable[[str], Command]  # from the model path
    socket: Path  # where the server will listen; under 100 bytes
    log: Path
    memory_bytes: int = 0  # of the device's memory that it needs; 0 = unknown
    device_share: float = 0.0  # on a GPU, its gpu_memory_utilization
    devices: tuple[str, ...] = ()  # all whose memory it holds; empty = ``device`` alone
    expected_start_s: float = 30.0  # for the progress bar, until a start was measured
    start_timeout_s: float = 600.0
    takes_turns: bool = False  # of all such engines of its device only one is up at a time
    sleep_level: int = 0  # how it sleeps: 0 = it is stopped, 1 and 2 = vLLM's sleep mode
    sleeping_share: float = 0.0  # of a GPU's memory that vLLM keeps while it sleeps
    main_memory_asleep: Callable[[str], int | None] = lambda _model_path: 0  # bytes that level 1 takes; None = unknown


@dataclass(frozen=True)
class EngineSpec:
    """One engine: a server that we run (``server``), or a remote endpoint (None)."""

    engine_id: str
    served_name: str  # what /v1/models must list
    connect: Callable[[], EngineClient]  # also where the key and the vocabulary come in
    server: LocalServer | None = None
    check_sight: SightProbe | None = None  # None: a text model


class EngineStatus(Record):
    """What an engine is doing now. A new one for every change."""

    engine_id: str
    state: EngineState = EngineState.STOPPED
    ready: bool = Field(default=False, description="It answers, serves the right model and passed the sight check")
    turn: Turn | None = Field(
        default=None, description="Of engines that take turns on their device; None = it does not"
    )
    sight: Sight = Sight.UNKNOWN
    message: str = Field(default="", description="What it is doing now, in words")
    progress: float | None = Field(default=None, description="Of the start, 0..1; None = not starting or unknown")
    reason: str = Field(default="", description="Why it is not running or not ready, in a sentence")
    reason_code: str = Field(default="", description="The same as a stable word, such as OUT_OF_MEMORY")
    hint: str = Field(default="", description="What to do about it")
    log_lines: tuple[str, ...] = Field(default=(), description="Last meaningful lines of its log, of a failure")
    pid: int | None = Field(default=None, description="Of the process group while it lives")
    restarts: int = Field(default=0, description="How often it was started again since a person started it")
    engine_version: str | None = Field(default=None, description="As the server itself tells it")
    max_model_len: int | None = Field(default=None, description="Context in tokens, as the server itself tells it")
    since: datetime = Field(description="UTC; when it came into its state")
    remote: bool = False

    @property
    def is_asleep(self) -> bool:
        """Whether it waits for a question to wake it."""
        return self.turn is Turn.ASLEEP

    @property
    def is_off(self) -> bool:
        """Whether it answers nothing until somebody starts it."""
        return self.state is EngineState.STOPPED and not self.is_asleep


@dataclass(frozen=True)
class Timeouts:
    """Every wait of the supervisor, in s."""

    start_poll_s: float = 0.25
    health_poll_s: float = 1.0
    remote_poll_s: float = 5.0
    health_timeout_s: float = 5.0
    health_failures: int = 3  # in a row, until a running server counts as hung
    term_timeout_s: float = 15.0  # vLLM itself drains for up to 10 s
    hung_term_timeout_s: float = 2.0
    kill_timeout_s: float = 5.0
    sight_retry_s: float = 5.0
    sleep_timeout_s: float = 600.0  # weights on their way between a GPU and main memory
