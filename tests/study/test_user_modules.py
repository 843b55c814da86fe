"""Studies of a person's own modules and text: found beside the study file, or refused in one line before anything."""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from study_files import all_rows, program, sqlite, write_corpus, write_study

from search import run_study
from search.errors import UsageError
from search.objectives.errors import ObjectiveError
from search.options import PlanningOptions
from search.planning import load_study
from search.storage.connect import open_database
from search.storage.queries import trial_summaries
from search.storage.texts import error_text
from search.study.cell_checks import check_cells
from search.study.definition import load_definition
from search.study.planner import Study
from search.study.stored import parse_study, read_stored_study
from search.study.user_modules import resolve_objective, user_modules
from search.workers.setup import open_worker
from search.workers.user_code import UserCode, UserCodeError

pytestmark = pytest.mark.usefixtures("forked_workers")

ROOT = Path(__file__).parents[2]

OBJECTIVE = """
import sys
import random

def loss(params, seed):
    assert "torch" not in sys.modules
    draw = random.Random(seed)
    for step in (10, 20):
        yield step, params["x"] + draw.random(), params["x"] + draw.random()

def of_text(params, corpus):
    yield 1, len(corpus.train), len(corpus.validation)

def wrong(params):
    fault = params["fault"]
    yield 1, 1.0, 1.0
    if fault == "raises":
        raise RuntimeError("no more")
    yield {"steps": (1, 1.0, 1.0), "words": "done", "nan": (2, 1.0, float("nan")), "none": (2, 1.0, 1.0)}[fault]

def rated(rate, seed):
    return 1.0
"""

MODEL = """
from torch import nn

class Net(nn.Module):
    def __init__(self, vocab_size, width, depth):
        super().__init__()
        self.table = nn.Embedding(vocab_size, vocab_size)

    def forward(self, tokens):
        return self.table(tokens)
"""


@pytest.fixture
def own(tmp_path: Path) -> Path:
    """A folder that is on nobody's path, with modules of names that no other test has."""
    folder = tmp_path / "own"
    folder.mkdir()
    (folder / "own_objective.py").write_text(OBJECTIVE)
    (folder / "own_model.py").write_text(MODEL)
    return folder


@pytest.fixture(autouse=True)
def _forget(monkeypatch: pytest.MonkeyPatch) -> Any:
    """The path and the modules of this process are afterwards as they were."""
    monkeypatch.setattr(sys, "path", list(sys.path))
    before = set(sys.modules)
    yield
    for name in set(sys.modules) - before:
        if name.startswith("own_"):
            del sys.modules[name]


def study(folder: Path, objective: str, grid: str = "x = [1.0, 2.0]", more: str = "") -> str:
    return write_study(folder, f'objective = "own_objective:{objective}"\n{more}\n[grid]\n{grid}\n', objective)


