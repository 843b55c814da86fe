"""Prints to streams that cannot show a character, or that nothing reads any more: output never ends a program."""

from __future__ import annotations

import contextlib
import io
import os
import shutil
import sys
from typing import TextIO


def make_streams_tolerant() -> None:
    """Print `?` for characters that stdout and stderr cannot encode, such as "±" in ASCII."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="replace")


def terminal_width() -> int | None:
    """The number of columns of the terminal that stdout is; None if it is none, such as a pipe."""
    if sys.stdout is None or not sys.stdout.isatty():
        return None
    return shutil.get_terminal_size().columns


def write_line(text: str, stream: TextIO | None = None) -> bool:
    """Print a line and flush it; never raises.

    Args:
        stream: sys.stdout unless given.

    Returns:
        False if the line is lost, as on a full disk; True also if nothing reads the stream any more.
    """
    stream = sys.stdout if stream is None else stream
    if stream is None:  # a process may have no stdout at all
        return True
    try:
        print(text, file=stream, flush=True)
    except UnicodeEncodeError:
        encoding = stream.encoding or "ascii"
        return write_line(text.encode(encoding, "replace").decode(encoding), stream)
    except (OSError, ValueError) as error:
        _discard_further_output(stream)
        return isinstance(error, (BrokenPipeError, ValueError))
    return True


def _discard_further_output(stream: TextIO) -> None:
    # Python flushes the stream once more at exit, and would complain there.
    with contextlib.suppress(OSError, ValueError):
        null = os.open(os.devnull, os.O_WRONLY)
        os.dup2(null, stream.fileno())
        os.close(null)
