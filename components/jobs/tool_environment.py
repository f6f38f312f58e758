"""A tool's own interpreter: made on first use from the pinned requirements beside its script, mended when they change.

One environment per tool. What is written into it is only what pip installs; two jobs don't do so at once.
"""

from __future__ import annotations

import hashlib
import os
import subprocess
import sys
from collections.abc import Callable, Mapping
from pathlib import Path

from components.core.errors import JobError
from components.storage.lock_files import one_at_a_time

Say = Callable[[str], None]

_STAMP = ".installed-requirements"
_LAST_LINES = 6


def environments_root(repository: Path, state_dir: Path) -> Path:
    """Where tools' environments lie: ``.envs`` of the repository, or the state folder where that can't be written."""
    root = repository / ".envs"
    writable = os.access(root if root.exists() else repository, os.W_OK)
    return root if writable else state_dir / "envs"


class ToolEnvironment:
    """The environment of one tool below ``root``; see ``environments_root``.

    Args:
        requirements: the pinned packages, a file beside the tool's script.
    """

    def __init__(self, root: Path, tool: str, requirements: Path) -> None:
        self.folder = root / tool
        self._root, self._tool, self._requirements = root, tool, requirements

    @property
    def python(self) -> Path:
        """Its interpreter."""
        return self.folder / "bin" / "python"

    def is_ready(self) -> bool:
        """Whether it was made from the requirements as they are now."""
        stamp = self.folder / _STAMP
        return self.python.exists() and stamp.is_file() and stamp.read_text(encoding="ascii") == self._fingerprint()

    def ensure(self, env: Mapping[str, str], say: Say) -> Path:
        """The interpreter, made or mended if need be; ``env`` is what pip may know.

        Raises:
            JobError: it can't be made; names the last words of pip.
        """
        if self.is_ready():
            return self.python
        self._root.mkdir(parents=True, exist_ok=True)
        lock = self._root / f".{self._tool}.lock"
        with one_at_a_time(lock, lambda: say("Another job is making this environment; waiting")):
            if self.is_ready():
                return self.python
            if not (self.folder / _STAMP).is_file():  # never finished: what a job left that was killed may lack pip
                say(f"Making the environment of {self._tool}")
                self._run([sys.executable, "-m", "venv", "--clear", str(self.folder)], env, say)
            say(f"Installing what {self._tool} needs; this takes minutes the first time")
            self._run(
                [str(self.python), "-m", "pip", "install", "--disable-pip-version-check", "--retries", "1",
                 "--progress-bar", "off", "-r", str(self._requirements)],
                env, say,
            )  # fmt: skip
            (self.folder / _STAMP).write_text(self._fingerprint(), encoding="ascii")
        return self.python

    def freeze(self, env: Mapping[str, str]) -> list[str]:
        """Every package of it with its version, for the record."""
        argv = [str(self.python), "-m", "pip", "freeze", "--disable-pip-version-check"]
        told = subprocess.run(argv, env=dict(env), capture_output=True, text=True, timeout=120, check=False)
        return told.stdout.splitlines()

    def _fingerprint(self) -> str:
        return hashlib.sha256(self._requirements.read_bytes()).hexdigest()

    def _run(self, argv: list[str], env: Mapping[str, str], say: Say) -> None:
        lines: list[str] = []
        with subprocess.Popen(
            argv, env=dict(env), stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, errors="replace"
        ) as process:
            for line in process.stdout or ():
                lines = [*lines[-_LAST_LINES:], line.strip()]
                sys.stderr.write(line)
                if line.startswith(("Collecting", "Downloading", "Installing")):
                    say(line.strip()[:200])
        if process.returncode:
            raise JobError(
                f"The environment of {self._tool} could not be made: {lines[-1] if lines else 'pip said nothing'}",
                "The package index must be reachable once; the job's log has all of pip's words. Then try again.",
                detail="\n".join(lines),
            )
