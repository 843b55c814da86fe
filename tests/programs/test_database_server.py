"""A study where there is no database: its server is started, killed, started again, copied and stopped."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from gates import wait_until
from private_server import kill_server, postgres_processes, server_folders
from sqlalchemy import text
from study_files import all_rows, opened, program

from search.launchers.child_process import child_environment
from search.storage.server import client, copies
from search.storage.server.account import account_of
from search.storage.server.claims import Place, newest, process_start
from search.storage.server.folder import ServerFolder, server_folder
from search.storage.server.stopping import stop_server

TRIALS = 60
WALK = """
import time
from pathlib import Path

folder = Path(__file__).parent


def walk(params, seed):
    for step in range(3):
        if step == 1 and params["a"] == 30:
            (folder / "reached").touch()
            while not (folder / "open").exists():
                yield
                time.sleep(0.02)
        yield step, params["a"] + step / 4
"""
STUDY = f"""
objective = "walk:walk"

[grid]
a = {[*range(TRIALS)]}

[training]
max_iters = 2

[pruner]
name = "none"
"""


@dataclass(frozen=True)
class Served:
    """A study that a killed server has served.

    Attributes:
        folder: The folder of its server.
        before, after: The server before it was killed, and the next one.
        exit_code, said: Of the run.
    """

    folder: Path
    before: Place
    after: Place
    exit_code: int
    said: str

    @property
    def storage(self) -> str:
        """The database."""
        return f"server:{self.folder}"


@pytest.fixture(scope="module")
def folders() -> Iterator[Path]:
    with server_folders() as folder:
        yield folder


@pytest.fixture(scope="module")
def served(folders: Path, tmp_path_factory: pytest.TempPathFactory) -> Served:
    """The study trained from nothing, by a run whose server is killed in the middle."""
    work, folder = tmp_path_factory.mktemp("walk"), folders / "db"
    (work / "walk.py").write_text(WALK)
    (work / "walk.toml").write_text(STUDY)
    command = [sys.executable, "-P", "-m", "search.run", "--study", "walk.toml", "--storage", f"server:{folder}"]
    run = subprocess.Popen(
        [*command, "--workers", "2", "--devices", "cpu"],
        cwd=work, env=child_environment({}), stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
    )  # fmt: skip
    try:
        wait_until(lambda: (work / "reached").exists() or run.poll() is not None, "the trial at the gate")
        before = newest(folder)
        assert before is not None, run.communicate()
        kill_server(folder, before)
        (work / "open").touch()
        said = run.communicate(timeout=100)[0]
    finally:
        run.kill()
        run.wait()
    after = newest(folder)
    assert after is not None, said
    return Served(folder, before, after, run.returncode, said)


def results(storage: str) -> list[dict[str, Any]]:
    return [
        {name: row[name] for name in ("cell", "state", "outcome", "value", "attempts")} for row in all_rows(storage)
    ]


def test_every_trial_is_trained_once_although_the_server_is_killed(served: Served) -> None:
    assert served.exit_code == 0, served.said
    assert "started the database server" in served.said
    assert served.before.pid != served.after.pid
    rows = results(served.storage)
    assert [(row["cell"]["a"], row["value"]) for row in rows] == [(a, a + 0.5) for a in range(TRIALS)]
    assert {(row["outcome"], row["attempts"]) for row in rows} == {("complete", 1)}


def test_nothing_shows_the_password(served: Served) -> None:
    password = (served.folder / "password").read_text()
    [main, *_] = postgres_processes(served.folder)
    for pid in (served.after.pid, main):
        assert password.encode() not in Path(f"/proc/{pid}/cmdline").read_bytes()
        assert password.encode() not in Path(f"/proc/{pid}/environ").read_bytes()
    assert password not in served.said + (served.folder / "server.log").read_text()


def test_a_copy_is_restored_into_a_new_folder(served: Served, folders: Path, tmp_path: Path) -> None:
    done = program("database", "--folder", str(served.folder), "--stop", cwd=tmp_path)
    assert (done.returncode, done.stderr) == (0, f"stopped the server on {served.after.host}\n")
    assert newest(served.folder) is None
    wait_until(lambda: process_start(served.after.pid) is None, "the end of the server")
    done = program("database", "--folder", str(served.folder), "--stop", cwd=tmp_path)
    assert (done.returncode, done.stderr) == (0, f"no server of {served.folder} runs\n")

    done = program("database", "--folder", str(served.folder), "--backup", "copy.dump", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    (tmp_path / "wrong.dump").write_text("no copy")
    for file, message in (("wrong.dump", "valid archive"), ("none.dump", "there is no such file")):
        done = program("database", "--folder", str(folders / "copy"), "--restore", file, cwd=tmp_path)
        assert (done.returncode, len(done.stderr.splitlines())) == (2, 1)
        assert message in done.stderr
        assert not (folders / "copy").exists()
    done = program("database", "--folder", str(folders / "copy"), "--restore", "copy.dump", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert results(f"server:{folders / 'copy'}") == results(served.storage)
    for folder, option, message in (
        (folders / "copy", "--restore", "which --restore never replaces"),
        (served.folder, "--backup", "the file exists"),
        (folders / "none", "--backup", "has no database"),
    ):
        done = program("database", "--folder", str(folder), option, "copy.dump", cwd=tmp_path)
        assert (done.returncode, len(done.stderr.splitlines())) == (2, 1)
        assert message in done.stderr


def test_many_start_one_which_ends_when_it_is_not_used(served: Served, monkeypatch: pytest.MonkeyPatch) -> None:
    stop_server(server_folder(served.folder))
    with ThreadPoolExecutor(4) as threads:
        started = [*threads.map(client.start, [server_folder(served.folder)] * 4)]
    assert started.count(True) == 1
    stop_server(server_folder(served.folder))
    monkeypatch.setattr(client, "IDLE_S", 1.0)
    assert client.start(server_folder(served.folder))
    wait_until(lambda: newest(served.folder) is None, "the end of a server without clients")


def test_a_copy_is_a_use(served: Served, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Meanwhile a client is connected, so the server does not end as unused."""
    clients = text("SELECT count(*) FROM pg_stat_activity WHERE backend_type = 'client backend'")
    counted: list[int] = []
    run = copies._run

    def run_with_a_look(folder: ServerFolder | None, program: str, *arguments: str) -> None:
        with opened(served.storage).closing() as database:
            counted.append(database.read(lambda connection: connection.execute(clients).scalar_one()))
        run(folder, program, *arguments)

    monkeypatch.setattr(copies, "_run", run_with_a_look)
    copies.back_up(server_folder(served.folder), tmp_path / "look.dump")
    assert counted == [2]  # the one that looks, too
    assert (tmp_path / "look.dump").stat().st_size > 0


