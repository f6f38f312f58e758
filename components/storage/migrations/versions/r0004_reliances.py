"""Picture reliance of answers."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0004"
down_revision = "0003"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_table(
        "reliances",
        sa.Column("id", sa.String(64), nullable=False),
        sa.Column("turn_id", sa.String(64), nullable=False),
        sa.Column("answer_id", sa.String(64), nullable=False),
        sa.Column("picture", sa.String(16), nullable=False),
        sa.Column("candidate_engine", sa.Text(), nullable=False),
        sa.Column("created_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("document_sha256", sa.String(64), nullable=False),
        sa.PrimaryKeyConstraint("id", name="pk_reliances"),
        sa.ForeignKeyConstraint(["turn_id"], ["turns.id"], name="fk_reliances_turn_id"),
        sa.ForeignKeyConstraint(["answer_id"], ["answers.id"], name="fk_reliances_answer_id"),
    )
    op.create_index("ix_reliances_turn_id", "reliances", ["turn_id"])
