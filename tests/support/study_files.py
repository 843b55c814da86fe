"""Study files and texts for tests, and the programs of `search` as subprocesses."""

from __future__ import annotations

import json
import os
import random
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from fork_server import TIMEOUT_S, ForkedProcess, fork_program, run_forked
from sqlalchemy import select

from search.storage.connect import open_database
from search.storage.database import Database
from search.storage.schema import queue_table

FAKE_GRID = """
objective = "fake_objective:start"
first_seed = 0

[grid]
block_size = [8, 16]
n_embd = [64, 128]
pe_type = ["randn", "rope"]

[[baselines]]
model = "bigram"
block_size = 8

[training]
max_iters = 40
eval_interval = 10
"""

FAKE_STUDY = f"""{FAKE_GRID}
[pruner]
name = "none"

[workers]
lease_s = 10
"""

REAL = """
[grid]
model = ["bigram_v2"]
block_size = [8]
n_embd = [16]
pe_type = ["randn", "rope"]

[training]
batch_size = 8
max_iters = 20
eval_interval = 5

[pruner]
name = "none"
"""


def write_study(folder: Path, text: str = FAKE_STUDY, name: str = "small") -> str:
    """Write a study file and return its path."""
    path = folder / f"{name}.toml"
    path.write_text(text, encoding="utf-8")
    return str(path)


def write_corpus(folder: Path, characters: int = 4000, name: str = "text.txt") -> str:
    """Write a text of made-up words and return its path."""
    draw = random.Random(5)
    words = ["".join(draw.choices("abcdefgh", k=draw.randint(1, 6))) for _ in range(characters)]
    path = folder / name
    path.write_text(" ".join(words)[:characters], encoding="utf-8")
    return str(path)


def sqlite(folder: Path) -> str:
    """The URL of a database file in a folder."""
    return f"sqlite:///{folder / 'search.db'}"


def program(
    name: str,
    *arguments: str,
    cwd: Path,
    env: Mapping[str, str] | None = None,
    new: bool = False,
    has_torch: bool = False,
) -> subprocess.CompletedProcess[str]:
    """Run `python -m search.<name>` and wait for its end.

    Args:
        name, arguments: The program and its command line.
        cwd: Its working directory.
        env: More variables.
        new: Start a new interpreter, and not a fork that need not import everything anew.
        has_torch: The fork need not import torch either.
    """
    environment = {**os.environ, **(env or {})}
    if not (new or env):
        return run_forked(name, arguments, cwd, environment, has_torch)
    command = [sys.executable, "-m", f"search.{name}", *arguments]
    return subprocess.run(command, cwd=cwd, env=environment, capture_output=True, text=True, timeout=TIMEOUT_S)


def start_program(
    name: str, *arguments: str, cwd: Path, log: Path, env: Mapping[str, str] | None = None, new: bool = False
) -> ForkedProcess | subprocess.Popen[bytes]:
    """Start `python -m search.<name>`, whose output is added to a file.

    Args:
        name, arguments, cwd, env, new: See `program`.
        log: The file.
    """
    environment = {**os.environ, **(env or {})}
    if not new:
        return fork_program(name, arguments, cwd, environment, log, log)
    with log.open("ab") as output:
        command = [sys.executable, "-m", f"search.{name}", *arguments]
        nothing = subprocess.DEVNULL
        return subprocess.Popen(command, cwd=cwd, env=environment, stdin=nothing, stdout=output, stderr=output)


def opened(storage: str) -> Database:
    """Open an existing database; close it with `with opened(…).closing() as database`."""
    return open_database(storage, create=False)


def all_rows(storage: str) -> list[dict[str, Any]]:
    """Every row of the queue, by study and number, its cell as a mapping."""
    with opened(storage).closing() as database:
        query = select(queue_table).order_by(queue_table.c.study, queue_table.c.number)
        found = database.read(lambda connection: connection.execute(query).mappings().all())
        return [{**row, "cell": json.loads(row["cell"])} for row in found]
