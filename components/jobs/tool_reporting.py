"""How a tool's script tells what it does: one JSON object a line on standard output, everything else on standard error.

Standard library only. It runs in the tool's own interpreter and knows nothing of Diptych.
"""

from __future__ import annotations

import errno
import json
import os
import resource
import sys
import time
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any, TextIO

_SHORTEST_PAUSE_S = 0.5  # between two lines about the same step


class ScriptError(Exception):
    """What went wrong, in a sentence for the person who started the job; ``field`` names what to change."""

    def __init__(self, message: str, field: str | None = None) -> None:
        super().__init__(message)
        self.field = field


class Reporter:
    """Writes event lines. Libraries that print keep doing so, but to standard error."""

    def __init__(self, lines: TextIO) -> None:
        self._lines = lines
        self._last_s = 0.0
        self._started_s = time.monotonic()
        self.phase, self.step, self.steps, self._first = "Starting", 0, 0, 0

    @classmethod
    def take_standard_output(cls) -> Reporter:
        """From now on only event lines go to the real standard output."""
        lines = os.fdopen(os.dup(1), "w", encoding="utf-8", buffering=1)
        sys.stdout.flush()
        os.dup2(2, 1)
        return cls(lines)

    def begin(self, phase: str, steps: int = 0, message: str = "") -> None:
        """A new phase of so many steps (layers, blocks, samples); 0 = not known."""
        self.phase, self.step, self.steps, self._first = phase, 0, steps, 0
        self._started_s = time.monotonic()
        self.say(message)

    def resume(self, step: int, message: str) -> None:
        """So many steps were finished by an earlier run; they say nothing about this one's speed."""
        self.step = self._first = step
        self.say(message)

    def done(self, step: int, message: str = "", loss: float | None = None) -> None:
        """So many steps are finished."""
        self.step = step
        self.say(message, loss)

    def say(self, message: str = "", loss: float | None = None) -> None:
        """One line about where the phase stands."""
        self._last_s = time.monotonic()
        event = {
            "phase": self.phase,
            "step": self.step if self.steps else None,
            "steps": self.steps or None,
            "message": message,
            "loss": loss,
            "peak_memory_bytes": peak_memory_bytes(),
            "remaining_s": self._remaining_s(),
        }
        self._lines.write(json.dumps(event) + "\n")

    def finish(self, result: dict[str, Any]) -> None:
        """The script's last line: what it made."""
        self._lines.write(json.dumps({"result": result}) + "\n")

    def fail(self, message: str, field: str | None = None) -> None:
        """The last line of a script that failed for a reason that it knows."""
        self._lines.write(json.dumps({"failure": message, "field": field}) + "\n")

    def watch(self, items: Iterable[Any], total: int, message: str) -> Iterator[Any]:
        """Passes items on and now and then says how far it is."""
        for index, item in enumerate(items):
            yield item
            if time.monotonic() - self._last_s > _SHORTEST_PAUSE_S:
                self.say(f"{message}: {index + 1} of {total}")

    def _remaining_s(self) -> float | None:
        done = self.step - self._first
        if not done or not self.steps:
            return None
        return (time.monotonic() - self._started_s) / done * (self.steps - self.step)


def peak_memory_bytes() -> int:
    """Highest resident memory of this process so far, or that of the accelerator when it is higher."""
    resident = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
    torch = sys.modules.get("torch")
    if torch is None or not torch.cuda.is_available():
        return resident
    return max(resident, int(torch.cuda.max_memory_allocated()))


def run_script(work: Callable[[dict[str, Any], Reporter], dict[str, Any]], embedded: str | None) -> int:
    """Run ``work`` on the spec: the file named on the command line, else the one that the script carries.

    Returns:
        0, or 1 for a failure with a known reason. Anything else is a traceback, on standard error.
    """
    if len(sys.argv) > 1:
        spec = json.loads(Path(sys.argv[1]).read_text(encoding="utf-8"))
    elif embedded is not None:
        spec = json.loads(embedded)
    else:
        sys.stderr.write("usage: python SCRIPT spec.json\n")
        return 2
    reporter = Reporter.take_standard_output()
    try:
        reporter.finish(work(spec, reporter))
    except ScriptError as exc:
        reporter.fail(str(exc), exc.field)
        return 1
    except Exception as exc:
        if not _is_for_want_of_space(exc):
            raise
        sys.stderr.write(f"{exc!r}\n")
        reporter.fail("The disk is full: the tool could not write its output. Free some space, then retry.")
        return 1
    return 0


def _is_for_want_of_space(exc: Exception) -> bool:
    """Also of libraries that put the system's error into a text of their own, as safetensors does."""
    if isinstance(exc, OSError) and exc.errno in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG):
        return True
    return any(f"os error {number}" in str(exc) for number in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG))
