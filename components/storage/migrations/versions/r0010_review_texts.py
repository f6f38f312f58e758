"""The texts of review items in narrow rows of their own, to be searched."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0010"
down_revision = "0009"
branch_labels = None
depends_on = None

_CHUNK = 1000


def upgrade() -> None:
    op.create_table(
        "review_texts",
        sa.Column("seq", sa.Integer(), nullable=False, autoincrement=False),
        sa.Column("batch_id", sa.String(64), nullable=False),
        sa.Column("text", sa.Text(), nullable=False),
        sa.PrimaryKeyConstraint("seq", name="pk_review_texts"),
        sa.ForeignKeyConstraint(["seq"], ["review_items.seq"], name="fk_review_texts_seq"),
    )
    op.create_index("ix_review_texts_batch_id", "review_texts", ["batch_id"])
    connection = op.get_bind()
    names = ("key", "prompt", "base_text", "candidate_text")
    items = sa.table("review_items", sa.column("seq"), sa.column("batch_id"), *(sa.column(name) for name in names))
    texts = sa.table("review_texts", sa.column("seq"), sa.column("batch_id"), sa.column("text"))
    last = 0
    while True:
        wanted = sa.select(items).where(items.c.seq > last).order_by(items.c.seq).limit(_CHUNK)
        rows = connection.execute(wanted).mappings().all()
        if not rows:
            return
        last = rows[-1]["seq"]
        connection.execute(
            sa.insert(texts),
            [
                {
                    "seq": row["seq"],
                    "batch_id": row["batch_id"],
                    "text": "\n".join(row[name] for name in names if row[name]).casefold(),
                }
                for row in rows
            ],
        )
