"""`python -m search.dashboard`: optuna-dashboard on a real server; by default read-only and on loopback."""

from __future__ import annotations

import ipaddress
import logging
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from search.command_line import new_program
from search.errors import UsageError, user_errors
from search.options import DashboardOptions

if TYPE_CHECKING:
    from wsgiref.types import WSGIApplication

MIN_TOKEN_LENGTH = 16


def dashboard(options: DashboardOptions) -> None:
    """Show the studies of a database in optuna-dashboard."""
    logging.basicConfig(format="%(message)s", level=logging.WARNING, stream=sys.stderr)
    with user_errors():
        from search.storage.artifact_store import artifact_store
        from search.storage.url import display_url, parse_url
        from search.web.app import gated_dashboard

        parse_url(options.storage)  # fail at once on a wrong URL, before waiting for the database
        store = artifact_store(options.artifacts, options.out)
        token = _read_token(options.token_file, options.host, no_token=options.no_token)
        dashboard_app = gated_dashboard(options.storage, store, writable=options.writable, token=token)
        server = _server(dashboard_app, options.host, options.port)
        url = f"http://{options.host}:{server.effective_port}/"
        print(
            f"dashboard of {display_url(options.storage)}: {url}{'?token=…' if token else ''}"
            f"{'' if options.writable else ' (read-only)'}; stop it with Ctrl-C",
            file=sys.stderr,
            flush=True,
        )
        server.run()


def _server(dashboard_app: WSGIApplication, host: str, port: int):  # type: ignore[no-untyped-def]  # waitress has no types
    from waitress import create_server

    try:
        return create_server(dashboard_app, host=host, port=port, threads=8, ident=None)
    except OSError as error:
        raise UsageError(f"--host {host} --port {port}: {error.strerror}; choose another --port") from error


def _read_token(token_file: Path | None, host: str, *, no_token: bool) -> str | None:
    if token_file is None:
        if not no_token and not _is_loopback(host):
            raise UsageError(
                f"--host {host} is not loopback, and without a token every visitor sees all studies: give "
                "--token-file FILE, or --no-token if something else restricts access"
            )
        return None
    try:
        token = token_file.read_text(encoding="utf-8").strip()
    except (OSError, UnicodeDecodeError) as error:
        raise UsageError(f"--token-file {token_file}: {error}; make one with: openssl rand -hex 16 > FILE") from error
    if len(token) < MIN_TOKEN_LENGTH or not token.isalnum():
        raise UsageError(
            f"--token-file {token_file}: a token has at least {MIN_TOKEN_LENGTH} letters and digits and nothing else; "
            "make one with: openssl rand -hex 16 > FILE"
        )
    return token


def _is_loopback(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


EXAMPLES = (
    ("the studies of search.db, read-only, on this machine", "--storage sqlite:///search.db"),
    ("for other machines, with a token", "--host 0.0.0.0 --token-file token.txt"),
)
app = new_program(dashboard, DashboardOptions, EXAMPLES)


def main() -> None:
    """Entry point."""
    app()


if __name__ == "__main__":
    main()
