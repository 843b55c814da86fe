"""Processes that kill themselves at a chosen call, and forked child processes."""

from __future__ import annotations

import itertools
import logging
import os
import pkgutil
import signal
import sys
import time
import traceback
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NoReturn

from gates import PATIENCE_S


@dataclass(frozen=True)
class Death:
    """A process kills itself (SIGKILL) at one call of one function.

    Attributes:
        function: "module:name" or "module:Class.name".
        when: "before" the call or "after" it.
        call: The number of the call, from 1; "after" counts only calls that return.
    """

    function: str
    when: str
    call: int = 1

    def __str__(self) -> str:
        return f"{self.when}-{self.function.rpartition(':')[2]}-{self.call}"

    def prepare(self) -> None:
        """Patch the function so that this process kills itself at the call."""
        module, _, path = self.function.partition(":")
        place, _, name = path.rpartition(".")
        owner = pkgutil.resolve_name(f"{module}:{place}")
        original, calls = getattr(owner, name), itertools.count(1)

        def deadly(*arguments: Any, **keywords: Any) -> Any:
            if self.when == "before" and next(calls) == self.call:
                os.kill(os.getpid(), signal.SIGKILL)
            result = original(*arguments, **keywords)
            if self.when == "after" and next(calls) == self.call:
                os.kill(os.getpid(), signal.SIGKILL)
            return result

        setattr(owner, name, deadly)


def in_child(work: Callable[[], object], log_file: Path) -> int:
    """Run `work` in a forked process and wait for its end.

    Returns:
        Its exit code, or minus the number of the signal that ended it.
    """
    pid = os.fork()
    if pid == 0:
        _be_child(work, log_file)
    deadline = time.monotonic() + PATIENCE_S
    while True:
        ended, status = os.waitpid(pid, os.WNOHANG)
        if ended:
            return os.waitstatus_to_exitcode(status)
        if time.monotonic() >= deadline:
            os.kill(pid, signal.SIGKILL)
            os.waitpid(pid, 0)
            raise AssertionError(f"the child still runs after {PATIENCE_S} s: {log_file.read_text()}")
        time.sleep(0.005)


def _be_child(work: Callable[[], object], log_file: Path) -> NoReturn:
    code = 70
    try:
        output = os.open(log_file, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
        os.dup2(output, 1)
        os.dup2(output, 2)
        # Not pytest's handlers and streams: their buffers belong to the parent.
        sys.stderr = os.fdopen(2, "w", buffering=1)
        logging.basicConfig(level=logging.INFO, stream=sys.stderr, format="%(levelname)s %(message)s", force=True)
        work()
        code = 0
    except SystemExit as end:
        code = int(end.code or 0)
    except BaseException:
        traceback.print_exc()
    finally:
        os._exit(code)
