"""Starts workers as actors of an existing Ray cluster, which move to another node when theirs dies."""

from __future__ import annotations

import hashlib
import logging
import os
import socket
import time
import uuid
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from pydantic import Field

from search.errors import UsageError, WorkersKeepCrashing
from search.launchers.protocol import Places, WorkerJob
from search.launchers.settings import LauncherSettings, device_of, most_workers, read_launcher_settings
from search.storage.errors import StorageUnavailable
from search.workers.failure_records import crash

if TYPE_CHECKING:
    from search.launchers.ray_place import PlaceState

log = logging.getLogger("search.run")

NAMESPACE = "lm-search"
POLL_S = 2.0
CONNECT_S = 10.0
ANSWER_S = 2.0
FIRST_ANSWER_S = 10.0
STOP_S = 60.0
START_AGAIN_S = 15.0


class RaySettings(LauncherSettings):
    """What `[launcher]` of a study file says to Ray; names are those of Ray's options."""

    address: str = "auto"  # or "ray://host:10001"
    num_cpus: float = Field(default=1.0, ge=0)  # of each worker
    num_gpus: float = Field(default=0.0, ge=0)  # a fraction lets workers share a card
    resources: dict[str, int | float] = Field(default={})
    runtime_env: dict[str, Any] = Field(default={})


