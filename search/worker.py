"""`python -m search.worker`: one worker process, started by `search.run`, by a container or by a cluster."""

from __future__ import annotations

import logging
import os
import signal
import sys
import threading
import time
from contextlib import nullcontext
from types import FrameType
from typing import TYPE_CHECKING

from search.command_line import new_program
from search.errors import UsageError, user_errors
from search.options import DefinitionOptions, WorkerOptions

if TYPE_CHECKING:
    from search.workers.worker_loop import Worker

PARENT_POLL_S = 1.0


def worker(options: WorkerOptions) -> None:
    """Claim trials of a planned study and train them on one device.

    The worker ends when no trial is left.
    """
    logging.basicConfig(format="%(asctime)s %(levelname)s %(message)s", level=logging.WARNING, stream=sys.stderr)
    logging.getLogger("search").setLevel(logging.INFO)
    with user_errors():
        from search.web.dashboard_publisher import publish_periodically
        from search.workers.profile import profiled

        worker = _open(options)
        _stop_on_signals(worker.stop)
        if options.parent is not None:
            _stop_with(options.parent, worker.stop)
        database = worker.queue.database
        # A launcher publishes for its workers.
        publisher = publish_periodically(database, list(worker.studies)) if options.parent is None else nullcontext()
        with database.closing(), profiled(worker, options.out, options.profile), publisher:
            worker.run()


def _open(options: WorkerOptions) -> Worker:
    from search.storage.errors import NoStudyYet
    from search.storage.url import display_url
    from search.study.lookup import UnknownStudy
    from search.workers.setup import open_worker

    try:
        return open_worker(
            options.study,
            options.storage,
            options.device,
            name=options.name,
            owner=options.owner,
            baselines=options.baselines,
            corpus=options.corpus,
            out=options.out,
            artifacts=options.artifacts,
            storage_wait_s=options.storage_wait_s,
            fuse=options.fuse,
            modules=options.modules,
        )
    except (NoStudyYet, UnknownStudy) as error:
        shown = display_url(options.storage)
        name = "" if options.name is None else f" --name {options.name}"
        raise UsageError(
            f"the study {options.name or options.study!r} is not in {shown}, and a worker never plans a study; "
            f"plan it with: python -m search.run --study {options.study}{name} --storage {shown} --plan-only"
        ) from error


def _stop_on_signals(stop: threading.Event) -> None:
    def ask_to_stop(_signal: int, _frame: FrameType | None) -> None:
        stop.set()

    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, ask_to_stop)


def _stop_with(parent: int, stop: threading.Event) -> None:
    # The id is an argument: if the parent is dead already, another process has become the parent of this one.
    def watch() -> None:
        while os.getppid() == parent:
            time.sleep(PARENT_POLL_S)
        logging.getLogger("search.worker").warning("the parent process has ended; releasing all trials")
        stop.set()

    threading.Thread(target=watch, name="parent", daemon=True).start()


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
