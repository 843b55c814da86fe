"""An error of the GPU: it spoils its process, and costs one attempt of the trials that the process held."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from study_files import all_rows, program, sqlite, write_study

from search.errors import ProcessSpoiled
from search.objectives.errors import CaptureFailed
from search.workers.trial_errors import end_if_spoiled, is_transient
from search.workers.user_code import UserCodeError

# As a real one does: after the first error every call of the process fails.
OBJECTIVE = """
from pathlib import Path

import torch

spoiled = False


def call_the_gpu(fails):
    global spoiled
    spoiled = spoiled or fails
    if spoiled:
        raise torch.AcceleratorError("CUDA error: an illegal memory access was encountered", 700)


def loss(params):
    x = params["x"]
    first = Path(__file__).with_name("has-failed")
    for step in range(3):
        fails = x == 2 and step == 1 and not first.exists()
        if fails:
            first.touch()
        call_the_gpu(fails)
        yield step, {"val_loss": x + 1 / (step + 1)}
"""
STUDY = """
objective = "on_gpu:loss"
first_seed = 0

[grid]
x = [0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11]

[pruner]
name = "none"

[workers]
retry_delay_s = 0.1
"""


def test_one_error_costs_one_attempt_of_one_trial(tmp_path: Path) -> None:
    (tmp_path / "on_gpu.py").write_text(OBJECTIVE)
    study = write_study(tmp_path, STUDY, "gpu")
    options = ["--study", study, "--storage", sqlite(tmp_path), "--workers", "1"]
    done = program("run", *options, cwd=tmp_path, has_torch=True)
    assert done.returncode == 0, done.stderr
    rows = all_rows(sqlite(tmp_path))
    assert {row["cell"]["x"]: (row["outcome"], row["attempts"]) for row in rows} == {
        x: ("complete", 2 if x == 2 else 1) for x in range(12)
    }
    assert "can train no further trial" in done.stderr
    assert "CUDA error: an illegal memory access was encountered" in done.stderr


@pytest.mark.parametrize(
    "error",
    [
        torch.AcceleratorError("CUDA error: an illegal memory access was encountered", 700),
        torch.AcceleratorError("anything else", 1),
        CaptureFailed("cannot capture the steps of a stack as a CUDA graph: operation not permitted"),
        RuntimeError("HIP error: out of resources"),
    ],
    ids=lambda error: type(error).__name__,
)
def test_errors_that_end_the_process_and_cost_an_attempt(error: RuntimeError) -> None:
    for raised in (error, UserCodeError(error)):
        with pytest.raises(ProcessSpoiled, match="another one can go on"):
            end_if_spoiled(raised)
    assert is_transient(error)


@pytest.mark.parametrize("error", [torch.OutOfMemoryError("CUDA out of memory"), RuntimeError("shapes differ")])
def test_errors_that_do_not_end_the_process(error: RuntimeError) -> None:
    end_if_spoiled(error)
    end_if_spoiled(UserCodeError(error))