class RayLauncher:
    """One actor for each worker, at most one for each waiting trial; more when the queue grows.

    The actors outlive this program: the same command finds them and watches them. Each ends when no trial is left.

    Args:
        places: `workers` is the number of actors; `devices` is "auto" (the card that Ray gives, else the CPU), "cpu" or
            "cuda"; `settings` are those of `RaySettings`.

    Raises:
        UsageError: Ray is not installed, there is no cluster at the address, or a setting is wrong.
    """

    def __init__(self, places: Places) -> None:
        self._settings = read_launcher_settings(RaySettings, "Ray", places.settings)
        self._device = device_of(places, "Ray", "num_gpus asks for cards")
        self._most = most_workers(places)
        if places.starts:
            self._ray = _connect(self._settings.address)
        self._prefix = self._failure = ""
        self._alive: dict[str, Any] = {}
        self._asked: dict[str, Any] = {}
        self._has_answered: set[str] = set()
        self._polled_at = self._started_at = 0.0

    @property
    def running(self) -> int:
        """The number of actors that have not ended, those that wait for a node included."""
        return len(self._alive)

    def start(self, n: int, job: WorkerJob) -> None:
        """Start at most one actor for each of n trials, besides those of earlier starts that are still there."""
        self._job = job
        study = hashlib.sha256("\0".join([job.storage, *job.arguments]).encode()).hexdigest()[:12]
        self._prefix = f"{job.log_folder.parent.name}-{study}-"
        self._look()
        self._add(min(n, self._most) - len(self._alive))

    def _add(self, number: int) -> None:
        from search.launchers.ray_place import Place

        if number < 1:
            return
        settings = self._settings
        environment = {"SEARCH_STORAGE": self._job.storage}
        folder = "" if "working_dir" in settings.runtime_env else os.getcwd()
        actor = self._ray.remote(Place)
        options = {
            **{"namespace": NAMESPACE, "lifetime": "detached", "max_restarts": -1, "max_task_retries": -1},
            "max_concurrency": 3,  # `stop` and `state` at the same time
            **settings.model_dump(exclude={"address"}),
        }
        for _ in range(number):
            name = f"{self._prefix}{uuid.uuid4().hex[:8]}"
            self._alive[name] = actor.options(name=name, **options).remote(
                list(self._job.arguments), self._device, environment, folder
            )
        self._started_at = time.monotonic()
        log.warning("Ray: %d workers; `ray list actors` shows them, and `ray logs` what they write", number)

    def tend(self) -> None:
        """Look at the actors every few seconds, and start more if more trials wait than actors are there.

        Raises:
            WorkersKeepCrashing: A worker ended because its options are wrong, or crashed too often.
        """
        if time.monotonic() < self._polled_at + POLL_S:
            return
        self._look()
        self._ask(ANSWER_S)
        if self._failure:
            raise WorkersKeepCrashing(self._failure)
        unfinished = self._job.unfinished()
        if not unfinished:
            self._remove_waiting()
        missing = min(unfinished, self._most) - len(self._alive)
        if missing > 0 and time.monotonic() > self._started_at + START_AGAIN_S:
            self._add(missing)

    def _look(self) -> None:
        """Find the actors that have not ended."""
        self._polled_at = time.monotonic()
        # A program that has joined Ray before is in another namespace than its workers.
        found = self._ray.util.list_named_actors(all_namespaces=True)
        ours = [each["name"] for each in found if each["namespace"] == NAMESPACE]
        names = [name for name in ours if name.startswith(self._prefix)]
        self._alive = {name: self._alive.get(name) or self._handle(name) for name in names}
        self._alive = {name: handle for name, handle in self._alive.items() if handle is not None}

    def _handle(self, name: str) -> Any:
        """An actor that an earlier run has started; None if it has just ended."""
        try:
            return self._ray.get_actor(name, namespace=NAMESPACE)
        except ValueError:
            return None

    def _ask(self, patience_s: float) -> None:
        """Take what the actors answer in time; a question without an answer stays for the next call."""
        self._asked = {name: asked for name, asked in self._asked.items() if name in self._alive}
        for name, handle in self._alive.items():
            if name not in self._asked:
                self._asked[name] = handle.state.remote()
        self._take(self._asked, patience_s)

    def _take(self, asked: dict[str, Any], patience_s: float) -> None:
        if not asked:
            return
        ready, _ = self._ray.wait([*asked.values()], num_returns=len(asked), timeout=patience_s)
        for name in [name for name, reference in asked.items() if reference in ready]:
            try:
                state: PlaceState = self._ray.get(asked.pop(name))
            except self._ray.exceptions.RayError:  # it has ended, or its node is gone
                continue
            self._has_answered.add(name)
            self._after(state)

    def _after(self, state: PlaceState) -> None:
        for ended in state.ended:
            if ended.status:
                try:
                    self._job.on_death(ended.owner, crash(ended.status, ended.output, ended.log))
                except StorageUnavailable as error:
                    log.warning("cannot release the trials of %s; their leases expire (%s)", ended.owner, error)
        self._failure = self._failure or state.failure

    def _remove_waiting(self) -> None:
        """Remove the actors that wait for a node, now that there is nothing to train."""
        for name in [name for name in self._alive if name not in self._has_answered]:
            self._ray.kill(self._alive.pop(name))

    def detach(self) -> str:
        """Leave the actors to Ray.

        Returns:
            How to look after them.
        """
        return f"{len(self._alive)} workers on Ray in the namespace {NAMESPACE}; `ray list actors` shows them"

    def stop(self) -> None:
        """Stop the workers that are left; each hands its trial back."""
        self._look()
        self._ask(FIRST_ANSWER_S)  # who waits for a node cannot answer, and has nothing to hand back
        stopping = [name for name in self._alive if name in self._has_answered]
        self._take({name: self._alive[name].stop.remote() for name in stopping}, STOP_S)
        for handle in self._alive.values():
            self._ray.kill(handle)
        self._alive.clear()


def _connect(address: str) -> Any:
    """Join the cluster and return the module `ray`."""
    try:
        import ray
    except ImportError as error:
        raise UsageError("--launcher ray needs Ray: pip install 'lm-search[ray]'") from error
    if ray.is_initialized():
        return ray
    try:
        _check_answers(os.environ.get("RAY_ADDRESS", address) if address == "auto" else address)
        ray.init(address=address, namespace=NAMESPACE, log_to_driver=False, logging_level=logging.ERROR)
    except (OSError, RuntimeError, ValueError) as error:
        reason = " ".join(str(error).split())
        raise UsageError(
            f"--launcher ray: no cluster at {address} ({reason}); start one with ray start --head, or name it with "
            "--set launcher.address=ray://HOST:10001"
        ) from error
    return ray


def _check_answers(address: str) -> None:
    """Raise an OSError unless something listens at HOST:PORT; Ray itself tries for a minute."""
    parts = urlsplit(address if "://" in address else f"//{address}")
    if parts.hostname and parts.port:
        socket.create_connection((parts.hostname, parts.port), CONNECT_S).close()
