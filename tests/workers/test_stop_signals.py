"""The handlers of stop signals."""

from __future__ import annotations

import os
import signal
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


def test_exit_codes() -> None:
    assert {number: stopped_exit_code("run", number) for number in STOP_SIGNALS} == {
        **dict.fromkeys(STOP_SIGNALS, 75),
        signal.SIGINT: 130,
    }
    assert {stopped_exit_code("worker", number) for number in STOP_SIGNALS} == {75}
