"""What texts of libpq, PostgreSQL and pgbouncer mean; psycopg gives no SQLSTATE with a refused connection."""

from __future__ import annotations

import psycopg
import pytest
from sqlalchemy.exc import OperationalError

from search.storage.dialect_postgresql_errors import diagnose
from search.storage.dialects import FaultKind

REFUSED = 'connection failed: connection to server at "127.0.0.1", port 5432 failed: '
CASES: list[tuple[FaultKind, str, str]] = [
    ("outage", "Connection refused", "check that the server is running"),
    ("outage", "FATAL:  the database system is starting up", "check that the server"),
    ("outage", "server closed the connection unexpectedly", "check that the server"),
    ("outage", "SSL connection has been closed unexpectedly", "check that the server"),
    ("outage", "consuming input failed: SSL error: unexpected eof while reading", "check that the server"),
    ("outage", "could not translate host name", "check that the server"),
    ("outage", "ERROR:  server conn crashed?", "check that the server"),
    ("outage", "connection timeout expired", "check that the server"),
    ("crowded", "FATAL:  sorry, too many clients already", "start fewer workers"),
    ("crowded", "FATAL:  remaining connection slots are reserved for roles with …", "start fewer workers"),
    ("crowded", 'FATAL:  too many connections for role "w"', "start fewer workers"),
    ("crowded", "FATAL:  no more connections allowed (max_client_conn)", "start fewer workers"),
    ("final", 'FATAL:  password authentication failed for user "w"', "the password is wrong"),
    ("final", "ERROR:  SASL authentication failed", "the password is wrong"),
    ("final", 'FATAL:  role "w" does not exist', "create the role"),
    ("final", 'FATAL:  role "w" is not permitted to log in', "create the role"),
    ("final", 'FATAL:  database "d" does not exist', "create it with: createdb"),
    ("final", "FATAL:  no such database: d", "create it with: createdb"),
    ("final", 'FATAL:  no pg_hba.conf entry for host "h", user "w", database "d", no encryption', "pg_hba.conf"),
    ("final", "server does not support SSL, but SSL was required", "about TLS"),
    ("final", "SSL error: certificate verify failed", "about TLS"),
    ("final", "SSL error: tlsv1 alert protocol version", "about TLS"),
    ("final", 'root certificate file "/no.pem" does not exist', "about TLS"),
    ("final", "FATAL:  unsupported startup parameter: options", "ALTER ROLE"),
]


@pytest.mark.parametrize(("kind", "message", "advice"), CASES)
def test_a_refused_connection(kind: FaultKind, message: str, advice: str) -> None:
    error = OperationalError(None, None, psycopg.OperationalError(REFUSED + message))
    fault = diagnose(error)
    assert fault.kind == kind
    assert advice in (fault.advice or "")


@pytest.mark.parametrize(
    ("state", "kind"),
    [
        ("40P01", "outage"), ("53100", "outage"), ("53300", "crowded"), ("57014", "outage"), ("57P01", "outage"),
        ("55P03", "outage"), ("08006", "outage"), ("25P03", "outage"), ("42501", "final"), ("25006", "final"),
        ("22001", "final"), ("22P05", "final"), ("42P01", "final"), ("42P05", "final"), ("28P01", "final"),
        ("54000", "final"), ("42703", "bug"), ("23505", "bug"), ("42601", "bug"),
    ],
)  # fmt: skip
def test_an_sqlstate(state: str, kind: FaultKind) -> None:
    error = OperationalError(None, None, psycopg.errors.lookup(state)("made up"))
    assert diagnose(error).kind == kind
