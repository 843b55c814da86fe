"""Creates or upgrades the tables exactly once, even if many processes start at the same time."""

from __future__ import annotations

import functools
import logging
import re
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from optuna.storages import _rdb
from optuna.version import __version__ as optuna_version
from sqlalchemy import (
    Column,
    Connection,
    MetaData,
    PrimaryKeyConstraint,
    String,
    Table,
    delete,
    insert,
    inspect,
    select,
    text,
)

from search.storage.database import Database
from search.storage.errors import NoStudyYet, StorageError
from search.storage.optuna_layout import optuna_metadata
from search.storage.schema import OLDEST_READABLE, SCHEMA_VERSION, metadata, queue_table, schema_info, stored_version
from search.storage.url import display_url

# Alembic is imported only where tables are upgraded: programs start in a fifth less time.
if TYPE_CHECKING:
    from alembic.script import ScriptDirectory

log = logging.getLogger("storage")

VERSION_TABLE = "search_alembic_version"  # beside Optuna's own, alembic_version
FIRST = "0001"

# What to do with tables of an older version: upgrade them, read them without upgrading, or refuse.
Outdated = Literal["upgrade", "read", "refuse"]
# What to do with a database that has Optuna's tables without ours.
OptunaAlone = Literal["refuse", "read", "write"]


def ensure_schema(
    database: Database, *, create: bool, outdated: Outdated, optuna_alone: OptunaAlone = "refuse"
) -> None:
    """Make sure that the database has tables that this version can use.

    Args:
        create: Whether to create missing tables.
        outdated: What to do with tables of an older version.
        optuna_alone: What to do, if `create` is False, with Optuna's tables without ours: unless it is "refuse", they
            stay alone.

    Raises:
        NoStudyYet: There are no tables yet, and `create` is False.
        StorageError: The tables are newer than this version, belong to another program, or are in use.
    """
    version = database.read(lambda connection: _version(database, connection))
    url = display_url(database.engine.url)
    if version == 0 and not create:
        if optuna_alone != "refuse" and database.read(has_optuna_tables):
            return
        raise NoStudyYet(f"{url} holds no study yet; plan one first")
    if version == SCHEMA_VERSION:
        return
    if version == 0 or outdated == "upgrade":
        database.write(lambda connection: _upgrade(database, connection))
        return
    step = (
        f"make a copy with: {database.dialect.backup_command(database.engine.url)}; "
        "then upgrade it by resuming one of its studies with the program run or worker"
    )
    if outdated == "refuse" or version < OLDEST_READABLE:
        raise StorageError(f"{url} has schema {version} of an older lm-search (here {SCHEMA_VERSION}); {step}")
    log.info(
        "%s has schema %d of an older lm-search (here %d) and is read without upgrading it; %s",
        url,
        version,
        SCHEMA_VERSION,
        step,
    )


def has_our_tables(connection: Connection) -> bool:
    """Whether lm-search planned studies in the database."""
    return {queue_table.name, schema_info.name, "alembic_version"} <= set(inspect(connection).get_table_names())


def has_optuna_tables(connection: Connection) -> bool:
    """Whether there are Optuna's tables."""
    return set(optuna_metadata.tables) <= set(inspect(connection).get_table_names())


def _version(database: Database, connection: Connection) -> int:
    """The version of the tables, 0 when there are none."""
    tables = set(inspect(connection).get_table_names())
    _refuse_foreign(database, connection, tables)
    if not has_our_tables(connection):
        return 0
    return stored_version(connection)


def _upgrade(database: Database, connection: Connection) -> None:
    database.lock(connection, "search schema")
    version = _version(database, connection)
    if version == SCHEMA_VERSION:
        return  # another process was first, while we waited for the lock
    if version == 0:
        database.dialect.check_encoding(connection)
        _create(connection)
    else:
        database.dialect.lock_table(connection, queue_table)
        _refuse_while_in_use(database, connection, version)
        _back_up(database, connection, version)
        _run_revisions(connection)
    database.dialect.cascade_deletions(connection)
    connection.execute(delete(schema_info))
    connection.execute(insert(schema_info).values(version=SCHEMA_VERSION))


def _create(connection: Connection) -> None:
    """Create the tables of today, which is what all revisions would make, without the time that Alembic takes."""
    from optuna.storages._rdb import models

    models.BaseModel.metadata.create_all(connection)
    if connection.execute(text("SELECT count(*) FROM version_info")).scalar_one() == 0:
        connection.execute(
            text("INSERT INTO version_info (version_info_id, schema_version, library_version) VALUES (1, :s, :l)"),
            {"s": models.SCHEMA_VERSION, "l": optuna_version},
        )
    metadata.create_all(connection, checkfirst=False)  # tables of another shape are an error
    _stamp(connection, "alembic_version", _optuna_head())
    _stamp(connection, VERSION_TABLE, f"{SCHEMA_VERSION:04d}")


