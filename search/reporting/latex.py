"""The ranked table for a paper: LaTeX with the package booktabs."""

from __future__ import annotations

from collections.abc import Sequence

from search.reporting.columns import Column, columns
from search.statistics.ranking import Row

_ESCAPES = {
    "\\": r"\textbackslash{}",
    "{": r"\{",
    "}": r"\}",
    "$": r"\$",
    "&": r"\&",
    "#": r"\#",
    "%": r"\%",
    "_": r"\_",
    "^": r"\textasciicircum{}",
    "~": r"\textasciitilde{}",
    "<": r"\textless{}",
    ">": r"\textgreater{}",
    "±": r"$\pm$",
    "\n": " ",
    "\r": " ",
}


def escaped(text: str) -> str:
    """Text escaped so that LaTeX prints it unchanged."""
    return "".join(_ESCAPES.get(letter, letter) for letter in text)


def as_latex(
    name: str, values: str, rows: Sequence[Row], remarks: Sequence[str] = (), cols: Sequence[Column] | None = None
) -> str:
    """A table environment; it needs \\usepackage{booktabs}, and UTF-8 if the study's names contain such characters.

    Args:
        values: What the values are, such as "validation losses in nats per character".
        remarks: Sentences for the caption.
        cols: Its columns; None for those with something to say.
    """
    cols = columns(rows) if cols is None else cols
    caption = " ".join([f"Study {name}: {values}, means over the seeds of a cell.", *remarks])
    lines = [
        "% needs \\usepackage{booktabs}",
        r"\begin{table}",
        r"  \centering",
        rf"  \caption{{{escaped(caption)}}}",
        rf"  \begin{{tabular}}{{{''.join('r' if col.is_number else 'l' for col in cols)}}}",
        r"    \toprule",
        f"    {' & '.join(escaped(col.title) for col in cols)} \\\\",
        r"    \midrule",
        *(f"    {' & '.join(escaped(col.text(row)) for col in cols)} \\\\" for row in rows),
        r"    \bottomrule",
        r"  \end{tabular}",
        r"\end{table}",
    ]
    return "\n".join(lines)
