"""A real SQLite file: settings, migrations, one writer, and every way it can refuse."""

from __future__ import annotations

import sqlite3
import stat
import subprocess
import sys
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from alembic.autogenerate import compare_metadata
from alembic.runtime.migration import MigrationContext
from sqlalchemy import text
from sqlalchemy.exc import OperationalError
from sqlalchemy.orm import Session

from components.core.errors import (
    DatabaseBusyError,
    DatabaseCorruptError,
    SchemaTooNewError,
    StorageError,
)
from components.storage.blobs import BlobStore
from components.storage.database import Database, sqlite_url
from components.storage.review_tables import ReviewBatchRow
from components.storage.tables import Base
from components.storage.traces import TraceRepository
from tests.data.traces import turn

pytestmark = pytest.mark.service


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "state" / "diptych.db"


@pytest.fixture
def database(path: Path) -> Iterator[Database]:
    opened = Database(sqlite_url(path), busy_timeout_s=0.2)
    opened.open()
    yield opened
    opened.close()


def test_settings_that_keep_data_safe(database: Database) -> None:
    def pragma(session: Session) -> list[object]:
        names = ("journal_mode", "synchronous", "foreign_keys", "mmap_size", "query_only")
        return [session.execute(text(f"PRAGMA {name}")).scalar() for name in names]

    assert database.write(pragma) == ["wal", 2, 1, 0, 0]
    assert database.read(pragma)[2:] == [1, 0, 1]


def test_only_this_account_may_read(database: Database, path: Path) -> None:
    database.write(lambda session: session.execute(text("CREATE TABLE x (y)")))
    assert stat.S_IMODE(path.parent.stat().st_mode) == 0o700
    for file in path.parent.iterdir():
        assert stat.S_IMODE(file.stat().st_mode) == 0o600, file


def test_a_reader_cannot_write(database: Database) -> None:
    with pytest.raises(StorageError):
        database.read(lambda session: session.execute(text("CREATE TABLE x (y)")))


def test_all_writes_use_one_thread_and_one_connection(database: Database) -> None:
    def who(session: Session) -> tuple[int, int]:
        return threading.get_ident(), id(session.connection().connection.dbapi_connection)

    with ThreadPoolExecutor(8) as pool:
        seen = set(pool.map(lambda _: database.write(who), range(64)))
    assert len(seen) == 1
    assert seen.pop()[0] != threading.get_ident()


def test_a_change_that_fails_leaves_nothing(database: Database) -> None:
    def change(session: Session) -> None:
        session.execute(text("CREATE TABLE half (y)"))
        raise KeyError("on the way")

    with pytest.raises(KeyError):
        database.write(change)
    assert (
        database.read(
            lambda session: session.execute(text("SELECT count(*) FROM sqlite_master WHERE name='half'")).scalar()
        )
        == 0
    )


def test_migrations_make_exactly_the_tables(database: Database) -> None:
    def differences(session: Session) -> list[object]:
        context = MigrationContext.configure(session.connection(), opts={"compare_type": True})
        return list(compare_metadata(context, Base.metadata))

    assert ReviewBatchRow.__tablename__ in Base.metadata.tables  # these tables are in a file of their own
    assert database.read(differences) == []

    def checks(session: Session) -> str:
        return str(session.execute(text("SELECT sql FROM sqlite_master WHERE name='answers'")).scalar())

    assert "CHECK (outcome IN ('streaming', 'finished', 'stopped', 'truncated', 'failed'))" in database.read(checks)


def test_opening_again_changes_nothing(database: Database, path: Path) -> None:
    database.close()
    before = path.read_bytes()
    database.open()
    database.close()
    assert path.read_bytes() == before


def test_a_closed_database_says_so(path: Path) -> None:
    closed = Database(sqlite_url(path))
    for call in (closed.read, closed.write):
        with pytest.raises(StorageError, match="not open"):
            call(lambda session: session.execute(text("SELECT 1")))
    closed.close()


@pytest.mark.parametrize("url", ["sqlite://", "sqlite:///:memory:"])
def test_a_database_in_memory_is_refused(url: str) -> None:
    with pytest.raises(StorageError, match="keeps nothing"):
        Database(url).open()


def test_f57_a_newer_schema_is_refused_and_left_unchanged(database: Database, path: Path) -> None:
    database.write(lambda session: session.execute(text("UPDATE alembic_version SET version_num = '9999'")))
    database.close()
    before = path.read_bytes()
    with pytest.raises(SchemaTooNewError, match="newer Diptych") as caught:
        database.open()
    assert "--state-dir" in caught.value.hint
    assert path.read_bytes() == before


