"""What only PostgreSQL has: two apps on one database, a server that goes away, databases that can't be used."""

from __future__ import annotations

import signal
import threading
from collections import Counter
from collections.abc import Iterator

import pytest
from alembic.autogenerate import compare_metadata
from alembic.runtime.migration import MigrationContext
from sqlalchemy import text
from sqlalchemy.orm import Session

from components.core.errors import SchemaTooNewError, StorageError
from components.core.reviews import Choice
from components.storage.database import Database
from components.storage.review_given import Judgement, Wish
from components.storage.review_queue import ReviewQueue
from components.storage.review_tables import ReviewItemRow
from components.storage.reviews import ReviewRepository
from components.storage.tables import Base
from tests.data.reviews import batch, items
from tests.postgres_server import PostgresServer, binaries

pytestmark = pytest.mark.service


@pytest.fixture
def server(postgres: PostgresServer | None) -> PostgresServer:
    if postgres is None:
        pytest.skip("no PostgreSQL server on this machine (initdb and postgres)")
    return postgres


@pytest.fixture
def two(server: PostgresServer, postgres_template: str) -> Iterator[tuple[Database, Database]]:
    """The databases of two apps; that both are in one process makes no difference to the server."""
    name = server.new_database(postgres_template)
    databases = (Database(server.url(name)), Database(server.url(name)))
    for database in databases:
        database.open()
    yield databases
    for database in databases:
        database.close()
    server.execute(f"DROP DATABASE {name} WITH (FORCE)")


def test_migrations_make_exactly_the_tables(two: tuple[Database, Database]) -> None:
    def differences(session: Session) -> list[object]:
        context = MigrationContext.configure(session.connection(), opts={"compare_type": True})
        return list(compare_metadata(context, Base.metadata))

    assert ReviewItemRow.__tablename__ in Base.metadata.tables
    assert two[0].read(differences) == []


def test_a_reader_cannot_write_and_sees_one_state(two: tuple[Database, Database]) -> None:
    first, second = two
    with pytest.raises(StorageError):
        first.read(lambda session: session.execute(text("CREATE TABLE x (y INTEGER)")))

    def look_twice(session: Session) -> tuple[int, int]:
        count = text("SELECT count(*) FROM review_batches")
        before = session.execute(count).scalar_one()
        ReviewRepository(second).add_answered(batch(), items(1))
        return before, session.execute(count).scalar_one()

    assert first.read(look_twice) == (0, 0)


def test_two_apps_that_start_at_once_both_have_the_schema(server: PostgresServer) -> None:
    name = server.new_database()
    databases = [Database(server.url(name)) for _ in range(2)]
    threads = [threading.Thread(target=database.open) for database in databases]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    for database in databases:
        assert ReviewRepository(database).batches() == []
        database.close()


def test_reviewers_of_two_apps_never_share_an_item(two: tuple[Database, Database]) -> None:
    ReviewRepository(two[0]).add_answered(batch(), items(100))
    judged: dict[str, list[str]] = {}

    def work(name: str, database: Database) -> None:
        queue, seen = ReviewQueue(database), []
        while (given := queue.next(name, Wish("b1"))) is not None:
            seen.append(given.item.id)
            queue.submit(name, given.item.id, Judgement(Choice.TIE))
        judged[name] = seen

    people = [("ann", two[0]), ("ben", two[0]), ("cem", two[1]), ("dia", two[1])]
    threads = [threading.Thread(target=work, args=person) for person in people]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    counts = Counter(item_id for seen in judged.values() for item_id in set(seen))
    assert len(counts) == 100
    assert set(counts.values()) == {1}
    assert all(judged[name] for name, _ in people)
    verdicts = ReviewRepository(two[1]).verdicts("b1")
    assert {v.item_id for v in verdicts if v.round == 1} == set(counts)


def test_a_newer_schema_is_refused(two: tuple[Database, Database], server: PostgresServer) -> None:
    two[0].write(lambda session: session.execute(text("UPDATE alembic_version SET version_num = '9999'")))
    with pytest.raises(SchemaTooNewError, match="newer Diptych"):
        Database(two[0]._url.render_as_string(hide_password=False)).open()


def test_a_database_that_cannot_hold_every_text_is_refused(server: PostgresServer) -> None:
    server.execute("CREATE DATABASE ascii ENCODING 'SQL_ASCII' TEMPLATE template0")
    with pytest.raises(StorageError, match="encoding is SQL_ASCII") as caught:
        Database(server.url("ascii")).open()
    assert "UTF8" in caught.value.hint


def test_a_database_that_is_not_there_is_named(server: PostgresServer) -> None:
    with pytest.raises(StorageError, match="refused the database") as caught:
        Database(server.url("nowhere")).open()
    assert "DIPTYCH_DATABASE_URL" in caught.value.hint
    with pytest.raises(StorageError, match="can't be reached"):
        Database("postgresql://someone:secret@127.0.0.1:9/none").open()


def test_an_unknown_kind_of_database_is_refused() -> None:
    with pytest.raises(StorageError, match="mysql is not supported"):
        Database("mysql://localhost/none")


def test_a_server_that_crashes_loses_nothing_and_comes_back() -> None:
    programs = binaries()
    if programs is None:
        pytest.skip("no PostgreSQL server on this machine (initdb and postgres)")
    server = PostgresServer(programs).start()
    database = Database(server.url(server.new_database()))
    try:
        database.open()
        reviews, queue = ReviewRepository(database), ReviewQueue(database)
        reviews.add_answered(batch(), items(5))
        given = queue.next("ann", Wish("b1"))
        assert given is not None
        queue.submit("ann", given.item.id, Judgement(Choice.TIE))
        server.end_server(signal.SIGQUIT)
        for call in (reviews.batches, lambda: queue.next("ann", Wish("b1"))):
            with pytest.raises(StorageError, match="can't be reached"):
                call()
        server.run_server()
        assert len(reviews.verdicts("b1")) == 1
        assert queue.next("ann", Wish("b1")) is not None
    finally:
        database.close()
        server.stop()
