"""Wrong use of the command line: exit code 2, one line that says how to fix it, and nothing is written."""

from __future__ import annotations

import importlib
import re
from pathlib import Path
from typing import Any

import pytest
from study_files import all_rows, program, sqlite, write_corpus, write_study
from typer.testing import CliRunner

from search.errors import UsageError
from search.workers.devices import worker_slots

STUDY = ["--study", "{study}", "--corpus", "{corpus}"]

# Program, its arguments, and the whole line (a regular expression) that it prints.
CASES: dict[str, tuple[str, list[str], str]] = {
    "unknown study": (
        "run",
        ["--study", "bigrm"],
        r"unknown study 'bigrm'; built-in studies: bigram, bigram-rates, bigram-tuned, gpt, gpt-scaling; or give the.*",
    ),
    "absent study file": ("run", ["--study", "nope.toml"], r"cannot read the study file nope\.toml: No such file .*"),
    "database is a folder": (
        "run",
        [*STUDY, "--storage", "sqlite:///{folder}"],
        r"sqlite:///.*: .* is a directory; name a file in it, such as .*/search\.db",
    ),
    "database in no folder": (
        "run",
        [*STUDY, "--storage", "sqlite:///absent/search.db"],
        r"sqlite:///absent/search\.db: the folder absent does not exist; create it first",
    ),
    "database is no database": (
        "run",
        [*STUDY, "--storage", "sqlite:///{corpus}"],
        r".* is not an SQLite database; .*",
    ),
    "storage is no URL": (
        "run",
        [*STUDY, "--storage", "search.db"],
        r".* is not a URL; for this file use sqlite:///search.db",
    ),
    "unknown kind of database": (
        "run",
        [*STUDY, "--storage", "mysql://me:hush@host/db"],
        r"mysql://me:\*\*\*@host/db: databases of kind 'mysql' are not supported; use .*",
    ),
    "server that is not there": (
        "run",
        [*STUDY, "--storage", "postgresql://me:hush@127.0.0.1:1/db", "--storage-wait", "0"],
        r"postgresql://me:\*\*\*@127\.0\.0\.1:1/db: .*refused.*; "
        r"check that the server is running and the URL is correct",
    ),
    "out is a file": (
        "run",
        [*STUDY, "--out", "{corpus}"],
        r"--out .*text\.txt is not a writable folder; .*",
    ),
    "out below a file": (
        "run",
        [*STUDY, "--out", "{corpus}/deep/er"],
        r"--out .*/deep/er: .*text\.txt is not a writable folder; choose another --out",
    ),
    # root may write there, by the folder's rights, and cannot.
    "out in a folder of the kernel": (
        "run",
        [*STUDY, "--out", "/proc/x"],
        r"--out /proc/x: /proc is not a writable .*",
    ),
    "artifacts in a folder of the kernel": (
        "run",
        [*STUDY, "--artifacts", "/sys/x"],
        r"--artifacts /sys/x: /sys is not a writable folder; choose another --artifacts",
    ),
    "corpus missing": ("run", ["--study", "{study}", "--corpus", "no.txt"], r"corpus 'no\.txt' does not exist: .*"),
    "corpus a folder": (
        "run",
        ["--study", "{study}", "--corpus", "{folder}"],
        r"corpus '.*' is a folder without a split: put train.txt and val.txt .* there, or name a file.*",
    ),
    "corpus empty": (
        "run",
        ["--study", "{study}", "--corpus", "{empty}"],
        r"corpus '.*' is empty: name a file with .*",
    ),
    "corpus binary": (
        "run",
        ["--study", "{study}", "--corpus", "{binary}"],
        r"corpus '.*' is binary .*: name a UTF-8 text file, or train on its bytes with bytes:.*",
    ),
    "corpus in Latin-1": (
        "run",
        ["--study", "{study}", "--corpus", "{latin}"],
        r"corpus '.*' is not UTF-8 \(byte 3\).*",
    ),
    "corpus too short": (
        "run",
        ["--study", "bigram", "--corpus", "{short}"],
        r"corpus 'short\.txt' is too short for block_size=8: .* use a longer text or a smaller block_size",
    ),
    "setting misspelt": (
        "run",
        [*STUDY, "--set", "n_emb=64"],
        r"--set n_emb=64: unknown key 'n_emb' \(did you mean .*",
    ),
    "setting out of range": ("run", [*STUDY, "--set", "max_iters=-5"], r"--set max_iters=-5: .*greater than 0"),
    "model unknown": (
        "run",
        ["--study", "bigram", "--corpus", "{corpus}", "--set", "model=gpt5"],
        r"unknown model 'gpt5'.*",
    ),
    "no workers": ("run", [*STUDY, "--workers", "0"], r"--workers 0: give a number from 1 up, or auto \(here \d+\)"),
    "workers a word": (
        "run",
        [*STUDY, "--workers", "x"],
        r"--workers x: give a number from 1 up, or auto \(here \d+\)",
    ),
    "pruner unknown": (
        "run",
        [*STUDY, "--pruner", "foo"],
        r"--pruner foo: choices are none, top, median, sha, hyperband, .*, or your own as module:Class",
    ),
    "too many seeds": (
        "run",
        [*STUDY, "--seeds", "1000000"],
        r"--seeds 1000000: give a number from 1 to 1000, or auto",
    ),
    "no seeds": ("run", [*STUDY, "--seeds", "0"], r"--seeds 0: give a number from 1 to 1000, or auto"),
    "a text as seeds": ("run", [*STUDY, "--seeds", "x"], r"--seeds x: give a number from 1 to 1000, or auto"),
    "name is a path": ("run", [*STUDY, "--name", "../up"], r"--name '\.\./up': write letters, digits, .*"),
    "name is empty": ("run", [*STUDY, "--name", ""], r"--name '': write letters, digits, .*"),
    "report without a database": ("report", ["--study", "small"], r"sqlite:///search\.db: there is no such file; .*"),
    "status without a database": ("status", ["--study", "small"], r"sqlite:///search\.db: there is no such file; .*"),
    "report format": (
        "report",
        ["--study", "small", "--format", "xml"],
        r"--format xml: choices are markdown, csv, json, latex, html",
    ),
    "worker of an unknown study": (
        "worker",
        ["--study", "nope"],
        r"the study 'nope' is not in sqlite:///search\.db, and a worker never plans a study; plan it with: "
        r"python -m search\.run --study FILE\.toml --storage sqlite:///search\.db --plan-only",
    ),
    "worker of a study file that is not planned": (
        "worker",
        ["--study", "{study}", "--name", "mine"],
        r"the study 'mine' is not in .*; plan it with: .*--study .*small\.toml --name mine --storage .* --plan-only",
    ),
}


