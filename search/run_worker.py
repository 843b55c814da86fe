"""Runs a worker; called by its program, and by a process that has waited for a job."""

from __future__ import annotations

import faulthandler
import logging
import shlex
import sys
from collections.abc import Sequence
from contextlib import nullcontext, suppress
from typing import TYPE_CHECKING

from search.errors import EXIT_SPOILED, EXIT_STOPPED, USER_ERRORS, ProcessSpoiled, UsageError, user_errors
from search.hints import command_of
from search.imports import importing_ours
from search.launchers.child_process import when_parent_ends
from search.options import WorkerOptions
from search.streams import make_streams_tolerant
from search.workers.process_end import end_process, turn_exits_into_crashes
from search.workers.stop_signals import end_at_stop_signals, set_by_stop_signals

if TYPE_CHECKING:
    from search.workers.worker_loop import Worker

log = logging.getLogger("search.worker")


def run_if_started_by_run(arguments: Sequence[str]) -> None:
    """Work, if a run wrote these arguments of `search.worker`.

    Typer reads any others. It takes long to import, and it would take what the run has left out from the environment.
    """
    options = WorkerOptions.from_arguments(arguments)
    if options is not None and options.parent is not None:
        make_streams_tolerant()
        run_worker(options)


def run_worker(options: WorkerOptions) -> None:
    """Work until no trial is left, and end the process."""
    end_at_stop_signals("worker")
    logging.basicConfig(format="%(asctime)s %(levelname)s %(message)s", level=logging.WARNING, stream=sys.stderr)
    logging.getLogger("search").setLevel(logging.INFO)
    # A crash in native code then leaves its Python stack in the log, for the trial's failure record.
    with suppress(OSError, RuntimeError):  # stderr may be no file
        faulthandler.enable()
    with user_errors():
        from search.web.publisher_thread import publish_periodically
        from search.workers.process_meter import ProcessMeter, metered
        from search.workers.profile import profiled

        worker = _open(options)
        turn_exits_into_crashes()
        if options.parent is not None:
            when_parent_ends(options.parent, lambda: _stop_as_orphan(worker))
        database = worker.queue.database
        # A launcher publishes for its workers.
        publisher = publish_periodically(database, list(worker.studies)) if options.parent is None else nullcontext()
        with (
            set_by_stop_signals(worker.stop),
            database.closing(),
            metered(
                database, worker.queue.uids[next(iter(worker.studies))], ProcessMeter(worker.owner, options.device)
            ),
            profiled(worker, options.out, options.profile),
            publisher,
        ):
            exit_code = _work(worker)
    end_process(exit_code)


def _stop_as_orphan(worker: Worker) -> None:
    log.warning("the parent process has ended; releasing all trials")
    worker.stop.set()


def _work(worker: Worker) -> int:
    """Work to the end and return the exit code."""
    try:
        return 0 if worker.run() else EXIT_STOPPED
    except ProcessSpoiled as error:
        log.error("%s", error)
        return EXIT_SPOILED
    except USER_ERRORS as error:
        if not worker.has_claimed:
            raise
        # Whatever is wrong now was right before: that is no wrong use.
        log.error("%s", " ".join(str(error).splitlines()))
        return EXIT_STOPPED


def _open(options: WorkerOptions) -> Worker:
    with importing_ours():
        from search.storage.errors import NoStudyYet
        from search.storage.url import display_url
        from search.study.lookup import UnknownStudy
        from search.study.study_file import run_argument
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
        name = "" if options.name is None else f" --name {shlex.quote(options.name)}"
        raise UsageError(
            f"the study {options.name or options.study!r} is not in {shown}, and a worker never plans a study; "
            f"plan it with: {command_of('run')} --study {shlex.quote(run_argument(options.study))}{name} "
            f"--storage {shlex.quote(shown)} --plan-only"
        ) from error
