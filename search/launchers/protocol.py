"""The `Launcher` protocol: it starts workers and keeps them running."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol, runtime_checkable

from search.launchers.spare_worker import SpareWorker
from search.storage.failures import Failure


@dataclass(frozen=True)
class Places:
    """The devices and workers that a run asks for.

    Attributes:
        devices: The value of `--devices`: "auto", "cpu", "cuda", "cuda:0,1".
        workers: The value of `--workers`: "auto" or a number.
        settings: What the study file's [launcher] and `--set launcher.KEY=…` say, its name left out.
        storage: The storage URL, which may contain a password.
        starts: Whether workers will be started; if not, what a launcher starts them with may be absent.
    """

    devices: str = "auto"
    workers: str = "auto"
    settings: Mapping[str, Any] = field(default_factory=dict)
    storage: str = field(default="", repr=False)
    starts: bool = True


class OnDeath(Protocol):
    """What a launcher calls when a worker has ended."""

    def __call__(self, owner: str, failure: Failure | None = None) -> int:
        """Release the trials that the worker `owner` held, record `failure`, and return their number."""
        ...


@dataclass(frozen=True)
class WorkerJob:
    """The job of every worker of a run.

    Attributes:
        arguments: Command line of `python -m search.worker`, without `--device` and `--owner`.
        storage: The storage URL. It may contain a password: pass it in the environment variable SEARCH_STORAGE, not
            on the command line, which `ps` shows.
        log_folder: Folder for the workers' logs.
        on_death: Call it with the `--owner` of a dead worker to make its trials claimable before their leases expire,
            and with what is known of its end, such as `Failure("worker crashed", signal="SIGKILL", log=path)`; it
            returns how many trials the worker held. Without the call they wait for a minute, and none is lost.
        unfinished: Counts the trials that have not ended; it asks the database.
        study: The study's name in the database.
        remote_arguments: As `arguments`, for a machine that has none of this one's folders: its working directory is a
            copy of the study's folder, with its modules and its text, and `--out` is its own.
    """

    arguments: Sequence[str]
    storage: str = field(repr=False)
    log_folder: Path
    on_death: OnDeath
    unfinished: Callable[[], int] = lambda: 0
    study: str = ""
    remote_arguments: Sequence[str] = ()


@runtime_checkable
class Launcher(Protocol):
    """Starts the workers of one run. The class is called with `Places`, before anything is written."""

    @property
    def running(self) -> int:
        """The number of workers that are alive or about to start; the run ends at 0.

        A worker counts until `tend` has seen its end: one that crashed since may have left trials.
        """
        ...

    def start(self, n: int, job: WorkerJob) -> None:
        """Start the workers that `Places` asks for, but at most `n`.

        Args:
            n: The number of trials left; more workers would have no work.
            job: The job of each worker.
        """
        ...

    def tend(self) -> None:
        """Check the workers, for example to restart those that crashed; called about once a second.

        Raises:
            WorkersKeepCrashing: Starting more workers is useless.
        """
        ...

    def stop(self) -> None:
        """Ask the workers to release their trials and end; return when they have ended or were killed."""
        ...


@runtime_checkable
class Prepares(Protocol):
    """A launcher that can do something while the study is planned."""

    def prepare(self, objective: str, spare: SpareWorker) -> None:
        """Begin what takes long and needs no job.

        Args:
            objective: What the study file names.
            spare: A process for the first worker; it ends with the run unless `start` uses it.
        """
        ...


@runtime_checkable
class Detaches(Protocol):
    """A launcher whose workers go on without the run."""

    def detach(self) -> str:
        """Leave the workers alone; called in place of `stop` with `--detach`. Returns how to look after them."""
        ...


@runtime_checkable
class Previews(Protocol):
    """A launcher that can show what it would submit."""

    def preview(self, n: int, job: WorkerJob) -> str:
        """What `start` would submit for n trials, as text; called with `--print`, in place of `start`."""
        ...
