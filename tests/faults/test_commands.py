"""Trials of a command: swept, pruned, killed, stopped, resumed and reported, with a study file alone."""

from __future__ import annotations

import logging
import os
import shutil
import signal
import subprocess
import sys
from pathlib import Path
from typing import IO, Any

import pytest
from gates import wait_until
from scenario import AnyWorker
from study_files import opened, sqlite, start_program, write_study

from search.options import PlanningOptions
from search.planning import open_planned
from search.storage.queries import TrialSummary, trial_summaries, val_curves
from search.workers.setup import open_worker

STUDY = r"""
command = "python train.py --out_dir={folder} --learning_rate={rate} --seed={seed} --gate=gate --stubborn=True"

[grid]
rate = [0.1, 0.4]

[training]
max_iters = 40

[settings]
pattern = 'step (?P<step>\d+): train loss (?P<train_loss>\S+), val loss (?P<val_loss>\S+)'
resume = "--init_from=resume"
checkpoint = "ckpt.pt"
"""
FAST = '\ngrace_s = 0.2\nkeep = ["ckpt.pt"]\n[pruner]\nname = "none"\n[workers]\nlease_s = 5\n'


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """The study file of twelve lines, and the script."""
    shutil.copy(Path(__file__).parents[1] / "support/nano_train.py", tmp_path / "train.py")
    (tmp_path / "gate").mkdir()
    text = STUDY.replace('"python ', f'"{sys.executable} ')
    assert len([line for line in text.splitlines() if line]) <= 12
    write_study(tmp_path, text + FAST, "sweep")
    return tmp_path


def start(folder: Path) -> AnyWorker:
    return start_program("run", "--study", "sweep.toml", "--workers", "1", cwd=folder, log=folder / "run.log")


def at_the_gate(folder: Path) -> list[Path]:
    return [*folder.glob("gate/reached-*"), *folder.glob("gate/child-*")]


def wait_at_the_gate(folder: Path) -> list[int]:
    """Wait until a script stands at step 20; return its process id and that of its child."""
    wait_until(lambda: len(at_the_gate(folder)) == 2, "the script at step 20")
    pids = [int(path.name.partition("-")[2]) for path in at_the_gate(folder)]
    for path in at_the_gate(folder):
        path.unlink()
    return pids


def worker_of(script: int) -> int:
    """The worker of a script, which is the parent of its supervisor."""

    def parent(pid: int) -> int:
        return int(Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[1])

    return parent(parent(script))


def wait_for_line(lines: IO[str], text: str) -> None:
    """Read until a line has a text."""
    for line in lines:
        if text in line:
            return
    pytest.fail(f"no line has {text!r}")


