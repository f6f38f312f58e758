"""Brings a database to the schema of this version, in one transaction, without an alembic.ini.

Must not import the tables: a migration describes the schema as it was when it was released.
"""

from __future__ import annotations

from pathlib import Path

from alembic import command
from alembic.config import Config
from alembic.runtime.migration import MigrationContext
from alembic.script import ScriptDirectory
from sqlalchemy import Connection

from components.core.errors import SchemaTooNewError


def upgrade(connection: Connection) -> None:
    """Apply what is missing. The caller's transaction commits it.

    Raises:
        SchemaTooNewError: a newer Diptych wrote the database; nothing was changed.
    """
    config = Config()
    config.set_main_option("script_location", str(Path(__file__).parent).replace("%", "%%"))
    scripts = ScriptDirectory.from_config(config)
    known = {script.revision for script in scripts.walk_revisions()}
    current = MigrationContext.configure(connection).get_current_revision()
    if current is not None and current not in known:
        raise SchemaTooNewError(
            f"The database was written by a newer Diptych (schema {current}).",
            "Start that version, or give this one its own directory with --state-dir. Nothing was changed.",
        )
    if current != scripts.get_current_head():
        config.attributes["connection"] = connection
        command.upgrade(config, "head")
