"""`python -m search.worker`: one worker process, started by `search.run`, by a container or by a cluster."""

from __future__ import annotations

if __name__ == "__main__":
    import sys

    from search.launchers.child_process import SPARE
    from search.workers.stop_signals import end_at_stop_signals

    end_at_stop_signals("worker")
    if sys.argv[1:] == [SPARE]:
        from search.launchers.spare_worker import take_job

        take_job()
    from search.run_worker import run_if_started_by_run

    run_if_started_by_run(sys.argv[1:])

from search.command_line import new_program
from search.options import DefinitionOptions, WorkerOptions


def worker(options: WorkerOptions) -> None:
    """Claim trials of a planned study and train them on one device.

    The worker ends with 0 when no trial is left, and with 75 when it was stopped before.
    """
    from search.run_worker import run_worker

    run_worker(options)


EXAMPLES = (
    ("one more worker for a planned study, on the CPU", "--study bigram"),
    ("on the second GPU of another machine", "--study bigram --storage postgresql://me@host/search --device cuda:1"),
)
app = new_program(worker, WorkerOptions, EXAMPLES, ignored=DefinitionOptions)


def main() -> None:
    """Entry point."""
    app()


if __name__ == "__main__":
    main()
