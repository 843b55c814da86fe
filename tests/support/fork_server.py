"""Processes that fork from one that has imported what they import: they start in a tenth of an interpreter's time.

The server has opened no database, and SQLite's locks do not survive a fork; see `swarm` and `study_files.program`.
"""

from __future__ import annotations

import atexit
import ctypes
import io
import multiprocessing
import os
import runpy
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import traceback
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import partial
from itertools import pairwise
from multiprocessing import forkserver, popen_forkserver
from pathlib import Path
from typing import Any, NoReturn

from forked_children import execute_child, fork_children, wait_for_program

import search

CONTEXT = multiprocessing.get_context("forkserver")
_FOLDER = Path(search.__file__).parent
_PACKAGES = ("launchers", "objectives", "reporting", "statistics", "storage", "strategies", "study", "web", "workers")
# Packages of others that ours import where they need them.
_OTHERS = (
    "alembic.command",
    "alembic.migration",
    "optuna.artifacts",
    "optuna.samplers._tpe.sampler",
    "psycopg",
    "scipy.sparse",
    "scipy.special",
)
# They take long to import, or import what few programs need.
_LEFT_OUT = ("search.objectives.torch_setup", "search.launchers.ray_place", "search.web.study_copy")


def _preloaded() -> list[str]:
    """What the programs and their workers import; no program itself, since it is run as `__main__`."""
    files = [file for package in _PACKAGES for file in sorted((_FOLDER / package).glob("*.py"))]
    ours = [f"search.{file.parent.name}.{file.stem}" for file in files if file.stem != "__init__"]
    options = ["search.command_line", "search.reading_options", "search.housekeeping_options"]
    return [*_OTHERS, "swarm", "fake_objective", "search.service", *options, *sorted({*ours} - {*_LEFT_OUT})]


CONTEXT.set_forkserver_preload(_preloaded())
# Another server, of processes that import torch: each would take more than a second for it, but torch makes every fork
# slower. It starts when it is needed.
_WITH_TORCH = forkserver.ForkServer()
_WITH_TORCH.set_forkserver_preload(
    [*_preloaded(), *(f"search.objectives.{name}" for name in ("torch_setup", "language_model.stacked_runs"))]
)


class _TorchPopen(popen_forkserver.Popen):
    def _launch(self, process: Any) -> None:
        connect = forkserver.connect_to_new_process
        forkserver.connect_to_new_process = _WITH_TORCH.connect_to_new_process
        try:
            super()._launch(process)  # type: ignore[misc]
        finally:
            forkserver.connect_to_new_process = connect


class _TorchProcess(CONTEXT.Process):  # type: ignore[name-defined,misc]
    @staticmethod
    def _Popen(process: Any) -> _TorchPopen:
        return _TorchPopen(process)


TIMEOUT_S = 100.0
_SUBREAPER = 36  # PR_SET_CHILD_SUBREAPER
_exit = os._exit  # a worker replaces it


class ForkedProcess:
    """A fork of the server with the interface of `subprocess.Popen`.

    Args:
        target, arguments: What it does.
        has_torch: Fork it from a server that has imported torch.
    """

    def __init__(self, target: Callable[..., object], *arguments: Any, has_torch: bool = False) -> None:
        self._process = (_TorchProcess if has_torch else CONTEXT.Process)(target=target, args=arguments)
        self._process.start()
        assert self._process.pid is not None
        self.pid = self._process.pid

    def poll(self) -> int | None:
        """The exit code, or minus the number of the signal that ended the process, or None while it runs."""
        return self._process.exitcode

    def wait(self, timeout: float | None = None) -> int:
        """Wait until the process ends and return its exit code."""
        self._process.join(timeout)
        if self._process.exitcode is None:
            raise subprocess.TimeoutExpired(str(self._process), timeout or 0)
        return self._process.exitcode

    def send_signal(self, number: int) -> None:
        """Send a signal, unless it has ended."""
        if self.poll() is None:
            os.kill(self.pid, number)

    def kill(self) -> None:
        """Send SIGKILL."""
        self.send_signal(signal.SIGKILL)


def fork_program(
    name: str,
    arguments: Sequence[str],
    cwd: Path,
    environment: Mapping[str, str],
    stdout: Path,
    stderr: Path,
    has_torch: bool = False,
) -> ForkedProcess:
    """Start `python -m search.<name>` in a fork; the first workers that it starts are forks, too.

    Args:
        name, arguments: The program and its command line.
        cwd: Its working directory.
        environment: All its variables.
        stdout, stderr: The files that it appends to.
        has_torch: See `ForkedProcess`.
    """
    given = (name, list(arguments), str(cwd), dict(environment), str(stdout), str(stderr))
    return ForkedProcess(_run_program, *given, has_torch=has_torch)


