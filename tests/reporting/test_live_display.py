"""What a terminal of 80 columns shows while trials run and after them."""

from __future__ import annotations

import io
import logging
import sys
from collections.abc import Iterator
from contextlib import contextmanager, redirect_stderr
from pathlib import Path

import pytest
from rich.console import Console
from screen import Screen, run_on_terminal
from study_files import sqlite, write_corpus, write_study

from search.objectives.corpus import encode
from search.reporting.live_display import LiveDisplay, live_on
from search.reporting.progress import Snapshot
from search.reporting.terminal_table import as_terminal_table
from search.statistics.ranking import Row
from search.storage.connect import open_database
from search.storage.database import Database
from search.storage.leases import Report
from search.storage.queue import TrialQueue
from search.storage.state_transitions import Outcome
from search.study.definition import load_definition
from search.study.planner import Study, ensure_planned

STEPS = 100
CELLS = 24
STUDY = (
    'objective = "fake_objective:start"\n[grid]\n'
    f'n_embd = {list(range(1, CELLS // 2 + 1))}\npe_type = ["randn", "rope"]\n'
    f'some_axis_with_a_long_name = ["[/red]{"x" * 60}"]\n'
)


class Terminal:
    """A study, a display of it, and the screen."""

    def __init__(self, database: Database, stream: io.StringIO, console: Console) -> None:
        self.queue, self.screen = TrialQueue(database), Screen(console.width)
        self._database, self._stream = database, stream

    def show(self, display: LiveDisplay, workers: int = 2) -> list[str]:
        """Show a snapshot; return the lines of the screen."""
        display.show(Snapshot(self._database, ["small"]), workers)
        return self.lines()

    def lines(self) -> list[str]:
        self.screen.feed(self._stream.getvalue().replace("\n", "\n\r"))
        self._stream.seek(0)
        self._stream.truncate()
        return self.screen.lines

    def end_one(self, outcome: Outcome, value: float, reason: str | None = None) -> None:
        [lease] = self.queue.claim(["small"], "host/cpu-0/1-a")
        self.queue.report([Report(lease, STEPS, 2.0, value)])
        self.queue.finish(lease, outcome, value, {}, reason)


@contextmanager
def opened_terminal(folder: Path) -> Iterator[tuple[Terminal, LiveDisplay]]:
    """A display of a study, and a log that was set up before; not a fixture, because pytest replaces sys.stderr."""
    definition = load_definition(write_study(folder, STUDY))
    stream = io.StringIO()
    console = Console(file=stream, force_terminal=True, width=80, height=24, legacy_windows=False)
    handler = logging.StreamHandler(stream)
    logging.getLogger("search").addHandler(handler)
    with redirect_stderr(stream), open_database(sqlite(folder), create=True).closing() as database:
        ensure_planned(database, Study(definition, "small", encode("text", "to be")))
        terminal = Terminal(database, stream, console)
        with live_on(console) as live:
            yield terminal, LiveDisplay(live, "small", STEPS)
        assert handler.stream is stream
    logging.getLogger("search").removeHandler(handler)


