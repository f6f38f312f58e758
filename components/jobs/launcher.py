"""The lifeline shim: runs one command in a session of its own and never outlives the app, nor lets the command do so.

Usage: ``python -I launcher.py LOG MAX_LOG_BYTES GRACE_S command…`` as leader of a new session, with a pipe from the
app as standard input. It ends the command when the app asks for it (a line ``stop SECONDS``), when the pipe ends
because the app died in any way, or when it gets SIGTERM, SIGINT or SIGHUP itself: first TERM to the command, then KILL
to every process of the group. When the command ends by itself, whatever it left behind is ended too. It
exits as the command did, with the same code or by the same signal.

Or detached: ``python -I launcher.py --detached CODE_FILE LOG MAX_LOG_BYTES GRACE_S command…``. The command then
outlives the app and only a signal ends it: INT, TERM and KILL to every process of the group, GRACE_S apart. Its exit
code is written to CODE_FILE, for an app that was started later is not told. ``--tethered`` is the same with the pipe,
whose end counts as such a signal (``node_entry.py`` holds it, on a node of a cluster).

Standard library only: it also runs under other interpreters than the app's. It must not block on the command's output
(it reads and drops what it can't write) and must not signal anything outside its own group.
"""

from __future__ import annotations

import os
import resource
import select
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path

OLDER = ".1"
CHUNK_BYTES = 1 << 18
LEFTOVER_GRACE_S = 1.0  # what the command left behind gets so long between TERM and KILL
GROUP_VARIABLE = "DIPTYCH_GROUP"  # in the environment of every process of the group: its name
START_FAILED = 127  # a shell's code for "command not found"


def find_members(group: str, session: int | None = None) -> dict[int, str]:
    """Living processes of a group: pid → name. Zombies hold nothing and don't count.

    A process belongs to it when its environment at birth carries the group's name, or when it is in ``session``.
    """
    mark = f"{GROUP_VARIABLE}={group}".encode()
    members = {}
    for entry in Path("/proc").iterdir():
        if not entry.name.isdigit():
            continue
        with suppress(OSError):  # it ended while we looked, or belongs to another user
            name, fields = parse_stat((entry / "stat").read_text(errors="replace"))
            if fields[0] not in "ZX" and (
                int(fields[3]) == session or mark in (entry / "environ").read_bytes().split(b"\0")
            ):
                members[int(entry.name)] = name
    return members


def parse_stat(stat: str) -> tuple[str, list[str]]:
    """Name and the fields from ``state`` on, of /proc/PID/stat; the name may hold spaces and brackets."""
    head, _, tail = stat.rpartition(")")
    return head.partition("(")[2], tail.split()


class BoundedLog:
    """A log file that turns over into ``LOG.1`` so that both together stay under a number of bytes."""

    def __init__(self, path: Path, max_bytes: int) -> None:
        self._path = path
        self._half = max_bytes // 2
        self._file = path.open("ab", buffering=0)
        self._size = path.stat().st_size

    def write(self, data: bytes) -> None:
        """Append; a full disk loses log lines, never blocks the command."""
        with suppress(OSError):
            if self._size + len(data) > self._half:
                self._path.replace(self._path.with_name(self._path.name + OLDER))
                full, self._file, self._size = self._file, self._path.open("ab", buffering=0), 0
                full.close()
            self._size += self._file.write(data) or 0

    def say(self, text: str) -> None:
        """A line of the launcher's own."""
        self.write(f"[launcher] {text}\n".encode())


