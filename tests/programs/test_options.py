"""One declaration of an option makes its flag, its variable, its `run_study` argument and its worker argument."""

from __future__ import annotations

import inspect
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import pytest
import typer
from typer.testing import CliRunner

from search import run_study
from search.command_line import new_program
from search.errors import UsageError
from search.housekeeping_options import DeleteOptions, ExportOptions, ImportOptions
from search.option_fields import Option, Options, option_fields
from search.options import (
    DashboardOptions,
    DefinitionOptions,
    PlanningOptions,
    RunOptions,
    RunStudyOptions,
    TrainingOptions,
    WorkerOptions,
)
from search.reading_options import ReplayOptions, ReportOptions, StatusOptions

CLASSES = (
    *(RunOptions, WorkerOptions, ReportOptions, StatusOptions, DashboardOptions, ReplayOptions),
    *(DeleteOptions, ExportOptions, ImportOptions),
)


@dataclass(frozen=True, kw_only=True)
class Sample(Options):
    """An option of each kind."""

    name: Annotated[str, Option("A text.", "TEXT", env="SEARCH_SAMPLE")]
    count: Annotated[int | None, Option("A number.", unset="as many as there are", minimum=1)] = None
    folder: Annotated[Path, Option("A folder.", convert=Path)] = Path("here")
    wait_s: Annotated[float, Option("Seconds.", flag="--wait")] = 1.5
    loud: Annotated[bool, Option("Off by default.")] = False
    warm: Annotated[bool, Option("On by default.")] = True
    tags: Annotated[tuple[str, ...], Option("Repeatable.", flag="--tag", env="SEARCH_TAGS", convert=tuple)] = ()
    url: Annotated[str, Option("May hold a password.", secret=True)] = "here"


def parsed(*arguments: str, env: dict[str, str] | None = None) -> Sample:
    """What a program of `Sample` gets for a command line."""
    got: list[Sample] = []

    def program(options: Sample) -> None:
        """Take a sample."""
        got.append(options)

    result = CliRunner().invoke(new_program(program, Sample, [("a sample", "--name a")]), arguments, env=env)
    assert result.exit_code == 0, result.output
    [options] = got
    return options


def test_defaults() -> None:
    assert parsed("--name", "a") == Sample(name="a")


def test_every_kind_of_option() -> None:
    given = Sample(name="b", count=2, folder=Path("x y"), wait_s=0.0, loud=True, warm=False, tags=("1", "2"))
    arguments = given.as_arguments()
    assert arguments == ["--name", "b", "--count", "2", "--folder", "x y", "--wait", "0.0", "--loud", "--no-warm",
                         "--tag", "1", "--tag", "2"]  # fmt: skip
    assert parsed(*arguments) == given


def test_a_flag_has_precedence_over_the_environment() -> None:
    variables = {"SEARCH_SAMPLE": "variable", "SEARCH_TAGS": "1 2"}
    assert parsed(env=variables) == Sample(name="variable", tags=("1", "2"))
    assert parsed("--name", "flag", "--tag", "3", env=variables) == Sample(name="flag", tags=("3",))


def test_an_empty_variable_is_not_set() -> None:
    assert parsed("--name", "a", env={"SEARCH_TAGS": ""}) == Sample(name="a")


