"""The folder that all apps of one database share: pictures, token files, jobs. It says who is there and who leads.

Locks of the kernel, so that a killed app holds nothing. One app of all runs jobs and batches, the leader; when it ends,
another one takes over. Must not know what jobs and batches are.
"""

from __future__ import annotations

import logging
import os
import secrets
from collections.abc import Callable
from pathlib import Path

from sqlalchemy import select
from sqlalchemy.orm import Session

from components.core.errors import StorageError
from components.storage.atomic_write import make_private_folder, translate_os_error, write_atomically
from components.storage.database import Database
from components.storage.lock_files import open_lock_file, try_exclusive, wait_exclusive
from components.storage.tables import InstallationRow

_LOG = logging.getLogger(__name__)
_ID_FILE = "installation-id"
_APPS = "apps"


class Bell:
    """Tells the other apps of the folder that there is something new, without asking the database over and over."""

    def __init__(self, path: Path) -> None:
        self._path = path

    def ring(self) -> None:
        """Be heard. Where the disk is full nobody is, until somebody looks for another reason."""
        try:
            with self._path.open("ab") as file:
                file.write(b".")  # the length only grows, whatever the clock does
        except OSError:
            _LOG.warning("the other apps could not be told of something new", exc_info=True)

    def rung(self) -> int:
        """How often, so far."""
        try:
            return self._path.stat().st_size
        except OSError:
            return 0


class SharedFolder:
    """One app's place in it, from ``arrive`` to ``leave``."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.app_id = secrets.token_hex(16)
        self._present: int | None = None
        self._arriving: int | None = None
        self._leading: int | None = None
        self._dead: frozenset[str] = frozenset()

    def arrive(self) -> frozenset[str]:
        """Come in; waits while another app is arriving. The ids of the apps that are there, whose open work is theirs.

        Raises:
            StorageError: the folder can't be written.
        """
        try:
            make_private_folder(self.root / _APPS)
            self._arriving = open_lock_file(self.root / "arriving.lock")
            wait_exclusive(self._arriving)  # until ``settled``: two can't both think that they are alone
            others, self._dead = self._others()
            self._present = open_lock_file(self._place(self.app_id))
            wait_exclusive(self._present)
        except OSError as exc:
            raise translate_os_error(exc, self.root) from exc
        return others

    def settled(self) -> None:
        """What a dead app left open has been ended: the next app may arrive."""
        self._forget(self._dead)
        self._dead = frozenset()
        _close(self._arriving)
        self._arriving = None

    def bury(self, end: Callable[[frozenset[str]], None]) -> bool:
        """Where an app has died, have ``end`` close what is open of none of the ids that it is given.

        Whether one had. Does nothing while an app arrives, which does the same.
        """
        arriving = open_lock_file(self.root / "arriving.lock")
        try:
            if not try_exclusive(arriving):
                return False
            others, dead = self._others()
            if dead:
                end(others | {self.app_id})
                self._forget(dead)
            return bool(dead)
        finally:
            os.close(arriving)

    def _others(self) -> tuple[frozenset[str], frozenset[str]]:
        """Ids of the other apps: those that live, and those that died. To be called with the arriving lock."""
        living: set[str] = set()
        dead: set[str] = set()
        for path in (self.root / _APPS).glob("*.lock"):
            if path.stem == self.app_id:
                continue
            descriptor = open_lock_file(path)
            (dead if try_exclusive(descriptor) else living).add(path.stem)
            os.close(descriptor)
        return frozenset(living), frozenset(dead)

    def _forget(self, app_ids: frozenset[str]) -> None:
        for app_id in app_ids:
            self._place(app_id).unlink(missing_ok=True)

    def _place(self, app_id: str) -> Path:
        return self.root / _APPS / f"{app_id}.lock"

    def bell(self, name: str) -> Bell:
        """The bell of this name, which all apps hear."""
        return Bell(self.root / f"{name}.bell")

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
        if self._present is not None:
            self._forget(frozenset({self.app_id}))
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