@pytest.fixture
def places(tmp_path: Path, study_file: str, corpus_file: str, work_folder: Path) -> dict[str, str]:
    """The values of the placeholders of a case."""
    contents = {"empty": b"", "binary": b"ab\0c", "latin": b"caf\xe9", "short": b"abc"}
    for name, content in contents.items():
        (tmp_path / f"{name}.txt").write_bytes(content)
    files = {name: str(tmp_path / f"{name}.txt") for name in contents}
    return {"study": study_file, "corpus": corpus_file, "folder": str(tmp_path), **files}


def invoke(name: str, *arguments: str) -> Any:
    """A program of `search` inside this process."""
    app: Any = importlib.import_module(f"search.{name}").app
    return CliRunner().invoke(app, arguments)


def assert_one_error(result: Any, line: str) -> None:
    """Check that the program exited with 2 and printed exactly this error line."""
    assert result.exit_code == 2, result.output
    assert result.stdout == ""
    assert re.fullmatch(f"error: {line}\n", result.stderr), result.stderr


@pytest.mark.parametrize("case", CASES)
def test_wrong_use(case: str, places: dict[str, str], work_folder: Path) -> None:
    name, arguments, line = CASES[case]
    result = invoke(name, *(argument.format(**places) for argument in arguments))
    assert_one_error(result, line)
    assert "hush" not in result.output
    assert list(work_folder.iterdir()) == []


