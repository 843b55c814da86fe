"""The log of a program: its last lines, and a shorter form to keep."""

from __future__ import annotations

import gzip
import re
from collections.abc import Mapping
from pathlib import Path

LOG = "output.log"
# The attribute of a trial that says where its log is.
LOG_ATTRIBUTE = "log"
# Begins the part of an attempt.
MARK = "--- attempt "
LAST_LINES = 20
# The log that is kept as an artifact has this much of the beginning and of the end.
HEAD_BYTES, END_BYTES = 200_000, 800_000
# A longer one is compressed.
PLAIN_BYTES = 100_000
COMPRESSED_LOG = f"{LOG}.gz"


def shown(text: str, most: int = 100) -> str:
    """A text in one line, of at most `most` characters."""
    text = "".join(each if each.isprintable() else " " for each in text).strip()
    return text if len(text) <= most else f"{text[: most - 1]}…"


def last_lines(path: Path, most: int = LAST_LINES) -> list[str]:
    """The last lines of the last attempt in a log, without empty ones."""
    try:
        with path.open("rb") as file:
            size = file.seek(0, 2)
            file.seek(max(0, size - 16_384))
            text = file.read().decode(errors="replace")
    except OSError:
        return []
    lines = [line.rstrip() for line in re.split(r"[\r\n]+", text) if line.strip()]
    starts = [at for at, line in enumerate(lines) if line.startswith(MARK)]
    return lines[starts[-1] + 1 if starts else 0 :][-most:]


def where_and_last_line(attribute: Mapping[str, str]) -> str:
    """The last line of a running program; where its log is, if that is on another machine.

    Args:
        attribute: The value of `LOG_ATTRIBUTE`.
    """
    path = Path(attribute["path"])
    if not path.exists():
        return f"log: {attribute['host']}:{path}"
    lines = last_lines(path, 1)
    return f"output: {shown(lines[0], 200)}" if lines else "no output yet"


def kept_log(path: Path) -> dict[str, bytes]:
    """The log as a file to keep: its name and content."""
    content = shortened_log(path)
    if len(content) <= PLAIN_BYTES:
        return {LOG: content}
    return {COMPRESSED_LOG: gzip.compress(content, mtime=0)}


def shortened_log(path: Path) -> bytes:
    """A log of at most 1 MB, which says what it leaves out."""
    try:
        with path.open("rb") as file:
            size = file.seek(0, 2)
            file.seek(0)
            if size <= HEAD_BYTES + END_BYTES:
                return file.read()
            head = file.read(HEAD_BYTES)
            file.seek(size - END_BYTES)
            left_out = f"\n… {size - HEAD_BYTES - END_BYTES} bytes are left out here; all of it is in {path}\n…"
            return head + left_out.encode() + file.read()
    except OSError as error:
        return f"cannot read {path}: {error.strerror}\n".encode()
