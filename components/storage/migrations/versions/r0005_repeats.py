"""Repeats of turns and their samples."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0005"
down_revision = "0004"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_table(
        "repeats",
        sa.Column("id", sa.String(64), nullable=False),
        sa.Column("turn_id", sa.String(64), nullable=False),
        sa.Column("state", sa.String(16), nullable=False),
        sa.Column("count", sa.Integer(), nullable=False),
        sa.Column("first_seed", sa.BigInteger(), nullable=False),
        sa.Column("columns", sa.JSON(), nullable=False),
        sa.Column("created_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("finished_at", sa.DateTime(timezone=True), nullable=True),
        sa.PrimaryKeyConstraint("id", name="pk_repeats"),
        sa.ForeignKeyConstraint(["turn_id"], ["turns.id"], name="fk_repeats_turn_id"),
        sa.CheckConstraint(
            "state IN ('running', 'finished', 'incomplete', 'stopped', 'interrupted')", name=op.f("ck_repeats_state")
        ),
    )
    op.create_index("ix_repeats_turn_id", "repeats", ["turn_id"])
    op.create_table(
        "repeat_samples",
        sa.Column("repeat_id", sa.String(64), nullable=False),
        sa.Column("position", sa.Integer(), autoincrement=False, nullable=False),
        sa.Column("seed", sa.BigInteger(), autoincrement=False, nullable=False),
        sa.Column("text", sa.Text(), nullable=False),
        sa.Column("tool_calls", sa.JSON(), nullable=False),
        sa.Column("outcome", sa.String(16), nullable=False),
        sa.Column("finish_reason", sa.Text(), nullable=True),
        sa.Column("error", sa.JSON(none_as_null=True), nullable=True),
        sa.Column("output_tokens", sa.Integer(), nullable=True),
        sa.Column("e2el_ms", sa.Double(), nullable=True),
        sa.PrimaryKeyConstraint("repeat_id", "position", "seed", name="pk_repeat_samples"),
        sa.ForeignKeyConstraint(["repeat_id"], ["repeats.id"], name="fk_repeat_samples_repeat_id"),
    )