class Launcher:
    """One command from its start to the end of its session."""

    def __init__(self, log: BoundedLog, grace_s: float) -> None:
        self._log = log
        self._grace_s = grace_s
        self._kill_at: float | None = None  # monotonic; set once the command was asked to end
        self._output, self._output_write = os.pipe2(os.O_CLOEXEC | os.O_NONBLOCK)
        self._wake, self._wake_write = os.pipe2(os.O_CLOEXEC | os.O_NONBLOCK)
        self._sources = {0, self._output, self._wake}

    def run(self, command: Sequence[str]) -> int:
        """Run the command to its end and return its code, negative for a signal."""
        signal.set_wakeup_fd(self._wake_write, warn_on_full_buffer=False)
        for number in (signal.SIGCHLD, signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
            signal.signal(number, lambda _number, _frame: None)
        os.set_blocking(self._output_write, True)  # the command's end is an ordinary pipe
        try:
            child = subprocess.Popen(
                command, stdin=subprocess.DEVNULL, stdout=self._output_write, stderr=self._output_write
            )
        except OSError as exc:
            self._log.say(f"cannot start {command[0]}: {exc.strerror}")
            return START_FAILED
        os.close(self._output_write)
        while child.poll() is None:
            self._wait(child)
        self._end_leftovers()
        self._copy_output()
        return child.returncode

    def _wait(self, child: subprocess.Popen[bytes]) -> None:
        """Sleep until something happens, and see to it."""
        timeout_s = None if self._kill_at is None else max(0.0, self._kill_at - time.monotonic())
        for descriptor in select.select(self._sources, (), (), timeout_s)[0]:  # all three are small numbers
            if descriptor == self._output:
                self._copy_output()
            elif descriptor == 0:
                self._read_lifeline(child)
            elif any(number != signal.SIGCHLD for number in os.read(self._wake, 64)):
                self._ask_to_end(child, self._grace_s)
        if self._kill_at is not None and time.monotonic() >= self._kill_at:
            self._escalate()

    def _escalate(self) -> None:
        self._log.say("the command did not end in time; killing its group")
        self._signal_others(signal.SIGKILL)
        self._kill_at = time.monotonic() + LEFTOVER_GRACE_S

    def _read_lifeline(self, child: subprocess.Popen[bytes]) -> None:
        words = os.read(0, 64).split()
        if not words:  # the app is gone, or let go of us
            self._sources.discard(0)
            self._ask_to_end(child, self._grace_s)
        elif words[0] == b"stop":
            self._ask_to_end(child, float(words[1]))

    def _ask_to_end(self, child: subprocess.Popen[bytes], grace_s: float) -> None:
        """TERM once; a second request can only shorten the wait."""
        deadline = time.monotonic() + grace_s
        if self._kill_at is None:
            child.terminate()
        self._kill_at = deadline if self._kill_at is None else min(self._kill_at, deadline)

    def _copy_output(self) -> None:
        """Move what the pipe holds into the log, one bounded piece at a time so that a flood can't starve a stop."""
        with suppress(BlockingIOError):
            data = os.read(self._output, CHUNK_BYTES)
            if not data:
                self._sources.discard(self._output)
            self._log.write(data)

    def _end_leftovers(self) -> None:
        """End what the command left of the group: TERM, a moment, KILL."""
        left = self._signal_others(signal.SIGTERM)
        if not left:
            return
        names = ", ".join(f"{pid} {name}" for pid, name in left.items())
        self._log.say(f"the command ended and left these processes behind: {names}; ending them")
        deadline = time.monotonic() + LEFTOVER_GRACE_S
        while left and time.monotonic() < deadline:
            self._copy_output()
            time.sleep(0.05)
            left = self._others()
        for _ in range(20):
            if not self._signal_others(signal.SIGKILL):
                return
            time.sleep(0.05)

    def _others(self) -> dict[int, str]:
        own = os.getpid()
        members = find_members(os.environ[GROUP_VARIABLE], session=own)
        return {pid: name for pid, name in members.items() if pid != own}

    def _signal_others(self, number: signal.Signals) -> dict[int, str]:
        others = self._others()
        for pid in others:
            with suppress(ProcessLookupError):
                os.kill(pid, number)
        return others


class DetachedLauncher(Launcher):
    """For a command that shall outlive the app: ended in three steps, and without a lifeline unless it is tethered."""

    def __init__(self, log: BoundedLog, grace_s: float, *, tethered: bool) -> None:
        super().__init__(log, grace_s)
        if not tethered:
            self._sources.discard(0)
        self._asked_twice = False

    def _ask_to_end(self, child: subprocess.Popen[bytes], grace_s: float) -> None:
        """INT to all, as Ctrl+C would: a tool then ends itself and its workers in order."""
        if self._kill_at is None:
            self._signal_others(signal.SIGINT)
            self._kill_at = time.monotonic() + grace_s

    def _escalate(self) -> None:
        if self._asked_twice:
            super()._escalate()
            return
        self._asked_twice = True
        self._signal_others(signal.SIGTERM)
        self._kill_at = time.monotonic() + self._grace_s


def exit_like(code: int) -> None:
    """End this process as the command ended, so that the app sees the true cause."""
    if code < 0:
        resource.setrlimit(resource.RLIMIT_CORE, (0, 0))  # the command's core is enough
        with suppress(OSError, ValueError):  # SIGKILL has no handler to reset
            signal.signal(-code, signal.SIG_DFL)
        os.kill(os.getpid(), -code)
    sys.exit(code)


def main(arguments: list[str]) -> None:
    """Run as the command line says; does not return."""
    mode = arguments[0] if arguments[0] in ("--detached", "--tethered") else None
    code_file = Path(arguments[1]) if mode else None
    log_path, max_log_bytes, grace, *command = arguments[2:] if mode else arguments
    log = BoundedLog(Path(log_path), int(max_log_bytes))
    if mode:
        launcher: Launcher = DetachedLauncher(log, float(grace), tethered=mode == "--tethered")
    else:
        launcher = Launcher(log, float(grace))
    code = launcher.run(command)
    if code_file:
        with suppress(OSError):  # a full disk
            code_file.write_text(f"{code}\n", encoding="ascii")
    exit_like(code)


if __name__ == "__main__":
    main(sys.argv[1:])