class TestOwnObjective:
    def test_from_another_folder_without_torch_and_text(self, own: Path, work_folder: Path) -> None:
        file = study(own, "loss")
        done = program("run", "--study", file, "--json", "--workers", "1", cwd=work_folder)
        assert done.returncode == 0, done.stderr
        assert [row["state"] for row in json.loads(done.stdout)["rows"]] == ["complete", "complete"]
        with open_database(sqlite(work_folder), create=False).closing() as database:
            stored = read_stored_study(database, "loss")
        assert stored is not None
        assert (stored.corpus, stored.definition.corpus_sha256, stored.bigram_baseline) == (None, None, None)
        page = program("report", "--study", file, "--output", "page.html", cwd=work_folder)
        assert page.returncode == 0, page.stderr
        text = (work_folder / "page.html").read_text(encoding="utf-8")
        assert "variants (cells) of the objective own_objective:loss: every combination of 2 values of x." in text
        assert "nats" not in text
        assert "None" not in text.split("Versions and machines")[0]
        report = program("report", "--study", file, cwd=work_folder).stdout
        assert "- objective: own_objective:loss\n" in report
        assert "corpus" not in report

    def test_that_takes_a_text_gets_it(self, own: Path, work_folder: Path) -> None:
        write_corpus(own, 1000)
        file = study(own, "of_text", more='corpus = "text.txt"')
        result = run_study(file, workers=1, quiet=True)
        assert [(row.train_loss, row.val_loss) for row in result.rows] == [(900.0, 100.0), (900.0, 100.0)]
        other = write_corpus(work_folder, 2000, "longer.txt")
        result = run_study(file, workers=1, quiet=True, corpus=other, name="longer")
        assert {row.val_loss for row in result.rows} == {200.0}

    def test_text_for_nothing(self, own: Path, work_folder: Path) -> None:
        with pytest.raises(
            UsageError, match=r"the corpus .*text\.txt has no effect: objective own_objective:loss takes none;"
        ):
            run_study(study(own, "loss"), corpus=write_corpus(own), quiet=True)
        assert list(work_folder.iterdir()) == []

    def test_faults_of_trials(self, own: Path, work_folder: Path) -> None:
        file = study(own, "wrong", 'fault = ["none", "raises", "steps", "words", "nan"]')
        result = run_study(file, workers=1, quiet=True)
        assert (result.exit_code, result.counts["complete"], result.counts["failed"]) == (1, 1, 3)
        reasons = {row["cell"]["fault"]: row["reason"] for row in all_rows(sqlite(work_folder))}
        said = "ObjectiveError: own_objective:wrong yields"
        assert reasons == {
            "none": None,
            "raises": "RuntimeError: no more",
            "steps": f"{said} step 1 after step 1; steps must start at 0 or above and increase",
            "words": f"{said} 'done'; it must yield step, value, or step, {{\"val_loss\": value, …}}, or step, "
            "train_loss, val_loss: a whole number and numbers",
            "nan": "the loss was not finite at step 2",
        }

    def test_pruned_at_once_but_not_at_its_end(self, own: Path, work_folder: Path) -> None:
        pruner = '[pruner]\nname = "median"\nwarmup_steps = {warmup}\nmin_trials = 1\n[training]\nmax_iters = 20'
        for warmup, state in ((10, "pruned"), (20, "complete")):
            file = study(own, "loss", "x = [1.0, 9.0]\n" + pruner.format(warmup=warmup))
            # Two starts: a worker looks for news of other trials at most once a second.
            for seeds in (1, 2):
                result = run_study(file, name=f"after-{warmup}", seeds=seeds, workers=1, quiet=True)
            assert [row.state for row in result.rows] == ["complete", state]


