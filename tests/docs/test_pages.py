"""Pages of docs and README's own study: their files written, their commands run, the output compared."""

from __future__ import annotations

import re
import shlex
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import pytest
from fork_server import run_forked

ROOT = Path(__file__).parents[2]
PAGES = ("objectives", "language-models")
README = ROOT / "README.md"
# CPUs round differently, and training amplifies it; the cells of the page lie further apart.
LOSS_TOLERANCE = 0.02


@dataclass(frozen=True)
class Block:
    """A code block: a file (its first line names it), commands, what they print, or the installation."""

    kind: str
    text: str


def blocks(page: str) -> list[Block]:
    return [Block(*found) for found in re.findall(r"^```(\w+)\n(.*?)^```$", page, re.MULTILINE | re.DOTALL)]


def cells(line: str) -> list[str]:
    """The columns of a table's line; any other line is one column."""
    return [cell.strip() for cell in line.strip("|").split("|")] if line.startswith("|") else [line]


def same(promised: str, printed: str) -> bool:
    """Whether two texts are equal, with a tolerance for losses."""
    number = r"-?\d+\.\d+"
    if re.sub(number, "#", promised) != re.sub(number, "#", printed):
        return False
    pairs = zip(re.findall(number, promised), re.findall(number, printed), strict=True)
    return all(abs(float(one) - float(other)) <= LOSS_TOLERANCE for one, other in pairs)


def differences(promised: str, printed: str) -> list[tuple[str, str]]:
    """The columns in which the output differs from the page; times may differ."""
    wanted, got = promised.splitlines(), printed.splitlines()
    if len(wanted) != len(got):
        return [(promised, printed)]
    found: list[tuple[str, str]] = []
    titles: Sequence[str] = ()
    for one, other in zip(map(cells, wanted), map(cells, got), strict=True):
        if len(one) != len(other):
            found.append((str(one), str(other)))
            continue
        if len(one) > 1 and not titles:
            titles = one
        for index, pair in enumerate(zip(one, other, strict=True)):
            is_time = len(one) > 1 and titles[index] == "seconds" and re.fullmatch(r"\d+\.\d", pair[1])
            is_rule = all(set(text) <= set("-:") and text for text in pair)
            if not (is_time or is_rule or same(*pair)):
                found.append(pair)
    return found


def follow(folder: Path, commands: str) -> subprocess.CompletedProcess[str]:
    """Run commands, one a line, as a reader would who has just installed lm-search, in an environment of their own."""
    tools = folder.parent / "bin"
    tools.mkdir(exist_ok=True)
    python = tools / "python"  # as `. .venv/bin/activate` puts it there
    python.write_text(f'#!/bin/sh\nexec "{sys.executable}" "$@"\n')
    python.chmod(0o755)
    environment = {"HOME": str(folder.parent), "LANG": "C.UTF-8", "PATH": f"{tools}:/usr/bin:/bin"}
    # Results do not depend on the number of workers, and importing torch once more takes longer than these trials.
    environment["SEARCH_WORKERS"] = "1"
    stdout, stderr, code = "", "", 0
    for line in commands.splitlines():
        if ours := re.fullmatch(r"python -m search\.(\w+) ([^|<>&;$]*)", line):
            done = run_forked(ours[1], shlex.split(ours[2]), folder, environment, has_torch=True)
        else:
            command = ["bash", "-eu", "-c", line]
            done = subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, timeout=200)
        stdout, stderr, code = stdout + done.stdout, stderr + done.stderr, done.returncode
        if code:
            break
    return subprocess.CompletedProcess(commands, code, stdout, stderr)


def write_file(folder: Path, block: Block) -> None:
    """Save a block under the name in its first line."""
    name = re.match(r"# (\S+)\n", block.text)
    assert name, f"a file without a name: {block.text[:80]}"
    assert not (folder / name[1]).exists()
    (folder / name[1]).write_text(block.text, encoding="utf-8")


@pytest.mark.timeout(300)
@pytest.mark.parametrize("name", PAGES)
def test_a_page_prints_what_it_shows(tmp_path: Path, name: str) -> None:
    folder = tmp_path / "reader"
    folder.mkdir()
    page = blocks((ROOT / "docs" / f"{name}.md").read_text(encoding="utf-8"))
    assert {block.kind for block in page} >= {"python", "toml", "bash", "text"}
    for block, following in zip(page, [*page[1:], Block("end", "")], strict=True):
        if block.kind in ("python", "toml"):
            write_file(folder, block)
        elif block.kind == "bash":
            assert following.kind == "text", f"the page shows no output of: {block.text}"
            done = follow(folder, block.text)
            fails = following.text.startswith("error: ")
            assert done.returncode == (2 if fails else 0), done.stderr
            assert "Traceback" not in done.stderr
            printed = done.stderr if fails else done.stdout
            assert differences(following.text, printed) == [], block.text
        else:
            assert block.kind in ("text", "console")


def test_study_in_readme_runs(tmp_path: Path) -> None:
    folder = tmp_path / "reader"
    folder.mkdir()
    files = [block for block in blocks(README.read_text(encoding="utf-8")) if block.kind in ("python", "toml")]
    for block in files:
        write_file(folder, block)
    assert sorted(path.name for path in folder.iterdir()) == ["parabola.py", "parabola.toml"]
    done = follow(folder, "python -m search.run --study parabola.toml")
    assert done.returncode == 0, done.stderr
    best = cells(done.stdout.splitlines()[2])
    assert best[0] == "1"
    assert abs(float(best[2]) - 3) < 1, "near the parabola's lowest point"
    assert len(done.stdout.splitlines()) == 2 + 40


TABLE = """\
|   # | model | val_loss | seconds |
| --: | ----- | -------: | ------: |
|   1 | mine  |  1.50000 |     0.7 |
"""


@pytest.mark.parametrize(
    ("printed", "found"),
    [
        (TABLE, []),
        (TABLE.replace("1.50000", "1.51000").replace("    0.7", "1234.7").replace(" ------:", " -------:"), []),
        (TABLE.replace("1.50000", "1.53000"), [("1.50000", "1.53000")]),
        (TABLE.replace("mine", "your"), [("mine", "your")]),
        (TABLE.replace("0.7", "   "), [("0.7", "")]),
        (TABLE.replace("   1 |", "   2 |"), [("1", "2")]),
        ("\n".join(TABLE.splitlines()[:2]), [(TABLE, "\n".join(TABLE.splitlines()[:2]))]),
    ],
)
def test_differences(printed: str, found: list[tuple[str, str]]) -> None:
    assert differences(TABLE, printed) == found
