"""The folder that all apps of one database share: pictures, token files, jobs. It says who is there and who leads.

Locks of the kernel, so that a killed app holds nothing. One app of all runs jobs and batches, the leader; when it ends,
another one takes over. Must not know what jobs and batches are.
"""

from __future__ import annotations

import fcntl
import os
import secrets
from pathlib import Path

from sqlalchemy import select
from sqlalchemy.orm import Session

from components.core.errors import StorageError
from components.storage.atomic_write import make_private_folder, translate_os_error, write_atomically
from components.storage.database import Database
from components.storage.lock_files import open_lock_file, try_exclusive
from components.storage.tables import InstallationRow

_ID_FILE = "installation-id"


class SharedFolder:
    """One app's place in it, from ``arrive`` to ``leave``."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self._present: int | None = None
        self._arriving: int | None = None
        self._leading: int | None = None

    def arrive(self) -> bool:
        """Come in; waits while another app is arriving. Whether no other app is there: then what is open is nobody's.

        Raises:
            StorageError: the folder can't be written.
        """
        try:
            make_private_folder(self.root)
            self._arriving = open_lock_file(self.root / "arriving.lock")
            self._present = open_lock_file(self.root / "present.lock")
            fcntl.flock(self._arriving, fcntl.LOCK_EX)  # until ``settled``: two can't both think that they are alone
            alone = try_exclusive(self._present)
            fcntl.flock(self._present, fcntl.LOCK_SH)
        except OSError as exc:
            raise translate_os_error(exc, self.root) from exc
        return alone

    def settled(self) -> None:
        """What a dead app left open has been ended: the next app may arrive."""
        _close(self._arriving)
        self._arriving = None

    def leads(self) -> bool:
        """Whether this app is the one that runs jobs and batches; takes that over where nobody does."""
        if self._leading is not None:
            return True
        try:
            descriptor = open_lock_file(self.root / "leader.lock")
        except OSError as exc:
            raise translate_os_error(exc, self.root) from exc
        if try_exclusive(descriptor):
            self._leading = descriptor
            return True
        os.close(descriptor)
        return False

    def leave(self) -> None:
        """Give every lock back."""
        for descriptor in (self._leading, self._present):
            _close(descriptor)
        self._leading = self._present = None
        self.settled()

    def check_belongs(self, database: Database) -> None:
        """Refuse a database whose files lie elsewhere: pictures would be missing, and two apps would both lead.

        Raises:
            StorageError: the database is another folder's, or the folder another database's.
        """
        path = self.root / _ID_FILE
        ours = path.read_text(encoding="ascii").strip() if path.exists() else ""

        def join(session: Session) -> str:
            known = session.scalar(select(InstallationRow.id))
            if known is None:
                known = ours or secrets.token_hex(16)
                session.add(InstallationRow(id=known))
            return known

        known = database.write(join)
        if not ours:
            write_atomically(path, known.encode("ascii"), self.root)
        elif ours != known:
            raise StorageError(
                f"The database does not belong to the files in {self.root}.",
                "Apps that share a database need the same DIPTYCH_SHARED_DIR; another database needs another folder.",
            )


def _close(descriptor: int | None) -> None:
    if descriptor is not None:
        os.close(descriptor)