@pytest.mark.parametrize(
    ("name", "arguments", "message"),
    [
        ("run", [], r"Missing option '--study'"),
        ("run", [*STUDY, "--timeout", "-1"], r"Invalid value for '--timeout'"),
        ("run", [*STUDY, "--worker", "2"], r"No such option:? '?--worker'?.*--workers"),
        ("report", ["--study", "small", "--top", "0"], r"Invalid value for '--top'"),
        ("status", ["small"], r"Missing option '--study'|unexpected extra argument"),
        ("worker", ["--study", "small", "--workers", "2"], r"No such option:? '?--workers'?"),
    ],
)
def test_wrong_option(name: str, arguments: list[str], message: str, places: dict[str, str], work_folder: Path) -> None:
    result = invoke(name, *(argument.format(**places) for argument in arguments))
    assert (result.exit_code, result.stdout) == (2, "")
    assert_one_error(result, rf"({message}).*; see: .*{name}.* --help$")
    assert list(work_folder.iterdir()) == []


@pytest.mark.parametrize("devices", ["cuda:99", "cuda:0,99"])
def test_gpu_that_is_not_there(devices: str, places: dict[str, str], work_folder: Path) -> None:
    result = invoke("run", *(part.format(**places) for part in STUDY), "--devices", devices)
    assert_one_error(result, rf"--devices {devices}: this machine has .*; use --devices cpu, or auto")
    assert list(work_folder.iterdir()) == []


def test_device_of_an_unknown_kind(places: dict[str, str], work_folder: Path) -> None:
    result = invoke("run", *(part.format(**places) for part in STUDY), "--devices", "gpu")
    assert_one_error(result, r"--devices gpu: choices are auto, cpu, cuda, cuda:0,1,…; this machine has .*")
    assert list(work_folder.iterdir()) == []


def test_devices_are_looked_at_before_anything_is_opened() -> None:
    with pytest.raises(UsageError, match=r"--devices tpu: choices are auto, cpu, cuda"):
        worker_slots("tpu", "0")


