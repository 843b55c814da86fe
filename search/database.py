"""`python -m search.database`: a private PostgreSQL server in a folder, where several hosts have no database."""

from __future__ import annotations

import logging
import shlex
import sys
from typing import TYPE_CHECKING

from search.command_line import new_program
from search.errors import UsageError, user_errors
from search.hints import command_of
from search.housekeeping_options import DatabaseOptions
from search.streams import write_line

if TYPE_CHECKING:
    from search.storage.server.claims import Place
    from search.storage.server.folder import ServerFolder


def database(options: DatabaseOptions) -> None:
    """Run a private PostgreSQL server in a folder that all hosts see.

    Every program uses it with --storage server:DIR, which also starts it if it does not run. In the foreground it runs
    until it is told to stop.
    """
    logging.basicConfig(format="%(message)s", level=logging.WARNING, stream=sys.stderr)
    with user_errors():
        from search.storage.server.folder import server_folder

        given = [name for name in ("stop", "backup", "restore") if getattr(options, name)]
        if len(given) > 1:
            raise UsageError(f"--{given[0]} and --{given[1]}: give one of them")
        folder = server_folder(options.folder)
        folder.check()
        if options.stop:
            _stop(folder, options)
        elif options.backup is not None:
            from search.storage.server.copies import back_up

            back_up(folder, options.backup)
            write_line(f"wrote {options.backup}", sys.stderr)
        elif options.restore is not None:
            from search.storage.server.copies import restore

            restore(folder, options.restore)
            write_line(f"restored {options.restore}; {_use(options)}", sys.stderr)
        else:
            _run(folder, options)


def _run(folder: ServerFolder, options: DatabaseOptions) -> None:
    from search.storage.server.claims import Runs
    from search.storage.server.supervise import Hours, run_server

    def announce(place: Place) -> None:
        certificate = shlex.quote(str(folder.certificate))
        other = f"postgresql://search@{place.host}:{place.port}/postgres?sslmode=verify-ca&sslrootcert={certificate}"
        write_line(
            f"the database server of {folder} runs on {place.host}; stop it with Ctrl-C; {_use(options)}\n"
            f"other programs: {other}, with the password in {folder.password_file}",
            sys.stderr,
        )

    try:
        run_server(folder, Hours(), announce)
    except Runs as error:
        write_line(f"the database server of {folder} {error}; {_use(options)}", sys.stderr)
    except KeyboardInterrupt:
        pass  # before it has begun
    else:
        write_line("stopped", sys.stderr)


def _stop(folder: ServerFolder, options: DatabaseOptions) -> None:
    from search.storage.server.stopping import stop_server

    place = stop_server(folder)
    write_line(f"no server of {folder} runs" if place is None else f"stopped the server on {place.host}", sys.stderr)


def _use(options: DatabaseOptions) -> str:
    return f"use it with: {command_of('run')} --storage {shlex.quote(f'server:{options.folder}')}"


EXAMPLES = (
    ("run it until Ctrl-C, for workers on all hosts that see the folder", "--folder search-db"),
    ("write a copy of it to a file", "--folder search-db --backup search.dump"),
)
app = new_program(database, DatabaseOptions, EXAMPLES)


def main() -> None:
    """Entry point."""
    app()


if __name__ == "__main__":
    main()
