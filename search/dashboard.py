"""`python -m search.dashboard`: optuna-dashboard on a real server, read-only and on loopback unless told otherwise."""

from __future__ import annotations

import ipaddress
import logging
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from search import options
from search.errors import UsageError, user_errors

if TYPE_CHECKING:
    from wsgiref.types import WSGIApplication


app = typer.Typer(add_completion=False, rich_markup_mode=None, pretty_exceptions_enable=False)
MIN_TOKEN_LENGTH = 16


@app.command()
def dashboard(
    storage: options.StorageOption = options.DEFAULT_STORAGE,
    out: options.OutOption = options.DEFAULT_OUT,
    artifacts: options.ArtifactsOption = None,
    host: Annotated[str, typer.Option(help="Address to listen on.")] = "127.0.0.1",
    port: Annotated[int, typer.Option(help="Port to listen on.", min=0, max=65535)] = 8080,
    writable: Annotated[bool, typer.Option("--writable", help="Let visitors change and delete studies.")] = False,
    token_file: Annotated[
        Path | None,
        typer.Option(help="File with the token that visitors must show; needed off loopback.", metavar="FILE"),
    ] = None,
    open_door: Annotated[
        bool, typer.Option("--no-token", help="Listen off loopback without a token, behind a proxy say.")
    ] = False,
) -> None:
    """Show the studies of a database in optuna-dashboard."""
    logging.basicConfig(format="%(message)s", level=logging.WARNING, stream=sys.stderr)
    with user_errors():
        from search.storage.url import display_url, parse_url
        from search.web.app import gated_dashboard

        parse_url(storage)  # a wrong URL will not get better by waiting
        from search.storage.artifact_store import artifact_store

        store = artifact_store(artifacts, out)
        token = _read_token(token_file, host, open_door=open_door)
        server = _server(gated_dashboard(storage, store, writable=writable, token=token), host, port)
        shown = f"http://{host}:{server.effective_port}/"
        print(
            f"dashboard of {display_url(storage)}: {shown}{'?token=…' if token else ''}"
            f"{'' if writable else ' (read-only)'}; end it with Ctrl-C",
            file=sys.stderr,
            flush=True,
        )
        server.run()


def _server(served: WSGIApplication, host: str, port: int):  # type: ignore[no-untyped-def]  # waitress has no types
    from waitress import create_server

    try:
        return create_server(served, host=host, port=port, threads=8, ident=None)
    except OSError as error:
        raise UsageError(f"--host {host} --port {port}: {error.strerror}; choose another --port") from error


def _read_token(token_file: Path | None, host: str, *, open_door: bool) -> str | None:
    if token_file is None:
        if not open_door and not _is_loopback(host):
            raise UsageError(
                f"--host {host} is not loopback, and whoever reaches the dashboard sees everything: give "
                "--token-file FILE, or --no-token if something else keeps strangers out"
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


def main() -> None:
    """Entry point."""
    app()


if __name__ == "__main__":
    main()
