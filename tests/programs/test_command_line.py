"""`lm-search` and its subcommands: help, examples, version, completion; and docs/cli.md, which lists every option."""

from __future__ import annotations

import importlib
import re
import shlex
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import typer.main
from study_files import program
from typer.testing import CliRunner

from search import __main__ as top_level
from search.__main__ import PROGRAMS
from search.option_fields import option_fields

ROOT = Path(__file__).parents[2]
CLI_PAGE = (ROOT / "docs" / "cli.md").read_text(encoding="utf-8")
FLAG = re.compile(r"(?<![\w-])--[a-z][a-z-]*")
TOP_LEVEL_FLAGS = {"--version", "--install-completion", "--show-completion", "--help"}


def lm_search(*arguments: str, env: dict[str, str] | None = None) -> Any:
    """`lm-search` inside this process."""
    return CliRunner().invoke(top_level.app, arguments, env=env, prog_name="lm-search")


def command(name: str) -> Any:
    """The command of a program."""
    return typer.main.get_command(importlib.import_module(f"search.{name}").app)


def flags(name: str) -> set[str]:
    """The options of a program that its help shows."""
    shown = [each for each in command(name).params if not each.hidden]
    return {flag for each in shown for flag in [*each.opts, *each.secondary_opts] if flag[0] == "-"} - {"--help"}


