"""Metrics in the lines of a file that a program writes."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

# The metrics of a line by name, its step among them.
Row = dict[str, float]
Parse = Callable[[str], Row]

# What programs call their step, in small or large letters; the first that a line has counts.
COMMON_NAMES = ("step", "global_step", "iteration", "iter", "epoch")
MOST = 10**308
CHUNK = 1 << 20
MAX_LINE = 1 << 20
MAX_EARLIER = 1 << 26
# As many bytes before the place of reading show whether the file is still the same.
TAIL = 256

# With commas between thousands, as Python's format "," writes them.
_WITH_COMMAS = r"\d{1,3}(?:,\d{3})+(?:\.\d*)?"
_NUMBER = rf"[-+]?(?:(?:{_WITH_COMMAS}|\d+\.?\d*|\.\d+)(?:[eE][-+]?\d+)?|nan|inf(?:inity)?)"
_PAIR = re.compile(rf"(?<![\w./-])([A-Za-z_][\w./-]*)[ \t]*[=:][ \t]*({_NUMBER})(?![\w.:]|,\d)(%?)", re.IGNORECASE)
_THOUSANDS = re.compile(rf"[-+]?{_WITH_COMMAS}")


def json_row(line: str) -> Row:
    """The numbers of a line that is a JSON object; empty for any other line."""
    if not line.lstrip().startswith("{"):
        return {}
    try:
        found = json.loads(line)
    except (ValueError, RecursionError):
        return {}
    if not isinstance(found, Mapping):
        return {}
    return {
        str(name): float(value)
        for name, value in found.items()
        if isinstance(value, float) or (type(value) is int and abs(value) < MOST)  # a larger one is no float
    }


def plain_row(line: str) -> Row:
    """The numbers of a JSON object, or of `name=value` and `name: value`."""
    return json_row(line) or {
        name: float(value.replace(",", ""))
        for name, value, percent in _PAIR.findall(line)
        if not (percent and name.lower() in COMMON_NAMES)  # a progress bar
    }


def pattern_row(patterns: Sequence[re.Pattern[str]]) -> Parse:
    """What reads the named groups of regular expressions; a group that is no number is left out."""

    def parse(line: str) -> Row:
        found: Row = {}
        for pattern in patterns:
            if (match := pattern.search(line)) is not None:
                for name, text in match.groupdict().items():
                    if text is not None and (number := _number(text)) is not None:
                        found[name] = number
        return found

    return parse


def _number(text: str) -> float | None:
    text = text.strip().rstrip(",;")
    try:
        return float(text.replace(",", "") if _THOUSANDS.fullmatch(text) else text)
    except ValueError:
        return None


def _split(text: bytes) -> list[str]:
    """The lines of a text; a progress bar ends them with a carriage return."""
    return [line.decode(errors="replace") for line in re.split(rb"[\r\n]+", text) if line]


class GrowingFile:
    """Reads the lines that a program adds to a file.

    What is in the file already is skipped; if the program writes the file anew, all of it is read.

    Args:
        path: The file, which need not exist yet.

    Attributes:
        has_grown: Whether the last call of `lines` found anything.
        earlier: The lines that were in the file; none if it is very long.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._at, self._tail, self._rest = 0, b"", b""
        self.has_grown = False
        self.earlier: list[str] = []
        try:
            with path.open("rb") as file:
                if path.stat().st_size <= MAX_EARLIER:
                    self.earlier = _split(file.read())
                self._at = file.seek(0, 2)
                file.seek(max(0, self._at - TAIL))
                self._tail = file.read(TAIL)
        except OSError:
            pass

    def lines(self, *, to_the_end: bool) -> list[str]:
        """The next lines, of at most `CHUNK` bytes.

        Args:
            to_the_end: Whether the program has ended: everything is read, and a line without an end is one too.
        """
        self.has_grown = False
        read = self._read(None if to_the_end else CHUNK)
        text, self._rest = self._rest + read, b""
        if not to_the_end:
            end = max(text.rfind(b"\n"), text.rfind(b"\r")) + 1
            if len(text) - end <= MAX_LINE:
                text, self._rest = text[:end], text[end:]
        return _split(text)

    def _read(self, most: int | None) -> bytes:
        try:
            with self.path.open("rb") as file:
                start = self._at - len(self._tail)
                file.seek(start)
                if file.read(len(self._tail)) != self._tail:
                    self._at, self._tail, self._rest = 0, b"", b""
                    file.seek(0)
                found = file.read() if most is None else file.read(most)
        except OSError:
            return b""
        self._at += len(found)
        self._tail = (self._tail + found)[-TAIL:]
        self.has_grown = bool(found)
        return found
