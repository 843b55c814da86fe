"""Processes that fork from one that has imported what they import: they start in a tenth of an interpreter's time.

The server has opened no database, and SQLite's locks do not survive a fork; see `swarm` and `study_files.program`.
"""

from __future__ import annotations

import io
import multiprocessing
import os
import runpy
import subprocess
import sys
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path

CONTEXT = multiprocessing.get_context("forkserver")
# What workers import late, and what the programs import; no program itself, since it is run as `__main__`.
_PRELOADED = [
    "swarm", "psycopg", "fake_objective", "optuna.artifacts", "optuna.samplers._tpe.sampler", "search.service",
    "search.command_line", "search.planning", "search.reporting.report_data", "search.reporting.tables",
    "search.reporting.status_text",
]  # fmt: skip
CONTEXT.set_forkserver_preload(_PRELOADED)
TIMEOUT_S = 100.0


def run_forked(
    name: str, arguments: Sequence[str], cwd: Path, environment: Mapping[str, str]
) -> subprocess.CompletedProcess[str]:
    """Run `python -m search.<name>` in a fork and wait for its end."""
    with tempfile.TemporaryDirectory() as folder:
        stdout, stderr = Path(folder, "stdout"), Path(folder, "stderr")
        given = (name, arguments, str(cwd), dict(environment), str(stdout), str(stderr))
        process = CONTEXT.Process(target=_be_program, args=given)
        process.start()
        process.join(TIMEOUT_S)
        if process.exitcode is None:
            process.kill()
            process.join()
            raise subprocess.TimeoutExpired(name, TIMEOUT_S, stdout.read_text(), stderr.read_text())
        return subprocess.CompletedProcess(
            [name, *arguments], process.exitcode, stdout.read_text("utf-8"), stderr.read_text("utf-8")
        )


def _be_program(
    name: str, arguments: Sequence[str], cwd: str, environment: Mapping[str, str], stdout: str, stderr: str
) -> None:
    os.environ.clear()
    os.environ.update(environment)
    os.chdir(cwd)
    for number, file in ((1, stdout), (2, stderr)):
        opened = os.open(file, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
        os.dup2(opened, number)
        os.close(opened)
    sys.stdout = sys.__stdout__ = io.TextIOWrapper(io.FileIO(1, "w", closefd=False), "utf-8", write_through=True)  # type: ignore[misc]
    sys.stderr = sys.__stderr__ = io.TextIOWrapper(  # type: ignore[misc]
        io.FileIO(2, "w", closefd=False), "utf-8", "backslashreplace", write_through=True
    )
    # As for a new interpreter: the folder of `-m`, then the variable, then what is installed.
    given = [each for each in environment.get("PYTHONPATH", "").split(os.pathsep) if each]
    sys.path[:] = [cwd, *given, *(each for each in sys.path if each not in ("", __file__.rpartition("/")[0]))]
    sys.argv = [name, *arguments]
    runpy.run_module(f"search.{name}", run_name="__main__", alter_sys=True)
