"""The cost that a report states is what the operating system has counted, start-up included."""

from __future__ import annotations

import json
import resource
import subprocess
import sys
from pathlib import Path

import pytest
from study_files import sqlite


def cpu_s_of_children() -> float:
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


@pytest.mark.soak
def test_cpu_time_of_a_run_with_two_workers(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "search.run", "--study", "bigram", "--set", "max_iters=150"]
    command += ["--set", "eval_interval=50", "--workers", "2", "--devices", "cpu", "--storage", sqlite(tmp_path)]
    before = cpu_s_of_children()
    subprocess.run([*command, "--quiet"], cwd=tmp_path, check=True, capture_output=True)
    counted = cpu_s_of_children() - before
    of_study = ["--study", "bigram", "--storage", sqlite(tmp_path)]
    report = [sys.executable, "-m", "search.report", *of_study, "--format", "json"]
    cost = json.loads(subprocess.run(report, cwd=tmp_path, check=True, capture_output=True).stdout)["cost"]
    assert cost["run"]["cpu_seconds"] == pytest.approx(counted, rel=0.05)
    assert cost["run"]["workers"] == 2
    # What the trials took is most of it.
    assert 0.5 * cost["run"]["device_seconds"] < cost["trials"]["seconds"] < cost["run"]["device_seconds"]
    assert cost["trials"]["flops"] == pytest.approx(1.32e12, rel=0.01)
