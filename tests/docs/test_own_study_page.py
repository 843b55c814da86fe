"""docs/your-own-study.md, followed to the letter: its files written, its commands run, its promises compared."""

from __future__ import annotations

import re
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PAGE = ROOT / "docs" / "your-own-study.md"
# Processors round differently, and training carries it on; cells of the page lie further apart.
LOSS_TOLERANCE = 0.02


@dataclass(frozen=True)
class Block:
    """A code block: a file (its first line names it), commands, what they print, or the installation."""

    kind: str
    text: str


def blocks(page: str) -> list[Block]:
    return [Block(*found) for found in re.findall(r"^```(\w+)\n(.*?)^```$", page, re.MULTILINE | re.DOTALL)]


def cells(line: str) -> list[str]:
    """The columns of a table's line; any other line is one."""
    return [cell.strip() for cell in line.strip("|").split("|")] if line.startswith("|") else [line]


def same(promised: str, printed: str) -> bool:
    """Whether a text is another but for the digits of its losses."""
    number = r"-?\d+\.\d+"
    if re.sub(number, "#", promised) != re.sub(number, "#", printed):
        return False
    pairs = zip(re.findall(number, promised), re.findall(number, printed), strict=True)
    return all(abs(float(one) - float(other)) <= LOSS_TOLERANCE for one, other in pairs)


def differences(promised: str, printed: str) -> list[tuple[str, str]]:
    """The columns in which what was printed is not what was promised; times are nobody's promise."""
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
    """Run commands as a reader would who has just installed lm-search: of this process they know nothing."""
    tools = folder.parent / "bin"
    tools.mkdir(exist_ok=True)
    python = tools / "python"  # as `. .venv/bin/activate` puts it there
    python.write_text(f'#!/bin/sh\nexec "{sys.executable}" "$@"\n')
    python.chmod(0o755)
    home = {"HOME": str(folder.parent), "LANG": "C.UTF-8", "PATH": f"{tools}:/usr/bin:/bin"}
    return subprocess.run(
        ["bash", "-eu", "-c", commands], cwd=folder, env=home, capture_output=True, text=True, timeout=200
    )


@pytest.mark.timeout(300)
def test_page_does_what_it_says(tmp_path: Path) -> None:
    folder = tmp_path / "reader"
    folder.mkdir()
    page = blocks(PAGE.read_text(encoding="utf-8"))
    assert {block.kind for block in page} == {"python", "toml", "bash", "text", "console"}
    for block, following in zip(page, [*page[1:], Block("end", "")], strict=True):
        if block.kind in ("python", "toml"):
            name = re.match(r"# (\S+)\n", block.text)
            assert name, f"a file without a name: {block.text[:80]}"
            assert not (folder / name[1]).exists()
            (folder / name[1]).write_text(block.text, encoding="utf-8")
        elif block.kind == "bash":
            assert following.kind == "text", f"nobody knows what is printed: {block.text}"
            done = follow(folder, block.text)
            fails = following.text.startswith("error: ")
            assert done.returncode == (2 if fails else 0), done.stderr
            assert "Traceback" not in done.stderr
            printed = done.stderr if fails else done.stdout
            assert differences(following.text, printed) == [], block.text
        else:
            assert block.kind in ("text", "console")


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
def test_comparison_with_what_was_promised(printed: str, found: list[tuple[str, str]]) -> None:
    assert differences(TABLE, printed) == found