def is_alive(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


def trials_of(folder: Path, name: str = "sweep") -> list[TrialSummary]:
    with opened(sqlite(folder)).closing() as database:
        return trial_summaries(database, [name])


def test_a_sweep_is_killed_stopped_and_resumed(folder: Path) -> None:
    """The worker is killed, then the run is stopped; each time the script and its child, which ignore SIGTERM, end."""
    run = start(folder)
    try:
        pids = wait_at_the_gate(folder)
        os.kill(worker_of(pids[0]), signal.SIGKILL)
        again = wait_at_the_gate(folder)  # the next attempt begins only when the first script is gone
        assert not any(map(is_alive, pids))
        followed = subprocess.Popen([sys.executable, "-m", "search.status", "--study", "sweep.toml", "--follow"],
                                    cwd=folder, stdout=subprocess.PIPE, text=True)  # fmt: skip
        assert followed.stdout is not None
        wait_for_line(followed.stdout, "output: step 20: train loss")
        run.send_signal(signal.SIGINT)
        assert run.wait(60) == 130, (folder / "run.log").read_text()
        assert not any(map(is_alive, again))
        (folder / "gate/open").touch()
        run = start(folder)
        assert run.wait(60) == 0, (folder / "run.log").read_text()
        assert "2 complete" in followed.communicate(timeout=60)[0]
        assert followed.returncode == 0
    finally:
        run.kill()
    first, second = trials_of(folder)
    assert (first.state, second.state, first.step, second.step) == ("complete", "complete", 40, 40)
    with opened(sqlite(folder)).closing() as database:
        curves: Any = val_curves(database, [("sweep", 0), ("sweep", 1)])
    for curve in curves.values():
        assert [step for step, _ in curve] == [0, 10, 20, 30, 40]
    logs = "".join(path.read_text() for path in folder.glob("search-out/sweep/logs/*"))
    assert "is not reproducible" not in logs
    output = "".join(path.read_text() for path in folder.glob("search-out/sweep/trial-*/files-*/output.log"))
    # Both trials began from scratch once; the interrupted one went on from its checkpoint at step 20.
    assert output.count("Initializing") == 2
    assert output.count("Resuming training from") == 2
    kept = [path.name for path in (folder / "search-out/artifacts").rglob("*") if path.is_file()]
    assert sum("output.log" in name for name in kept) == sum("ckpt.pt" in name for name in kept)


SCRIPT = """
import json, os, signal, subprocess, sys, time
kind, folder = sys.argv[1], os.environ["SEARCH_FOLDER"]
def metric(**row):
    with open(os.path.join(folder, "metrics.jsonl"), "a") as file:
        print(json.dumps(row), file=file)
if kind == "lines":
    for step in range(3):
        print(f"step={step} loss={step / 2} acc=0.5")
elif kind == "file":
    for step in range(3):
        metric(step=step, loss=step / 2, seed=int(os.environ["SEARCH_SEED"]))
    print("step=7 loss=7")
elif kind == "final":
    print("loss: 3")
    print(f"loss: 2.5 rate: {os.environ['SEARCH_PARAM_RATE']} attempt: {os.environ['SEARCH_ATTEMPT']}")
elif kind == "nan":
    print("step=1 loss=nan", flush=True)
    time.sleep(600)
elif kind == "exit":
    print("step=1 loss=2")
    print("ValueError: wrong shape", file=sys.stderr)
    sys.exit(3)
elif kind == "signal":
    os.kill(os.getpid(), signal.SIGSEGV)
elif kind == "silent":
    pass
elif kind == "other":
    print("step=1 los=2")
elif kind == "environment":
    leaked = [name for name in os.environ if name.startswith(("PG", "SEARCH_STORAGE")) or "sqlite" in os.environ[name]]
    print(f"loss={len(leaked)}")
elif kind == "again":
    first = os.environ["SEARCH_ATTEMPT"] == "1"
    for step in range(1, 6 if first else 3):
        print(f"step={step} loss={step if first else 10 * step}")
    sys.stdout.flush()
    if first:
        os.kill(os.getpid(), signal.SIGKILL)
elif kind == "prune":
    wait = "import signal, time; signal.signal(signal.SIGTERM, signal.SIG_IGN); time.sleep(600)"
    child = subprocess.Popen([sys.executable, "-c", wait], start_new_session=True)
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    with open("pruned", "w") as file:
        print(os.getpid(), child.pid, file=file)
    print(f"step=1 loss=101", flush=True)
    time.sleep(600)
"""
KINDS = """
command = ["{python}", "script.py", "{kind}"]
metric = "loss"
[grid]
kind = ["lines", "file", "final", "nan", "exit", "signal", "silent", "other", "environment", "again", "prune"]
rate = 0.5
[training]
max_iters = 20
[settings]
grace_s = 0.2
[pruner]
name = "ThresholdPruner"
upper = 50.0
[workers]
retry_delay_s = 0
"""


@pytest.fixture
def kinds(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The study of all kinds of programs, trained."""
    monkeypatch.setenv("PGPASSWORD", "secret")
    monkeypatch.setenv("SEARCH_STORAGE", sqlite(tmp_path))
    (tmp_path / "script.py").write_text(SCRIPT)
    file = write_study(tmp_path, KINDS, "kinds")
    database, _ = open_planned(PlanningOptions(study=file, storage=sqlite(tmp_path), out=tmp_path / "out"))
    database.engine.dispose()
    worker = open_worker(file, sqlite(tmp_path), "cpu", out=tmp_path / "out")
    with worker.queue.database.closing():
        assert worker.run()
    return tmp_path


def test_how_programs_report_and_end(kinds: Path, caplog: pytest.LogCaptureFixture) -> None:
    found = {trial.cell["kind"]: trial for trial in trials_of(kinds, "kinds")}
    assert {kind: (trial.state, trial.step, trial.value) for kind, trial in found.items()} == {
        "lines": ("complete", 2, 1.0),
        "file": ("complete", 2, 1.0),
        "final": ("complete", 1, 2.5),
        "nan": ("diverged", 1, None),
        "exit": ("failed", 1, None),
        "signal": ("failed", None, None),
        "silent": ("failed", None, None),
        "other": ("failed", None, None),
        "environment": ("complete", 1, 0.0),
        "again": ("complete", 2, 20.0),
        "prune": ("pruned", 1, 101.0),
    }
    # Its second attempt gave other values and fewer of them: nothing of the first is left, and nothing warns.
    number = found["again"].number
    with opened(sqlite(kinds)).closing() as database:
        assert val_curves(database, [("kinds", number)]) == {("kinds", number): [(1, 10.0), (2, 20.0)]}
    assert "is not reproducible" not in caplog.text
    # The pruned script and its child ignored SIGTERM.
    assert not [pid for pid in (kinds / "pruned").read_text().split() if is_alive(int(pid))]
    reasons = {kind: trial.reason or "" for kind, trial in found.items()}
    assert reasons["exit"] == "CommandFailed: the program ended with exit status 3: ValueError: wrong shape"
    assert reasons["signal"] == "CommandFailed: the program was ended by SIGSEGV, without any output"
    assert "gave no metric: it neither wrote metrics.jsonl in its folder" in reasons["silent"]
    assert "gives the metrics step, los, but not 'loss'" in reasons["other"]
    failure = found["exit"].failure
    assert failure is not None
    assert (failure.exit_status, failure.traceback) == (3, "step=1 loss=2\nValueError: wrong shape")
    assert failure.log is not None
    assert Path(failure.log).name == "output.log"
    assert not [record for record in caplog.records if record.levelno >= logging.ERROR and record.exc_info]