def test_one_in_the_foreground(served: Served, tmp_path: Path) -> None:
    """A second one is told so; a crash of PostgreSQL is repaired at once, and one of all of it by the next start."""
    stop_server(server_folder(served.folder))
    first = foreground(served.folder)
    again = program("database", "--folder", str(served.folder), cwd=tmp_path)
    assert again.returncode == 0
    assert f"runs already on the host {os.uname().nodename}, process {first.pid}; use it with" in again.stderr

    [main, *_] = postgres_processes(served.folder)
    os.kill(main, signal.SIGKILL)
    assert len(results(served.storage)) == TRIALS
    first.kill()
    first.communicate()
    wait_until(lambda: not postgres_processes(served.folder), "the end of PostgreSQL with its owner")

    # PostgreSQL's own lock file can have the number of a process that has nothing to do with it.
    other = subprocess.Popen(["sleep", "600"], **account_of(server_folder(served.folder)))
    lock = f"{other.pid}\n{served.folder}/data\n0\n5432\n\n\n\nready\n"
    (served.folder / "data" / "postmaster.pid").write_text(lock)
    second = foreground(served.folder, "nohup")
    second.send_signal(signal.SIGHUP)
    assert len(results(served.storage)) == TRIALS
    second.terminate()
    said = second.communicate(timeout=60)[1]
    other.kill()
    other.wait()
    assert (second.returncode, said) == (0, "stopped\n")
    assert newest(served.folder) is None


def foreground(folder: Path, *before: str) -> subprocess.Popen[str]:
    """`search.database`, when it can be used, started by another command."""
    command = [*before, sys.executable, "-P", "-m", "search.database", "--folder", str(folder)]
    server = subprocess.Popen(
        command, env=child_environment({}), stdin=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True
    )
    assert server.stderr is not None
    for pattern in (
        rf"the database server of {folder} runs on .*; stop it with Ctrl-C; use it with: ",
        "other programs: ",
    ):
        line = server.stderr.readline()
        assert re.match(pattern, line), line
    return server
