"""run_study from Python: dictionaries and functions, the result, and Ctrl-C."""

from __future__ import annotations

import linecache
import os
import signal
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
from finished_studies import completed, ended_study, failed, nothing
from gates import wait_until
from study_files import all_rows, sqlite

from search import run_study
from search.errors import UsageError
from search.reporting.study_result import Best, StudyResult
from search.statistics.ranking import ranked_rows
from search.storage.queries import counts

pytestmark = pytest.mark.usefixtures("forked_workers")

NAMES = ["small", "small-baselines"]


def result_of(folder: Path, end: Any, seeds: int = 2) -> StudyResult:
    with ended_study(folder, end, seeds) as database:
        return StudyResult("small", sqlite(folder), ranked_rows(database, NAMES), counts(database, NAMES), 1.5, 0)


@pytest.fixture
def result(tmp_path: Path) -> StudyResult:
    return result_of(tmp_path, completed)


def test_best(result: StudyResult, tmp_path: Path) -> None:
    first = result.rows[0]
    best = result.best
    assert best is not None
    assert replace(best, probability=None, regret=None) == Best(first.cell, first.val_loss or 0.0, 5)
    assert best.probability == pytest.approx(1.0, abs=0.01)
    assert best.regret == pytest.approx(0.0, abs=0.01)
    assert (result.answers, [step.command for step in result.next_steps][-1][-11:]) == ([], "--confirm 3")
    for end in (failed, nothing):
        (tmp_path / end.__name__).mkdir()
        assert result_of(tmp_path / end.__name__, end).best is None


def test_dataframe(result: StudyResult) -> None:
    pytest.importorskip("pandas")
    table = result.to_dataframe()
    axes = ["block_size", "n_embd", "pe_type", "model"]
    assert list(table.columns[:-4]) == ["study", "number", "state", "seed", *axes]
    assert list(table.columns[-4:]) == ["val_loss", "train_loss", "step", "seconds"]
    assert len(table) == 18
    assert set(table["state"]) == {"complete"}
    of_study = table[table["study"] == "small"]
    assert of_study.groupby(["pe_type", "n_embd", "block_size"])["val_loss"].mean().min() == result.rows[0].val_loss
    assert set(table["seconds"]) == {1.5}


def test_dataframe_without_pandas(result: StudyResult, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "pandas", None)
    with pytest.raises(UsageError, match=r"^to_dataframe needs pandas; install it with: pip install pandas$"):
        result.to_dataframe()


def test_reports(result: StudyResult, tmp_path: Path) -> None:
    assert result.report().startswith("# small")
    assert result.report(format="html", top=2).startswith("<!DOCTYPE html>")
    for suffix, start in ((".html", "<!DOCTYPE html>"), (".csv", "rank,"), (".md", "# small")):
        assert result.save_report(tmp_path / f"report{suffix}").read_text().startswith(start)
    with pytest.raises(UsageError, match=r"^format = 'pdf': choices are markdown, csv"):
        result.report("pdf")
    with pytest.raises(UsageError, match=r"choices of the suffix are \.md"):
        result.save_report(tmp_path / "report.pdf")
    with pytest.raises(UsageError, match=r"No such file or directory; choose a writable file"):
        result.save_report(tmp_path / "missing" / "report.md")


def test_what_a_notebook_shows(result: StudyResult, tmp_path: Path) -> None:
    assert repr(result).startswith("StudyResult(small: 18 complete; best ")
    assert len(repr(result)) < 200
    page = result._repr_html_()
    assert page.count("<tr>") == 1 + len(result.rows)
    assert "<svg" in page
    assert len(page) < 20_000
    (tmp_path / "none").mkdir()
    empty = result_of(tmp_path / "none", nothing)
    assert repr(empty) == "StudyResult(small: 18 waiting; 1.5 s)"
    assert "<svg" not in empty._repr_html_()


def test_a_dictionary(work_folder: Path) -> None:
    study = {"objective": "fake_objective:start", "grid": {"n_embd": range(1, 3), "block_size": (8,)}, "seeds": 2}
    result = run_study(study, name="mine", training={"max_iters": 4}, plan_only=True)
    assert result.counts["waiting"] == 4
    [file] = (work_folder / "search-out/mine").glob("study-*/study.toml")
    assert run_study(file, plan_only=True).counts == result.counts
    assert sorted(row["cell"]["n_embd"] for row in all_rows(sqlite(work_folder))) == [1, 1, 2, 2]
    with pytest.raises(UsageError, match=r"unknown option 'sede'"):
        run_study(study, sede=2)
    with pytest.raises(UsageError, match=r"unknown key 'gird'"):
        run_study({"objective": "fake_objective:start", "gird": {}})
    with pytest.raises(UsageError, match=r"a value of type int is no study; give a name"):
        run_study(7)
    with pytest.raises(UsageError, match=r"name = 'a/b': write letters"):
        run_study(study | {"name": "a/b"})


