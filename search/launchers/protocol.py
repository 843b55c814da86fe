"""What starts workers and keeps them running, wherever that is."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol, runtime_checkable


@dataclass(frozen=True)
class Places:
    """Which workers a run asks for.

    Attributes:
        devices: As `--devices`: "auto", "cpu", "cuda", "cuda:0,1".
        workers: As `--workers`: "auto", or a number.
    """

    devices: str = "auto"
    workers: str = "auto"


@dataclass(frozen=True)
class WorkerJob:
    """What every worker of a run does.

    Attributes:
        arguments: Command line of `python -m search.worker`, without `--device` and `--owner`.
        storage: The storage URL. It may hold a password: hand it over in the environment variable SEARCH_STORAGE, not
            on the command line, which `ps` shows.
        log_folder: For the logs of the workers.
        on_death: Called with the `--owner` of a worker that is known to be dead, so that its trial need not wait for
            its lease to expire; returns how many trials it held. Not calling it costs a minute, no trial.
    """

    arguments: Sequence[str]
    storage: str = field(repr=False)
    log_folder: Path
    on_death: Callable[[str], int]


@runtime_checkable
class Launcher(Protocol):
    """Starts the workers of one run. Its class is made with `Places`, before anything is written."""

    @property
    def running(self) -> int:
        """How many workers are alive or about to start; the run ends at 0."""
        ...

    def start(self, n: int, job: WorkerJob) -> None:
        """Start the workers that `Places` ask for, but at most `n`.

        Args:
            n: How many trials are left; more workers would find nothing to do.
            job: What they do.
        """
        ...

    def tend(self) -> None:
        """Look after the workers, such as to restart those that died; called every second or so.

        Raises:
            WorkersKeepCrashing: Starting more of them is no use.
        """
        ...

    def stop(self) -> None:
        """Have the workers hand their trials back and end; returns when they have, or were killed."""
        ...
