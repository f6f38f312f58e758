"""One command in a session of its own that ends with the app, and whose end is verified process by process.

Spawning goes through ``launcher.py``, which holds a pipe from the app (the lifeline) and ends the whole group when that
pipe ends. Knows nothing of what the command is. Must not signal a process that it can't prove to be of the group.
"""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Self

from components.jobs.launcher import GROUP_VARIABLE, OLDER, find_members, parse_stat

LAUNCHER = Path(__file__).with_name("launcher.py")
DEFAULT_LOG_BYTES = 20 * 2**20
APP_DEATH_GRACE_S = 5.0  # TERM to KILL when the app died: well inside the promised 10 s
POLL_S = 0.05


@dataclass(frozen=True)
class ProcessIdentity:
    """A process for good: the pid alone may be given to another one after its end."""

    pid: int
    start_ticks: int  # clock ticks since boot at which it started
    boot_id: str

    @classmethod
    def read(cls, pid: int) -> Self | None:
        """Of a living process; None when there is none (a zombie still counts)."""
        try:
            _, fields = parse_stat(Path(f"/proc/{pid}/stat").read_text(errors="replace"))
        except OSError:
            return None
        return cls(pid, int(fields[19]), Path("/proc/sys/kernel/random/boot_id").read_text(encoding="ascii").strip())

    def is_alive(self) -> bool:
        """Whether this very process still exists."""
        return ProcessIdentity.read(self.pid) == self


@dataclass(frozen=True)
class StopReport:
    """How a stop went. It is a clean one only when nothing survived."""

    exit_code: int | None  # of the command; negative for a signal
    took_s: float
    killed: bool  # it did not end in time by itself
    survivors: Mapping[int, str] = field(default_factory=dict)  # pid → name

    @property
    def verified(self) -> bool:
        """No process of the group is left."""
        return not self.survivors


class ProcessGroup:
    """A running command with everything it starts."""

    def __init__(self, name: str, launcher: subprocess.Popen[bytes], identity: ProcessIdentity | None) -> None:
        self.name = name
        self.identity = identity  # of the launcher, which leads the session
        self._launcher = launcher

    @classmethod
    def spawn(
        cls,
        argv: Sequence[str],
        env: Mapping[str, str],
        cwd: Path,
        log: Path,
        *,
        name: str,
        max_log_bytes: int = DEFAULT_LOG_BYTES,
    ) -> Self:
        """Start a command in a group called ``name``, which must be unique on this machine (a path is).

        The log of the start before is kept as ``LOG.1``. Blocks for some milliseconds.
        """
        log.parent.mkdir(parents=True, exist_ok=True)
        if log.exists():
            log.replace(log.with_name(log.name + OLDER))
        # Isolated, without site: starts in 20 ms, and the command's PYTHONPATH is not ours.
        start = [sys.executable, "-I", "-S", str(LAUNCHER), str(log), str(max_log_bytes), str(APP_DEATH_GRACE_S)]
        with open(log, "ab", opener=_open_private) as own_words:
            launcher = subprocess.Popen(
                [*start, *argv],
                # setproctitle writes over the environment that find_members reads, unless told not to.
                env={**env, GROUP_VARIABLE: name, "SPT_NOENV": "1"},
                cwd=cwd,
                stdin=subprocess.PIPE,
                stdout=subprocess.DEVNULL,
                stderr=own_words,
                start_new_session=True,
                umask=0o077,
                bufsize=0,
            )
        return cls(name, launcher, ProcessIdentity.read(launcher.pid))

    @property
    def pid(self) -> int:
        """Process, session and process group id of the launcher."""
        return self._launcher.pid

    def poll(self) -> int | None:
        """The command's exit code, negative for a signal; None while it runs."""
        return self._launcher.poll()

    def members(self) -> dict[int, str]:
        """What of the group is alive: pid → name."""
        session = self.pid if self.poll() is None else None  # afterwards the number may be another's
        return find_members(self.name, session)

    async def wait(self) -> int:
        """Until the command has ended; its exit code."""
        while (code := self.poll()) is None:  # noqa: ASYNC110  # a pid has no event to wait for
            await asyncio.sleep(POLL_S)
        return code

    async def stop(self, term_timeout_s: float = 15.0, kill_timeout_s: float = 5.0) -> StopReport:
        """TERM to the command, after ``term_timeout_s`` KILL to the group; then look that none is left.

        Also right after the command ended by itself: then it only clears and verifies.
        """
        started = time.monotonic()
        self._ask_to_stop(term_timeout_s)
        with suppress(TimeoutError):
            async with asyncio.timeout(term_timeout_s + kill_timeout_s):
                await self.wait()
        took_s = time.monotonic() - started
        survivors = await end_leftovers(self.name, kill_timeout_s)
        self._let_go()
        return StopReport(self.poll(), took_s, took_s >= term_timeout_s, survivors)

    def _ask_to_stop(self, term_timeout_s: float) -> None:
        if self.poll() is None and self._launcher.stdin is not None:
            with suppress(BrokenPipeError, ValueError):  # it is ending already; closed by an earlier stop
                self._launcher.stdin.write(f"stop {term_timeout_s}\n".encode())

    def _let_go(self) -> None:
        if self._launcher.stdin is not None:
            self._launcher.stdin.close()


def _open_private(path: str, flags: int) -> int:
    return os.open(path, flags, mode=0o600)


async def end_leftovers(name: str, timeout_s: float = 5.0) -> dict[int, str]:
    """KILL whatever still carries the group's name, for instance from an app that died with its launcher.

    Returns:
        What could not be ended: pid → name. Empty is the good case.
    """
    deadline = time.monotonic() + timeout_s
    while left := await asyncio.to_thread(find_members, name):
        for pid in left:
            with suppress(ProcessLookupError, PermissionError):
                os.kill(pid, signal.SIGKILL)
        if time.monotonic() >= deadline:
            return left
        await asyncio.sleep(POLL_S)
    return {}
