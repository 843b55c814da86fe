from __future__ import annotations

import json
import subprocess
import sys
import time
from dataclasses import asdict, replace
from datetime import UTC, datetime, timedelta
from itertools import pairwise
from pathlib import Path
from typing import Any

import psutil
import pytest
import torch

from benchmarks.compare import measured_in_turns, stock
from benchmarks.compare.__main__ import main, shares
from benchmarks.compare.answered import run_until_answered
from benchmarks.compare.measured_in_turns import CHECKED, in_turns
from benchmarks.compare.plain_costs import POINTS, CellCosts, Cost, Timers, mean_over_run
from benchmarks.compare.plain_loop import PlainLoop, plain_model
from benchmarks.compare.service_run import waited_at_the_end_s
from benchmarks.compare.tables import Contender, Page, markdown
from benchmarks.compare.task import Task, the_cells
from benchmarks.compare.turns import ROOT, Program, Ran, take_turns
from benchmarks.compare.whole_contenders import plain_program
from search.models.registry import PE_TYPES, build_model
from search.objectives.corpus import load_corpus
from search.statistics.answers import Verdict


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


def a_page(**changed: Any) -> Page:
    circumstances = {"service": {"taken": "2026-11-25 08:00", "load": 0.25, "machine": "a processor, 2 cores"}}
    return replace(Page(38, 5000, "", circumstances), **changed)


def test_the_page_has_ratios_and_circumstances() -> None:
    rows = [Contender("slow", 600, 900, "a"), Contender("ours", 60, 110, "b"), Contender("pruned", 30, 50, "c")]
    page = markdown(rows, a_page(note="A note."))
    assert "| slow | 10.0 min | 228 | 15.0 min | 10.0 | 20.0 | a |" in page
    assert "38 trials of 5000 steps" in page
    assert "A note." in page
    assert "Machine: a processor, 2 cores." in page
    assert "| service | 2026-11-25 08:00 | 0.2 |" in page
    assert "[gpu-benchmarks.md](gpu-benchmarks.md)" in page


def test_what_could_not_be_measured_has_no_figures() -> None:
    rows = [Contender("ray", None, None, "gone"), Contender("ours", 60, 110, "b"), Contender("pruned", 30, 50, "c")]
    assert "| ray | – | – | – | – | – | gone |" in markdown(rows, a_page())


def test_the_wait_at_the_end_is_that_of_workers_with_nothing_to_claim() -> None:
    zero = datetime(2026, 11, 25, tzinfo=UTC)
    times = [(zero + timedelta(seconds=a), zero + timedelta(seconds=b)) for a, b in [(0, 4), (0, 7), (4, 20), (7, 15)]]
    always = Ran(turns=[(zero.timestamp(), zero.timestamp() + 20)])
    assert waited_at_the_end_s(times, always.active_s) == 5
    assert waited_at_the_end_s(times[:1], always.active_s) == 0
    stopped = Ran(turns=[(zero.timestamp(), zero.timestamp() + 16), (zero.timestamp() + 18, zero.timestamp() + 20)])
    assert waited_at_the_end_s(times, stopped.active_s) == 3


# It works in a child process, as the service does: marks the time, again and again.
MARKING = """
import subprocess, sys
child = "import sys, time, pathlib; file = open(sys.argv[1], 'a')\\n" \\
    "for _ in range(40): print(time.time(), file=file, flush=True); time.sleep(0.01)"
subprocess.run([sys.executable, "-c", child, sys.argv[1]], check=True, start_new_session=True)
"""


def test_one_program_works_at_a_time_and_only_its_turns_count(tmp_path: Path) -> None:
    files = {name: tmp_path / name for name in ("one", "two")}
    programs = {name: Program(["-c", MARKING, str(file)], turn_s=0.15) for name, file in files.items()}
    calls: list[float] = []

    def between() -> None:
        calls.append(time.time())
        time.sleep(0.1)

    began = time.monotonic()
    ran = take_turns(programs, between)
    took_s = time.monotonic() - began
    for name, file in files.items():
        marks = [float(line) for line in file.read_text().splitlines()]
        assert len(marks) == 40
        assert len(ran[name].turns) > 2
        assert all(any(begin <= mark <= end for begin, end in ran[name].turns) for mark in marks)
        assert 0 < ran[name].cpu_s < took_s
    turns = sorted([*ran["one"].turns, *ran["two"].turns])
    assert all(end <= begin for (_, end), (begin, _) in pairwise(turns))
    assert len(calls) == len(turns)
    assert not any(begin < call < end for call in calls for begin, end in turns)
    assert ran["one"].wall_s + ran["two"].wall_s + 0.1 * len(calls) <= took_s