@pytest.mark.parametrize("arguments", [["search"], *([f"search.{name}"] for name in PROGRAMS), ["search", "run"]])
def test_help_imports_neither_torch_nor_optuna(arguments: list[str]) -> None:
    module, *rest = arguments
    code = (
        "import sys, runpy\n"
        f"sys.argv = ['{module}', *{rest}, '--help']\n"
        "try:\n"
        f"    runpy.run_module('{module}', run_name='__main__')\n"
        "except SystemExit as end:\n"
        "    assert not end.code, end.code\n"
        "heavy = {'torch', 'optuna', 'sqlalchemy', 'pandas', 'scipy', 'numpy'} & set(sys.modules)\n"
        "assert not heavy, heavy\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=ROOT)
    assert done.returncode == 0, done.stderr
    assert "Examples:" in done.stdout


def test_importing_a_module_never_exits() -> None:
    code = (
        "import pkgutil, importlib, search\n"
        "names = [each.name for each in pkgutil.walk_packages(search.__path__, 'search.')]\n"
        "assert 'search.__main__' in names and 'search.workers.setup' in names\n"
        "for name in names:\n"
        # A migration is run by alembic, which sets up what it imports.
        "    if '.versions' not in name and not name.endswith('.env'):\n"
        "        importlib.import_module(name)\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=ROOT)
    assert (done.returncode, done.stdout) == (0, ""), done.stderr


@pytest.mark.parametrize("name", PROGRAMS)
def test_examples_parse_in_both_forms(name: str) -> None:
    examples = command(name).examples
    assert len(examples) == 2
    for _, arguments in examples:
        command(name).make_context(name, shlex.split(arguments))  # raises for a wrong option
    as_module = program(name, "--help", cwd=ROOT).stdout
    as_subcommand = lm_search(name, "--help").stdout
    for what, arguments in examples:
        assert f"  # {what}\n  python -m search.{name} {arguments}\n" in as_module
        assert f"  # {what}\n  lm-search {name} {arguments}\n" in as_subcommand


def test_examples_of_the_whole_program_parse() -> None:
    assert len(top_level.EXAMPLES) == 2
    for _, arguments in top_level.EXAMPLES:
        name, *rest = shlex.split(arguments)
        command(name).make_context(name, rest)


def test_help_lists_the_programs() -> None:
    for arguments in ([], ["--help"]):
        result = lm_search(*arguments)
        assert result.exit_code == (0 if arguments else 2)
        assert re.findall(r"^  (\w+)  +[A-Z].*$", result.output, re.MULTILINE) == list(PROGRAMS)
        assert "..." not in result.output.split("Commands:")[1]


def test_version() -> None:
    result = lm_search("--version")
    assert (result.exit_code, result.stderr) == (0, "")
    assert re.fullmatch(r"lm-search (\d+\.\d+\.\d+\S*|\(not installed\))\n", result.stdout)
    done = subprocess.run([sys.executable, "-m", "search", "--version"], capture_output=True, text=True, cwd=ROOT)
    assert done.stdout == result.stdout


def test_no_such_program() -> None:
    result = lm_search("rnu")
    assert (result.exit_code, result.stdout) == (2, "")
    assert "No such command 'rnu'. Did you mean 'run'?" in result.stderr


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_completion_script(shell: str) -> None:
    # What --show-completion prints, whichever shell the tests run in.
    result = lm_search(env={"_LM_SEARCH_COMPLETE": f"source_{shell}"})
    assert result.exit_code == 0, result.output
    assert "_LM_SEARCH_COMPLETE" in result.stdout


def test_only_the_whole_program_installs_completion() -> None:
    assert {"--install-completion", "--show-completion"} <= set(FLAG.findall(lm_search("--help").stdout))
    for name in PROGRAMS:
        assert not any(flag.endswith("-completion") for flag in flags(name))


@pytest.mark.parametrize(("typed", "offered"), [("re", ["report", "replay"]), ("status --ret", ["--retry-failed"])])
def test_completion(typed: str, offered: list[str]) -> None:
    words = f"lm-search {typed}"
    variables = {"_LM_SEARCH_COMPLETE": "complete_bash", "COMP_WORDS": words, "COMP_CWORD": str(len(words.split()) - 1)}
    result = lm_search(env=variables)
    assert result.stdout.split() == offered


def test_without_a_subcommand_it_runs(study_file: str, corpus_file: str, work_folder: Path) -> None:
    result = lm_search("--study", study_file, "--corpus", corpus_file, "--plan-only", "--json")
    assert result.exit_code == 0, result.output
    assert '"waiting": 9' in result.stdout
    again = lm_search("status", "--study", "small")
    assert "small: 8 trials; 8 waiting" in again.stdout
    wrong = lm_search("--stduy=x")
    assert (wrong.exit_code, wrong.stdout) == (2, "")
    assert re.match(r"error: No such option:? '?--stduy'?.*--study.*; see: lm-search run --help$", wrong.stderr)
    assert wrong.stderr.count("\n") == 1
    unknown = lm_search("reprot", "--study", "small")
    assert (unknown.exit_code, unknown.stdout, unknown.stderr.count("\n")) == (2, "", 1)
    assert re.match(
        r"error: No such command 'reprot'.*; choices: run, .*, database; see: lm-search --help$", unknown.stderr
    )


class TestPage:
    """docs/cli.md."""

    rows = re.findall(r"^\| (`--.+?) \| ([a-z ]+) \|\s*(.*?)\s*\| .+ \|$", CLI_PAGE, re.MULTILINE)

    def test_every_option_has_one_line(self) -> None:
        listed = {}
        for first, programs, _ in self.rows:
            for flag in FLAG.findall(first):
                assert flag not in listed, f"{flag} has two lines"
                listed[flag] = set(programs.split())
        there: dict[str, set[str]] = {}
        for name in PROGRAMS:
            for flag in flags(name):
                there.setdefault(flag, set()).add(name)
        assert listed == there

    def test_variables(self) -> None:
        shown = {flag: re.findall(r"SEARCH_\w+", cell) for first, _, cell in self.rows for flag in FLAG.findall(first)}
        there: dict[str, list[str]] = {}
        for name in PROGRAMS:
            for each in command(name).params:
                if not each.hidden:
                    variables = [each.envvar] if each.envvar else []
                    for flag in {flag for flag in [*each.opts, *each.secondary_opts] if flag[0] == "-"} - {"--help"}:
                        there[flag] = sorted({*there.get(flag, []), *variables})
        assert shown == there

    def test_it_names_no_option_that_does_not_exist(self) -> None:
        there = set().union(*(flags(name) for name in PROGRAMS)) | TOP_LEVEL_FLAGS
        assert set(FLAG.findall(CLI_PAGE)) - there == set()

    def test_names_in_python(self) -> None:
        table = CLI_PAGE.split("## From Python")[1]
        shown = dict(re.findall(r"^\| `(--[a-z-]+) [^|]*` \| `(\w+)=.*` \|$", table, re.MULTILINE))
        options = importlib.import_module("search.options").RunStudyOptions
        differing = {
            each.flag: each.name for each in option_fields(options) if each.flag[2:].replace("-", "_") != each.name
        }
        assert shown == differing
