"""What runs on a node of a Ray cluster: an actor that keeps one worker process going."""

from __future__ import annotations

import itertools
import logging
import os
import subprocess
import threading
import uuid
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import ray

from search.errors import EXIT_SPOILED, EXIT_STOPPED, EXIT_USAGE
from search.launchers.child_process import child_command, child_environment
from search.workers.failure_records import end_text, last_line, log_file, log_since

log = logging.getLogger("search.run")

# Crashes of a worker after which the place gives up.
MAX_CRASHES = 20
# How long a place that has given up waits for a run that asks why.
LINGER_S = 60.0
MAX_OUTPUT = 20_000  # characters of a worker's output that are passed on
STOP_GRACE_S = 30.0


@dataclass(frozen=True)
class EndedWorker:
    """A worker process that has ended.

    Attributes:
        owner: The name under which it claimed trials.
        status: Its exit code; negative for a signal.
        output: What it wrote, as far as that can be read.
        log: The file with it, on its node.
    """

    owner: str
    status: int
    output: str
    log: str | None


@dataclass(frozen=True)
class PlaceState:
    """What a place answers.

    Attributes:
        failure: Why it starts no worker any more; "" if it does.
        ended: The workers that have ended since the last answer.
    """

    failure: str
    ended: Sequence[EndedWorker]


class Place:
    """Starts a worker, and another one when it crashes; Ray makes it anew on another node when its node dies.

    It needs no run: when no trial is left it removes itself, and so gives its CPUs and GPUs back.

    Args:
        arguments: Command line of `search.worker`, without `--device` and `--owner`.
        device: What torch calls the device; "" for the card that Ray gives, or the CPU.
        environment: Variables of the worker, which may hold the password of the database.
        folder: Where the worker runs, if the node has it, as nodes with a shared file system do; "" for Ray's folder.
    """

    def __init__(self, arguments: Sequence[str], device: str, environment: Mapping[str, str], folder: str) -> None:
        context = ray.get_runtime_context()
        self._itself = context.current_actor
        self._node = context.get_node_id()[:8]
        self._device = device or ("cuda:0" if ray.get_gpu_ids() else "cpu")
        self._arguments, self._environment = arguments, child_environment(environment)
        self._folder = folder if folder and Path(folder).is_dir() else None
        self._lock = threading.Lock()
        self._process: subprocess.Popen[bytes] | None = None
        self._ended: list[EndedWorker] = []
        self._failure = ""
        self._is_told = threading.Event()
        self._thread = threading.Thread(target=self._work, name="worker", daemon=True)
        self._thread.start()

    def state(self) -> PlaceState:
        """What has happened since the last call."""
        with self._lock:
            ended, self._ended = self._ended, []
        return PlaceState(self._failure, ended)

    def stop(self) -> PlaceState:
        """Ask the worker to hand its trial back, and wait for its end; it is killed if it takes too long."""
        with self._lock:
            self._is_told.set()
            if self._process is not None:
                self._process.terminate()
        self._thread.join(STOP_GRACE_S)
        if self._thread.is_alive() and self._process is not None:
            self._process.kill()
            self._thread.join()
        return self.state()

    def _work(self) -> None:
        crashes = 0
        for number in itertools.count():
            ended = self._run_worker(number)
            if self._is_told.is_set() or ended is None:
                return
            status = ended.status
            if status == 0:
                break
            crashes += status not in (EXIT_STOPPED, EXIT_SPOILED)
            if status == EXIT_USAGE or crashes >= MAX_CRASHES:
                last = last_line(ended.output)
                self._failure = f"a worker on Ray's node {self._node} ended with {end_text(status)}: {last}"
                self._is_told.wait(LINGER_S)
                break
        ray.kill(self._itself)

    def _run_worker(self, number: int) -> EndedWorker | None:
        """Run a worker to its end; None if a stop came first."""
        owner = f"{os.uname().nodename}/ray-{self._node}-{uuid.uuid4().hex[:8]}-{number}"
        command = [*child_command("search.worker"), *self._arguments, "--device", self._device, "--owner", owner]
        # It writes into this actor's own output, which Ray collects.
        output = log_file()
        start = Path(output).stat().st_size if output else 0
        with self._lock:
            if self._is_told.is_set():
                return None
            self._process = subprocess.Popen(
                [*command, "--parent", str(os.getpid())],
                cwd=self._folder,
                env=self._environment,
                stdin=subprocess.DEVNULL,
            )
        status = self._process.wait()
        ended = EndedWorker(owner, status, log_since(Path(output), start)[-MAX_OUTPUT:] if output else "", output)
        with self._lock:
            self._ended.append(ended)
        return ended
