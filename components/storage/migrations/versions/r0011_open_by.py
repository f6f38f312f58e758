"""Which app has an answer or a repeat open, so that another one can end it when that app has died."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0011"
down_revision = "0010"
branch_labels = None
depends_on = None


def upgrade() -> None:
    for table in ("answers", "repeats"):
        op.add_column(table, sa.Column("app_id", sa.String(64), nullable=True))