def test_bars_and_the_best(tmp_path: Path) -> None:
    with opened_terminal(tmp_path) as (screen, display):
        screen.show(display)
        for value in (2.7, 2.1, 2.9, 2.3, 2.5, 2.4, 2.6):
            screen.end_one("complete", value)
        screen.end_one("pruned", 3.0, "pruned at step 100")
        screen.end_one("failed", 3.0, "ValueError: [bold]made up[/x]")
        [first, _] = screen.queue.claim(["small"], "host/cpu-0/1-a", limit=2)
        screen.queue.claim(["small"], "host/cpu-1/2-b")
        screen.queue.report([Report(first, STEPS // 2, 2.0, 2.6543)])
        lines = screen.show(display)
        assert sum("complete val_loss" in line for line in lines) == 7  # listed as they end
        listed = "".join(lines)
        assert "ValueError: [bold]made up[/x]" in listed
        shown = lines[next(at for at, line in enumerate(lines) if line.startswith("small ")) :]
        assert "9/24 done (1 pruned, 1 failed)" in shown[0]
        assert "left" in shown[0]
        assert [line.split()[0] for line in shown[1:4]] == ["cpu-0", "cpu-0", "cpu-1"]
        assert any("step 50" in line and "2.6543" in line for line in shown[1:4])
        best = [line.removeprefix("best").split()[0] for line in shown[4:9]]
        assert best == ["2.1000", "2.3000", "2.4000", "2.5000", "2.6000"]
        assert shown[9].startswith("last pruned  ")
        assert shown[10].startswith("last failed  ")
        assert all(len(line) <= 80 for line in lines)


def test_warnings_stay_and_no_line_is_stale(tmp_path: Path) -> None:
    with opened_terminal(tmp_path) as (screen, display):
        for number in range(8):
            screen.show(display)
            logging.getLogger("search.run").warning("worker cpu-%d ended with SIGKILL; restarting it", number)
            print(f"printed {number}", file=sys.stderr)
            screen.end_one("complete", 2.0 + number)
        lines = screen.show(display)
        for number in range(8):
            assert sum(f"worker cpu-{number} ended with SIGKILL; restarting it" == line for line in lines) == 1
            assert sum(f"printed {number}" == line for line in lines) == 1
            assert sum(f"[{number + 1}/24] complete" in line for line in lines) == 1
        assert sum(line.startswith("small ") for line in lines) == 1


def test_more_workers_than_lines(tmp_path: Path) -> None:
    with opened_terminal(tmp_path) as (screen, display):
        screen.queue.claim(["small"], "host/cpu-0/1-a", limit=20)
        for _ in range(3):
            lines = screen.show(display)
        assert sum(line.startswith("cpu-0 ") for line in lines) == 13
        assert "… 7 more" in lines
        assert sum(line.startswith("small ") for line in lines) == 1


def test_a_burst_of_ends_is_counted(tmp_path: Path) -> None:
    with opened_terminal(tmp_path) as (screen, display):
        screen.show(display)
        for _ in range(CELLS):
            screen.end_one("complete", 2.0)
        lines = screen.show(display)
        assert "… 4 more have ended" in lines
        assert sum("complete val_loss" in line for line in lines) == 20


def test_nothing_of_the_display_is_left(tmp_path: Path) -> None:
    with opened_terminal(tmp_path) as (screen, display):
        screen.show(display)
        screen.end_one("complete", 2.0)
        screen.show(display)
    [line] = [line for line in screen.lines() if line]
    assert line.startswith("[1/24] complete val_loss 2.0000")


def row(rank: int, **cell: object) -> Row:
    return Row(
        rank=rank, cell=cell, state="complete", step=5000, train_loss=2.0, val_loss=2.1, trials=(3, 3),
        n_params=123456, published=2.3, seconds=12.3, interval=0.01,
    )  # fmt: skip


@pytest.mark.parametrize("width", [20, 40, 80, 120, 250])
def test_the_table_fits(width: int) -> None:
    rows = [
        row(
            at,
            model=f"gpt{at}",
            pe_type=f"rope{at}",
            n_embd=64 * at,
            block_size=at,
            text=f"{at} 漢字 | " + "x" * 90,
            zero=at,
        )
        for at in range(1, 12)
    ]
    lines = as_terminal_table(rows, width).splitlines()
    from rich.cells import cell_len

    assert all(cell_len(line) <= width for line in lines)
    assert len(lines) in (12, 13)
    if width >= 40:
        assert lines[0].split()[0] == "#"
        assert "val_loss" in lines[0]
        assert "state" in lines[0]
    if width == 80:
        assert "n_embd" in lines[0]
        assert "no space for: " in lines[-1]
        assert "train_loss" in lines[-1]
    if width == 250:
        assert len(lines) == 12


def test_a_real_run_on_a_real_terminal(tmp_path: Path) -> None:
    options = ["--study", write_study(tmp_path), "--corpus", write_corpus(tmp_path), "--storage", sqlite(tmp_path)]
    command = [sys.executable, "-m", "search.run", *options, "--workers", "1", "--devices", "cpu"]
    code, written = run_on_terminal(command, tmp_path)
    screen = Screen()
    screen.feed(written)
    lines = screen.lines
    assert code == 0, written
    assert sum("] complete val_loss" in line for line in lines) == 9
    assert not any(line.startswith(("small  ", "best ", "cpu-0 ")) for line in lines)
    table = lines[next(at for at, line in enumerate(lines) if line.startswith("# ")) :]
    assert [line.split()[0] for line in table[1:10]] == [str(rank) for rank in range(1, 10)]
    assert not any("|" in line for line in table[:10])
    assert any(line.startswith("small: 9 complete; ") for line in table)
    report = [sys.executable, "-m", "search.report", "--study", "small", "--storage", sqlite(tmp_path)]
    _, written = run_on_terminal(report, tmp_path)
    assert "\n\r# " in written
    assert "| val_loss |" not in written
    _, written = run_on_terminal([*report, "--format", "markdown"], tmp_path)
    assert "| val_loss |" in written
