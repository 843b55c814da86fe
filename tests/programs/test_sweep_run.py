"""A sweep file of Weights & Biases is run as it is, with its script."""

from __future__ import annotations

import logging
from pathlib import Path

import pytest
from study_files import all_rows, sqlite

from search import run_study

pytestmark = pytest.mark.usefixtures("forked_workers")

SWEEP = """
program: train.py
method: bayes
metric: {name: loss, goal: minimize}
run_cap: 4
parameters:
  learning-rate: {min: 0.1, max: 0.9}
  width: {values: [1, 2]}
early_terminate: {type: hyperband, min_iter: 2}
"""
TRAIN = """
import argparse
parser = argparse.ArgumentParser()
parser.add_argument("--learning-rate", type=float)
parser.add_argument("--width", type=int)
given = parser.parse_args()
for step in range(1, 4):
    print(f"step={step} loss={given.learning_rate * given.width / step}", flush=True)
"""


def test_a_sweep_is_run(work_folder: Path, caplog: pytest.LogCaptureFixture) -> None:
    (work_folder / "sweep.yaml").write_text(SWEEP)
    (work_folder / "train.py").write_text(TRAIN)
    with caplog.at_level(logging.WARNING):
        result = run_study("sweep.yaml", workers=1, quiet=True)
    assert "sweep.yaml: method bayes → sampler tpe; early_terminate hyperband → pruner Succ" in caplog.text
    assert result.counts["complete"] + result.counts["pruned"] == 4, result.report()
    assert result.best is not None
    assert result.best.value == pytest.approx(result.best.params["learning_rate"] * result.best.params["width"] / 3)
    assert {row["study"] for row in all_rows(sqlite(work_folder))} == {"sweep"}
