"""The signals that stop a run or a worker: before it is ready, while it works, and at its end."""

from __future__ import annotations

import os
import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from queue import SimpleQueue
from types import FrameType

from search.errors import EXIT_INTERRUPTED, EXIT_STOPPED

SHOW_CURSOR = "\x1b[?25h"
INTERRUPTED = "interrupted; run the same command again to resume"

# Every signal that a person, a scheduler or a closing terminal sends and that can be caught.
STOP_SIGNALS = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGUSR1, signal.SIGUSR2)


def end_at_stop_signals(program: str) -> None:
    """Make stop signals end this process at once, while it holds nothing: during its imports and its setup.

    Call it before anything else is imported; a signal that arrives earlier kills the interpreter.

    Args:
        program: "run" or "worker"; signals keep their meaning for any other program.
    """

    def end(number: int, _frame: FrameType | None) -> None:
        # No exception: an import or a user's module could catch it.
        if program == "run":
            # A progress display, which hides the cursor, cannot end properly any more.
            shown = f"{SHOW_CURSOR}\n{INTERRUPTED}\n" if os.isatty(2) else f"{INTERRUPTED}\n"
            os.write(2, shown.encode())
        os._exit(stopped_exit_code(program, number))

    if program in ("run", "worker"):
        on_stop_signals(end)


def stopped_exit_code(program: str, number: int) -> int:
    """The exit code of a program that a signal has stopped; of the two, only `run` tells Ctrl-C apart."""
    return EXIT_INTERRUPTED if (program, number) == ("run", signal.SIGINT) else EXIT_STOPPED


def on_stop_signals(handler: Callable[[int, FrameType | None], object]) -> None:
    """Install a handler for stop signals; SIGHUP stays ignored if it is, since `nohup` asked for that."""
    for number in STOP_SIGNALS:
        # A shell without job control starts a background job with SIGINT ignored; who sends it means it all the same.
        if number != signal.SIGHUP or signal.getsignal(number) is not signal.SIG_IGN:
            signal.signal(number, handler)
    signal.pthread_sigmask(signal.SIG_UNBLOCK, STOP_SIGNALS)


@contextmanager
def set_by_stop_signals(stop: threading.Event, noted: Callable[[int], object] = lambda number: None) -> Iterator[None]:
    """Set an event at every stop signal, inside this context.

    A handler interrupts the main thread anywhere, also where it holds the event's lock: while it waits for the event,
    or in this handler, at a second signal. Setting the event there would wait forever, so another thread does it.

    Args:
        noted: Called with the signal in the handler, first; it must not take a lock.
    """
    arrived: SimpleQueue[int | None] = SimpleQueue()  # a put may interrupt another one

    def set_event() -> None:
        while arrived.get() is not None:
            stop.set()

    def handle(number: int, _frame: FrameType | None) -> None:
        noted(number)
        arrived.put(number)

    threading.Thread(target=set_event, name="stop signals", daemon=True).start()
    on_stop_signals(handle)
    try:
        yield
    finally:
        arrived.put(None)


def ignore_stop_signals() -> None:
    """Ignore stop signals from now on; the interpreter's end would otherwise restore their default, which kills."""
    for number in STOP_SIGNALS:
        signal.signal(number, signal.SIG_IGN)


@contextmanager
def blocked_stop_signals() -> Iterator[None]:
    """Start a child inside this context: it receives stop signals only when it calls `on_stop_signals`."""
    before = signal.pthread_sigmask(signal.SIG_BLOCK, STOP_SIGNALS)
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)
