"""`python -m benchmarks.private_server`: what a private database server takes: its starts, its folder, a statement."""

from __future__ import annotations

import os
import shutil
import signal
import statistics
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import psycopg

from search.command_line import new_program
from search.errors import user_errors
from search.option_fields import Option, Options
from search.storage.server.client import reach, start
from search.storage.server.folder import DATABASE, USER, ServerFolder, server_folder
from search.storage.server.stopping import stop_server

STATEMENTS = 2000


@dataclass(frozen=True, kw_only=True)
class ServerOptions(Options):
    """The options of this program."""

    within: Annotated[Path, Option("Folder for the server's folder.", "DIR", convert=Path)] = Path(
        tempfile.gettempdir()
    )


def measure(options: ServerOptions) -> None:
    """Make a private server, use it, kill it, and print what each of that takes."""
    with user_errors():
        outer = Path(tempfile.mkdtemp(prefix="private-server-", dir=options.within))
        outer.chmod(0o755)  # as root PostgreSQL runs as another user
        folder = server_folder(outer / "db")
        try:
            print(f"first start {_seconds(lambda: start(folder)):.1f} s")
            print(f"folder {sum(each.stat().st_size for each in folder.path.rglob('*')) / 1e6:.0f} MB")
            _measure_statements(folder)
            print(f"stop {_seconds(lambda: stop_server(folder)):.1f} s")
            print(f"later start {_seconds(lambda: start(folder)):.1f} s")
            _kill(folder)
            print(f"usable again after a kill {_seconds(lambda: start(folder)):.1f} s")
        finally:
            stop_server(folder)
            shutil.rmtree(outer, ignore_errors=True)


def _measure_statements(folder: ServerFolder) -> None:
    reached = reach(folder)
    assert reached is not None, "it was just started"
    place, through_door = reached
    socket = {"host": place.sockets, "user": USER, "password": folder.password(), "dbname": DATABASE}
    before = _processor_s(place.pid)
    door_ms = _statement_ms(**through_door)
    spent_ms = 1000 * (_processor_s(place.pid) - before) / STATEMENTS
    memory = next(line for line in Path(f"/proc/{place.pid}/status").read_text().splitlines() if "VmRSS" in line)
    print(f"a statement {door_ms:.2f} ms through TLS, {_statement_ms(**socket):.2f} ms through the socket")
    print(
        f"the process beside PostgreSQL: {spent_ms:.2f} ms of CPU a statement, {int(memory.split()[1]) / 1000:.0f} MB"
    )


def _statement_ms(**arguments: object) -> float:
    took = []
    with psycopg.connect(**arguments, autocommit=True) as connection:  # type: ignore[arg-type]
        for _ in range(STATEMENTS):
            took.append(_seconds(lambda: connection.execute("SELECT 1")))
    return 1000 * statistics.median(took)


def _kill(folder: ServerFolder) -> None:
    """Kill the server's process; Linux ends PostgreSQL with it."""
    reached = reach(folder)
    assert reached is not None
    os.kill(reached[0].pid, signal.SIGKILL)


def _processor_s(pid: int) -> float:
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def _seconds(call: Callable[[], object]) -> float:
    began = time.perf_counter()
    call()
    return time.perf_counter() - began


app = new_program(measure, ServerOptions, (("on a disk", "--within ."),))

if __name__ == "__main__":
    app()
