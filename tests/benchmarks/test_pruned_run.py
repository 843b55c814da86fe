"""From a real run to its curves, and from a pruned run to what it cost and found."""

from __future__ import annotations

import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from study_files import opened, program, sqlite, write_corpus, write_study

from benchmarks.pruning.curves import CurvesOptions, export, load_curves
from search.errors import UsageError
from search.objectives.corpus import load_corpus
from search.storage.leases import Report
from search.storage.queue import TrialQueue
from search.study.definition import load_definition
from search.study.planner import Study, ensure_planned

ROOT = Path(__file__).parents[2]
SUPPORT = ROOT / "tests" / "support"
AXES = ("block_size", "n_embd", "pe_type")
# At which step the trials of the pruned study end, in the order of the grid; the last step is 40.
STOPS = (40, 10, 20, 40, 30, 10, 40, 0)


def benchmark(name: str, *arguments: str, cwd: Path) -> subprocess.CompletedProcess[str]:
    """Run `python -m benchmarks.<name>` to its end."""
    command = [sys.executable, "-m", f"benchmarks.{name}", *arguments]
    environment = {**os.environ, "PYTHONPATH": f"{ROOT}:{SUPPORT}"}
    return subprocess.run(command, cwd=cwd, env=environment, capture_output=True, text=True, timeout=100)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A database with the fake study, 2 seeds, and with one seed of it pruned; and the curves of the first."""
    folder = tmp_path_factory.mktemp("pruned")
    file, corpus = write_study(folder), write_corpus(folder)
    common = ["--study", file, "--corpus", corpus, "--storage", sqlite(folder), "--quiet", "--workers", "1"]
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PYTHONPATH", str(SUPPORT))
        assert program("run", *common, "--seeds", "2", cwd=folder).returncode == 0
        prune_by_hand(file, folder)
        written = benchmark(
            "pruning.curves", "--study", "small", "--storage", sqlite(folder), "--output", "c.csv", cwd=folder
        )
        assert written.returncode == 0, written.stderr
        assert written.stdout.startswith("c.csv: 18 trials, ")
    return folder


def prune_by_hand(file: str, folder: Path) -> None:
    """One seed of the study whose trials end at `STOPS`, twice as slow as the other study's."""
    with opened(sqlite(folder)).closing() as database:
        study = Study(load_definition(file), "pruned", load_corpus(folder / "text.txt"), with_baselines=False)
        ensure_planned(database, study)
        queue = TrialQueue(database)
        leases = sorted(queue.claim(["pruned"], "ann", limit=8), key=lambda lease: lease.number)
        for lease, stop in zip(leases, STOPS, strict=True):
            queue.report([Report(lease, step, 2.0, 2.0 + lease.number) for step in range(0, stop + 1, 10)])
            outcome: Any = "complete" if stop == 40 else "pruned"
            queue.finish(lease, outcome, 2.0 + lease.number, {"train_seconds": 0.02 * stop / 40})


def test_curves_are_those_of_the_run(folder: Path) -> None:
    curves = load_curves(folder / "c.csv")
    assert (len(curves.cells), curves.seeds, list(curves.steps)) == (8, (0, 1), [0, 10, 20, 30, 40])
    assert all(tuple(sorted(cell)) == AXES for cell in curves.cells), "the baseline is left out"
    assert [cell["block_size"] for cell in curves.cells] == [8] * 4 + [16] * 4, "in the order of the grid"
    report = program("report", "--study", "small", "--storage", sqlite(folder), "--format", "csv", cwd=folder).stdout
    header, *lines = [line.split(",") for line in report.splitlines()]
    told = {tuple(line[header.index(axis)] for axis in AXES): float(line[header.index("val_loss")]) for line in lines}
    for cell, loss in zip(curves.cells, curves.true_losses, strict=True):
        assert told[tuple(str(cell[axis]) for axis in AXES)] == pytest.approx(loss, abs=1e-5)


