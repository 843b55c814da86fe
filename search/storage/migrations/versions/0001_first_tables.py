"""The tables of schema 1, which lm-search 0.1.0 wrote without a table of revisions."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0001"
down_revision = None


def upgrade() -> None:
    """Create the queue and the table with the schema's version."""
    op.create_table(
        "search_runs",
        sa.Column("id", sa.Integer, primary_key=True),
        sa.Column("study", sa.String(255), nullable=False),
        sa.Column("cell", sa.String(2000), nullable=False),
        sa.Column("trial_id", sa.Integer),
        sa.Column("number", sa.Integer),
        sa.Column("shape_key", sa.String(255), nullable=False),
        sa.Column("priority", sa.Integer, nullable=False),
        sa.Column("state", sa.String(16), nullable=False),
        sa.Column("attempts", sa.Integer, nullable=False),
        sa.Column("not_before", sa.Float(53), nullable=False),
        sa.Column("owner", sa.String(255)),
        sa.Column("token", sa.Integer, nullable=False),
        sa.Column("lease_until", sa.Float(53)),
        sa.Column("step", sa.Integer),
        sa.Column("train_loss", sa.Float(53)),
        sa.Column("val_loss", sa.Float(53)),
        sa.Column("outcome", sa.String(16)),
        sa.Column("value", sa.Float(53)),
        sa.Column("reason", sa.Text),
        sa.Column("started_at", sa.Float(53)),
        sa.Column("finished_at", sa.Float(53)),
        sa.UniqueConstraint("study", "cell"),
    )
    op.create_index("search_runs_queue", "search_runs", ["state", "priority", "id"])
    op.create_index("search_runs_state", "search_runs", ["study", "state"])
    op.create_index("search_runs_finished", "search_runs", ["study", "finished_at"])
    op.create_index("search_runs_trial", "search_runs", ["trial_id"])
    op.create_table("search_schema", sa.Column("version", sa.Integer, primary_key=True))