def test_a_program_that_fails_ends_the_others(tmp_path: Path) -> None:
    kept = tmp_path / "pid"
    waits = f"import os, time; open({str(kept)!r}, 'w').write(str(os.getpid())); time.sleep(600)"
    fails = f"import pathlib, sys, time\nwhile not pathlib.Path({str(kept)!r}).exists(): time.sleep(0.01)\nsys.exit(3)"
    with pytest.raises(RuntimeError, match="exit code 3"):
        take_turns({"waits": Program(["-c", waits], turn_s=0.1), "fails": Program(["-c", fails], turn_s=0.1)})
    assert not psutil.pid_exists(int(kept.read_text()))


def test_the_shares_are_of_all_cores() -> None:
    figures = {"wall_s": 100.0, "cpu_s": 186.0, "tail_s": 7.0}
    assert shares(figures, cores=2) == "93% of the cores used, waiting for the last trial 3.5% of the time"


def test_a_shorter_task_keeps_the_share_of_evaluations() -> None:
    assert Task().service_arguments() == []
    assert Task(("n_embd=64",), 40).service_arguments() == [
        "--set", "n_embd=64", "--set", "max_iters=40", "--set", "eval_interval=4",
    ]  # fmt: skip
    assert len(Task(CHECKED).cells) == 5


def compare(*arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "benchmarks.compare", *arguments], text=True, capture_output=True, cwd=ROOT
    )


SMALL = ["--max-iters", "1", "--set", "n_embd=8", "--set", "block_size=8", "--set", "pe_type=rope"]


def keep(work: Path, **figures: object) -> None:
    """Pretend that these were measured."""
    for name, its in figures.items():
        text = json.dumps({"taken": "2026-11-25 08:00", "load": 0.0, "machine": "a machine", "figures": its})
        (work / f"{name.replace('_', '-')}.json").write_text(text)


def kept(work: Path, name: str) -> Any:
    return json.loads((work / f"{name}.json").read_text())["figures"]


@pytest.mark.soak
def test_the_plain_loop_does_a_small_piece_of_work(tmp_path: Path) -> None:
    done = compare("--work", str(tmp_path), *SMALL, "--only", "plain-whole")
    assert done.returncode == 0, done.stderr
    assert len(kept(tmp_path, "plain-whole")["cells"]) == 3


@pytest.mark.soak
def test_contenders_do_a_small_piece_of_work(tmp_path: Path) -> None:
    names = ("optuna-whole", "service")
    done = compare("--work", str(tmp_path), *SMALL, "--only", ",".join(names))
    assert done.returncode == 0, done.stderr
    stock_optuna, service = (kept(tmp_path, name) for name in names)
    assert stock_optuna["cells"] == service["trials"] == 3
    plain = {"wall_s": 30.0, "cpu_s": 20.0, "cells": [3.0, 4.0, 5.0]}
    keep(tmp_path, plain_whole=plain, flushed_whole=plain, ray_whole={"wall_s": 30.0, "cpu_s": 9.0}, pruned=service)
    written = tmp_path / "page.md"
    done = compare("--work", str(tmp_path), *SMALL, "--output", str(written))
    assert done.returncode == 0, done.stderr
    assert "measuring:" not in done.stderr
    page = written.read_text()
    assert "3 trials of 1 steps" in page
    assert "This is a quick run" in page
    assert "| Ray Tune, grid search | 0.5 min |" in page


@pytest.mark.soak
def test_claims_are_answered_in_a_small_piece_of_work(tmp_path: Path) -> None:
    task = Task(("n_embd=64", "block_size=8,16", "pe_type=randn,rope"), 20)
    found = run_until_answered(task, tmp_path / "run")
    assert sum(found["answers"].values()) == 7
    assert {*found["answers"]} <= {*Verdict}
    assert 2 <= found["fewest"] <= found["most"] <= 20
    assert found["trials"] >= 2 * len(task.cells)


