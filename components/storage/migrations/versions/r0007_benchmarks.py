"""Figures of benchmarks, measured and published."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0007"
down_revision = "0006"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_table(
        "benchmark_results",
        sa.Column("id", sa.String(64), nullable=False),
        sa.Column("source", sa.String(16), nullable=False),
        sa.Column("suite", sa.String(16), nullable=False),
        sa.Column("model", sa.Text(), nullable=False),
        sa.Column("task", sa.Text(), nullable=False),
        sa.Column("metric", sa.String(80), nullable=False),
        sa.Column("job_id", sa.String(64), nullable=True),
        sa.Column("created_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("document", sa.JSON(), nullable=False),
        sa.PrimaryKeyConstraint("id", name="pk_benchmark_results"),
        sa.CheckConstraint("source IN ('measured', 'published')", name="ck_benchmark_results_source"),
    )
    op.create_index("ix_benchmark_results_source", "benchmark_results", ["source"])
    op.create_index("ix_benchmark_results_model", "benchmark_results", ["model"])
    op.create_index("ix_benchmark_results_job_id", "benchmark_results", ["job_id"])