def test_f57_a_database_locked_by_another_program_is_a_typed_error(database: Database, path: Path) -> None:
    code = (
        "import sqlite3, sys\n"
        f"c = sqlite3.connect({str(path)!r}, isolation_level=None)\n"
        "c.execute('BEGIN IMMEDIATE')\nprint('held', flush=True)\nsys.stdin.read()\n"
    )
    with subprocess.Popen([sys.executable, "-c", code], stdin=subprocess.PIPE, stdout=subprocess.PIPE) as other:
        assert other.stdout is not None
        assert other.stdin is not None
        assert other.stdout.readline() == b"held\n"
        with pytest.raises(DatabaseBusyError, match="Another program holds the database"):
            database.write(lambda session: session.execute(text("CREATE TABLE x (y)")))
        assert database.read(lambda session: session.execute(text("SELECT count(*) FROM turns")).scalar()) == 0
        other.stdin.close()
        other.wait(10)
    database.write(lambda session: session.execute(text("CREATE TABLE x (y)")))


@pytest.mark.parametrize("start", [b"garbage!" * 200, b"SQLite format 3\x00" + b"\xff" * 2000])
def test_f57_a_damaged_database_is_a_typed_error_and_is_not_deleted(start: bytes, path: Path) -> None:
    path.parent.mkdir()
    path.write_bytes(start)
    with pytest.raises(DatabaseCorruptError) as caught:
        Database(sqlite_url(path)).open()
    assert "backup" in caught.value.hint
    assert path.read_bytes() == start


def test_f57_a_damaged_page_is_a_typed_error_when_it_is_read(database: Database, path: Path) -> None:
    traces = TraceRepository(database, BlobStore(path.parent / "blobs"))
    for number in range(40):
        traces.create_turn(turn(f"t{number}"))
    database.close()
    data = bytearray(path.read_bytes())
    data[4096 * 2 :] = b"\xee" * (len(data) - 4096 * 2)
    path.write_bytes(data)
    with pytest.raises(DatabaseCorruptError):
        database.open()
        traces.recent()


def test_f57_a_database_that_may_not_be_written_is_a_typed_error(database: Database, path: Path) -> None:
    database.close()
    folder = path.parent
    script = f'mount --bind {folder} {folder} && mount -o remount,ro,bind {folder} && exec {sys.executable} -c "$1"'
    code = (
        "from components.storage.database import Database\n"
        "from components.core.errors import StorageError\n"
        f"try:\n    Database('sqlite:///{path}').open()\n"
        "except StorageError as exc:\n    print(type(exc).__name__, exc)\n"
    )
    done = subprocess.run(
        ["unshare", "-rm", "sh", "-c", script, "sh", code], capture_output=True, text=True, check=False
    )
    if "unshare" in done.stderr or "mount" in done.stderr:
        pytest.skip(f"no private mounts here: {done.stderr.strip()}")
    assert done.stdout.startswith("StorageError The database can't be opened for writing."), done.stderr


def test_f57_without_its_wal_file_the_database_still_opens_whole(database: Database, path: Path) -> None:
    traces = TraceRepository(database, BlobStore(path.parent / "blobs"))
    traces.create_turn(turn("t1"))
    copy = path.parent / "copy.db"
    copy.write_bytes(path.read_bytes())  # as a careless backup would: without -wal
    other = Database(sqlite_url(copy))
    other.open()
    assert other.read(lambda session: session.execute(text("PRAGMA integrity_check")).scalar()) == "ok"
    other.close()


@pytest.mark.parametrize(
    ("said", "kind"),
    [
        ("database or disk is full", "disk_full"),
        ("disk I/O error", "disk_full"),
        ("could not extend file: No space left on device", "disk_full"),
        ("database is locked", "database_busy"),
        ("database disk image is malformed", "database_corrupt"),
        ("something else", "storage"),
    ],
)
def test_what_a_driver_says_becomes_our_error(database: Database, said: str, kind: str) -> None:
    def fail(_session: Session) -> None:
        raise OperationalError("INSERT", {}, sqlite3.OperationalError(said))

    with pytest.raises(StorageError) as caught:
        database.write(fail)
    assert caught.value.code == kind
    assert caught.value.hint