def test_check_tells_cost_and_find_of_a_pruned_run(folder: Path) -> None:
    done = benchmark("pruning", "--check", "pruned", "--storage", sqlite(folder), "--curves", "c.csv", cwd=folder)
    assert done.returncode == 0, done.stderr
    curves = load_curves(folder / "c.csv")
    states, compute, predicted, found, truth = done.stdout.splitlines()
    assert states == "pruned: 3 complete, 5 pruned; pruner none"
    # All fake trials are equally slow, but for a rounding.
    assert compute.startswith(f"compute: {sum(STOPS) / 320:.1%} of the unpruned run's, by steps; ")
    assert float(compute.split("; ")[1].split("%")[0]) == pytest.approx(100 * sum(STOPS) / 320, abs=0.2)
    assert predicted.startswith("predicted: ")
    assert "points" in predicted
    assert found.startswith("found: block_size=8 n_embd=64 pe_type=randn, val_loss 2.00000")
    regret = curves.true_losses[0] - curves.true_losses.min()
    assert truth.startswith(f"its mean over the measured seeds: {curves.true_losses[0]:.5f}, the best cell's ")
    assert truth.endswith(f"{'within' if regret <= 0.01 else 'NOT within'} 0.01 of the best ({regret:+.5f})")


def test_a_check_needs_known_cells(folder: Path) -> None:
    done = benchmark("pruning", "--check", "pruned", "--storage", sqlite(folder), cwd=folder)
    assert done.returncode == 2
    assert done.stderr.startswith("error: the curves lack the cell {")
    assert done.stderr.count("\n") == 1


def test_curves_need_complete_trials(folder: Path) -> None:
    done = benchmark(
        "pruning.curves", "--study", "pruned", "--storage", sqlite(folder), "--output", "no.csv", cwd=folder
    )
    assert done.returncode == 2
    assert "are not complete, such as number" in done.stderr
    assert not (folder / "no.csv").exists()


def test_only_unfinished_trials_can_be_left_out(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """One trial is complete and seven wait; then one is pruned."""
    storage, file = sqlite(folder), folder / "part.csv"
    options = CurvesOptions(study="part", storage=storage, output=file, skip_unfinished=True)
    with opened(storage).closing() as database:
        definition = load_definition(str(folder / "small.toml"))
        ensure_planned(database, Study(definition, "part", load_corpus(folder / "text.txt"), with_baselines=False))
        queue = TrialQueue(database)
        first, second = queue.claim(["part"], "ann", limit=2)
        queue.report([Report(first, 0, 2.0, 2.5), Report(first, 40, 1.5, 2.25)])
        queue.finish(first, "complete", 2.25, {"train_seconds": 3.0, "train_curve": [[0, 2.0], [40, 1.5]]})

        with pytest.raises(SystemExit, match="2"):
            export(replace(options, skip_unfinished=False))
        assert "7 trials of part are not complete" in capsys.readouterr().err
        export(options)
        assert [line.split(",")[-3:] for line in file.read_text().splitlines()[1:]] == [
            ["2.000000", "2.500000", "3.000"],
            ["1.500000", "2.250000", "3.000"],
        ]
        queue.report([Report(second, 0, 2.0, 2.5)])
        queue.finish(second, "pruned", 2.5, {"train_seconds": 1.0})
    with pytest.raises(SystemExit, match="2"):
        export(options)
    assert "1 trials of part are not complete, such as number" in capsys.readouterr().err


def test_curves_with_gaps_are_refused(folder: Path, tmp_path: Path) -> None:
    torn = tmp_path / "torn.csv"
    lines = (folder / "c.csv").read_text().splitlines()
    torn.write_text("\n".join(lines[:5] + lines[6:]))
    with pytest.raises(UsageError, match="every cell needs every seed and every step"):
        load_curves(torn)
    with pytest.raises(UsageError, match=r"cannot read .*none\.csv: No such file"):
        load_curves(tmp_path / "none.csv")
