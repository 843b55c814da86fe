"""The end of a worker process, which nothing that its trials have left may delay."""

from __future__ import annotations

import logging
import os
import sys
import threading
import time
from typing import NoReturn

from search.workers.child_processes import stop_processes_of
from search.workers.stop_signals import ignore_stop_signals

# Exit handlers, such as that of a tracker, may take this long.
MAX_EXIT_S = 5.0


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
    os._exit(exit_code)
