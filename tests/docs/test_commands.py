"""Every command line of README and docs parses, every link leads somewhere, every example of a study file loads."""

from __future__ import annotations

import importlib
import importlib.util
import json
import re
import shlex
import subprocess
import tomllib
from functools import cache
from pathlib import Path
from typing import Any

import pytest
import typer
import typer.main

from search.objectives.language_model.settings import LanguageModelSettings
from search.study.definition import load_definition

ROOT = Path(__file__).parents[2]
PROGRAM = re.compile(r"\bpython3? -m (?P<module>(?:search|benchmarks)(?:\.\w+)+)|\blm-search (?P<subcommand>[a-z]+)\b")
FENCE = re.compile(r"^( *)(```+)(\w*)\n(.*?)^\1\2$", re.MULTILINE | re.DOTALL)
# What follows the command in a line.
AFTER_COMMAND = re.compile(r"\s(?:#|>|>>|\||&&?|;)(?:\s|$).*")
LINK = re.compile(r"\[(?:[^\[\]`]|`[^`]*`)*\]\(([^()\s]+)\)")


def pages() -> list[Path]:
    listed = ["git", "ls-files", "--cached", "--others", "--exclude-standard", "*.md"]
    names = subprocess.run(listed, capture_output=True, text=True, cwd=ROOT, check=True).stdout.splitlines()
    return [ROOT / name for name in sorted(set(names)) if (ROOT / name).exists()]


PAGES = pages()
NAMES = [str(page.relative_to(ROOT)) for page in PAGES]


def code_blocks(text: str) -> list[str]:
    return [found[4] for found in FENCE.finditer(text) if found[3] in ("bash", "console", "sh")]


def inline_code(text: str) -> list[str]:
    return re.findall(r"`([^`]+)`", FENCE.sub("", text))


def commands(block: str) -> list[tuple[str, list[str]]]:
    """Program and arguments of every command of ours in a text, comments and pipes left out."""
    found = []
    for line in block.replace("\\\n", " ").splitlines():
        match = PROGRAM.search(line)
        if match:
            arguments = shlex.split(AFTER_COMMAND.sub("", line[match.end() :]))
            found.append((match["module"] or f"search.{match['subcommand']}", arguments))
    return found


@cache
def parser(module: str) -> Any:
    """The command of one of our programs."""
    app = importlib.import_module(module).app
    assert isinstance(app, typer.Typer)
    return typer.main.get_command(app)


def unknown_options(module: str, arguments: list[str]) -> list[str]:
    """The options in an incomplete command line that its program does not have."""
    given = [word.split("=")[0] for word in arguments if word.startswith("--")]
    if module.startswith("benchmarks."):
        # They parse in their own ways; the option's name stands in the source, or is that of a parameter.
        file = ROOT / module.replace(".", "/")
        source = (file / "__main__.py" if file.is_dir() else file.with_suffix(".py")).read_text(encoding="utf-8")
        return [
            option
            for option in given
            if f'"{option}' not in source and not re.search(rf"^    {option[2:].replace('-', '_')}: ", source, re.M)
        ]
    known = {name for option in parser(module).params for name in [*option.opts, *option.secondary_opts]}
    return [option for option in given if option not in known | {"--help", "--version"}]


@pytest.mark.parametrize("page", PAGES, ids=NAMES)
def test_commands_parse(page: Path) -> None:
    text = page.read_text(encoding="utf-8")
    for module, arguments in [each for block in code_blocks(text) for each in commands(block)]:
        assert importlib.util.find_spec(module), module
        assert unknown_options(module, arguments) == [], f"{module} {arguments}"
        if module.startswith("search.") and "--help" not in arguments:
            # A shell variable stands for some value.
            given = [re.sub(r"\$\{?\w+\}?", "1", word) for word in arguments]
            parser(module).make_context(module, given)  # raises for a missing option or a wrong value


@pytest.mark.parametrize("page", PAGES, ids=NAMES)
def test_commands_in_sentences_have_known_options(page: Path) -> None:
    for code in inline_code(page.read_text(encoding="utf-8")):
        for module, arguments in commands(" ".join(code.split())):
            assert importlib.util.find_spec(module), code
            assert unknown_options(module, arguments) == [], code


def test_a_wrong_command_is_noticed() -> None:
    [(module, arguments)] = commands("$ python -m search.run --study bigram --sedes 3 > table.md  # three")
    assert (module, arguments) == ("search.run", ["--study", "bigram", "--sedes", "3"])
    assert unknown_options(module, arguments) == ["--sedes"]
    assert commands("x && lm-search report --study a \\\n  --top 3") == [
        ("search.report", ["--study", "a", "--top", "3"])
    ]
    assert unknown_options("benchmarks.pruning", ["--draws", "5", "--check", "a", "--chekc"]) == ["--chekc"]


def slug(heading: str) -> str:
    """A heading's anchor, as the site and most viewers make it."""
    return re.sub(r"[^\w\- ]", "", heading.strip().lower()).replace(" ", "-")


@pytest.mark.parametrize("page", PAGES, ids=NAMES)
def test_links_lead_somewhere(page: Path) -> None:
    text = re.sub(r"`[^`\n]+`", "", FENCE.sub("", page.read_text(encoding="utf-8")))
    for target in LINK.findall(text):
        if re.match(r"https?:", target):
            continue
        path, _, anchor = target.partition("#")
        file = (page.parent / path).resolve() if path else page
        assert file.exists(), target
        assert file.is_relative_to(ROOT), target
        if anchor:
            headings = re.findall(r"^#+ (.+)$", FENCE.sub("", file.read_text(encoding="utf-8")), re.MULTILINE)
            assert anchor in map(slug, headings), target


def test_readme_is_short() -> None:
    assert len((ROOT / "README.md").read_text(encoding="utf-8").splitlines()) <= 150


def test_study_files_page_shows_valid_files(tmp_path: Path) -> None:
    page = (ROOT / "docs" / "study-files.md").read_text(encoding="utf-8")
    examples = [found[4] for found in FENCE.finditer(page) if found[3] == "toml"]
    assert len(examples) >= 3
    for index, example in enumerate(examples):
        file = tmp_path / f"example-{index}.toml"
        is_part = not {"grid", "axes"} & tomllib.loads(example).keys()
        file.write_text(example + ("\n[grid]\nx = [1, 2]\n" if is_part else ""), encoding="utf-8")
        study = load_definition(str(file))
        after = page.split(example)[1].split("```")[1]
        if said := re.match(r"\s*This grid has (\d+) cells", after):
            assert len(study.cells) == int(said[1]), example


def test_study_files_page_has_every_training_setting() -> None:
    page = (ROOT / "docs" / "study-files.md").read_text(encoding="utf-8")
    table = page.split("## Training settings")[1].split("## ")[0]
    shown = dict(re.findall(r"^\| `(\w+)` \| `?([^`|]+?)`? \|", table, re.MULTILINE))
    assert shown == {
        name: "all" if value is None else f"{value:g}" if isinstance(value, float) else json.dumps(value)
        for name, value in LanguageModelSettings().model_dump().items()
    }
