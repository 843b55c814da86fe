"""Our tables in this version; migrations/ upgrades older databases."""

from __future__ import annotations

from sqlalchemy import Column, Dialect, Float, Index, Integer, MetaData, String, Table, Text, UniqueConstraint
from sqlalchemy.types import TypeDecorator

from search.storage.texts import MAX_TEXT, storable_text

# The number of the newest revision in migrations/versions/.
SCHEMA_VERSION = 2
# The oldest version of the tables that programs can read without an upgrade.
OLDEST_READABLE = 1

# Lengths of columns, in characters. PostgreSQL refuses a longer text, and an index of more than 2,700 bytes.
MAX_CELL = 2000
MAX_SHAPE_KEY = 255

metadata = MetaData()


class StorableText(TypeDecorator[str]):
    """A column of text that takes any object.

    Args:
        most: As for `storable_text`.
    """

    impl = Text
    cache_ok = True

    def __init__(self, most: int | None = None) -> None:
        super().__init__()
        self.most = most

    def process_bind_param(self, value: object, dialect: Dialect) -> str | None:
        """The text to store."""
        return None if value is None else storable_text(value, self.most)


# The queue, one row per trial. Optuna's tables hold parameters and results; this one holds who may work on a trial.
queue_table = Table(
    "search_runs",
    metadata,
    Column("id", Integer, primary_key=True),
    Column("study", String(255), nullable=False),
    # Canonical JSON of the cell with its seed: the trial's identity in its study.
    Column("cell", String(MAX_CELL), nullable=False),
    # Optuna's trial; NULL only while the row waits for the planner to link it.
    Column("trial_id", Integer),
    Column("number", Integer),
    # Trials with the same key have tensors of the same shapes.
    Column("shape_key", String(MAX_SHAPE_KEY), nullable=False),
    # Lower values are claimed first.
    Column("priority", Integer, nullable=False),
    # waiting, running, done. A running row whose lease has expired can be claimed like a waiting one.
    Column("state", String(16), nullable=False, default="waiting"),
    Column("attempts", Integer, nullable=False, default=0),
    # Back-off after a failure: not claimable before this time of the database's clock.
    Column("not_before", Float(53), nullable=False, default=0.0),
    Column("owner", String(255)),
    # Counts the claims. A worker with an old token has lost the trial.
    Column("token", Integer, nullable=False, default=0),
    Column("lease_until", Float(53)),
    # The last evaluation.
    Column("step", Integer),
    Column("train_loss", Float(53)),
    Column("val_loss", Float(53)),
    # complete, pruned, diverged, failed; with the value and, unless complete, the reason.
    Column("outcome", String(16)),
    Column("value", Float(53)),
    Column("reason", StorableText(MAX_TEXT)),
    Column("started_at", Float(53)),
    Column("finished_at", Float(53)),
    UniqueConstraint("study", "cell"),
    # In the order in which rows are claimed: the first of many waiting rows is found without sorting them.
    Index("search_runs_queue", "state", "priority", "id"),
    Index("search_runs_state", "study", "state"),
    Index("search_runs_finished", "study", "finished_at"),
    Index("search_runs_trial", "trial_id"),
)

schema_info = Table("search_schema", metadata, Column("version", Integer, primary_key=True))
