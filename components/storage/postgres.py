"""Connections to PostgreSQL for apps that share one database. Must not know what is stored.

The rule of one writer holds here too, across apps: each writing transaction first takes one lock of the database, which
PostgreSQL gives back with the transaction, however that ends. So what a repository looks up before it writes can't be
changed by another app in between, exactly as on SQLite, and no write has to be tried again.
"""

from __future__ import annotations

import importlib.util
from typing import Any

from sqlalchemy import URL, Connection, Engine, create_engine, event

from components.core.errors import StorageError

_WRITER_LOCK = 0x44495054  # "DIPT"; any number, as long as every version of Diptych takes the same
_LOCK_TIMEOUT_S = 60  # a batch of 100,000 items is one transaction; behind it the others wait
_FROZEN_S = 120  # an app that was stopped in the middle of a transaction must not hold the others for ever


def postgres_engine(url: URL, *, is_writer: bool) -> Engine:
    """Connections of one kind: the writer's only one, or as many as readers need, which can't write.

    Raises:
        StorageError: the driver is not installed.
    """
    if importlib.util.find_spec("psycopg") is None:
        raise StorageError("PostgreSQL needs the Python package psycopg.", "Install the app's requirements again.")
    sizes: dict[str, Any] = {"pool_size": 1, "max_overflow": 0} if is_writer else {}
    engine = create_engine(
        url.set(drivername="postgresql+psycopg"),
        isolation_level="READ COMMITTED" if is_writer else "REPEATABLE READ",
        connect_args={"connect_timeout": 10, "client_encoding": "utf8"},
        pool_pre_ping=True,  # the server may have been restarted meanwhile
        **sizes,
    )
    settings = {
        "lock_timeout": f"{_LOCK_TIMEOUT_S}s",
        "idle_in_transaction_session_timeout": f"{_FROZEN_S}s",
        "default_transaction_read_only": "off" if is_writer else "on",
        "synchronous_commit": "on",
    }

    @event.listens_for(engine, "connect")
    def prepare(connection: Any, _record: object) -> None:
        for name, value in settings.items():
            connection.execute("SELECT set_config(%s, %s, false)", (name, value))
        connection.commit()

    if is_writer:

        @event.listens_for(engine, "begin")
        def take_the_writers_lock(connection: Connection) -> None:
            connection.exec_driver_sql(f"SELECT pg_advisory_xact_lock({_WRITER_LOCK})")

    return engine


def check_encoding(connection: Connection) -> None:
    """Refuse a database that can't hold every text.

    Raises:
        StorageError: its encoding is another than UTF8.
    """
    encoding = connection.exec_driver_sql("SHOW server_encoding").scalar()
    if encoding != "UTF8":
        raise StorageError(
            f"The database's encoding is {encoding}; texts in all languages need UTF8.",
            "Make one with: CREATE DATABASE diptych ENCODING 'UTF8' TEMPLATE template0.",
        )
