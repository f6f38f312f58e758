"""A job's process group: it outlives the app, is found again by a later one, and is ended to the last process.

Must not signal a process that it can't prove to be of the group.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Self

import psutil

from components.core.jobs import ProcessMark
from components.jobs.launcher import GROUP_VARIABLE, find_members, parse_stat
from components.jobs.process_group import LAUNCHER, ProcessIdentity, end_leftovers
from components.jobs.records import JobFolder

LOG_BYTES = 20 * 2**20
STEP_GRACE_S = 2.5  # from INT to TERM and from TERM to KILL: all over within the promised 10 s


class DetachedGroup:
    """A running job's processes, led by a launcher. Implements ``places.Attempt``."""

    note = ""

    def __init__(self, folder: JobFolder, mark: ProcessMark, child: subprocess.Popen[bytes] | None = None) -> None:
        self.name = str(folder.path)
        self.mark = mark
        self._folder = folder
        self._identity = ProcessIdentity(mark.pid, mark.start_ticks, mark.boot_id)
        self._child = child  # only in the app that started it: it must be reaped there

    @classmethod
    def spawn(cls, argv: Sequence[str], env: Mapping[str, str], cwd: Path, folder: JobFolder) -> Self:
        """Start a job's driver. Blocks for some milliseconds.

        Raises:
            OSError: it can't be started.
        """
        start = [sys.executable, "-I", "-S", str(LAUNCHER), "--detached", str(folder.exit_code)]
        with folder.log.open("ab") as own_words:
            child = subprocess.Popen(
                [*start, str(folder.log), str(LOG_BYTES), str(STEP_GRACE_S), *argv],
                env={**env, GROUP_VARIABLE: str(folder.path), "SPT_NOENV": "1"},
                cwd=cwd,
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                stderr=own_words,
                start_new_session=True,
                umask=0o077,
            )
        identity = ProcessIdentity.read(child.pid)
        if identity is None:  # pragma: no cover  # a zombie still has an identity
            raise ProcessLookupError(child.pid)
        mark = ProcessMark(pid=identity.pid, start_ticks=identity.start_ticks, boot_id=identity.boot_id)
        return cls(folder, mark, child)

    def runs(self) -> bool:
        """Whether its launcher is alive. After its end ``members`` tells what it left."""
        if self._child is not None:
            return self._child.poll() is None
        # An adopted one is not our child: whoever inherited it may never reap it, so a zombie has ended.
        return self._identity.is_alive() and not _is_zombie(self.mark.pid)

    def members(self) -> dict[int, str]:
        """What of the group is alive, the launcher included: pid → name."""
        return find_members(self.name, self.mark.pid if self.runs() else None)

    def ask_to_stop(self) -> None:
        """Begin the end: the launcher sends INT, TERM and KILL to the others."""
        self._signal(signal.SIGINT)

    async def end_rest(self) -> dict[int, str]:
        """KILL what its launcher left."""
        return await end_leftovers(self.name)

    def exit_code(self) -> int | None:
        """Of the driver, negative for a signal; None when nobody noted it."""
        return self._folder.read_exit_code()

    def memory_bytes(self) -> int:
        """Resident memory of all its processes; what they share counts for each."""
        total = 0
        for pid in self.members():
            with suppress(psutil.Error):
                total += psutil.Process(pid).memory_info().rss
        return total

    def why_lost(self) -> str:
        """Whether the machine was restarted since it began."""
        now = Path("/proc/sys/kernel/random/boot_id").read_text(encoding="ascii").strip()
        return "" if now == self.mark.boot_id else "The machine was restarted while the job ran."

    def _signal(self, number: signal.Signals) -> None:
        if self.runs():
            with suppress(ProcessLookupError):
                os.kill(self.mark.pid, number)


def _is_zombie(pid: int) -> bool:
    try:
        return parse_stat(Path(f"/proc/{pid}/stat").read_text(errors="replace"))[1][0] in "ZX"
    except OSError:
        return True