@pytest.mark.soak
def test_service_and_timings_take_turns_in_a_small_piece_of_work(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    task = Task(("n_embd=8", "block_size=8", "pe_type=rope"), 20)
    monkeypatch.setattr(measured_in_turns, "plain_program", lambda _, folder, turn_s: plain_program(task, folder))
    taken = in_turns(task, [[""]] * len(task.cells), tmp_path, cores=2)
    for name in ("service", "pruned"):
        assert taken[name]["trials"] == len(task.cells) == 3
        assert 0 <= taken[name]["tail_s"] < taken[name]["wall_s"]
        assert taken[name]["cpu_s"] > 0
    assert taken["check"]["wall_s"] > 0
    assert all(len(taken[way]) == 3 for way in ("plain", "flushed", "parallel"))


def test_costs_are_means_of_what_was_measured() -> None:
    class Answers(Timers):
        def __init__(self) -> None:
            self.steps = iter([1.0, 3.0])

        def measure(self, task: Any) -> dict[str, float]:
            return {"step_s": next(self.steps), "step_cpu_s": 1.0, "batch_s": 0.5, "batch_cpu_s": 0.5}

    costs = CellCosts([{"n_embd": 8}], [[""]], Answers())
    costs.measure(0)
    costs.measure(0)
    assert costs.means() == [Cost(2.0, 1.0, 100.0, 100.0)]


ANSWERS = {"yes": 4, "only where": 2, "not decidable within the budget": 1}


def test_the_whole_study_is_estimated_and_checked(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    plain, quick = [asdict(Cost(0.02, 0.04, 1.0, 2.0))] * 38, [asdict(Cost(0.01, 0.01, 1.0, 1.0))] * 38
    service = {"wall_s": 1000.0, "cpu_s": 1950.0, "tail_s": 40.0, "trials": 38}
    taken = {
        "service": service, "pruned": {**service, "wall_s": 500.0},
        "check": {"wall_s": 500.0, "cpu_s": 990.0},
        "start_up_s": 5.0, "plain": plain, "flushed": quick, "parallel": quick,
    }  # fmt: skip
    keep(
        tmp_path, in_turns=taken, states=[], ray={"wall_s": 12.0}, stock={"share": 0.5, "storage_s": 3.0},
        answered={**service, "wall_s": 2000.0, "trials": 110, "answers": ANSWERS, "fewest": 2,
                  "most": 7},
    )  # fmt: skip
    monkeypatch.setattr(sys, "argv", ["compare", "--work", str(tmp_path)])
    main()
    page = capsys.readouterr().out
    plain_s = 5 + 38 * (5000 * 0.02 + 11 * 1.0)
    assert f"| plain loop, one run after the other | {plain_s / 60:.1f} min |" in page
    assert f"| {plain_s / 1000:.1f} | {plain_s / 500:.1f} | estimated |" in page
    assert "98% of the cores used, waiting for the last trial 2.0% of the time" in page
    assert "took 8.3 min; the estimate for them is 9.3 min (1.12 of it)" in page
    check = 500 / (5 + 5 * (5000 * 0.02 + 11 * 1.0))
    corrected = f"{check * plain_s / 1000:.1f} without pruning and {check * plain_s / 500:.1f} with the default pruner"
    assert f"the speed-ups over it are {corrected}" in page
    assert "11 evaluations" in page
    assert "Of 7 claims it decided 6 (1 not decidable within the budget, 2 only where, 4 yes)" in page
    assert "110 trials, 2 to 7 seeds a cell" in page
    assert f"| plain loop, one run after the other | {3 * plain_s / 60:.1f} min | {7 * plain_s / 60:.1f} min |" in page
    assert "| Optuna, GridSampler and MedianPruner, 2 processes | – | – | prunes cells" in page
    assert "| this service, no pruning | 50.0 min | 116.7 min | computed: 3 and 7 times the time above |" in page
    assert "| this service, `--seeds auto` | 33.3 min | 33.3 min | measured |" in page
    assert "This is a quick run" not in page
    # With --check-all it is no estimate.
    taken["check"] = {"wall_s": 4000.0, "cpu_s": 7900.0}
    keep(tmp_path, in_turns=taken)
    (tmp_path / "task.json").unlink()
    monkeypatch.setattr(sys, "argv", ["compare", "--work", str(tmp_path), "--check-all"])
    main()
    page = capsys.readouterr().out
    assert "| plain loop, one run after the other | 66.7 min | 34 | 131.7 min | 4.0 | 8.0 | measured |" in page
    assert f"of all cells, took 66.7 min; the estimate for them is {plain_s / 60:.1f} min" in page
    assert "that factor" not in page


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--only", "nothing"], "--only nothing: choices are service, pruned, states, in-turns,"),
        (["--only", "in-turns", "--max-iters", "5"], "remove --max-iters"),
        (["--max-iters", "0"], "--max-iters 0: give a number from 1 up"),
        (["--set", "n_embt=8"], "n_embt"),
        (["--max-iters", "3", "--only", "service"], "has measurements of"),
        (["--check-all"], "has measurements of"),
        (["--check-all", "--max-iters", "3"], "leave --check-all out"),
    ],
)
def test_wrong_use_is_one_line(
    arguments: list[str],
    message: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    (tmp_path / "task.json").write_text("something else")
    monkeypatch.setattr(sys, "argv", ["compare", "--work", str(tmp_path), *arguments])
    with pytest.raises(SystemExit, match=r"^2$"):
        main()
    assert message in capsys.readouterr().err.splitlines()[-1]


def test_the_timing_process_answers() -> None:
    task = {"cell": the_cells()[0], "state": "", "steps": 2, "batches": 1}
    done = subprocess.run(
        [sys.executable, "-m", "benchmarks.compare.plain_timing", "--flush", "--threads", "1"],
        input=json.dumps(task) + "\n", text=True, capture_output=True, check=True, cwd=Path(__file__).parents[2],
    )  # fmt: skip
    answer = json.loads(done.stdout)
    assert set(answer) == {"step_s", "step_cpu_s", "batch_s", "batch_cpu_s"}
    assert all(value > 0 for value in answer.values())