def run_forked(
    name: str, arguments: Sequence[str], cwd: Path, environment: Mapping[str, str], has_torch: bool = False
) -> subprocess.CompletedProcess[str]:
    """Run `python -m search.<name>` in a fork and wait for its end."""
    with tempfile.TemporaryDirectory() as folder:
        stdout, stderr = Path(folder, "stdout"), Path(folder, "stderr")
        process = fork_program(name, arguments, cwd, environment, stdout, stderr, has_torch)
        try:
            process.wait(TIMEOUT_S)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
            raise subprocess.TimeoutExpired(name, TIMEOUT_S, stdout.read_text(), stderr.read_text()) from None
        return subprocess.CompletedProcess(
            [name, *arguments], process.wait(), stdout.read_text("utf-8"), stderr.read_text("utf-8")
        )


def _run_program(
    name: str, arguments: Sequence[str], cwd: str, environment: Mapping[str, str], stdout: str, stderr: str
) -> NoReturn:
    os.chdir(cwd)
    nothing = os.open(os.devnull, os.O_RDONLY)
    outputs = [os.open(file, os.O_WRONLY | os.O_CREAT | os.O_APPEND) for file in (stdout, stderr)]
    for target, opened in enumerate((nothing, *outputs)):
        if opened != target:
            os.dup2(opened, target)
            os.close(opened)
    if name == "run":
        fork_children(_workers(arguments, environment), partial(_become, None))
    _become(cwd, name, arguments, environment)


@contextmanager
def forked_children(has_torch: bool = False) -> Iterator[None]:
    """The programs of `search` that this process starts, such as workers, are forks of the server.

    Args:
        has_torch: See `ForkedProcess`.
    """
    before = subprocess.Popen._execute_child  # type: ignore[attr-defined]
    subprocess.Popen._execute_child = execute_child(partial(_adopted, has_torch))  # type: ignore[attr-defined]
    try:
        yield
    finally:
        subprocess.Popen._execute_child = before  # type: ignore[attr-defined]


def _adopted(has_torch: bool) -> tuple[int, socket.socket]:
    """A fork of the server that has become a child of this process, as the nearest subreaper above it."""
    ours, theirs = socket.socketpair()
    ctypes.CDLL(None).prctl(_SUBREAPER, 1)
    try:
        between = ForkedProcess(_leave_child, theirs, has_torch=has_torch)
        theirs.close()
        pid = int.from_bytes(ours.recv(8), "big")
        assert between.wait(TIMEOUT_S) == 0
    finally:
        ctypes.CDLL(None).prctl(_SUBREAPER, 0)
    return pid, ours


def _leave_child(connection: socket.socket) -> NoReturn:
    pid = os.fork()
    if pid == 0:
        wait_for_program(connection, partial(_become, None))
    connection.sendall(pid.to_bytes(8, "big"))
    _exit(0)


def _workers(arguments: Sequence[str], environment: Mapping[str, str]) -> int:
    """How many workers a run starts, and one that replaces a crashed one."""
    chosen = dict(pairwise(arguments)).get("--workers", environment.get("SEARCH_WORKERS", ""))
    return (int(chosen) if chosen.isdecimal() else 2) + 1


def _become(folder: str | None, name: str, arguments: Sequence[str], environment: Mapping[str, str]) -> NoReturn:
    """Be a program, to the end of this process.

    Args:
        folder: The first entry of the module path; None for none, as -P says.
        name, arguments: The program and its command line.
        environment: All its variables.
    """
    os.environ.clear()
    os.environ.update(environment)
    sys.stdin = sys.__stdin__ = open(0, encoding="utf-8", closefd=False)  # type: ignore[misc] # noqa: SIM115
    sys.stdout = sys.__stdout__ = io.TextIOWrapper(io.FileIO(1, "w", closefd=False), "utf-8", write_through=True)  # type: ignore[misc]
    sys.stderr = sys.__stderr__ = io.TextIOWrapper(  # type: ignore[misc]
        io.FileIO(2, "w", closefd=False), "utf-8", "backslashreplace", write_through=True
    )
    # As for a new interpreter: the folder of `-m`, then the variable, then what is installed.
    given = [each for each in environment.get("PYTHONPATH", "").split(os.pathsep) if each]
    installed = [each for each in sys.path if each not in ("", __file__.rpartition("/")[0])]
    sys.path[:] = [*([] if folder is None else [folder]), *given, *installed]
    sys.argv = [name, *arguments]
    code: object = 0
    try:
        runpy.run_module(f"search.{name}", run_name="__main__", alter_sys=True)
    except SystemExit as end:
        code = end.code
    except BaseException:
        traceback.print_exc()
        code = 1
    if not isinstance(code, int | None):
        print(code, file=sys.stderr)
        code = 1
    threading._shutdown()  # type: ignore[attr-defined]
    atexit._run_exitfuncs()
    _exit(code or 0)