def test_a_default_is_passed_on_where_a_variable_says_something_else(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SEARCH_FUSE", "4")
    assert WorkerOptions(study="a").as_arguments() == ["--study", "a", "--fuse", "auto"]
    monkeypatch.delenv("SEARCH_FUSE")
    assert WorkerOptions(study="a").as_arguments() == ["--study", "a"]


def test_a_password_is_in_no_command_line_and_no_repr() -> None:
    options = WorkerOptions(study="a", storage="postgresql://me:hush@host/db")
    assert "hush" not in " ".join(options.as_arguments())
    assert "hush" not in repr(options)


@pytest.mark.parametrize(
    "options",
    [
        WorkerOptions(study="a", storage="sqlite:///b.db"),
        WorkerOptions(
            study="-a", storage="sqlite:///b.db", corpus=Path("c d"), out=Path("--out"), baselines=False, profile=True,
            storage_wait_s=1.5, device="cuda:0", owner="x", parent=7, fuse="8", artifacts="s3://b/c", modules=Path("m"),
        ),
        RunOptions(study="a", storage="sqlite:///b.db", settings=("x=1", "y=2"), seeds="3", confirm=2),
    ],
    ids=lambda options: f"{type(options).__name__} {options.study}",
)  # fmt: skip
def test_what_a_run_writes_is_read_without_typer(options: Options, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SEARCH_STORAGE", "sqlite:///b.db")
    monkeypatch.setenv("SEARCH_FUSE", "off")  # a default is written then
    assert type(options).from_arguments(options.as_arguments()) == options


@pytest.mark.parametrize(
    "arguments", [["--help"], ["a"], ["--study"], ["--parent", "x"], ["--study", "a", "--storage-wait", "-1"], []]
)
def test_any_other_command_line_is_left_to_typer(arguments: list[str]) -> None:
    assert WorkerOptions.from_arguments(arguments) is None


def test_help_shows_defaults_variables_and_examples() -> None:
    app = new_program(lambda options: None, Sample, [("a sample", "--name a --tag b")])
    text = " ".join(CliRunner().invoke(app, ["--help"]).output.split())
    assert "[default: as many as there are]" in text
    assert "env var: SEARCH_SAMPLE" in text
    assert "--warm / --no-warm" in text
    assert "--no-loud" not in text
    assert "# a sample" in text
    assert " --name a --tag b" in text


@pytest.mark.parametrize("options", CLASSES, ids=lambda options: options.__name__)
def test_every_class_makes_a_program(options: type[Options]) -> None:
    command = typer.main.get_command(new_program(lambda options: None, options, []))
    assert [each.name for each in command.params] == [each.name for each in option_fields(options)]


def test_an_option_is_declared_in_one_class() -> None:
    declared: dict[str, set[type]] = {}
    for options in CLASSES:
        for each in option_fields(options):
            owners = [base for base in options.__mro__ if each.name in inspect.get_annotations(base)]
            declared.setdefault(each.name, set()).update(owners)
    # The defaults differ: a worker runs on the CPU, a replay on the device of its trial. A report takes two studies.
    assert {name for name, owners in declared.items() if len(owners) > 1} == {"device", "study"}


class TestRunStudy:
    """The Python side of the options."""

    def test_signature_and_docstring(self) -> None:
        parameters = inspect.signature(run_study).parameters
        names = [each.name for each in option_fields(RunStudyOptions)]
        assert list(parameters) == names
        assert parameters["study"].default == "bigram"
        assert {each.kind for name, each in parameters.items() if name != "study"} == {inspect.Parameter.KEYWORD_ONLY}
        text = inspect.getdoc(run_study) or ""
        assert "{" not in text.replace('{"n_embd": [64, 128], "max_iters": 200}', "")
        for name in names:
            assert re.search(rf"^ +{name}: ", text, re.MULTILINE), name
        assert max(map(len, text.splitlines())) <= 120

    def test_unknown_argument(self, work_folder: Path) -> None:
        with pytest.raises(UsageError, match=r"^unknown option 'seed' \(did you mean 'seeds'\?\); choices: study, .*"):
            run_study("bigram", seed=3)
        with pytest.raises(UsageError, match=r"^unknown option 'json'; choices: "):
            run_study(json=True)
        assert list(work_folder.iterdir()) == []

    def test_values_are_converted(self) -> None:
        options = RunStudyOptions.from_keywords(
            {"study": "a", "workers": 2, "corpus": "text.txt", "out": "o", "settings": {"x": [1, 2], "y": "b"}}
        )
        assert (options.workers, options.corpus, options.out) == ("2", Path("text.txt"), Path("o"))
        assert options.settings == (("x", [1, 2]), ("y", "b"))
        for settings in ("x=1", ["x=1"]):
            assert RunStudyOptions.from_keywords({"study": "a", "settings": settings}).settings == ("x=1",)


def test_what_run_shares_with_its_workers() -> None:
    settings: dict[str, Any] = {"fuse": "4", "profile": True, "storage": "sqlite:///x.db", "baselines": False}
    run = RunOptions(study="a.toml", name="b", seeds="3", workers="2", **settings)
    worker = run.shared_with(WorkerOptions, study="b", name=None)
    assert worker == WorkerOptions(study="b", **settings)
    assert worker.as_arguments() == ["--study", "b", "--no-baselines", "--fuse", "4", "--profile"]


def test_planning_takes_what_training_and_definitions_have() -> None:
    names: Any = [{each.name for each in option_fields(options)} for options in (TrainingOptions, DefinitionOptions)]
    assert {each.name for each in option_fields(PlanningOptions)} == names[0] | names[1] | {
        "enqueue",
        "warm_start",
        "target",
        "budget",
    }
