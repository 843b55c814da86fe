"""Rows belong to one planning of a study and are deleted with Optuna's trials; attempts count by progress."""

from __future__ import annotations

import json
import uuid

import sqlalchemy as sa
from alembic import op

revision = "0003"
down_revision = "0002"

_queue = sa.table("search_runs", *(sa.column(name) for name in ("study", "study_uid", "trial_id", "step")))
_trials = sa.table("trials", sa.column("trial_id"), sa.column("study_id"))
_studies = sa.table("studies", sa.column("study_id"), sa.column("study_name"))
_attrs = sa.table("study_user_attributes", *(sa.column(name) for name in ("study_id", "key", "value_json")))


def upgrade() -> None:
    """Add the table of studies and the new columns; delete rows whose study or trial is gone."""
    planned = op.create_table(
        "search_studies",
        sa.Column("uid", sa.String(36), primary_key=True),
        sa.Column("name", sa.String(512), nullable=False),
        sa.Column("study_id", sa.Integer, sa.ForeignKey("studies.study_id", ondelete="CASCADE"), nullable=False),
        sa.UniqueConstraint("name"),
        sa.UniqueConstraint("study_id"),
    )
    op.add_column("search_runs", sa.Column("study_uid", sa.String(36)))
    _name_studies(op.get_bind(), planned)
    with op.batch_alter_table("search_runs", recreate="auto", table_kwargs={"sqlite_autoincrement": True}) as batch:
        batch.alter_column("study_uid", existing_type=sa.String(36), nullable=False)
        batch.alter_column("trial_id", existing_type=sa.Integer, nullable=False)
        batch.add_column(sa.Column("highest_step", sa.Integer))
        batch.add_column(sa.Column("step_at_claim", sa.Integer))
        batch.add_column(sa.Column("lost_leases", sa.Integer, nullable=False, server_default="0"))
        batch.add_column(sa.Column("failure", sa.Text))
        batch.create_foreign_key(
            "search_runs_study_uid_fkey", "search_studies", ["study_uid"], ["uid"], ondelete="CASCADE"
        )
        batch.create_foreign_key("search_runs_trial_id_fkey", "trials", ["trial_id"], ["trial_id"], ondelete="CASCADE")
    op.create_index("search_runs_study", "search_runs", ["study_uid"])
    op.execute("UPDATE search_runs SET highest_step = step, step_at_claim = step")


def _name_studies(connection: sa.Connection, planned: sa.Table) -> None:
    """Give each study its uid, which is the one that names its files where there is one."""
    trial = sa.select(_trials).where(_trials.c.trial_id == _queue.c.trial_id)
    connection.execute(sa.delete(_queue).where(sa.or_(_queue.c.trial_id.is_(None), ~trial.exists())))
    names = connection.execute(sa.select(_queue.c.study).distinct()).scalars().all()
    taken: set[str] = set()
    for name in names:
        of_study = _queue.c.study == name
        study_id = connection.execute(sa.select(_studies.c.study_id).where(_studies.c.study_name == name)).scalar()
        if study_id is None:
            connection.execute(sa.delete(_queue).where(of_study))
            continue
        named = sa.select(_attrs.c.value_json).where(_attrs.c.study_id == study_id, _attrs.c.key == "uid")
        stored = connection.execute(named).scalar()
        uid = json.loads(stored) if stored else ""
        if not uid or uid in taken:
            uid = uuid.uuid4().hex
        taken.add(uid)
        connection.execute(sa.insert(planned).values(uid=uid, name=name, study_id=study_id))
        connection.execute(sa.update(_queue).where(of_study).values(study_uid=uid))
