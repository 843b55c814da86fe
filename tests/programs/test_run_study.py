"""Complete runs with real worker processes: tables, exit codes, streams and reproducible losses."""

from __future__ import annotations

import csv
import io
import json
import math
import re
import subprocess
import sys
import traceback
from pathlib import Path
from typing import Any

import pytest
from study_files import REAL, all_rows, program, sqlite, write_corpus, write_study

import search
from search import run_study
from search.errors import UsageError
from search.run import _print as print_result

pytestmark = pytest.mark.usefixtures("forked_workers")

FAULTY = """
objective = "fake_objective:start"

[grid]
fault = ["none", "error"]

[training]
max_iters = 20
eval_interval = 10
"""


def test_import_of_search_loads_nothing_heavy(work_folder: Path) -> None:
    code = "import sys, search; print({'torch', 'optuna', 'sqlalchemy', 'numpy'} & set(sys.modules))"
    done = subprocess.run([sys.executable, "-c", code], cwd=work_folder, capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "set()"
    with pytest.raises(AttributeError, match=r"module 'search' has no attribute 'train_study'"):
        _ = search.train_study


class TestFinishedRun:
    """The command line's run of 8 cells and a baseline, with 2 seeds each."""

    def test_exit_code_and_table(self, finished: Any) -> None:
        assert finished.exit_code == 0, finished.stderr
        heading, rule, *lines = finished.stdout.splitlines()
        titles = [title.strip() for title in heading.split("|")[1:9]]
        assert titles == ["#", "model", "train_loss", "val_loss", "± 95 %", "pe_type", "n_embd", "block_size"]
        assert set(rule) == set("| -:")
        assert [line.split("|")[1].strip() for line in lines] == [str(rank) for rank in range(1, 10)]
        assert all("| 2/2 |" in " ".join(line.split()) for line in lines)
        losses = [float(line.split("|")[4]) for line in lines]
        assert losses == sorted(losses)

    def test_messages_are_on_stderr(self, finished: Any) -> None:
        lines = finished.stderr.splitlines()
        assert lines[0] == "0/18 done"
        ends = [line for line in lines if line.startswith("[")]
        assert [line.split("]")[0] for line in ends] == [f"[{done}/18" for done in range(1, 19)]
        assert f"report: python -m search.report --study small --storage {finished.storage}" in lines
        assert any(line.startswith("small: 18 complete; ") for line in lines)
        assert "Traceback" not in finished.stderr

    def test_each_worker_has_a_log(self, finished: Any) -> None:
        logs = finished.folder / "search-out" / "small" / "logs"
        assert sorted(path.name for path in logs.iterdir()) == ["worker-cpu-0.log", "worker-cpu-1.log"]
        text = "".join(path.read_text() for path in logs.iterdir())
        assert text.count("attempt 1") == 18
        assert "Traceback" not in text

    def test_second_start_trains_nothing(self, finished: Any) -> None:
        before = all_rows(finished.storage)
        result = run_study(finished.file, corpus=finished.corpus, storage=finished.storage, seeds=2, quiet=True)
        assert (result.exit_code, result.counts["complete"], len(result.rows)) == (0, 18, 9)
        assert all_rows(finished.storage) == before

    def test_report_of_it(self, finished: Any) -> None:
        options = ["--study", "small", "--storage", finished.storage]
        page = program("report", *options, cwd=finished.folder)
        assert (page.returncode, page.stderr) == (0, "")
        assert finished.stdout.strip() in page.stdout
        table_text = program("report", *options, "--format", "csv", cwd=finished.folder).stdout
        table = list(csv.DictReader(io.StringIO(table_text)))
        assert len(table) == 9
        best = [row for row in all_rows(finished.storage) if _is_cell(row["cell"], table[0])]
        assert float(table[0]["val_loss"]) == pytest.approx(sum(row["value"] for row in best) / 2, rel=1e-12)
        top = program("report", *options, "--format", "json", "--top", "2", cwd=finished.folder)
        read = json.loads(top.stdout)
        assert [row["rank"] for row in read["rows"]] == [1, 2]
        assert read["counts"]["complete"] == 18

    def test_report_into_a_new_folder(self, finished: Any, tmp_path: Path) -> None:
        output = tmp_path / "new" / "report.md"
        options = ["--study", finished.file, "--storage", finished.storage, "--output", str(output)]
        done = program("report", *options, cwd=tmp_path)
        assert (done.returncode, done.stdout) == (0, "")
        assert output.read_text(encoding="utf-8").startswith("# small\n")

    def test_status_of_it(self, finished: Any) -> None:
        done = program("status", "--study", "small", "--storage", finished.storage, cwd=finished.folder)
        *lines, cost = done.stdout.splitlines()
        assert re.fullmatch(r"CPU time: [\d.]+ (s|min) of the workers and the run, start-up included\.", cost)
        assert lines == [
            "small: 16 trials; 0 waiting, 0 running, 16 complete, 0 pruned, 0 diverged, 0 failed",
            "small-baselines: 2 trials; 0 waiting, 0 running, 2 complete, 0 pruned, 0 diverged, 0 failed",
            "time limits: trial_timeout_s off, stall_timeout_s 2 h",
        ]


def _is_cell(cell: dict[str, Any], line: dict[str, str]) -> bool:
    return all(str(cell.get(name, "")) == line[name] for name in ("model", "n_embd", "block_size", "pe_type"))


def test_failing_cell_from_the_command_line(tmp_path: Path, corpus_file: str, work_folder: Path) -> None:
    study = write_study(tmp_path, FAULTY, "faulty")
    done = program("run", "--study", study, "--corpus", corpus_file, "--json", "--workers", "1", cwd=work_folder)
    assert done.returncode == 1
    read = json.loads(done.stdout)
    assert (read["study"], read["counts"]["complete"], read["counts"]["failed"]) == ("faulty", 1, 1)
    assert [row["state"] for row in read["rows"]] == ["complete", "failed"]
    assert "failed" in done.stderr
    assert "ZeroDivisionError: made up" in done.stderr
    assert "Traceback" not in done.stderr
    status = program("status", "--study", "faulty", cwd=work_folder)
    assert "ZeroDivisionError: made up" in status.stdout
    assert "retry them with --retry-failed" in status.stdout
    assert json.loads(program("status", "--study", "faulty", "--json", cwd=work_folder).stdout)["counts"]["failed"] == 1


def test_diverged_cell(tmp_path: Path, corpus_file: str, work_folder: Path) -> None:
    study = write_study(tmp_path, FAULTY.replace("error", "nan"), "faulty")
    result = run_study(study, corpus=corpus_file, workers=1, quiet=True)
    assert result.exit_code == 1
    assert [row.state for row in result.rows] == ["complete", "diverged"]
    assert result.rows[1].val_loss is None
    text = program("status", "--study", "faulty", "--json", cwd=work_folder).stdout
    [trial] = json.loads(text, parse_constant=lambda name: pytest.fail(f"{name} is no JSON"))["trials"]
    assert trial["reason"] == "the loss was not finite at step 10"
    assert run_study(study, corpus=corpus_file, plan_only=True).exit_code == 0, "the plan itself has not failed"


def test_timeout_then_the_rest(
    study_file: str, corpus_file: str, work_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("FAKE_TRIAL_MS", "60000")
    options = ["--study", study_file, "--corpus", corpus_file, "--workers", "2"]
    done = program("run", *options, "--timeout", "2", cwd=work_folder)
    assert done.returncode == 75, done.stderr
    assert "run the same command again to resume" in done.stderr
    rows = all_rows(sqlite(work_folder))
    assert {row["state"] for row in rows} == {"waiting"}, "stopped workers release their trials"
    monkeypatch.setenv("FAKE_TRIAL_MS", "10")
    result = run_study(study_file, corpus=corpus_file, workers=2, quiet=True)
    assert (result.exit_code, result.counts["complete"]) == (0, 9)


def test_target_ends_the_run_early(
    study_file: str,
    corpus_file: str,
    work_folder: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setenv("FAKE_TRIAL_MS", "500")
    result = run_study(study_file, corpus=corpus_file, workers=1, target=100.0, quiet=True)
    assert result.exit_code == 0
    assert 0 < result.counts["complete"] < 9
    again = run_study(study_file, corpus=corpus_file, workers=1, target=100.0, quiet=True)
    assert (again.exit_code, again.counts, again.target_reached) == (0, result.counts, True)
    print_result(again, "small", as_json=False)
    assert "\nThe target 100 is reached: the lowest loss of a trial is " in capsys.readouterr().err
    print_result(again, "small", as_json=True)
    assert json.loads(capsys.readouterr().out)["target_reached"] is True


def test_name_settings_and_no_baselines(study_file: str, corpus_file: str, work_folder: Path) -> None:
    settings = {"n_embd": [7], "pe_type": "rope", "block_size": [8, 9], "max_iters": 5, "eval_interval": 5}
    result = run_study(
        study_file, corpus=corpus_file, name="other", settings=settings, baselines=False, workers=1, quiet=True
    )
    assert (result.study, result.exit_code, result.counts["complete"]) == ("other", 0, 2)
    rows = all_rows(sqlite(work_folder))
    assert {row["study"] for row in rows} == {"other"}
    assert [row["cell"] for row in rows] == [
        {"block_size": size, "n_embd": 7, "pe_type": "rope", "seed": 0} for size in (8, 9)
    ]
    assert {row["step"] for row in rows} == {5}


def test_settings_as_texts_and_what_is_wrong_with_them(study_file: str, corpus_file: str, work_folder: Path) -> None:
    for settings in ("n_emb=7", ["n_emb=7"], {"n_emb": 7}):
        with pytest.raises(UsageError, match=r"^(--set n_emb=7|settings\['n_emb'\] = 7): unknown key 'n_emb'"):
            run_study(study_file, corpus=corpus_file, settings=settings)
    with pytest.raises(UsageError, match=r"^--seeds 0: give a number from 1 to 1000"):
        run_study(study_file, corpus=corpus_file, seeds=0)
    with pytest.raises(UsageError, match=r"no module 'absent_module'") as raised:
        run_study({"objective": "absent_module:loss", "grid": {"x": [1]}})
    shown = "".join(traceback.format_exception(raised.value))
    assert "direct cause" not in shown, "causes inside lm-search would come before the caller's own line"
    assert [frame.name for frame in raised.traceback] == [
        "test_settings_as_texts_and_what_is_wrong_with_them",
        "run_study",
    ]
    assert list(work_folder.iterdir()) == []


def test_worker_started_by_hand(study_file: str, corpus_file: str, work_folder: Path) -> None:
    options = ["--study", study_file, "--corpus", corpus_file, "--storage", "sqlite:///mine.db"]
    planned = run_study(study_file, corpus=corpus_file, storage="sqlite:///mine.db", plan_only=True)
    assert (planned.exit_code, planned.counts["waiting"]) == (0, 9)
    done = program("worker", *options, cwd=work_folder)
    assert (done.returncode, done.stdout) == (0, ""), done.stderr
    assert "warning" not in done.stderr
    result = run_study(study_file, corpus=corpus_file, storage="sqlite:///mine.db", quiet=True)
    assert (result.exit_code, result.counts["complete"]) == (0, 9)
    assert {row["attempts"] for row in all_rows("sqlite:///mine.db")} == {1}


def test_baselines_that_were_left_out_are_the_next_step(study_file: str, corpus_file: str, work_folder: Path) -> None:
    run_study(study_file, corpus=corpus_file, plan_only=True)
    result = run_study(study_file, corpus=corpus_file, baselines=False, quiet=True)
    assert result.exit_code == 0
    [step] = [each for each in result.next_steps if "not ended yet" in each.why]
    assert step.command.endswith(f"run --study {study_file} --corpus {corpus_file}")


def test_a_worker_changes_no_definition(study_file: str, corpus_file: str, work_folder: Path) -> None:
    run_study(study_file, corpus=corpus_file, name="mine", baselines=False, settings="n_embd=7", plan_only=True)
    before = all_rows(sqlite(work_folder))
    options = ["--study", study_file, "--corpus", corpus_file, "--name", "mine", "--no-baselines"]
    variables = {"SEARCH_SEEDS": "5", "SEARCH_PRUNER": "median"}
    done = program("worker", *options, "--seeds", "3", "--set", "n_embd=8", cwd=work_folder, env=variables)
    assert done.returncode == 0, done.stderr
    first, *others = done.stderr.splitlines()
    assert first.startswith(
        "warning: --seeds, --set: no effect in python -m search.worker, which never changes a study; use it"
    )
    assert not any("warning" in line for line in others)
    after = all_rows(sqlite(work_folder))
    assert [row["cell"] for row in after] == [row["cell"] for row in before]
    assert {(row["study"], row["cell"]["n_embd"], row["outcome"]) for row in after} == {("mine", 7, "complete")}


def test_variables_for_planning_are_no_warning_in_a_worker(
    study_file: str, corpus_file: str, work_folder: Path
) -> None:
    run_study(study_file, corpus=corpus_file, plan_only=True)
    variables = {"SEARCH_SEEDS": "5", "SEARCH_PRUNER": "none", "SEARCH_SET": "n_embd=7"}
    done = program("worker", "--study", "small", "--corpus", corpus_file, cwd=work_folder, env=variables)
    assert done.returncode == 0, done.stderr
    assert "warning" not in done.stderr
    assert len(all_rows(sqlite(work_folder))) == 9


@pytest.mark.usefixtures("forked_torch_workers")
class TestRealTraining:
    """A tiny bigram_v2 on a small text."""

    @pytest.fixture
    def study(self, tmp_path: Path) -> str:
        return write_study(tmp_path, REAL, "real")

    @pytest.fixture
    def text(self, tmp_path: Path) -> str:
        return write_corpus(tmp_path, 2000, "short.txt")

    def test_alone_and_among_others_give_the_same_losses(self, study: str, text: str, work_folder: Path) -> None:
        whole = run_study(study, corpus=text, seeds=2, workers=2, devices="cpu", quiet=True)
        assert (whole.exit_code, whole.counts["complete"]) == (0, 4)
        assert all(row.val_loss is not None and math.isfinite(row.val_loss) for row in whole.rows)
        options: dict[str, Any] = {"name": "alone", "storage": "sqlite:///alone.db", "settings": ["pe_type=rope"]}
        run_study(study, corpus=text, workers=1, devices="cpu", quiet=True, **options)
        [alone] = all_rows("sqlite:///alone.db")
        [among] = [row for row in all_rows(sqlite(work_folder)) if row["cell"] == alone["cell"]]
        losses = ("train_loss", "val_loss", "value", "step")
        assert [alone[name] for name in losses] == [among[name] for name in losses]
        assert len({row["value"] for row in all_rows(sqlite(work_folder))}) == 4

    def test_pruned_and_diverged(self, study: str, text: str, work_folder: Path) -> None:
        rates = 'pe_type = ["randn"]\nlearning_rate = [0.02, 1e-5, 1e38]'
        Path(study).write_text(REAL.replace('pe_type = ["randn", "rope"]', rates))
        settings = {"warmup_steps": 30, "min_trials": 2, "max_iters": 60, "eval_interval": 30}
        run_study(study, corpus=text, settings=settings, workers=1, devices="cpu", quiet=True)
        # The first seed of everything is there to be compared with when the second begins.
        options: dict[str, Any] = {"settings": settings, "seeds": 2, "pruner": "median"}
        result = run_study(study, corpus=text, workers=1, devices="cpu", quiet=True, **options)
        assert result.exit_code == 1
        outcomes = [
            (row["cell"]["learning_rate"], row["outcome"], row["step"]) for row in all_rows(sqlite(work_folder))
        ]
        assert outcomes[:2] == [(0.02, "complete", 60), (1e-5, "complete", 60)]
        assert outcomes[3:5] == [(0.02, "complete", 60), (1e-5, "pruned", 30)]
        assert [outcome for rate, outcome, _ in outcomes if rate == 1e38] == ["diverged", "diverged"]
        assert [(row.rank, row.state, row.trials) for row in result.rows] == [
            (1, "complete", (2, 2)),
            (None, "pruned", (1, 2)),
            (None, "diverged", (0, 2)),
        ]
        report = program("report", "--study", "real", cwd=work_folder).stdout
        assert "- trials: 3 complete, 1 pruned, 2 diverged" in report
        assert "- pruner: median (warmup_steps 30, min_trials 2)" in report
        assert (work_folder / "search-out" / "real" / "logs" / "worker-cpu-0.log").exists()
