"""A table of what whole processes have taken, start-up included."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0007"
down_revision = "0006"


def upgrade() -> None:
    """Add the table."""
    op.create_table(
        "search_processes",
        sa.Column(
            "study_uid", sa.String(36), sa.ForeignKey("search_studies.uid", ondelete="CASCADE"), primary_key=True
        ),
        sa.Column("process", sa.String(64), primary_key=True),
        sa.Column("owner", sa.String(255), nullable=False),
        sa.Column("device", sa.String(255), nullable=False),
        sa.Column("cpu_seconds", sa.Float(53), nullable=False),
        sa.Column("wall_seconds", sa.Float(53), nullable=False),
        sa.Column("energy_joules", sa.Float(53)),
        sa.Column("counted_at", sa.Float(53), nullable=False),
    )
