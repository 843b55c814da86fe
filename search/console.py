"""The script `lm-search`: handles stop signals before it imports anything else."""

from __future__ import annotations

import sys

from search.workers.stop_signals import end_at_stop_signals


def main() -> None:
    """Entry point."""
    first = sys.argv[1] if len(sys.argv) > 1 else ""
    end_at_stop_signals("run" if first.startswith("-") else first)
    from search.__main__ import main as run_subcommand
    from search.hints import SCRIPT

    run_subcommand(SCRIPT)
