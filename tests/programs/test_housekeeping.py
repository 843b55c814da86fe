"""`delete`, `export` and `import` from the command line."""

from __future__ import annotations

import io
import re
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
from finished_studies import completed, ended_study, half
from sqlalchemy import select
from study_files import FAKE_GRID, all_rows, opened, sqlite, write_corpus, write_study
from typer.testing import CliRunner

from search.__main__ import app
from search.reporting.render import render
from search.reporting.status_text import status_as_json
from search.storage import optuna_tables
from search.storage.artifact_store import artifact_id, open_store, put
from search.storage.database import Database
from search.storage.queries import counts, study_names, trial_summaries
from search.storage.schema import queue_table
from search.workers.replay import read_recorded_trial
from search.workers.setup import open_worker


def lm_search(*arguments: str) -> Any:
    """`lm-search` inside this process."""
    return CliRunner().invoke(app, arguments, prog_name="lm-search")


def test_reports_of_an_imported_study_are_the_same(finished: Any, work_folder: Path) -> None:
    of_study = ("--study", "small", "--storage", finished.storage, "--out", str(finished.folder / "search-out"))
    done = lm_search("export", *of_study, "--to", "small.zip")
    assert (done.exit_code, done.stderr) == (0, "")
    assert "exported small and small-baselines to small.zip (" in done.stdout
    assert "18 trials, 36 artifacts, 0 checkpoints" in done.stdout
    done = lm_search("import", "small.zip", "--storage", sqlite(work_folder))
    assert (done.exit_code, done.stderr) == (0, "")
    assert done.stdout == "imported small and small-baselines: 18 trials (18 complete)\n"
    names = ["small", "small-baselines"]
    with opened(finished.storage).closing() as theirs, opened(sqlite(work_folder)).closing() as ours:
        for form in ("json", "csv", "latex", "html"):
            # The commands that the report advises name the database.
            text = render(ours, names, form, None, None).replace(sqlite(work_folder), finished.storage)
            assert text == render(theirs, names, form, None, None)
        assert status_as_json(ours, names, None) == status_as_json(theirs, names, None)
        assert read_recorded_trial(ours, "small", 3).trial == read_recorded_trial(theirs, "small", 3).trial
    assert len(list(Path("search-out", "artifacts").glob("*-*"))) == 36
    done = lm_search("delete", "--study", "small", "--storage", sqlite(work_folder), "--yes")
    assert done.exit_code == 0, done.stderr
    assert (
        f"deleted small and small-baselines in {sqlite(work_folder)}: 18 trials (18 complete), 36 artifacts ("
        in done.stdout
    )
    assert [str(path) for path in Path("search-out").rglob("*") if path.is_file()] == []


def test_half_a_study_is_finished_elsewhere(tmp_path: Path, work_folder: Path) -> None:
    """With a quota, which the worker applies."""
    file = write_study(tmp_path, f"{FAKE_GRID}\n[workers]\nkeep_artifacts = 2\n")
    corpus = write_corpus(tmp_path)
    study = Path(file).read_text(encoding="utf-8")
    text = Path(corpus).read_text(encoding="utf-8")
    with ended_study(tmp_path, half, 1, study, text) as database:
        before = counts(database, ["small"])
    assert lm_search("export", "--study", "small", "--storage", sqlite(tmp_path), "--to", "half.zip").exit_code == 0
    assert lm_search("import", "half.zip", "--name", "new").exit_code == 0
    worker = open_worker("new", sqlite(work_folder), "cpu", corpus=Path(corpus), out=work_folder / "out")
    with worker.queue.database.closing() as database:
        assert counts(database, ["new"]) == before
        assert before["complete"] == before["waiting"] == 4
        assert worker.run()
        assert counts(database, ["new", "new-baselines"])["complete"] == 9
    # Two trials of the study and one of its baselines, a record and a curve each.
    assert len(list((work_folder / "out" / "artifacts").glob("*-*"))) == 3 * 2
    assert {row["study"] for row in all_rows(sqlite(work_folder))} == {"new", "new-baselines"}


