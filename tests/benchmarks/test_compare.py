from __future__ import annotations

import json
import subprocess
import sys
from datetime import UTC, datetime
from pathlib import Path

import pytest
import torch

from benchmarks import stock
from benchmarks.compare import the_cells
from benchmarks.plain_costs import POINTS, Cost, mean_over_run
from benchmarks.plain_loop import PlainLoop, plain_model
from benchmarks.tables import Contender, markdown
from models.registry import PE_TYPES, build_model
from objectives.corpus import load_corpus


@pytest.mark.parametrize("pe_type", PE_TYPES)
def test_the_plain_model_is_the_same_model(pe_type: str) -> None:
    cell = {"model": "bigram_v2", "n_embd": 16, "block_size": 8, "pe_type": pe_type}
    plain = plain_model(cell, 65)
    ours = build_model("bigram_v2", {**{k: v for k, v in cell.items() if k != "model"}, "vocab_size": 65}, seed=0)
    ours.load_state_dict(plain.state_dict())
    idx = torch.randint(65, (4, 8), generator=torch.Generator().manual_seed(1))
    torch.testing.assert_close(ours(idx), plain(idx), rtol=1e-5, atol=1e-5)


def test_the_plain_loop_learns() -> None:
    corpus = load_corpus()
    torch.manual_seed(0)
    loop = PlainLoop(the_cells()[0], torch.tensor(corpus.train), torch.tensor(corpus.validation), corpus.vocab_size)
    [(first, before), (last, after)] = list(loop.train(max_iters=60, eval_interval=60, eval_batches=2))
    assert (first, last) == (0, 60)
    assert after < before - 0.3


def test_there_are_as_many_cells_as_were_run_by_hand() -> None:
    assert len(the_cells()) == 38


def test_what_lies_between_two_points_is_their_mean() -> None:
    assert mean_over_run([1.0] * len(POINTS)) == 1.0
    assert mean_over_run([0.0, 2.0, 2.0], points=[0, 500, 1500]) == pytest.approx(2.5 / 1.5)


def test_a_run_costs_its_steps_and_evaluations() -> None:
    assert Cost(0.01, 0.02, 3.0, 4.0).run_s() == pytest.approx(5000 * 0.01 + 11 * 3.0)
    assert Cost(0.01, 0.02, 3.0, 4.0).run_cpu_s() == pytest.approx(5000 * 0.02 + 11 * 4.0)


def test_stock_pruning_saves_what_it_stops() -> None:
    good = [(0, 4.0), (500, 2.0), (1000, 1.0)]
    bad = [(0, 4.0), (500, 3.9), (1000, 3.8)]
    found = stock.saving([good] * 6 + [bad] * 6, [Cost(1.0, 1.0, 0.0, 0.0)] * 12)
    assert 0.5 < found["share"] < 1.0
    assert found["storage_s"] > 0
    assert stock.saving([good] * 12, [Cost(1.0, 1.0, 0.0, 0.0)] * 12)["share"] == 1.0


def test_the_table_has_ratios() -> None:
    rows = [Contender("slow", 600, 900, "a"), Contender("ours", 60, 110, "b"), Contender("pruned", 30, 50, "c")]
    page = markdown(rows, 38, datetime(2026, 11, 25, tzinfo=UTC))
    assert "| slow | 10.0 min | 228 | 15.0 min | 10.0 | 20.0 | a |" in page
    assert "38 trials of 5000 steps." in page


def test_the_timing_process_answers() -> None:
    task = {"cell": the_cells()[0], "state": "", "steps": 2, "batches": 1}
    done = subprocess.run(
        [sys.executable, "-m", "benchmarks.plain_timing", "--flush", "--threads", "1"],
        input=json.dumps(task) + "\n", text=True, capture_output=True, check=True, cwd=Path(__file__).parents[2],
    )  # fmt: skip
    answer = json.loads(done.stdout)
    assert set(answer) == {"step_s", "step_cpu_s", "batch_s", "batch_cpu_s"}
    assert all(value > 0 for value in answer.values())
