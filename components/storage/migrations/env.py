"""What Alembic runs for a migration. It gets its connection from ``upgrade`` and opens none of its own."""

from __future__ import annotations

from alembic import context

# SQLite's DDL is transactional once BEGIN is ours (see database.py), so a failed migration leaves nothing behind.
context.configure(connection=context.config.attributes["connection"], transactional_ddl=True, render_as_batch=True)
with context.begin_transaction():
    context.run_migrations()