def test_a_study_goes_to_a_tracker_once(finished: Any, work_folder: Path) -> None:
    for _ in range(2):
        done = lm_search("export", "--study", "small", "--storage", finished.storage, "--to", "jsonl:all.jsonl")
        assert (done.exit_code, done.stderr) == (0, "")
        lines = Path("all.jsonl").read_text(encoding="utf-8").splitlines()
        assert done.stdout == f"sent {len(lines)} events of small and small-baselines to jsonl:all.jsonl\n"
    assert sum('"event": "end"' in line for line in lines) == 18
    assert lm_search("export", "--study", "small", "--storage", finished.storage, "--to", "jsonl:x.zip").exit_code == 0
    assert Path("x.zip").read_bytes() == Path("all.jsonl").read_bytes()


def write_attrs(database: Database, number: int, attrs: dict[str, str]) -> None:
    """Give the trial of a number of the study "small" system attributes."""
    one = select(queue_table.c.trial_id).where(queue_table.c.study == "small", queue_table.c.number == number)
    database.write(lambda c: optuna_tables.write_system_attrs(c, c.execute(one).scalar_one(), attrs))


class Terminal(io.StringIO):
    """A terminal on which an answer is typed."""

    def isatty(self) -> bool:
        return True


@pytest.mark.parametrize(("answer", "is_deleted"), [("\n", False), ("no\n", False), ("", False), ("Yes\n", True)])
def test_it_asks_on_a_terminal(
    answer: str,
    is_deleted: bool,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    with ended_study(tmp_path, completed, 1) as database:
        monkeypatch.setattr(sys, "stdin", Terminal(answer))
        with pytest.raises(SystemExit) as ended:
            app(["delete", "--study", "small", "--storage", sqlite(tmp_path), "--artifacts", "none"])
        assert (ended.value.code or 0) == (0 if is_deleted else 1)
        output = capsys.readouterr()
        assert (
            f"Delete small and small-baselines in {sqlite(tmp_path)}: 9 trials (9 complete), artifacts are left (0), "
            in output.err
        )
        assert output.err.count("[y/N]") == 1
        assert (
            output.out.startswith("deleted small and") if is_deleted else output.err.endswith("nothing was deleted\n")
        )
        assert study_names(database) == ([] if is_deleted else ["small", "small-baselines"])


def test_wrong_use(tmp_path: Path, work_folder: Path) -> None:
    Path("there.zip").touch()
    storage = ("--storage", sqlite(tmp_path))
    with ended_study(tmp_path, completed, 1):
        assert lm_search("export", "--study", "small", *storage, "--to", "good.zip").exit_code == 0
    for arguments, message in [
        (("delete", "--study", "small"), "there is no terminal to ask on; to delete without a question, add --yes"),
        (
            ("delete", "--study", "samll", "--yes"),
            "no study 'samll' in .*existing studies: small, small-baselines; noth",
        ),
        (("delete", "--study", "x", "--name", "other", "--yes"), "no study 'other' in"),
        (("export", "--study", "small", "--to", "there.zip"), "--to there.zip exists; choose another file"),
        (
            ("export", "--study", "small", "--to", "small.tar"),
            "--to small.tar: give a file whose name ends in .zip, or a tracker such as jsonl:FILE",
        ),
        (("export", "--study", "small", "--to", "jsonl:."), r"--to jsonl:\.: \. is a folder"),
        (("export", "--study", "small", "--to", "nothing:x"), "--to nothing:x: no module 'nothing' on"),
        (("export", "--study", "small", "--to", f"mlflow:{storage[1]}"), "is the study's own database; name another"),
        (("export", "--study", "small", "--to", "webhook:http://x"), "a webhook tells what happens while"),
        (("export", "--study", "small", "--to", "jsonl:good.zip/x"), "--to jsonl:good.zip/x: .*; 0 of .* events were"),
        (("export", "--study", "small", "--to", "no/folder/x.zip"), "No such file or directory; choose another file"),
        (("import", "there.zip"), "there.zip is damaged or no exported study"),
        (("import", "good.zip"), "the study 'small' exists; nothing was imported: give another --name"),
        (("import", "good.zip", "--name", "../up"), "--name '../up': write letters, digits"),
        (
            ("import", "good.zip", "--name", "ok", "--artifacts", "gs://x"),
            "choices are a folder and s3://bucket/prefix",
        ),
    ]:
        done = lm_search(*arguments, *storage)
        assert done.exit_code == 2, (arguments, done.output)
        assert re.search(message, done.stderr), done.stderr
        assert done.stderr.count("\n") == 1
        assert done.stdout == ""
    with opened(sqlite(tmp_path)).closing() as database:
        assert study_names(database) == ["small", "small-baselines"]
    assert sorted(path.name for path in work_folder.iterdir()) == ["good.zip", "there.zip"]


def test_they_load_neither_torch_nor_the_worker(tmp_path: Path, work_folder: Path) -> None:
    with ended_study(tmp_path, completed, 1):
        pass
    new = "sqlite:///new.db"
    commands = [
        ["export", "--study", "small", "--storage", sqlite(tmp_path), "--to", "small.zip"],
        ["import", "small.zip", "--storage", new],
        ["delete", "--study", "small", "--storage", new, "--yes"],
    ]
    code = (
        "import sys\n"
        "from importlib import import_module\n"
        f"for command in {commands}:\n"
        "    try:\n"
        "        import_module(f'search.{command[0]}').app(command[1:])\n"
        "    except SystemExit as end:\n"
        "        assert not end.code, end.code\n"
        "heavy = ('torch', 'search.workers', 'search.launchers', 'search.service', 'scipy', 'plotly', 'pandas')\n"
        "loaded = [name for name in sys.modules if name.startswith(heavy)]\n"
        "assert not loaded, loaded\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=work_folder)
    assert done.returncode == 0, done.stderr
    assert done.stdout.count("\n") == 3


@pytest.mark.filterwarnings("ignore:unclosed")  # boto3 keeps its connections
@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
def test_a_bucket(
    bucket: Mapping[str, bytes], tmp_path: Path, work_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Files go from a bucket to another prefix; a store that refuses is one line, and nothing is lost."""
    pytest.importorskip("boto3")
    of_study = ("--study", "small", "--storage", sqlite(tmp_path))
    store = open_store("s3://weights/a")
    with ended_study(tmp_path, completed, 1) as database:
        attrs = put(store, artifact_id("identity", 1, "curve.csv"), "curve.csv", b"step")
        number = trial_summaries(database, ["small"])[0].number
        write_attrs(database, number, attrs)
        for arguments in [("export", *of_study, "--to", "small.zip"), ("delete", *of_study, "--yes")]:
            with monkeypatch.context() as patch:
                patch.setenv("AWS_ENDPOINT_URL", "http://127.0.0.1:1")
                patch.setenv("AWS_MAX_ATTEMPTS", "1")
                done = lm_search(*arguments, "--artifacts", "s3://weights/a")
            assert done.exit_code == 2, done.output
            assert done.stderr.startswith("error: the artifact store answered: EndpointConnectionError")
            assert done.stderr.count("\n") == 1
        assert study_names(database) == ["small", "small-baselines"]
        assert list(work_folder.iterdir()) == []
        assert "1 artifact," in lm_search("export", *of_study, "--artifacts", "s3://weights/a", "--to", "a.zip").stdout
        assert lm_search("import", "a.zip", "--artifacts", "s3://weights/b/c").exit_code == 0
        assert sorted(path.rpartition("/")[0] for path in bucket) == ["/weights/a", "/weights/b/c"]
        done = lm_search("delete", "--study", "small", "--artifacts", "s3://weights/b/c", "--yes")
        assert "1 artifact (4 bytes) in s3://weights/b/c" in done.stdout
        assert [path.rpartition("/")[0] for path in bucket] == ["/weights/a"]
