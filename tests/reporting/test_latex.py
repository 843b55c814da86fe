"""The LaTeX table: every brace closed, every row as wide as its head, every special character escaped."""

from __future__ import annotations

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from search.reporting.latex import as_latex, escaped
from search.statistics.ranking import Row

# What stands alone in LaTeX's text mode; a backslash before a letter begins a command.
_COMMANDS = re.compile(
    r"\\(textbackslash|textasciicircum|textasciitilde|textless|textgreater)\{\}|\\[{}$&#%_]|\$\\pm\$"
)
HOSTILE = r"50% of $x_1 & #2 {a} ~ ^ \input{/etc/passwd} <b>"


def row(name: str, rank: int | None = 1) -> Row:
    cell, seeds = {"model": name, "n_embd": 64}, {1: 2.1, 2: 2.3}
    return Row(rank, cell, "complete", (2, 2), 2.1, 2.2, 40, 7, 1.5, 2.0, 640, 0.01, 0.02, seeds)


def parsed(text: str) -> list[list[str]]:
    """The cells of the rows between \\toprule and \\bottomrule."""
    body = text.split("\\toprule")[1].split("\\bottomrule")[0].replace("\\midrule", "")
    return [re.split(r"(?<!\\)&", line) for line in body.split("\\\\") if line.strip()]


def balanced(text: str) -> bool:
    depth = 0
    for brace in re.findall(r"(?<!\\)[{}]", text):
        depth += 1 if brace == "{" else -1
        if depth < 0:
            return False
    return depth == 0


def test_table_has_as_many_columns_as_it_says() -> None:
    text = as_latex("my_study", "nats per character", [row("bigram_v2"), row(HOSTILE, 2)], ["3 more cells."])
    [spec] = re.findall(r"\\begin\{tabular\}\{([lr]+)\}", text)
    assert {len(line) for line in parsed(text)} == {len(spec)}
    assert len(parsed(text)) == 3
    assert balanced(text)
    assert re.findall(r"\\begin\{(\w+)\}", text) == ["table", "tabular"]
    assert re.findall(r"\\end\{(\w+)\}", text) == ["tabular", "table"]
    assert r"my\_study" in text
    assert r"\input" not in text
    assert [rule for rule in ("toprule", "midrule", "bottomrule") if f"\\{rule}" in text]


def test_no_rows() -> None:
    assert balanced(as_latex("empty", "units of the objective", []))
    assert len(parsed(as_latex("empty", "units of the objective", []))) == 1


@pytest.mark.parametrize(
    ("text", "wanted"), [("a_b", r"a\_b"), ("5 %", r"5 \%"), ("\\", r"\textbackslash{}"), ("a\nb", "a b")]
)
def test_escaped(text: str, wanted: str) -> None:
    assert escaped(text) == wanted


@given(st.text(alphabet="ab {}$&#%_^~\\<>±\n", max_size=30))
def test_nothing_special_is_left(text: str) -> None:
    rest = _COMMANDS.sub("", escaped(text))
    assert not set(rest) & set("{}$&#%_^~\\<>±\n")
