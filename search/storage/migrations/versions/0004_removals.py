"""A table of files whose database rows are gone, so that no crash leaves files that nothing names."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0004"
down_revision = "0003"


def upgrade() -> None:
    """Add the table."""
    op.create_table(
        "search_removals",
        sa.Column("id", sa.Integer, primary_key=True),
        sa.Column("study", sa.String(512), nullable=False),
        sa.Column("study_uid", sa.String(36), nullable=False),
        sa.Column("artifact_id", sa.String(512)),
        sa.Column("number", sa.Integer),
        sa.Column("identity", sa.Text),
        sqlite_autoincrement=True,
    )
    op.create_index("search_removals_study", "search_removals", ["study"])
