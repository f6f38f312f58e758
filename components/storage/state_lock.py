"""One app per state directory: a lock file that the kernel releases however its holder dies. Nothing else."""

from __future__ import annotations

import os
from pathlib import Path
from types import TracebackType

from components.core.errors import StateInUseError
from components.storage.atomic_write import make_private_folder, translate_os_error
from components.storage.lock_files import open_lock_file, try_exclusive


class StateLock:
    """Exclusive use of a state directory, from ``acquire`` until ``release`` or the end of the process.

    The file is never deleted: a second app could then lock a new file of the same name while the first one still
    holds the old.
    """

    def __init__(self, state_dir: Path) -> None:
        self._path = state_dir / "lock"
        self._descriptor: int | None = None

    def acquire(self) -> None:
        """Take the lock without waiting.

        Raises:
            StateInUseError: another app holds it; the message names its process id. StorageError: the state
            directory can't be written.
        """
        try:
            make_private_folder(self._path.parent)
            descriptor = open_lock_file(self._path)
        except OSError as exc:
            raise translate_os_error(exc, self._path) from exc
        if not try_exclusive(descriptor):
            holder = os.read(descriptor, 32).decode("ascii", "replace").strip() or "unknown"
            os.close(descriptor)
            raise StateInUseError(
                f"Another Diptych (process {holder}) already uses the state directory {self._path.parent}.",
                "Stop it first, or give this one its own directory with --state-dir.",
            )
        os.truncate(descriptor, 0)
        os.write(descriptor, f"{os.getpid()}\n".encode("ascii"))
        self._descriptor = descriptor

    def release(self) -> None:
        """Give the lock back; harmless when it is not held."""
        if self._descriptor is not None:
            os.close(self._descriptor)
            self._descriptor = None

    def __enter__(self) -> StateLock:
        self.acquire()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, exc: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.release()
