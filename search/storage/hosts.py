"""A file database serves one host: SQLite's locks do not hold on a network file system, and the file is damaged."""

from __future__ import annotations

import os

from sqlalchemy import Connection, and_, select

from search.storage import optuna_tables
from search.storage.database import Database
from search.storage.errors import StorageError
from search.storage.queries import study_attr
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
    if study_attr(database, study, HOST) == this_host():
        return

    def work(connection: Connection) -> None:
        query = select(studies_table.c.study_id).where(studies_table.c.name == study)
        study_id = connection.execute(query).scalar()
        if study_id is None:
            return
        host = optuna_tables.study_attr(connection, study_id, HOST)
        now = database.time(connection)
        running = and_(queue_table.c.study == study, queue_table.c.state == "running", queue_table.c.lease_until > now)
        leased = connection.execute(select(queue_table.c.id).where(running).limit(1)).first()
        if leased and host not in (None, this_host()):
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
    host = study_attr(database, study, HOST)
    if host not in (None, this_host()):
        raise StorageError(_refusal(database, study, host, "start its run here first"))


def this_host() -> str:
    """The name of this host."""
    return os.uname().nodename


def _refusal(database: Database, study: str, host: str, remedy: str) -> str:
    return (
        f"{display_url(database.engine.url)}: the study {study!r} was planned on the host {printable(host)}, and this "
        f"one is {printable(this_host())}: a SQLite file serves one host, and on a network file system it would be "
        f"damaged; use --storage server:DIR or postgresql://…, or, if the file has moved here, {remedy}"
    )
