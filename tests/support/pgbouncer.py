"""A real pgbouncer in transaction mode (apt-get install pgbouncer) in front of a PostgreSQL server."""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Self

from postgres import PASSWORD, PostgresServer
from sqlalchemy.engine import make_url

PROGRAM = shutil.which("pgbouncer", path=f"{os.environ.get('PATH', '')}:/usr/sbin")

_CONFIGURATION = """
[databases]
* = host=127.0.0.1 port={server}
[pgbouncer]
listen_addr = 127.0.0.1
listen_port = {port}
unix_socket_dir =
auth_type = scram-sha-256
auth_file = {folder}/users
pidfile = {folder}/pgbouncer.pid
logfile = {folder}/log
pool_mode = {mode}
default_pool_size = {connections}
max_client_conn = 1000
"""


class Pgbouncer:
    """A pooler that gives each transaction one of few connections; use it as a context, like `PostgresServer`.

    Args:
        connections: How many connections to the server it has.
        mode: Its pool_mode.
    """

    def __init__(self, server: PostgresServer, connections: int = 2, mode: str = "transaction") -> None:
        assert PROGRAM is not None
        self.folder = Path(tempfile.mkdtemp(prefix="lm-search-pgbouncer-"))
        self._guard = subprocess.Popen(
            [sys.executable, "-IS", str(Path(__file__).with_name("server_guard.py")), str(self.folder)],
            stdin=subprocess.PIPE,
            stdout=subprocess.DEVNULL,
            start_new_session=True,
        )
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            self.port: int = probe.getsockname()[1]
        users, configuration = self.folder / "users", self.folder / "pgbouncer.ini"
        users.write_text(f'"search" "{PASSWORD}"\n')
        configuration.write_text(
            _CONFIGURATION.format(
                server=server.port, port=self.port, folder=self.folder, mode=mode, connections=connections
            )
        )
        user = "nobody" if os.geteuid() == 0 else None  # it refuses to run as root
        for path in (users, configuration, self.folder):
            if user is not None:
                shutil.chown(path, user)
        subprocess.run([PROGRAM, "--daemon", str(configuration)], user=user, check=True, capture_output=True)
        self._wait()

    def _wait(self) -> None:
        deadline = time.monotonic() + 20
        while True:
            try:
                socket.create_connection(("127.0.0.1", self.port), timeout=5).close()
            except OSError:
                assert time.monotonic() < deadline, (self.folder / "log").read_text()
                time.sleep(0.05)
            else:
                return

    def url(self, through: str) -> str:
        """The URL of a database of the server, through the pooler."""
        return make_url(through).set(port=self.port).render_as_string(hide_password=False)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        """End it and remove its folder."""
        assert self._guard.stdin is not None
        self._guard.stdin.close()
        self._guard.wait()
