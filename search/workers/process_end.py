"""The end of a worker process, which nothing that its trials have left may delay."""

from __future__ import annotations

import logging
import os
import sys
import threading
import time
from typing import NoReturn

from search.errors import EXIT_SPOILED, EXIT_STOPPED, EXIT_USAGE
from search.workers.child_processes import stop_processes_of
from search.workers.stop_signals import ignore_stop_signals

_exit = os._exit
# Codes that say something else than "start another worker".
RESERVED = (0, EXIT_USAGE, EXIT_STOPPED)

# Exit handlers, such as that of a tracker, may take this long.
MAX_EXIT_S = 5.0


def turn_exits_into_crashes() -> None:
    """Let no `os._exit` of a study's own code end this process with a code that has another meaning for a worker."""
    own = os.getpid()

    def crash(status: int) -> NoReturn:
        if os.getpid() == own and status in RESERVED:
            os.write(2, f"the trial's own code ended the worker with os._exit({status})\n".encode())
            status = EXIT_SPOILED
        _exit(status)

    os._exit = crash


def end_process(exit_code: int) -> NoReturn:
    """End this process as usual, or at once if that takes longer than `MAX_EXIT_S`.

    A thread that a trial has left keeps the interpreter from ending; a program that it has left would live on.
    """
    ignore_stop_signals()
    threading.Thread(target=_end_late, args=(exit_code,), name="end", daemon=True).start()
    raise SystemExit(exit_code)


def _end_late(exit_code: int) -> None:
    time.sleep(MAX_EXIT_S)
    lingering = [each.name for each in threading.enumerate() if not each.daemon and each is not threading.main_thread()]
    os.write(2, f"the process ends although threads still run: {', '.join(lingering) or 'none'}\n".encode())
    end_at_once(exit_code)


def end_at_once(exit_code: int) -> NoReturn:
    """End this process and the programs that its trials have started, without exit handlers."""
    stop_processes_of(os.getpid())
    logging.shutdown()
    sys.stderr.flush()
    _exit(exit_code)
