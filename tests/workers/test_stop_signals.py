"""The handlers of stop signals."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator

import pytest

from search.workers.stop_signals import STOP_SIGNALS, blocked_stop_signals, on_stop_signals, stopped_exit_code


@pytest.fixture(autouse=True)
def _handlers() -> Iterator[None]:
    before = {number: signal.getsignal(number) for number in STOP_SIGNALS}
    yield
    for number, handler in before.items():
        signal.signal(number, handler)


def test_every_signal_is_handled_but_an_ignored_hangup() -> None:
    """`nohup` ignores SIGHUP, which stays ignored; a shell ignores SIGINT of a job in the background, for no reason."""
    received: list[int] = []
    signal.signal(signal.SIGHUP, signal.SIG_IGN)
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    on_stop_signals(lambda number, frame: received.append(number))
    for number in STOP_SIGNALS:
        os.kill(os.getpid(), number)
    assert sorted(received) == sorted(set(STOP_SIGNALS) - {signal.SIGHUP})


def test_blocked_signals_wait_for_their_handler() -> None:
    received: list[int] = []
    with blocked_stop_signals():
        # Of this thread: another one, such as a library's, would take a signal of the process at once.
        signal.pthread_kill(threading.get_ident(), signal.SIGUSR1)
        assert received == []
        on_stop_signals(lambda number, frame: received.append(number))
        assert received == [signal.SIGUSR1]


def test_signal_while_the_main_thread_holds_the_lock_of_the_event() -> None:
    """As it does while it waits for the event, and in a handler that sets it when a second signal arrives."""
    script = """
import signal, threading
from search.workers.stop_signals import STOP_SIGNALS, set_by_stop_signals

stop, received = threading.Event(), []
with set_by_stop_signals(stop, received.append):
    with stop._cond:
        for number in 2 * STOP_SIGNALS:
            signal.raise_signal(number)
    print(stop.wait(30), len(received))
"""
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, timeout=60)
    assert (done.returncode, done.stdout) == (0, "True 10\n"), done.stderr


def test_exit_codes() -> None:
    assert {number: stopped_exit_code("run", number) for number in STOP_SIGNALS} == {
        **dict.fromkeys(STOP_SIGNALS, 75),
        signal.SIGINT: 130,
    }
    assert {stopped_exit_code("worker", number) for number in STOP_SIGNALS} == {75}


def test_end_shows_the_cursor_of_a_terminal() -> None:
    script = (
        "import os, signal\n"
        "from search.workers.stop_signals import end_at_stop_signals\n"
        "end_at_stop_signals('run')\n"
        "os.kill(os.getpid(), signal.SIGINT)\n"
        "signal.pause()\n"
    )
    ours, theirs = os.openpty()
    try:
        done = subprocess.run([sys.executable, "-c", script], stderr=theirs, timeout=60)
        shown = os.read(ours, 1000)
    finally:
        os.close(ours)
        os.close(theirs)
    assert done.returncode == 130
    assert shown == b"\x1b[?25h\r\ninterrupted; run the same command again to resume\r\n"
