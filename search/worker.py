"""`python -m search.worker`: one worker process, started by `search.run`, by a container or by a cluster."""

from __future__ import annotations

import logging
import os
import signal
import sys
import threading
import time
from contextlib import nullcontext
from pathlib import Path
from types import FrameType
from typing import Annotated

import typer

from search import options
from search.errors import user_errors

app = typer.Typer(add_completion=False, rich_markup_mode=None, pretty_exceptions_enable=False)
PARENT_POLL_S = 1.0


@app.command()
def work(
    study: options.StudyOption,
    storage: options.StorageOption = options.DEFAULT_STORAGE,
    name: options.NameOption = None,
    device: Annotated[str, typer.Option(help="cpu, cuda or cuda:N.", envvar="SEARCH_DEVICE")] = "cpu",
    seeds: options.SeedsOption = None,
    pruner: options.PrunerOption = None,
    settings: options.SetOption = None,
    baselines: options.BaselinesOption = True,
    corpus: options.CorpusOption = None,
    out: options.OutOption = options.DEFAULT_OUT,
    artifacts: options.ArtifactsOption = None,
    storage_wait: options.StorageWaitOption = options.DEFAULT_STORAGE_WAIT_S,
    fuse: options.FuseOption = options.DEFAULT_FUSE,
    profile: options.ProfileOption = False,
    owner: Annotated[str | None, typer.Option(help="Name of this worker.", hidden=True)] = None,
    modules: Annotated[Path | None, typer.Option(help="Folder of the study's own modules.", hidden=True)] = None,
    parent: Annotated[int | None, typer.Option(help="End when this parent process ends.", hidden=True)] = None,
) -> None:
    """Claim trials of a study and train them on one device until none is left."""
    logging.basicConfig(format="%(asctime)s %(levelname)s %(message)s", level=logging.WARNING, stream=sys.stderr)
    logging.getLogger("search").setLevel(logging.INFO)
    with user_errors():
        from search.web.dashboard_publisher import publishing
        from search.workers.profile import profiled
        from search.workers.setup import open_worker

        worker = open_worker(
            study,
            storage,
            device,
            name=name,
            owner=owner,
            baselines=baselines,
            corpus=corpus,
            out=out,
            artifacts=artifacts,
            storage_wait_s=storage_wait,
            fuse=fuse,
            modules=modules,
        )
        _stop_on_signals(worker.stop)
        if parent is not None:
            _stop_with(parent, worker.stop)
        database = worker.queue.database
        # A launcher publishes for its workers.
        shown = publishing(database, list(worker.studies)) if parent is None else nullcontext()
        with database.closing(), profiled(worker, out, profile), shown:
            worker.run()


def _stop_on_signals(stop: threading.Event) -> None:
    def ask_to_stop(_signal: int, _frame: FrameType | None) -> None:
        stop.set()

    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, ask_to_stop)


def _stop_with(parent: int, stop: threading.Event) -> None:
    # Its id is an argument: by now it may be dead, and somebody else our parent.
    def watch() -> None:
        while os.getppid() == parent:
            time.sleep(PARENT_POLL_S)
        logging.getLogger("search.worker").warning("the parent process is gone; handing back and ending")
        stop.set()

    threading.Thread(target=watch, name="parent", daemon=True).start()


def main() -> None:
    """Entry point."""
    app()


if __name__ == "__main__":
    main()
