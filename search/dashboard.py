"""`python -m search.dashboard`: optuna-dashboard on a real server; by default read-only and on loopback."""

from __future__ import annotations

import logging
import os
import stat
import sys
import time
from typing import TYPE_CHECKING

from search.command_line import new_program
from search.errors import UsageError, user_errors
from search.launchers.child_process import when_parent_ends
from search.options import DashboardOptions
from search.web.access import Access, is_host_name, is_loopback

if TYPE_CHECKING:
    from wsgiref.types import WSGIApplication

    from search.web.server import Server

log = logging.getLogger("search")

MIN_TOKEN_LENGTH = 16
SWITCH_INTERVAL_S = 0.0005
MAKE_TOKEN = "make one with: (umask 077; openssl rand -hex 16 > FILE)"
ANY_ADDRESS = ("0.0.0.0", "::")


def dashboard(options: DashboardOptions) -> None:
    """Show the studies of a database in optuna-dashboard."""
    logging.basicConfig(format="%(message)s", level=logging.WARNING, stream=sys.stderr)
    with user_errors():
        from search.storage.artifact_store import artifact_store
        from search.storage.connect import check_storage
        from search.storage.url import display_url
        from search.web.app import protected_dashboard

        # A server may start later, but a file that does not exist is a typing error.
        check_storage(options.storage, create=False)
        store = artifact_store(options.artifacts, options.out)
        access = Access(_hosts(options), writable=options.writable, token=_read_token(options))
        server = _server(protected_dashboard(options.storage, store, access), access, options)
        shown = f"[{options.host}]" if ":" in options.host else options.host
        url = f"http://{shown}:{server.effective_port}/"
        print(
            f"dashboard of {display_url(options.storage)}: {url}{'?token=…' if options.token_file else ''}"
            f"{'' if options.writable else ' (read-only)'}; stop it with Ctrl-C",
            file=sys.stderr,
            flush=True,
        )
        warn_of_options(options)
        if options.parent is not None:
            when_parent_ends(options.parent, lambda: os._exit(0))
        _use_utc()
        # The loop that accepts connections gets its turn soon, even while all threads compute.
        sys.setswitchinterval(SWITCH_INTERVAL_S)
        server.run()


def _server(app: WSGIApplication, access: Access, options: DashboardOptions) -> Server:
    from search.web.server import READ_ONLY, WRITABLE, Server

    limits = WRITABLE if options.writable else READ_ONLY
    try:
        return Server(app, access, limits, options.host, options.port)
    except OSError as error:
        raise UsageError(
            f"--host {options.host} --port {options.port}: {error.strerror}; choose another --port"
        ) from error


def _use_utc() -> None:
    # Optuna gives out local times without a zone, which are ambiguous in an hour of autumn; UTC never is.
    os.environ["TZ"] = "UTC"
    time.tzset()


def _hosts(options: DashboardOptions) -> list[str]:
    for name in options.allow_host:
        if not is_host_name(name):
            raise UsageError(f"--allow-host {name!r}: give a name or an address alone, such as search.example.org")
    return [options.host, *options.allow_host]


def _read_token(options: DashboardOptions) -> str | None:
    file = options.token_file
    if file is None:
        if not options.no_token and not is_loopback(options.host):
            raise UsageError(
                f"--host {options.host} is not loopback, and without a token every visitor sees all studies: give "
                "--token-file FILE, or --no-token if something else restricts access"
            )
        return None
    try:
        token = file.read_text(encoding="utf-8").strip()
    except (OSError, UnicodeDecodeError) as error:
        raise UsageError(f"--token-file {file}: {error}; {MAKE_TOKEN}") from error
    if len(token) < MIN_TOKEN_LENGTH or not (token.isascii() and token.isalnum()):
        raise UsageError(
            f"--token-file {file}: a token has at least {MIN_TOKEN_LENGTH} letters and digits and nothing else; "
            f"{MAKE_TOKEN}"
        )
    return token


def warn_of_options(options: DashboardOptions) -> None:
    """Log what is allowed and may not be meant."""
    file = options.token_file
    if file is not None and file.stat().st_mode & stat.S_IRWXO:
        log.warning("--token-file %s: every user of this machine can read it; protect it with: chmod o= %s", file, file)
    if options.host in ANY_ADDRESS and not options.allow_host:
        log.warning("it answers to localhost only; allow other names with --allow-host NAME")


EXAMPLES = (
    ("the studies of search.db, read-only, on this machine", "--storage sqlite:///search.db"),
    (
        "for other machines, with a token",
        "--host 0.0.0.0 --token-file secrets/token --allow-host search.example.org",
    ),
)
app = new_program(dashboard, DashboardOptions, EXAMPLES)


def main() -> None:
    """Entry point."""
    app()


if __name__ == "__main__":
    main()