class TestPlannedStudy:
    """A database with a finished study in it stays as it is."""

    @pytest.fixture(autouse=True)
    def _unchanged(self, finished: Any, work_folder: Path) -> Any:
        before = all_rows(finished.storage)
        yield
        assert all_rows(finished.storage) == before
        assert list(work_folder.iterdir()) == []

    def test_changed_study(self, finished: Any) -> None:
        options = ["--study", finished.file, "--corpus", finished.corpus, "--storage", finished.storage]
        assert_one_error(
            invoke("run", *options, "--set", "n_embd=64"),
            r"the study 'small' was planned with another definition \(grid\.n_embd was \[64, 128\], is \[64\]\); "
            r"values can be added, not removed, and a trained trial has n_embd = 128; keep it, or choose another name "
            r"with --name",
        )

    def test_other_corpus(self, finished: Any, tmp_path: Path) -> None:
        other = write_corpus(tmp_path, 3000, "other.txt")
        options = ["--corpus", other, "--storage", finished.storage]
        assert_one_error(
            invoke("run", "--study", finished.file, *options),
            r"the study 'small' was planned with another definition \(corpus_sha256 was .*, is .*\); .*",
        )
        assert_one_error(
            invoke("worker", "--study", "small", *options),
            r"the study 'small' trains on text\.txt \(SHA-256 [0-9a-f]{12}…\), but other\.txt has [0-9a-f]{12}….*",
        )

    def test_worker_without_its_corpus(self, finished: Any) -> None:
        options = ["--study", finished.file, "--storage", finished.storage, "--corpus", "no.txt"]
        assert_one_error(invoke("worker", *options), r"corpus 'no\.txt' does not .*")

    def test_worker_of_a_study_that_is_not_planned(self, finished: Any) -> None:
        assert_one_error(
            invoke("worker", "--study", "other", "--storage", finished.storage),
            r"the study 'other' is not in sqlite:///.*, and a worker never plans a study; "
            r"plan it with: .* --study FILE\.toml .*",
        )

    @pytest.mark.parametrize("name", ["report", "status"])
    def test_missing_study(self, finished: Any, name: str) -> None:
        assert_one_error(
            invoke(name, "--study", "smal", "--storage", finished.storage),
            r"no study 'smal' in sqlite:///.*; existing studies: small, small-baselines; "
            r"start one with: .*--study FILE\.toml --storage sqlite:.*",
        )

    def test_report_into_a_folder(self, finished: Any, tmp_path: Path) -> None:
        options = ["--study", "small", "--storage", finished.storage, "--output"]
        assert_one_error(
            invoke("report", *options, str(tmp_path)), r"--output .*: Is a directory; choose a writable file"
        )
        assert_one_error(
            invoke("report", *options, f"{finished.corpus}/x"),
            r"--output .*/text\.txt/x: .*text\.txt is not a folder; choose a writable file",
        )


class TestProcess:
    """The same in a real process: one error line and no traceback."""

    @pytest.mark.parametrize("name", ["run", "report", "status"])
    def test_one_line(self, name: str, work_folder: Path) -> None:
        storage = ["--storage", "postgresql://me:hush@127.0.0.1:1/db", "--storage-wait", "0"]
        done = program(name, "--study", "nope", *storage, cwd=work_folder, new=True)
        assert (done.returncode, done.stdout) == (2, "")
        assert done.stderr.count("\n") == 1
        assert done.stderr.startswith("error: ")
        assert "hush" not in done.stderr
        assert list(work_folder.iterdir()) == []

    def test_database_of_zeros(self, study_file: str, corpus_file: str, work_folder: Path, tmp_path: Path) -> None:
        database = tmp_path / "search.db"
        database.write_bytes(b"\1" * 5000)
        options = ["--study", study_file, "--corpus", corpus_file, "--storage", sqlite(tmp_path)]
        done = program("run", *options, cwd=work_folder, new=True)
        assert (done.returncode, done.stdout) == (2, "")
        assert re.fullmatch(r"error: .* is not an SQLite database; give another file\n", done.stderr), done.stderr
        assert database.read_bytes() == b"\1" * 5000


def test_wrong_password(postgres: Any, study_file: str, corpus_file: str, work_folder: Path) -> None:
    url = postgres.create_schema("wrong_input")
    wrong = re.sub(r"//([^@/]*)@", "//nobody:hush@", url)
    result = invoke("run", "--study", study_file, "--corpus", corpus_file, "--storage", wrong, "--storage-wait", "0")
    assert (result.exit_code, result.stdout, result.stderr.count("\n")) == (2, "", 1), result.output
    assert "hush" not in result.output
    assert "nobody:***@" in result.stderr


def test_message_of_several_lines_is_printed_as_one(
    tmp_path: Path, corpus_file: str, work_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    model = "import torch\nclass Net(torch.nn.Module):\n    def __init__(self):\n        raise ValueError('a\\nb')\n"
    (tmp_path / "chatty.py").write_text(model)
    monkeypatch.syspath_prepend(str(tmp_path))
    study = write_study(tmp_path, '[grid]\nmodel = ["chatty:Net"]\nblock_size = [8]\n', "chatty")
    assert_one_error(invoke("run", "--study", study, "--corpus", corpus_file), r".*chatty:Net.*a b.*")
