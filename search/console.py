"""The script `lm-search`: handles stop signals and starts the first worker of a run before it imports anything else."""

from __future__ import annotations

import gc
import sys

from search.hints import SCRIPT, called_as
from search.workers.stop_signals import end_at_stop_signals


def main() -> None:
    """Entry point."""
    first = sys.argv[1] if len(sys.argv) > 1 else ""
    program = "run" if first.startswith("-") else first
    end_at_stop_signals(program)
    called_as(SCRIPT)
    if program == "run":
        from search.launchers.spare_worker import start_early

        start_early(sys.argv[1:])
        gc.disable()  # until `run` has imported all
    from search.__main__ import main as run_subcommand

    run_subcommand(SCRIPT)
