"""What a terminal shows after it received some bytes: the few control sequences that our display uses."""

from __future__ import annotations

import fcntl
import os
import pty
import re
import struct
import subprocess
import termios
import time
from collections.abc import Sequence
from pathlib import Path

_SEQUENCE = re.compile(r"\x1b\[([?\d;]*)([A-Za-z])|\r|\n|[^\x1b\r\n]+|\x1b.?")


class Screen:
    """A terminal; its lines scroll away upwards and stay readable."""

    def __init__(self, columns: int = 80) -> None:
        self.columns = columns
        self._lines: list[str] = [""]
        self._row = self._column = 0

    @property
    def lines(self) -> list[str]:
        """All lines, without spaces at their ends."""
        return [line.rstrip() for line in self._lines]

    def feed(self, text: str) -> None:
        """Show what a program has written."""
        for found in _SEQUENCE.finditer(text):
            if found[0] == "\r":
                self._column = 0
            elif found[0] == "\n":
                self._down()
            elif found[2]:
                self._control(found[1], found[2])
            else:
                for character in found[0]:
                    self._put(character)

    def _control(self, number: str, letter: str) -> None:
        count = int(number) if number.isdecimal() else 1
        if letter == "A":
            self._row = max(0, self._row - count)
        elif letter == "K":
            self._lines[self._row] = "" if number == "2" else self._lines[self._row][: self._column]
        else:
            assert letter in "mhl", f"unknown sequence {number}{letter}"

    def _put(self, character: str) -> None:
        if self._column == self.columns:
            self._column = 0
            self._down()
        line = self._lines[self._row].ljust(self._column)
        self._lines[self._row] = line[: self._column] + character + line[self._column + 1 :]
        self._column += 1

    def _down(self) -> None:
        self._row += 1
        if self._row == len(self._lines):
            self._lines.append("")


def run_on_terminal(
    command: Sequence[str], cwd: Path, columns: int = 80, rows: int = 24, timeout_s: float = 100
) -> tuple[int, str]:
    """Run a program on a real pseudo-terminal; return its exit code and all that it wrote."""
    master, slave = pty.openpty()
    fcntl.ioctl(slave, termios.TIOCSWINSZ, struct.pack("HHHH", rows, columns, 0, 0))
    environment = {name: value for name, value in os.environ.items() if name not in ("COLUMNS", "LINES", "NO_COLOR")}
    environment["TERM"] = "xterm-256color"
    process = subprocess.Popen(
        command, cwd=cwd, env=environment, stdin=slave, stdout=slave, stderr=slave, start_new_session=True
    )
    os.close(slave)
    written, deadline = b"", time.monotonic() + timeout_s
    while time.monotonic() < deadline:
        try:
            part = os.read(master, 65536)
        except OSError:  # the program has ended
            break
        written += part
        if not part:
            break
    os.close(master)
    return process.wait(10), written.decode().replace("\r\n", "\n\r")
