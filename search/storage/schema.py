"""Our one table, and how a database gets its tables exactly once however many processes come at once."""

from __future__ import annotations

from alembic.config import Config
from alembic.migration import MigrationContext
from alembic.script import ScriptDirectory
from optuna.storages._rdb import models as optuna_models
from optuna.version import __version__ as optuna_version
from sqlalchemy import (
    Column,
    Connection,
    Float,
    Index,
    Integer,
    MetaData,
    String,
    Table,
    Text,
    UniqueConstraint,
    inspect,
    text,
)

from search.storage.database import Database
from search.storage.errors import NoStudyYet, StorageError
from search.storage.url import display_url

SCHEMA_VERSION = 1

metadata = MetaData()

# A row per trial. Optuna's tables hold what a trial was and gave; this one holds who may work on it.
runs = Table(
    "search_runs",
    metadata,
    Column("id", Integer, primary_key=True),
    Column("study", String(255), nullable=False),
    # Canonical JSON of the cell with its seed: what makes a trial this trial.
    Column("cell", String(2000), nullable=False),
    # Optuna's trial; NULL only while the row waits for the planner to link it.
    Column("trial_id", Integer),
    Column("number", Integer),
    # Trials with the same key have tensors of the same shapes.
    Column("shape_key", String(255), nullable=False),
    # Lower goes first.
    Column("priority", Integer, nullable=False),
    # waiting, running, done. A running row whose lease has expired can be claimed like a waiting one.
    Column("state", String(16), nullable=False, default="waiting"),
    Column("attempts", Integer, nullable=False, default=0),
    # Back-off after a failure: not to be claimed before this time of the database's clock.
    Column("not_before", Float(53), nullable=False, default=0.0),
    Column("owner", String(255)),
    # Counts the claims. A worker that shows an old token has lost the trial.
    Column("token", Integer, nullable=False, default=0),
    Column("lease_until", Float(53)),
    # The last evaluation.
    Column("step", Integer),
    Column("train_loss", Float(53)),
    Column("val_loss", Float(53)),
    # complete, pruned, diverged, failed; with the value and, unless complete, the reason.
    Column("outcome", String(16)),
    Column("value", Float(53)),
    Column("reason", Text),
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


def migrate(database: Database) -> None:
    """Bring the database to the schema of this version; once, however many processes ask at the same time.

    Raises:
        StorageError: The schema is newer than this version knows, or the tables are somebody else's.
    """
    if not database.read(lambda connection: _is_current(database, connection)):
        database.write(lambda connection: _create(database, connection))


def check(database: Database) -> None:
    """Look whether the database has our tables, and change nothing.

    Raises:
        NoStudyYet: It has none yet.
        StorageError: They are of another version or of another program.
    """
    if not database.read(lambda connection: _is_current(database, connection)):
        raise NoStudyYet(
            f"{display_url(database.engine.url)} holds no study yet; plan one with: "
            "python -m search.run --study bigram --storage URL"
        )


def _is_current(database: Database, connection: Connection) -> bool:
    tables = set(inspect(connection).get_table_names())
    _refuse_foreign(database, connection, tables)
    return metadata.tables.keys() <= tables and "alembic_version" in tables


def _create(database: Database, connection: Connection) -> None:
    database.lock(connection, "search schema")
    if _is_current(database, connection):
        return  # somebody else was first, while we waited for the lock
    optuna_models.BaseModel.metadata.create_all(connection)
    metadata.create_all(connection)
    if connection.execute(text("SELECT count(*) FROM version_info")).scalar_one() == 0:
        connection.execute(
            text("INSERT INTO version_info (version_info_id, schema_version, library_version) VALUES (1, :s, :l)"),
            {"s": optuna_models.SCHEMA_VERSION, "l": optuna_version},
        )
    context = MigrationContext.configure(connection)
    if context.get_current_revision() is None:
        scripts = _optuna_scripts()
        head = scripts.get_current_head()
        assert head is not None
        context.stamp(scripts, head)
    connection.execute(schema_info.insert().values(version=SCHEMA_VERSION))


def _refuse_foreign(database: Database, connection: Connection, tables: set[str]) -> None:
    url = display_url(database.engine.url)
    if tables and "version_info" not in tables and not metadata.tables.keys() <= tables:
        raise StorageError(
            f"{url} holds another program's tables ({', '.join(sorted(tables)[:3])}); give an empty database"
        )
    if "alembic_version" in tables:
        revision = MigrationContext.configure(connection).get_current_revision()
        scripts = _optuna_scripts()
        if revision is not None and revision != scripts.get_current_head():
            known = {script.revision for script in scripts.walk_revisions()}
            step = (
                f"upgrade it with: optuna storage upgrade --storage {url}"
                if revision in known
                else f"update with: pip install -U optuna, or give another database (here is Optuna {optuna_version})"
            )
            raise StorageError(f"{url} has Optuna's schema {revision}, not {scripts.get_current_head()}; {step}")
    if "search_schema" in tables:
        version = connection.execute(schema_info.select()).scalar()
        if version is not None and version > SCHEMA_VERSION:
            raise StorageError(
                f"{url} was written by a newer lm-search (schema {version}, here {SCHEMA_VERSION}); "
                "update with: pip install -U lm-search"
            )


def _optuna_scripts() -> ScriptDirectory:
    config = Config()
    config.set_main_option("script_location", "optuna.storages._rdb:alembic")
    return ScriptDirectory.from_config(config)
