"""Our tables in this version; migrations/ upgrades older databases."""

from __future__ import annotations

from collections.abc import Sequence

from sqlalchemy import (
    Column,
    Connection,
    Dialect,
    Float,
    ForeignKey,
    Index,
    Integer,
    MetaData,
    String,
    Table,
    Text,
    UniqueConstraint,
    select,
)
from sqlalchemy.types import TypeDecorator

from search.storage import optuna_layout
from search.storage.texts import MAX_TEXT, storable_text

# The number of the newest revision in migrations/versions/.
SCHEMA_VERSION = 7
# The oldest version of the tables that programs can read without an upgrade.
OLDEST_READABLE = 1

# A process that pauses inside its last transaction commits later than its timestamp, `finished_at`; in seconds.
LATE_COMMIT_S = 10.0

# Lengths of columns, in characters. PostgreSQL refuses a longer text, and an index of more than 2,700 bytes.
MAX_CELL = 2000
MAX_SHAPE_KEY = 255

# The state of a trial that no worker has begun, and that is left out: `reason` says why.
NOT_RUN = "not run"

# Keys of user attributes of Optuna's study: its definition, and what identifies its planning.
DEFINITION = "definition"
UID = "uid"

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


# A planned study. It exists as long as Optuna's study does; planned again, it has another uid.
studies_table = Table(
    "search_studies",
    metadata,
    Column("uid", String(36), primary_key=True),
    Column("name", String(512), nullable=False, unique=True),
    Column(
        "study_id",
        ForeignKey(optuna_layout.studies.c.study_id, ondelete="CASCADE"),
        nullable=False,
        unique=True,
    ),
)

# The queue, one row per trial. Optuna's tables hold parameters and results; this one holds who may work on a trial.
queue_table = Table(
    "search_runs",
    metadata,
    Column("id", Integer, primary_key=True),
    Column("study", String(255), nullable=False),
    Column("study_uid", ForeignKey(studies_table.c.uid, ondelete="CASCADE"), nullable=False),
    # Canonical JSON of the cell with its seed: the trial's identity in its study.
    Column("cell", String(MAX_CELL), nullable=False),
    # Optuna's trial; the row is deleted with it.
    Column("trial_id", ForeignKey(optuna_layout.trials.c.trial_id, ondelete="CASCADE"), nullable=False),
    Column("number", Integer),
    # Trials with the same key have tensors of the same shapes.
    Column("shape_key", String(MAX_SHAPE_KEY), nullable=False),
    # Lower values are claimed first.
    Column("priority", Integer, nullable=False),
    # waiting, running, done, not run. A running row whose lease has expired can be claimed like a waiting one.
    Column("state", String(16), nullable=False, default="waiting"),
    # How many attempts in a row made no progress, the current one included.
    Column("attempts", Integer, nullable=False, default=0),
    # The highest step that any attempt reached, and what it was when the current attempt began.
    Column("highest_step", Integer),
    Column("step_at_claim", Integer),
    # How often a living worker was too late to renew its lease since the last progress: leases double each time.
    Column("lost_leases", Integer, nullable=False, default=0),
    # Back-off after a failure: not claimable before this time of the database's clock.
    Column("not_before", Float(53), nullable=False, default=0.0),
    Column("owner", String(255)),
    # Counts the claims. A worker with an old token has lost the trial.
    Column("token", Integer, nullable=False, default=0),
    Column("lease_until", Float(53)),
    # The last evaluation; "val_loss" is the study's metric, whatever its name.
    Column("step", Integer),
    Column("train_loss", Float(53)),
    Column("val_loss", Float(53)),
    # complete, pruned, diverged, failed; with the value and, unless complete, the reason.
    Column("outcome", String(16)),
    Column("value", Float(53)),
    Column("reason", StorableText(MAX_TEXT)),
    # What last went wrong, whatever became of the trial: JSON of `search.storage.failures.Failure`.
    Column("failure", Text),
    Column("started_at", Float(53)),
    Column("finished_at", Float(53)),
    UniqueConstraint("study", "cell"),
    # In the order in which rows are claimed: the first of many waiting rows is found without sorting them.
    Index("search_runs_queue", "state", "priority", "id"),
    Index("search_runs_state", "study", "state"),
    Index("search_runs_finished", "study", "finished_at"),
    Index("search_runs_trial", "trial_id"),
    Index("search_runs_study", "study_uid"),
    # An id is never used again, so that a late worker of a deleted trial cannot write to another.
    sqlite_autoincrement=True,
)

# Files whose database rows are gone: they are removed next, or by a later command if this one is killed. A row names an
# artifact, or a trial's checkpoint, or with neither the folder of the study.
removals_table = Table(
    "search_removals",
    metadata,
    Column("id", Integer, primary_key=True),
    Column("study", String(512), nullable=False),
    Column("study_uid", String(36), nullable=False),
    Column("artifact_id", String(512)),
    Column("number", Integer),
    # What the trial's checkpoint was written with.
    Column("identity", Text),
    Index("search_removals_study", "study"),
    # Two workers can remove the same files: with ids used again, one would forget what was recorded since.
    sqlite_autoincrement=True,
)

# What a trial reported besides the value: JSON of metrics by name, for each step that has any.
metrics_table = Table(
    "search_metrics",
    metadata,
    Column("trial_id", ForeignKey(optuna_layout.trials.c.trial_id, ondelete="CASCADE"), primary_key=True),
    Column("step", Integer, primary_key=True, autoincrement=False),
    Column("metrics", Text, nullable=False),
)

# What the workers of a study have taken. Each has a row of its own, so that none waits for another one's.
spending_table = Table(
    "search_spending",
    metadata,
    Column("study_uid", ForeignKey(studies_table.c.uid, ondelete="CASCADE"), primary_key=True),
    Column("owner", String(255), primary_key=True),
    # Until `counted_at`: seconds with trials, and their floating-point operations.
    Column("seconds", Float(53), nullable=False),
    Column("flops", Float(53), nullable=False),
    Column("counted_at", Float(53), nullable=False),
    # Until then it is taken to work on; NULL without a trial.
    Column("busy_until", Float(53)),
)

# What processes have taken from their start: workers, and the processes of runs.
processes_table = Table(
    "search_processes",
    metadata,
    Column("study_uid", ForeignKey(studies_table.c.uid, ondelete="CASCADE"), primary_key=True),
    Column("process", String(64), primary_key=True),
    Column("owner", String(255), nullable=False),
    # "" for the process of a run.
    Column("device", String(255), nullable=False),
    # Until `counted_at`; programs that trials have run count too.
    Column("cpu_seconds", Float(53), nullable=False),
    Column("wall_seconds", Float(53), nullable=False),
    # Of the device; NULL if it is not measured.
    Column("energy_joules", Float(53)),
    Column("counted_at", Float(53), nullable=False),
)

schema_info = Table("search_schema", metadata, Column("version", Integer, primary_key=True))


def stored_version(connection: Connection) -> int:
    """The version of the tables, which must exist; programs that only read do not upgrade older ones."""
    return connection.execute(select(schema_info.c.version)).scalar() or 0


def uids_of(connection: Connection, studies: Sequence[str]) -> list[str]:
    """The uids of the studies of these names that are planned."""
    query = select(studies_table.c.uid).where(studies_table.c.name.in_(studies))
    return list(connection.execute(query).scalars().all())


# Tables of ours with rows of trials, besides the queue.
TRIAL_TABLES = [table for table in metadata.sorted_tables if "trial_id" in table.c and table is not queue_table]
