"""Escapes for markdown and CSV: a study's own text is shown, and never read as markup or as a formula.

The page's template escapes for HTML, and `search.reporting.latex` for LaTeX.
"""

from __future__ import annotations

import re
from typing import Any

from search.storage.texts import printable, storable_text

# A description or the sentence of a claim.
MAX_SENTENCE = 4_000

_MARKDOWN = re.compile(r"[\\`|<>\[\]*]|(?<!\w)_|_(?!\w)|&(?=[\w#]+;)")
_NAMED = {"<": "&lt;", ">": "&gt;", "&": "&amp;"}
# A spreadsheet reads a cell that begins with one of these as a formula (OWASP, "CSV injection").
_FORMULA = ("=", "+", "-", "@", "\t", "\r")


def markdown_text(text: object) -> str:
    """Text that markdown shows as it is, in a cell of a table too."""
    return _MARKDOWN.sub(lambda found: _NAMED.get(found[0], f"\\{found[0]}"), printable(text, MAX_SENTENCE))


def csv_value(value: Any) -> Any:
    """A value of a CSV file: a text that a spreadsheet would run begins with an apostrophe; numbers stay."""
    if not isinstance(value, str):
        return value
    value = storable_text(value, None)
    return f"'{value}" if value.lstrip(" ").startswith(_FORMULA) else value