def test_a_function_of_a_module(work_folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (work_folder / "losses").mkdir()
    (work_folder / "losses" / "own_losses.py").write_text(
        "def loss(params, seed):\n    yield 1, params['x'], params['x']\n"
    )
    monkeypatch.syspath_prepend(str(work_folder / "losses"))
    import own_losses  # type: ignore[import-not-found]

    result = run_study(own_losses.loss, grid={"x": [2, 1]}, workers=1, quiet=True, pruner="none")
    assert (result.exit_code, result.study) == (0, "loss")
    assert result.best == Best({"x": 1}, 1.0, 1)
    with pytest.raises(UsageError, match=r"cannot be imported by worker processes: it is no function at the top level"):
        run_study(lambda params, seed: None, name="other", grid={"x": [1]})


def test_a_module_that_runs_its_study_when_it_is_imported(work_folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    source = "from search import run_study\ndef loss(params): return 1\nrun_study(loss, grid={'x': [1]})\n"
    (work_folder / "unguarded.py").write_text(source)
    monkeypatch.syspath_prepend(str(work_folder))
    with pytest.raises(UsageError, match=r"'unguarded' calls run_study when it is imported, .* if __name__ == '__main"):
        run_study({"objective": "unguarded:loss", "grid": {"x": [1]}})
    assert not (work_folder / "search.db").exists()


def test_a_refused_study_changes_no_file_of_another(work_folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Two scripts in one folder have an objective of the same name; workers of the first are importing its module."""
    name = "<script>"

    def objective(source: str) -> Any:
        module = ModuleType("__main__")
        monkeypatch.setitem(sys.modules, "__main__", module)
        monkeypatch.setitem(linecache.cache, name, (len(source), None, source.splitlines(keepends=True), name))
        exec(compile(source, name, "exec"), vars(module))
        return module.objective

    first = objective("def objective(trial):\n    return trial.suggest_float('x', 0, 1)\n")
    run_study(first, trials=3, plan_only=True)
    files = {path: path.read_bytes() for path in (work_folder / "search-out").rglob("*") if path.is_file()}
    assert len(files) == 2
    second = objective("def objective(trial):\n    return trial.suggest_float('x', 0, 1) + 1000\n")
    with pytest.raises(UsageError, match="planned with another definition"):
        run_study(second, trials=3, direction="maximize", plan_only=True)
    with pytest.raises(UsageError, match="seeds"):
        run_study(second, name="other", trials=3, seeds=2)
    assert {path: path.read_bytes() for path in (work_folder / "search-out").rglob("*") if path.is_file()} == files
    run_study(second, trials=3, plan_only=True)  # the same definition, with other code: the first code stays
    assert all(path.read_bytes() == content for path, content in files.items())


SCRIPT = """
import itertools, pathlib, time
from search import run_study

def loss(params, seed):
    pathlib.Path(f"started-{params['x']}").touch()
    for step in itertools.count():
        if pathlib.Path("go").exists():
            break
        yield step, 1.0, 1.0
        time.sleep(0.05)
    yield 1_000_000, params["x"], params["x"]

try:
    result = run_study(loss, grid={"x": [2, 1]}, workers=1, quiet=True, pruner="none", seeds=1)
except KeyboardInterrupt as error:
    print("interrupted:", error)
else:
    print(result.best)
"""


def test_a_script_that_is_interrupted_and_run_again(work_folder: Path) -> None:
    (work_folder / "script.py").write_text(SCRIPT)
    command = [sys.executable, "script.py"]
    process = subprocess.Popen(command, cwd=work_folder, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    wait_until(lambda: [*work_folder.glob("started-*")], "the first trial")
    os.kill(process.pid, signal.SIGINT)
    said, errors = process.communicate(timeout=100)
    assert said == "interrupted: loss was stopped with trials left; run the same call again to resume it\n", errors
    assert {row["state"] for row in all_rows(sqlite(work_folder))} == {"waiting"}, "the worker released its trial"
    (work_folder / "go").touch()
    done = subprocess.run(command, cwd=work_folder, capture_output=True, text=True, check=True)
    assert done.stdout == "Best(params={'x': 1}, value=1.0, trial=1)\n"
