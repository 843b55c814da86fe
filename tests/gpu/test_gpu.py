"""What only a CUDA GPU can show. Without one these tests are skipped, and nothing here has been shown."""

from __future__ import annotations

import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch

from search.objectives.corpus import load_corpus
from search.objectives.language_model.objective import start
from search.objectives.language_model.run import LanguageModelRun
from search.objectives.language_model.stacked_runs import RunGroup
from search.objectives.settings import TrainingSettings

pytestmark = pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA GPU that torch sees on this machine")

# At the published learning rate of 1e-2 sums in another order grow to 1e-2 within 200 steps.
CALM = TrainingSettings(max_iters=200, eval_interval=100, learning_rate=1e-3)


def begin(pe_type: str, seed: int) -> LanguageModelRun:
    cell = {"model": "bigram_v2", "n_embd": 64, "block_size": 8, "pe_type": pe_type}
    return start(cell, seed, CALM, load_corpus(), "cuda:0")


@pytest.mark.parametrize("pe_type", ["randn", "sinpe", "rope"])
@pytest.mark.parametrize("members", [1, 2, 5, 15])
def test_a_member_of_a_captured_group_learns_what_it_learns_alone(pe_type: str, members: int) -> None:
    runs = [begin(pe_type, seed) for seed in range(members)]
    group = RunGroup(runs)
    while group.runs:
        group.remove([run for run, _ in group.advance(lambda: False) if run.finished])
    for seed, run in enumerate(runs):
        alone = begin(pe_type, seed)
        while not alone.finished:
            alone.advance(lambda: False)
        for ours, its in zip(run.curve, alone.curve, strict=True):
            assert ours.value == pytest.approx(its.value, abs=1e-4)


@pytest.mark.soak
@pytest.mark.timeout(600)
@pytest.mark.parametrize(("seeds", "at_most_s"), [(1, 20), (10, 120)])
def test_the_study_is_quick(tmp_path: Path, seeds: int, at_most_s: float) -> None:
    began = time.monotonic()
    command = [sys.executable, "-m", "search.run", "--study", "bigram", "--pruner", "none", "--seeds", str(seeds)]
    subprocess.run([*command, "--storage", f"sqlite:///{tmp_path / 'gpu.db'}", "--out", str(tmp_path)], check=True)
    assert time.monotonic() - began <= at_most_s
