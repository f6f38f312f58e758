"""Every test of records runs on SQLite and on PostgreSQL; without a PostgreSQL server it says so and runs on SQLite."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from components.storage.database import Database, sqlite_url
from tests.postgres_server import PostgresServer, binaries


@pytest.fixture(scope="session")
def postgres() -> Iterator[PostgresServer | None]:
    """A server for all tests; None on a machine that has none."""
    programs = binaries()
    if programs is None:
        yield None
        return
    server = PostgresServer(programs).start()
    yield server
    server.stop()


@pytest.fixture(scope="session")
def postgres_template(postgres: PostgresServer | None) -> str:
    """A database with the schema, of which each test gets a copy."""
    if postgres is None:
        return ""
    name = postgres.new_database()
    database = Database(postgres.url(name))
    database.open()
    database.close()
    return name


@pytest.fixture(params=["sqlite", "postgresql"])
def database_url(
    request: pytest.FixtureRequest, tmp_path: Path, postgres: PostgresServer | None, postgres_template: str
) -> Iterator[str]:
    """Where a test's records go."""
    if request.param == "sqlite":
        yield sqlite_url(tmp_path / "records.db")
        return
    if postgres is None:
        pytest.skip("no PostgreSQL server on this machine (initdb and postgres): records were tested on SQLite alone")
    name = postgres.new_database(postgres_template)
    yield postgres.url(name)
    postgres.execute(f"DROP DATABASE {name} WITH (FORCE)")


@pytest.fixture
def database(database_url: str) -> Iterator[Database]:
    """Open, with the schema."""
    database = Database(database_url)
    database.open()
    yield database
    database.close()