def _stamp(connection: Connection, name: str, revision: str) -> None:
    """Write the revision of new tables where Alembic reads it."""
    column = Column("version_num", String(32), nullable=False)
    table = Table(name, MetaData(), column, PrimaryKeyConstraint("version_num", name=f"{name}_pkc"))
    table.create(connection, checkfirst=True)
    connection.execute(delete(table))
    connection.execute(insert(table).values(version_num=revision))


def _run_revisions(connection: Connection) -> None:
    from alembic.migration import MigrationContext
    from alembic.operations import Operations

    scripts = revisions()
    options = {"version_table": VERSION_TABLE, "fn": lambda at, _context: scripts._upgrade_revs("head", at)}
    context = MigrationContext.configure(connection, opts=options)
    if context.get_current_revision() is None:
        context.stamp(scripts, FIRST)
    with Operations.context(context):
        context.run_migrations()


def revisions() -> ScriptDirectory:
    """The revisions of our tables."""
    return _scripts("search.storage:migrations")


def _back_up(database: Database, connection: Connection, version: int) -> None:
    url = display_url(database.engine.url)
    copy = database.dialect.back_up(connection, f".schema-{version}.bak")
    command = database.dialect.backup_command(database.engine.url)
    backup = f"backup: {copy}" if copy else f"the only way back is a backup made before the upgrade, with: {command}"
    log.warning("upgrading %s from schema %d to %d; %s", url, version, SCHEMA_VERSION, backup)


def _refuse_while_in_use(database: Database, connection: Connection, version: int) -> None:
    table = queue_table.c
    left = (table.lease_until - database.now()).label("left_s")
    held = select(table.owner, table.study, table.number, left).where(table.state == "running", left > 0)
    leases = connection.execute(held.order_by(table.study, table.number)).all()
    if leases:
        workers = ", ".join(f"{row.owner} (trial {row.number} of {row.study})" for row in leases[:3])
        more = f" and {len(leases) - 3} more" if len(leases) > 3 else ""
        url = display_url(database.engine.url)
        raise StorageError(
            f"{url} has schema {version} of an older lm-search (here {SCHEMA_VERSION}) and "
            f"cannot be upgraded while workers train its trials: {workers}{more}; stop them, then run the same command "
            f"again (leases of crashed workers expire in {max(row.left_s for row in leases):.0f} s)"
        )


def _refuse_foreign(database: Database, connection: Connection, tables: set[str]) -> None:
    url = display_url(database.engine.url)
    if tables and "version_info" not in tables and not metadata.tables.keys() <= tables:
        raise StorageError(
            f"{url} holds another program's tables ({', '.join(sorted(tables)[:3])}); give an empty database"
        )
    if schema_info.name in tables:
        version = connection.execute(select(schema_info.c.version)).scalar()
        if version is not None and version > SCHEMA_VERSION:
            raise StorageError(
                f"{url} was written by a newer lm-search (schema {version}, here {SCHEMA_VERSION}); "
                "update with: pip install -U lm-search"
            )
    if "alembic_version" in tables:
        revision = connection.execute(text("SELECT version_num FROM alembic_version")).scalar()
        if revision is not None and revision != _optuna_head():
            scripts = _optuna_scripts()
            known = {script.revision for script in scripts.walk_revisions()}
            step = (
                f"upgrade it with: optuna storage upgrade --storage {url}"
                if revision in known
                else f"update with: pip install -U optuna, or use another database (installed: Optuna {optuna_version})"
            )
            raise StorageError(f"{url} has Optuna's schema {revision}, not {_optuna_head()}; {step}")
    elif "version_info" in tables and not has_optuna_tables(connection):
        raise StorageError(
            f"{url} has tables of an Optuna older than 1.0; upgrade it with: optuna storage upgrade --storage {url}"
        )


@functools.cache
def _optuna_head() -> str:
    """The newest revision of Optuna's tables: the one that is no other's `down_revision`."""
    folder = Path(str(_rdb.__file__)).parent / "alembic" / "versions"
    sources = "".join(file.read_text(encoding="utf-8") for file in folder.glob("*.py"))
    earlier, every = (set(re.findall(rf'^{name} = "(.+)"', sources, re.M)) for name in ("down_revision", "revision"))
    newest: set[str] = every - earlier
    # A later Optuna can format its files differently.
    return newest.pop() if len(newest) == 1 else _optuna_scripts().get_current_head() or ""


def _optuna_scripts() -> ScriptDirectory:
    return _scripts("optuna.storages._rdb:alembic")


@functools.cache
def _scripts(location: str) -> ScriptDirectory:
    from alembic.config import Config
    from alembic.script import ScriptDirectory

    config = Config()
    config.set_main_option("script_location", location)
    return ScriptDirectory.from_config(config)
