"""A table of what the workers of a study have taken, for `run --budget`."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0006"
down_revision = "0005"

# From each worker's first claim to its last end: trials that it trained side by side share that time.
_EARLIER = """
INSERT INTO search_spending (study_uid, owner, seconds, flops, counted_at)
SELECT study_uid, owner, max(finished_at) - min(started_at), 0, max(finished_at) FROM search_runs
WHERE state = 'done' AND owner IS NOT NULL AND started_at IS NOT NULL AND finished_at IS NOT NULL
GROUP BY study_uid, owner
"""


def upgrade() -> None:
    """Add the table, with what the trials that have ended took."""
    op.create_table(
        "search_spending",
        sa.Column(
            "study_uid", sa.String(36), sa.ForeignKey("search_studies.uid", ondelete="CASCADE"), primary_key=True
        ),
        sa.Column("owner", sa.String(255), primary_key=True),
        sa.Column("seconds", sa.Float(53), nullable=False),
        sa.Column("flops", sa.Float(53), nullable=False),
        sa.Column("counted_at", sa.Float(53), nullable=False),
        sa.Column("busy_until", sa.Float(53)),
    )
    op.execute(_EARLIER)
