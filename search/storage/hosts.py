"""A file database serves one host: SQLite's locks do not hold on a network file system, and the file is damaged."""

from __future__ import annotations

import os

from sqlalchemy import Connection, and_, select

from search.storage import optuna_tables
from search.storage.database import Database
from search.storage.errors import StorageError
from search.storage.schema import queue_table, studies_table
from search.storage.texts import printable
from search.storage.url import display_url

# The user attribute of a study: the host that planned it last.
HOST = "host"


def note_host(database: Database, study: str) -> None:
    """Note that a study is planned on this host, if its database serves one host only.

    Raises:
        StorageError: Workers of another host are training it.
    """
    if not database.dialect.one_host:
        return
    if database.read(lambda connection: _study_and_host(connection, study))[1] == this_host():
        return

    def work(connection: Connection) -> None:
        study_id, host = _study_and_host(connection, study)
        if study_id is None or host == this_host():
            return
        now = database.time(connection)
        leased = and_(queue_table.c.study == study, queue_table.c.state == "running", queue_table.c.lease_until > now)
        if host is not None and connection.execute(select(queue_table.c.id).where(leased).limit(1)).first():
            raise StorageError(_refusal(database, study, host, "start it here again when their leases have ended"))
        optuna_tables.write_study_attrs(connection, study_id, {HOST: this_host()})

    database.write(work)


def check_host(database: Database, study: str) -> None:
    """Check that a worker of this host may train a study.

    Raises:
        StorageError: The database serves one host only, and another one has planned the study.
    """
    if not database.dialect.one_host:
        return
    _, host = database.read(lambda connection: _study_and_host(connection, study))
    if host is not None and host != this_host():
        raise StorageError(_refusal(database, study, host, "start its run here first"))


def this_host() -> str:
    """The name of this host."""
    return os.uname().nodename


def _study_and_host(connection: Connection, study: str) -> tuple[int | None, str | None]:
    query = select(studies_table.c.study_id).where(studies_table.c.name == study)
    study_id = connection.execute(query).scalar()
    if study_id is None:
        return None, None
    host = optuna_tables.study_attr(connection, study_id, HOST)
    return study_id, host if isinstance(host, str) else None


def _refusal(database: Database, study: str, host: str, remedy: str) -> str:
    return (
        f"{display_url(database.engine.url)}: the study {study!r} was planned on the host {printable(host)}, and this "
        f"one is {printable(this_host())}: a SQLite file serves one host, and on a network file system it would be "
        f"damaged; use --storage postgresql://…, or, if the file has moved here, {remedy}"
    )
