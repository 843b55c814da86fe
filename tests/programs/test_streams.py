"""Output never ends a program: stdout in ASCII, a pipe that nothing reads, a full disk."""

from __future__ import annotations

import io
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from search.streams import make_streams_tolerant, write_line


def test_ascii_stdout(monkeypatch: pytest.MonkeyPatch) -> None:
    for errors in ("strict", "replace"):
        raw = io.BytesIO()
        monkeypatch.setattr("sys.stdout", io.TextIOWrapper(raw, encoding="ascii", errors=errors))
        assert write_line("± 1 … é\ud800")
        assert raw.getvalue() == b"? 1 ? ??\n"


def test_streams_are_made_tolerant(monkeypatch: pytest.MonkeyPatch) -> None:
    raw = io.BytesIO()
    stream = io.TextIOWrapper(raw, encoding="ascii", errors="strict")
    monkeypatch.setattr("sys.stdout", stream)
    make_streams_tolerant()
    print("±", flush=True)
    assert raw.getvalue() == b"?\n"


def test_closed_streams(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sys.stdout", None)
    assert write_line("lost")
    closed = io.StringIO()
    closed.close()
    assert write_line("lost", closed)


def test_a_pipe_that_nothing_reads() -> None:
    ours, theirs = os.pipe()
    os.close(ours)
    with os.fdopen(theirs, "w") as stream:
        assert write_line("x" * 100_000, stream)
        assert write_line("again", stream)


def test_a_full_disk_is_noticed() -> None:
    with open("/dev/full", "w", encoding="utf-8") as stream:
        assert not write_line("lost", stream)


@pytest.mark.parametrize("form", ["markdown", "html"])
def test_report_in_processes(finished: Any, work_folder: Path, form: str) -> None:
    command = [
        sys.executable,
        "-m",
        "search.report",
        "--study",
        "small",
        "--storage",
        finished.storage,
        "--format",
        form,
    ]
    environment = {**os.environ, "PYTHONIOENCODING": "ascii", "LC_ALL": "C", "PYTHONUTF8": "0"}
    with subprocess.Popen(
        command, cwd=work_folder, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE
    ) as popen:
        assert popen.stdout is not None
        assert popen.stderr is not None
        if form == "markdown":
            assert b"? 95 %" in popen.stdout.read()
        popen.stdout.close()  # as `head` does
        assert popen.stderr.read() == b""
        assert popen.wait() == 0
