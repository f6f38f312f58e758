"""Reading the bounded log that the launcher writes. Must never read more than a bounded piece of it."""

from __future__ import annotations

import re
from pathlib import Path

from components.jobs.launcher import OLDER

TAIL_BYTES = 256 * 1024
MAX_LINE_CHARACTERS = 2000
_ESCAPES = re.compile(r"\x1b\[[0-9;?]*[A-Za-z]")  # colours and cursor movements
_CONTROLS = re.compile(r"[\x00-\x08\x0b-\x1f\x7f]")


class LogTail:
    """The end of a log, in plain text lines."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def last(self, count: int) -> list[str]:
        """The last lines, oldest first; those of the turned-over file come first when they are needed."""
        lines = self.current(count)
        if len(lines) < count:
            lines = _read_lines(self.path.with_name(self.path.name + OLDER))[-(count - len(lines)) :] + lines
        return lines

    def current(self, count: int) -> list[str]:
        """The same, of this start only."""
        return _read_lines(self.path)[-count:] if count > 0 else []


def _read_lines(path: Path) -> list[str]:
    try:
        with path.open("rb") as file:
            size = file.seek(0, 2)
            file.seek(max(0, size - TAIL_BYTES))
            data = file.read(TAIL_BYTES)
    except FileNotFoundError:
        return []
    text = _ESCAPES.sub("", data.decode("utf-8", errors="replace"))
    # A carriage return rewrites its line, as progress bars do: the last writing counts.
    lines = [line.rstrip("\r").rpartition("\r")[2] for line in text.split("\n")]
    if size > TAIL_BYTES:
        lines = lines[1:]  # the first one is cut
    return [_CONTROLS.sub("", line)[:MAX_LINE_CHARACTERS] for line in lines if line.strip()]