class TestOwnModel:
    GRID = 'model = "own_model:Net"\nblock_size = 8\nwidth = 4'

    def test_argument_without_a_value(self, own: Path, work_folder: Path) -> None:
        file = write_study(own, f"[grid]\n{self.GRID}\n", "lacking")
        done = program("run", "--study", file, "--corpus", write_corpus(own), cwd=work_folder, has_torch=True)
        assert (done.returncode, done.stdout) == (2, "")
        needs = (
            "model 'own_model:Net' needs depth: give each a value in the study file (it takes depth, vocab_size, width)"
        )
        assert done.stderr == f"error: {needs}\n"
        assert list(work_folder.iterdir()) == []

    def test_installed_script_and_its_workers_find_it(self, own: Path, work_folder: Path, tmp_path: Path) -> None:
        """An installed script has its own folder at the head of the path, and not the working directory."""
        training = "[training]\nmax_iters = 4\neval_interval = 2\n[pruner]\nname = 'none'\n"
        write_corpus(own)
        file = write_study(own, f'corpus = "text.txt"\n[grid]\n{self.GRID}\ndepth = 1\n{training}', "own")
        script = tmp_path / "bin" / "lm-search"
        script.parent.mkdir()
        script.write_text("from search.run import main\nmain()\n")
        environment = {**os.environ, "PYTHONPATH": ""}
        command = [sys.executable, str(script), "--study", file, "--workers", "1", "--json", "--quiet"]
        done = subprocess.run(command, cwd=work_folder, env=environment, capture_output=True, text=True, timeout=100)
        assert done.returncode == 0, done.stderr
        assert [row["state"] for row in json.loads(done.stdout)["rows"]] == ["complete"]

    def test_worker_without_the_module_takes_no_trial(
        self, own: Path, work_folder: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        corpus = Path(write_corpus(own))
        file = write_study(own, f"[grid]\n{self.GRID}\ndepth = 1\n", "own")
        run_study(file, corpus=corpus, plan_only=True, quiet=True)
        monkeypatch.setattr(sys, "path", [entry for entry in sys.path if entry != str(own)])
        del sys.modules["own_model"]
        with pytest.raises(UsageError, match=r"the study 'own': no module 'own_model' on the Python path; put"):
            open_worker("own", sqlite(work_folder), "cpu", corpus=corpus, out=work_folder / "out")
        with open_database(sqlite(work_folder), create=False).closing() as database:
            assert [run.attempts for run in trial_summaries(database, ["own"])] == [0]


class TestText:
    def test_command_line_goes_before_the_file(self, own: Path, work_folder: Path) -> None:
        write_corpus(own, 3000)
        file = study(own, "of_text", more='corpus = "text.txt"')
        assert load_study(PlanningOptions(study=file)).corpus.name == "text.txt"  # type: ignore[union-attr]
        other = Path(write_corpus(own, 2000, "other.txt"))
        assert load_study(PlanningOptions(study=file, corpus=other)).corpus.name == "other.txt"  # type: ignore[union-attr]

    def test_that_is_not_there(self, own: Path, work_folder: Path) -> None:
        with pytest.raises(ValueError, match=r"corpus '.*/own/text\.txt' does not exist: check the path"):
            run_study(study(own, "of_text", more='corpus = "text.txt"'), quiet=True)
        assert list(work_folder.iterdir()) == []

    def test_losses_published_for_another_text_are_not_compared_with(self, tmp_path: Path) -> None:
        corpus = Path(write_corpus(tmp_path))
        other = load_study(PlanningOptions(study="bigram", corpus=corpus))
        assert (other.definition.published, other.published_left_out) == ([], "they are of another text")

    def test_losses_published_for_other_settings_are_not_compared_with(self) -> None:
        cases = {
            (): "",
            ("n_embd=64", "eval_interval=100", "evaluation=sampled", "max_iters=5000"): "",
            ("max_iters=300",): "they are of trials with max_iters 5000 (here 300)",
            ("batch_size=8", "weight_decay=0.0"): "batch_size 64 (here 8), weight_decay 0.01 (here 0.0)",
        }
        for settings, reason in cases.items():
            planned = load_study(PlanningOptions(study="bigram", settings=settings))
            assert bool(planned.definition.published) == (not reason)
            assert planned.published_left_out.endswith(reason)


@pytest.mark.parametrize(
    ("module", "name", "said"),
    [
        (None, "loss", r"no module 'own_absent' on the Python path; put own_absent\.py beside the study file"),
        ("import absent_package\n", "loss", r"the module 'own_absent' needs 'absent_package', which is not installed"),
        (
            "x = = 1\n",
            "loss",
            r"the import of the module 'own_absent' failed \(SyntaxError at line 1: invalid syntax\)",
        ),
        (
            "1 / 0\n",
            "loss",
            r"the import of .* failed at own_absent\.py line 1 \(ZeroDivisionError: division by zero\)",
        ),
        (
            "import sys\nsys.exit(2)\n",
            "loss",
            r"the module 'own_absent' exits when it is imported \(SystemExit: 2\); put .* under: if __name__ ==",
        ),
        (
            "import argparse\np = argparse.ArgumentParser()\np.add_argument('data')\np.parse_args()\n",
            "loss",
            r"the module 'own_absent' reads the command line .*arguments are required: data\); give them defaults, or",
        ),
        ("x = 1\n", "loss", r"the module 'own_absent' has no function 'loss'"),
    ],
)
def test_objective_that_cannot_be_had(
    own: Path, monkeypatch: pytest.MonkeyPatch, module: str | None, name: str, said: str
) -> None:
    monkeypatch.syspath_prepend(str(own))
    if module is not None:
        (own / "own_absent.py").write_text(module)
    with pytest.raises(UsageError, match=rf"^objective = 'own_absent:{name}': {said}"):
        resolve_objective(f"own_absent:{name}")


def test_a_module_gets_no_command_line(
    own: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, capfd: pytest.CaptureFixture[str]
) -> None:
    """The arguments of lm-search are not those of the module, which may have options of the same names."""
    monkeypatch.setattr("sys.argv", ["run", "--study", "x", "--device", "cuda"])
    monkeypatch.syspath_prepend(str(own))
    (own / "own_parsing.py").write_text(
        "import argparse\np = argparse.ArgumentParser()\np.add_argument('--device', default='cpu')\n"
        "args, rest = p.parse_known_args()\ndef loss(params): return 1\n"
    )
    resolve_objective("own_parsing:loss")
    parsed = sys.modules.pop("own_parsing")
    assert (parsed.args.device, parsed.rest) == ("cpu", [])
    assert "'own_parsing' reads the command line when it is imported, and gets no arguments" in caplog.text
    assert sys.argv[1:] == ["--study", "x", "--device", "cuda"]
    with pytest.raises(SystemExit, match=r"^2$"):
        parsed.p.parse_args(["--nope"])
    assert "unrecognized arguments: --nope" in capfd.readouterr().err


def test_an_objective_gets_no_command_line(monkeypatch: pytest.MonkeyPatch) -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--data", required=True)
    monkeypatch.setattr("sys.argv", ["worker", "--data", "d"])
    with pytest.raises(UserCodeError) as raised, UserCode().running_trials():
        parser.parse_args()
    assert error_text(raised.value.error) == (
        "ArgumentsMissing: argparse: the following arguments are required: --data; an objective gets no command line: "
        "give each argument a default"
    )


@pytest.mark.parametrize(
    ("line", "said"),
    [
        ("raise SystemExit(0)", r"SystemExit: 0"),
        ("1 / 0", r"ZeroDivisionError: division by zero"),
        ("raise ObjectiveError('x is too large; make it 1')", None),
    ],
)
def test_check_of_a_cell_that_fails(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, line: str, said: str | None
) -> None:
    name = f"checks_{tmp_path.name}"
    monkeypatch.syspath_prepend(str(tmp_path))
    (tmp_path / f"{name}.py").write_text(
        "from search.objectives.errors import ObjectiveError\n"
        f"def loss(params):\n    yield 1, 1.0, 1.0\ndef check_cell(cell, settings, corpus):\n    {line}\n"
    )
    (tmp_path / "own.toml").write_text(f'objective = "{name}:loss"\ngrid = {{x = [1]}}\n')
    study = Study(load_definition(str(tmp_path / "own.toml")), "own", None, True)
    expected = f"the check of the cell x=1 failed \\({said}\\)" if said else r"^x is too large; make it 1$"
    with pytest.raises(ValueError, match=expected) as raised:
        check_cells(study)
    assert isinstance(raised.value, UsageError if said else ObjectiveError)


def test_objective_of_another_kind_is_refused_before_anything(own: Path, work_folder: Path) -> None:
    done = program("run", "--study", study(own, "rated"), cwd=work_folder)
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr.startswith(
        "error: objective = 'own_objective:rated' takes rate, but a function can take only params, seed, settings, "
    )
    assert done.stderr.count("\n") == 1
    assert list(work_folder.iterdir()) == []


def test_replay_finds_modules_and_notices_that_they_changed(own: Path, work_folder: Path) -> None:
    file = study(own, "loss")
    run_study(file, workers=1, quiet=True)
    done = program("replay", "--study", file, "--trial", "0", cwd=work_folder)
    assert done.returncode == 0, done.stderr
    assert ": match (exact)" in done.stdout
    (own / "own_objective.py").write_text(OBJECTIVE + "# changed\n")
    done = program("replay", "--study", file, "--trial", "0", cwd=work_folder)
    assert "code was " in done.stderr


def test_modules_of_a_study() -> None:
    for objective in ("language_model", "search.objectives.language_model.objective:start"):
        ours = {"objective": objective, "grid": {"model": ["bigram", "search.models.bigram:Bigram", "a:B", "a:C"]}}
        assert user_modules(parse_study("s", {"definition": ours}).definition) == ["a"]
    mine = {"objective": "mine:loss", "baselines": [{"model": "b:D"}, {"x": 1}]}
    assert user_modules(parse_study("s", {"definition": mine}).definition) == ["mine", "b"]
