"""Review: batches, items, what reviewers were given, verdicts."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0008"
down_revision = "0007"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_table(
        "review_batches",
        sa.Column("seq", sa.Integer(), nullable=False, autoincrement=True),
        sa.Column("id", sa.String(64), nullable=False),
        sa.Column("name", sa.Text(), nullable=False),
        sa.Column("pair", sa.Text(), nullable=False),
        sa.Column("base_engine", sa.Text(), nullable=False),
        sa.Column("candidate_engines", sa.JSON(), nullable=False),
        sa.Column("system", sa.Text(), nullable=False),
        sa.Column("sampling", sa.JSON(), nullable=False),
        sa.Column("overlap", sa.Double(), nullable=False),
        sa.Column("state", sa.String(16), nullable=False),
        sa.Column("message", sa.Text(), nullable=False),
        sa.Column("created_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("created_by", sa.Text(), nullable=False),
        sa.PrimaryKeyConstraint("seq", name="pk_review_batches"),
        sa.UniqueConstraint("id", name="uq_review_batches_id"),
        sqlite_autoincrement=True,
    )
    op.create_index("ix_review_batches_state", "review_batches", ["state"])
    op.create_table(
        "review_items",
        sa.Column("seq", sa.Integer(), nullable=False, autoincrement=True),
        sa.Column("id", sa.String(64), nullable=False),
        sa.Column("batch_id", sa.String(64), nullable=False),
        sa.Column("position", sa.Integer(), nullable=False),
        sa.Column("candidate_engine", sa.Text(), nullable=False),
        sa.Column("key", sa.Text(), nullable=False),
        sa.Column("prompt", sa.Text(), nullable=False),
        sa.Column("images", sa.JSON(), nullable=False),
        sa.Column("reference", sa.Text(), nullable=True),
        sa.Column("tags", sa.JSON(), nullable=False),
        sa.Column("state", sa.String(16), nullable=False),
        sa.Column("failure", sa.Text(), nullable=True),
        sa.Column("trace_id", sa.String(64), nullable=False),
        sa.Column("base_answer_id", sa.String(64), nullable=True),
        sa.Column("candidate_answer_id", sa.String(64), nullable=True),
        sa.Column("base_text", sa.Text(), nullable=True),
        sa.Column("candidate_text", sa.Text(), nullable=True),
        sa.Column("disagreement", sa.Double(), nullable=True),
        sa.Column("divergence_nats", sa.Double(), nullable=True),
        sa.Column("mean_divergence_nats", sa.Double(), nullable=True),
        sa.Column("method", sa.String(16), nullable=True),
        sa.Column("floor_nats", sa.Double(), nullable=True),
        sa.Column("base_matches", sa.Boolean(), nullable=True),
        sa.Column("candidate_matches", sa.Boolean(), nullable=True),
        sa.Column("random_key", sa.Double(), nullable=False),
        sa.Column("in_slice", sa.Boolean(), nullable=False),
        sa.Column("wanted", sa.Integer(), nullable=False),
        sa.Column("verdicts", sa.Integer(), nullable=False),
        sa.Column("is_open", sa.Boolean(), nullable=False),
        sa.Column("outcome", sa.String(16), nullable=True),
        sa.Column("locked_by", sa.Text(), nullable=True),
        sa.Column("locked_until", sa.DateTime(timezone=True), nullable=True),
        sa.PrimaryKeyConstraint("seq", name="pk_review_items"),
        sa.UniqueConstraint("id", name="uq_review_items_id"),
        sa.ForeignKeyConstraint(["batch_id"], ["review_batches.id"], name="fk_review_items_batch_id"),
        sqlite_autoincrement=True,
    )
    op.create_index("ix_review_items_disagreement", "review_items", ["batch_id", "is_open", "in_slice", "disagreement"])
    op.create_index("ix_review_items_divergence", "review_items", ["batch_id", "is_open", "in_slice", "divergence_nats"])
    op.create_index("ix_review_items_outcome", "review_items", ["batch_id", "outcome"])
    op.create_index("ix_review_items_random", "review_items", ["batch_id", "is_open", "in_slice", "random_key"])
    op.create_index("ix_review_items_state", "review_items", ["batch_id", "state", "is_open", "position"])
    op.create_index("ix_review_items_trace_id", "review_items", ["trace_id"])
    op.create_table(
        "review_assignments",
        sa.Column("item_id", sa.String(64), nullable=False),
        sa.Column("reviewer", sa.String(200), nullable=False),
        sa.Column("round", sa.Integer(), nullable=False, autoincrement=False),
        sa.Column("batch_id", sa.String(64), nullable=False),
        sa.Column("a_is", sa.String(16), nullable=False),
        sa.Column("settles", sa.Boolean(), nullable=False),
        sa.Column("draft", sa.Text(), nullable=False),
        sa.Column("given_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("is_open", sa.Boolean(), nullable=False),
        sa.Column("skipped", sa.Boolean(), nullable=False),
        sa.PrimaryKeyConstraint("item_id", "reviewer", "round", name="pk_review_assignments"),
        sa.ForeignKeyConstraint(["item_id"], ["review_items.id"], name="fk_review_assignments_item_id"),
    )
    op.create_index("ix_review_assignments_reviewer", "review_assignments", ["reviewer", "batch_id", "is_open"])
    op.create_table(
        "review_verdicts",
        sa.Column("seq", sa.Integer(), nullable=False, autoincrement=True),
        sa.Column("id", sa.String(64), nullable=False),
        sa.Column("item_id", sa.String(64), nullable=False),
        sa.Column("batch_id", sa.String(64), nullable=False),
        sa.Column("reviewer", sa.String(200), nullable=False),
        sa.Column("round", sa.Integer(), nullable=False),
        sa.Column("verdict", sa.String(16), nullable=False),
        sa.Column("a_is", sa.String(16), nullable=False),
        sa.Column("a_right", sa.Boolean(), nullable=True),
        sa.Column("b_right", sa.Boolean(), nullable=True),
        sa.Column("outcome", sa.String(16), nullable=False),
        sa.Column("claims", sa.JSON(), nullable=False),
        sa.Column("note", sa.Text(), nullable=False),
        sa.Column("zoomed", sa.Boolean(), nullable=False),
        sa.Column("seconds", sa.Double(), nullable=True),
        sa.Column("settles", sa.Boolean(), nullable=False),
        sa.Column("state", sa.String(16), nullable=False),
        sa.Column("created_at", sa.DateTime(timezone=True), nullable=False),
        sa.PrimaryKeyConstraint("seq", name="pk_review_verdicts"),
        sa.UniqueConstraint("id", name="uq_review_verdicts_id"),
        sa.ForeignKeyConstraint(["item_id"], ["review_items.id"], name="fk_review_verdicts_item_id"),
        sqlite_autoincrement=True,
    )
    op.create_index("ix_review_verdicts_batch", "review_verdicts", ["batch_id", "reviewer", "seq"])
    op.create_index("ix_review_verdicts_item", "review_verdicts", ["item_id", "reviewer", "round"])
