"""What an error of PostgreSQL, its driver or a pooler means, and what the user can do about it."""

from __future__ import annotations

import re

from sqlalchemy.exc import DBAPIError

from search.storage.dialects import Fault, FaultKind, first_line

_CHECK_SERVER = "check that the server is running and the URL is correct"
_WRONG_PASSWORD = "the password is wrong; fix it in the URL"
_NO_DATABASE = "there is no such database; create it with: createdb NAME"
_NO_ROLE = "the server does not let this user in; fix the user in the URL, or create the role with LOGIN"
_TLS = "the URL and the server disagree about TLS; fix sslmode, sslrootcert or sslcert in the URL"
_CROWDED = "start fewer workers, or raise max_connections or the CONNECTION LIMIT of the role or database"
_NO_RIGHT = "this role lacks a right; use another role, or let the tables' owner grant it"
_ENCODING = (
    "the database's encoding cannot store this text; use a database made with: createdb -E UTF8 -T template0 NAME"
)
_POOLER = "a pooler mixes up prepared statements; add prepare_threshold=none to the URL's query"

# By SQLSTATE or its class; the longest match counts. Not listed: a wrong statement, which is a bug.
_BY_STATE: dict[str, tuple[FaultKind, str]] = {
    "08": ("outage", _CHECK_SERVER),
    "22001": ("final", "a name or a cell is too long for its column; shorten it"),
    "22021": ("final", _ENCODING),
    "22P05": ("final", _ENCODING),
    "25006": ("final", "the server or database is read-only, such as a standby; give the URL of the primary"),
    "25P03": ("outage", _CHECK_SERVER),  # this process was stopped in the middle of a transaction
    "26000": ("final", _POOLER),
    "28": ("final", _NO_ROLE),
    "28P01": ("final", _WRONG_PASSWORD),
    "3D000": ("final", _NO_DATABASE),
    "3F000": ("final", "the schema does not exist; create it, or fix search_path in the URL"),
    "40": ("outage", _CHECK_SERVER),  # deadlock
    "42501": ("final", _NO_RIGHT),
    "42P01": ("final", "a table is missing; it was deleted, or search_path selects another schema"),
    "42P05": ("final", _POOLER),
    "53": ("outage", "free memory or other resources of the server"),
    "53100": ("outage", "free space on the server's disk"),
    "53300": ("crowded", _CROWDED),
    "54": ("final", "a name or a cell is too long; shorten it"),
    "55P03": ("outage", "another program holds a lock; end it"),
    "57014": ("outage", "another program holds a lock, or the server is overloaded"),
    "57P": ("outage", _CHECK_SERVER),
}

# psycopg gives no SQLSTATE for a refused connection, only the text of the server, of pgbouncer or of libpq.
_BY_TEXT: tuple[tuple[str, FaultKind, str], ...] = (
    (r"too many (clients|connections)|connection slots|no more connections|max_client_conn", "crowded", _CROWDED),
    ("no password supplied", "final", "the server requires a password; put it into the URL or into ~/.pgpass"),
    ("(password|SASL) authentication failed", "final", _WRONG_PASSWORD),
    ("no pg_hba.conf entry", "final", "the server refuses this user, host or TLS; change pg_hba.conf, or sslmode here"),
    # Not "SSL connection has been closed unexpectedly": the server has crashed.
    ("does not support SSL|certificate|invalid sslmode|SSL error: .*(version|protocol|alert)", "final", _TLS),
    (r"database .* does not exist|no such database", "final", _NO_DATABASE),
    (r"role .* does not exist|not permitted to log in|no such user", "final", _NO_ROLE),
    (r"authentication failed|permission denied for database", "final", _NO_ROLE),
    ("not currently accepting connections", "final", "the database accepts no connections; choose another"),
    (
        "unsupported startup parameter: options",
        "final",
        "pgbouncer refuses options in a URL; remove them, and choose a schema with: ALTER ROLE X SET search_path = Y",
    ),
    (
        "unsupported startup parameter|invalid connection option|(invalid|bad) value for|unrecognized configuration",
        "final",
        "fix this key of the URL's query",
    ),
)


def diagnose(error: DBAPIError) -> Fault:
    """As `Dialect.diagnose`."""
    cause = error.orig
    state = getattr(cause, "sqlstate", None)
    if state is not None:
        found = next((_BY_STATE[state[:end]] for end in (5, 3, 2) if state[:end] in _BY_STATE), None)
        return Fault("bug", None) if found is None else Fault(*found)
    is_refused = type(cause).__name__ in {"OperationalError", "ConnectionTimeout", "ProgrammingError"}
    for words, kind, advice in _BY_TEXT if is_refused else ():
        if re.search(words, first_line(error)):
            return Fault(kind, advice)
    if error.connection_invalidated or type(cause).__name__ in {"OperationalError", "ConnectionTimeout"}:
        return Fault("outage", _CHECK_SERVER)
    return Fault("bug", None)
