"""One database, one write thread, any number of readers; the schema is brought up to date when it is opened.

SQLite is the default; PostgreSQL (``postgres.py``) is for several apps that share their records. SQLite before 3.51.3
(Python 3.11 brings 3.40) can damage a database in WAL mode when two connections write or checkpoint at once. What
protects us is the rule kept here: exactly one connection ever writes, it lives on one thread, only it checkpoints
(readers are ``query_only`` and are closed before it), memory mapping is off, no connection is carried across a fork,
and StateLock keeps a second app out.

Calls block; an async caller uses ``asyncio.to_thread``. Must not know what is stored.
"""

from __future__ import annotations

import logging
import os
import sqlite3
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TypeVar

from sqlalchemy import Connection, Engine, create_engine, event, make_url
from sqlalchemy.exc import DBAPIError
from sqlalchemy.exc import TimeoutError as PoolTimeoutError
from sqlalchemy.orm import Session
from sqlalchemy.pool import QueuePool

from components.core.errors import StorageError
from components.storage import migrations
from components.storage.atomic_write import make_private_folder, translate_os_error
from components.storage.database_errors import translate_database_error
from components.storage.postgres import check_encoding, postgres_engine

T = TypeVar("T")
_LOG = logging.getLogger(__name__)
_FIXED_SQLITE = (3, 51, 3)


class Database:
    """Opened by ``open``, ended by ``close``; between them ``write`` and ``read`` may be called from any thread."""

    def __init__(self, url: str, *, busy_timeout_s: float = 5.0, app_id: str | None = None) -> None:
        """``app_id`` marks what this app has open, for the others that share the database."""
        self._url, self.app_id = make_url(url), app_id
        self._busy_timeout_s = busy_timeout_s
        self._is_sqlite = self._url.get_backend_name() == "sqlite"
        if not self._is_sqlite and self._url.get_backend_name() != "postgresql":
            raise StorageError(f"{self._url.get_backend_name()} is not supported.", "Use SQLite or PostgreSQL.")
        self._writer: Engine | None = None
        self._reader: Engine | None = None
        self._thread: ThreadPoolExecutor | None = None

    def open(self) -> None:
        """Create the database if need be and bring its schema up to date.

        Raises:
            SchemaTooNewError: a newer Diptych wrote it; it is left unchanged. DatabaseCorruptError,
            DatabaseBusyError, DiskFullError, StorageError: it can't be used; it is never deleted.
        """
        if self._thread is not None:
            raise StorageError("The database is already open.")
        if self._is_sqlite:
            _prepare_file(self._url.database)
        self._writer = self._make_engine(is_writer=True)
        self._reader = self._make_engine(is_writer=False)
        self._thread = ThreadPoolExecutor(max_workers=1, thread_name_prefix="database-writer")
        try:
            self._thread.submit(self._migrate, self._writer).result()
        except BaseException:
            self.close()
            raise

    def write(self, change: Callable[[Session], T]) -> T:
        """Run ``change`` in one transaction on the write thread. When this returns, the change is on disk.

        Raises:
            StorageError or a subclass: nothing of the change was stored. What ``change`` raises passes through.
        """
        if self._thread is None or self._writer is None:
            raise _closed()
        return self._thread.submit(_run, self._writer, change).result()

    def read(self, query: Callable[[Session], T]) -> T:
        """Run ``query`` in one read-only transaction, on this thread: it sees one state of the database."""
        if self._reader is None:
            raise _closed()
        return _run(self._reader, query)

    def close(self) -> None:
        """Finish what was accepted, then close. Readers first: the last connection to close checkpoints."""
        thread, self._thread = self._thread, None
        writer, self._writer = self._writer, None
        reader, self._reader = self._reader, None
        if reader is not None:
            reader.dispose()
        if thread is not None and writer is not None:
            thread.submit(writer.dispose).result()
            thread.shutdown(wait=True)

    def _make_engine(self, *, is_writer: bool) -> Engine:
        if not self._is_sqlite:
            return postgres_engine(self._url, is_writer=is_writer)
        # A pool of one, never more, is what makes the write connection the only one.
        sizes: dict[str, Any] = {"pool_size": 1, "max_overflow": 0} if is_writer else {}
        engine = create_engine(self._url, poolclass=QueuePool, **sizes)
        begin = "BEGIN IMMEDIATE" if is_writer else "BEGIN"

        @event.listens_for(engine, "connect")
        def prepare(connection: sqlite3.Connection, _record: object) -> None:
            connection.isolation_level = None  # BEGIN is ours alone, or DDL would not be transactional
            for pragma in self._pragmas(is_writer=is_writer):
                connection.execute(f"PRAGMA {pragma}").fetchall()

        @event.listens_for(engine, "begin")
        def begin_transaction(connection: Connection) -> None:
            connection.exec_driver_sql(begin)

        return engine

    def _pragmas(self, *, is_writer: bool) -> tuple[str, ...]:
        shared = (f"busy_timeout={round(self._busy_timeout_s * 1000)}", "foreign_keys=ON", "mmap_size=0")
        return (*shared, "journal_mode=WAL", "synchronous=FULL") if is_writer else (*shared, "query_only=ON")

    def _migrate(self, engine: Engine) -> None:
        if self._is_sqlite and sqlite3.sqlite_version_info < _FIXED_SQLITE:
            _LOG.info("SQLite %s has the WAL-reset bug; one write connection avoids it", sqlite3.sqlite_version)
        with _translated(), engine.begin() as connection:
            if not self._is_sqlite:
                check_encoding(connection)
            migrations.upgrade(connection)


def sqlite_url(path: Path) -> str:
    """The URL of an SQLite file."""
    return f"sqlite:///{path}"


def _run(engine: Engine, work: Callable[[Session], T]) -> T:
    with _translated(), Session(engine, expire_on_commit=False) as session, session.begin():
        return work(session)


@contextmanager
def _translated() -> Iterator[None]:
    try:
        yield
    except (DBAPIError, PoolTimeoutError, sqlite3.Error) as exc:
        raise translate_database_error(exc) from exc


def _prepare_file(database: str | None) -> None:
    """Only this account may read it; SQLite gives the -wal and -shm files the same mode."""
    if database in (None, "", ":memory:"):
        raise StorageError("A database in memory keeps nothing.", "Give the path of a file: sqlite:////path/to/file.")
    path = Path(str(database))
    try:
        make_private_folder(path.parent)
        # Only ever created here, never opened: closing a second descriptor would drop SQLite's own locks.
        if not path.exists():
            os.close(os.open(path, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o600))
    except OSError as exc:
        raise translate_os_error(exc, path) from exc


def _closed() -> StorageError:
    return StorageError("The database is not open.", "Diptych is starting or shutting down; try again.")
