"""`--launcher slurm` with programs that answer as SLURM's do; `tests/engines` has the tests on a real one."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from search.errors import WorkersKeepCrashing
from search.launchers import slurm
from search.launchers.protocol import Places, WorkerJob
from search.launchers.registry import make_launcher


def write_answers(folder: Path, **answers: str) -> None:
    """Write programs that print one answer, whatever they are asked."""
    folder.mkdir()
    for name, answer in answers.items():
        program = folder / name
        program.write_text(f"#!/bin/sh\ncat <<'END'\n{answer}END\n")
        program.chmod(0o755)


def test_workers_that_all_refuse_at_once_end_the_run_with_their_message(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    log = tmp_path / "slurm-7_0.log"
    log.write_text("starting\nerror: planned on another host\n")
    ended = f"JobId=8 ArrayJobId=7 ArrayTaskId=0 JobState=FAILED Reason=NonZeroExitCode ExitCode=2:0 StdOut={log}\n"
    write_answers(tmp_path / "bin", sbatch="7\n", squeue="", scontrol=ended)
    monkeypatch.setenv("PATH", str(tmp_path / "bin"), prepend=os.pathsep)
    monkeypatch.setattr(slurm, "POLL_S", 0.0)
    run = make_launcher("slurm", Places("cpu"))
    job = WorkerJob([], "sqlite:///a.db", tmp_path / "logs", lambda owner, failure=None: 0, lambda: 2, "small")
    run.start(2, job)
    assert run.running == 2
    said = rf"^SLURM job 8 ended with exit code 2:0: error: planned on another host; log: {log}$"
    with pytest.raises(WorkersKeepCrashing, match=said):
        run.tend()
