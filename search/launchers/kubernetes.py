"""Starts workers as the pods of Kubernetes Jobs, through kubectl; the cluster alone knows which there are."""

from __future__ import annotations

import itertools
import json
import logging
import shutil
import subprocess
import time
from collections.abc import Mapping
from typing import Any

import yaml

from search.errors import EXIT_USAGE, UsageError, WorkersKeepCrashing
from search.launchers.kubernetes_job import job_manifest, job_name, labels, read_kubernetes_settings
from search.launchers.kubernetes_status import JobStatus, crashed_pods, read_job, reasons_to_wait
from search.launchers.protocol import Places, WorkerJob
from search.launchers.settings import device_of, most_workers
from search.storage.dialects import backend_name, dialect_of
from search.storage.url import display_url, parse_url
from search.workers.failure_records import last_line

log = logging.getLogger("search.run")

POLL_S = 5.0
SUBMIT_AGAIN_S = 15.0
REQUEST_S = 30
# Longer than the pods have to hand their trials back.
DELETION_S = 120


class KubernetesLauncher:
    """Indexed Jobs of workers, at most one pod per waiting trial; another Job when the queue grows.

    Kubernetes starts a worker again after a preemption, a drained node or a crash. The workers go on if this program is
    killed: the same command finds them by their labels and watches them.

    Args:
        places: `workers` is the number of pods; `devices` is "auto" (the card that `gpus` asks for, else the CPU),
            "cpu" or "cuda"; `settings` are those of `search.launchers.kubernetes_job.KubernetesSettings`.

    Raises:
        UsageError: There is no kubectl or no cluster, or a setting is wrong.
    """

    def __init__(self, places: Places) -> None:
        self._settings = read_kubernetes_settings(places.settings)
        given = device_of(places, "Kubernetes", "launcher.gpus asks for cards")
        self._device = given or ("cuda:0" if self._settings.gpus else "cpu")
        self._most = most_workers(places)
        if places.starts:
            self._check_storage(places.storage)
            self._check_cluster()
        self._jobs: dict[str, JobStatus] = {}
        self._pods: list[Mapping[str, Any]] = []
        # The Jobs that this program has found with workers, or created.
        self._watched: set[str] = set()
        # What the user has been told of.
        self._explained: set[str] = set()
        self._polled_at = self._submitted_at = 0.0

    def _check_storage(self, storage: str) -> None:
        if dialect_of(backend_name(parse_url(storage))).one_host:
            raise UsageError(
                f"--launcher kubernetes: pods cannot share {display_url(storage)}; give --storage postgresql://…, by "
                f"which this machine reaches the database of the Secret {self._settings.secret}"
            )

    def _check_cluster(self) -> None:
        """Ask the cluster, before anything is planned, whether it would take a worker with these settings."""
        if shutil.which("kubectl") is None:
            raise UsageError("--launcher kubernetes: there is no kubectl on this machine; install it, or use --print")
        job = job_manifest(self._settings, 1, [], "check", "lm-search-check")
        done = self._kubectl("create", "--dry-run=server", "--filename=-", manifest=job)
        if done.returncode == 0:
            return
        answer = self._kubectl("version")
        if answer.returncode != 0:
            why = f"no cluster answers: {_one_line(answer.stderr)}; choose one with --set launcher.context=NAME"
        else:
            why = f"{_one_line(done.stderr)}; change [launcher], or --set launcher.KEY=VALUE"
        raise UsageError(f"--launcher kubernetes: {why}")

    @property
    def running(self) -> int:
        """The number of workers that have not ended, those that wait for a node included."""
        return sum(job.workers for job in self._jobs.values())

    def start(self, n: int, job: WorkerJob) -> None:
        """Create pods for n trials, at most one for each, besides those of earlier starts that are still there."""
        self._job = job
        if not self._look():
            raise UsageError("--launcher kubernetes: the cluster did not list the Jobs that are there; start again")
        self._watched = {each.name for each in self._jobs.values() if each.workers}
        self._create(min(n, self._most) - self.running)

    def tend(self) -> None:
        """Look at the Jobs every few seconds, and create another if more trials wait than workers are there.

        Raises:
            WorkersKeepCrashing: A Job failed: its options are wrong, or its workers crashed too often.
        """
        if time.monotonic() < self._polled_at + POLL_S:
            return
        self._look()
        self._watched -= {name for name, each in self._jobs.items() if each.is_complete}
        missing = min(self._job.unfinished(), self._most) - self.running
        if missing < 1:
            return
        watched = [self._jobs.get(name, JobStatus(name, 0)) for name in self._watched]
        for each in watched:
            if each.failure:
                raise WorkersKeepCrashing(self._describe(each))
        # A Job that a person has deleted is not replaced.
        is_deleted = any(each.workers == 0 for each in watched)
        if not is_deleted and time.monotonic() > self._submitted_at + SUBMIT_AGAIN_S:
            self._create(missing)

    def preview(self, n: int, job: WorkerJob) -> str:
        """The manifest of n workers, or of as many as `--workers` allows."""
        return _as_yaml(self._manifest(min(n, self._most), job)).rstrip("\n")

    def _manifest(self, number: int, job: WorkerJob) -> dict[str, Any]:
        names = (job_name(self._settings, job.study, count) for count in itertools.count(1))
        name = next(name for name in names if name not in self._jobs)
        arguments = [*job.remote_arguments, "--device", self._device]
        return job_manifest(self._settings, number, arguments, job.study, name)

    def _create(self, number: int) -> None:
        if number < 1:
            return
        manifest = self._manifest(number, self._job)
        name = manifest["metadata"]["name"]
        done = self._kubectl("create", "--filename=-", manifest=manifest)
        if done.returncode != 0:
            raise UsageError(f"--launcher kubernetes: the workers were refused: {_one_line(done.stderr)}")
        self._jobs[name] = JobStatus(name, number)
        self._watched.add(name)
        self._submitted_at = time.monotonic()
        log.warning("Kubernetes Job %s: %d workers; logs: kubectl logs --selector=job-name=%s", name, number, name)

    def _look(self) -> bool:
        """Read the Jobs and pods of the study; what was read before stays if the cluster does not answer.

        Returns:
            Whether it answered.
        """
        self._polled_at = time.monotonic()
        done = self._kubectl("get", "jobs,pods", f"--selector={self._selector()}", "--output=json")
        if done.returncode != 0:
            self._say_once(f"kubectl: {_one_line(done.stderr)}")
            return False
        items = json.loads(done.stdout)["items"]
        found = [read_job(each) for each in items if each["kind"] == "Job"]
        self._jobs = {each.name: each for each in found}
        self._pods = [each for each in items if each["kind"] == "Pod"]
        self._explain_pods()
        return True

    def _explain_pods(self) -> None:
        """Say why workers do not start, and why they crash: Kubernetes tries again for hours."""
        for reason in reasons_to_wait(self._pods):
            self._say_once(f"a worker waits: {reason}")
        for job in self._watched:
            for code, pod in crashed_pods(self._pods, job):
                if code != EXIT_USAGE and pod not in self._explained:  # wrong options end the run, with this line
                    self._explained.add(pod)
                    log.warning("a worker ended with exit code %d: %s", code, self._last_line_of(pod))

    def _say_once(self, what: str) -> None:
        if what not in self._explained:
            self._explained.add(what)
            log.warning("%s", what)

    def _describe(self, job: JobStatus) -> str:
        """Why a Job failed, with the last line of a worker that did."""
        ended = f"Kubernetes Job {job.name} failed: {job.failure}"
        pods = crashed_pods(self._pods, job.name)
        return f"{ended}: {self._last_line_of(pods[0][1])}" if pods else ended

    def _last_line_of(self, pod: str) -> str:
        return f"{last_line(self._kubectl('logs', pod, '--tail=20').stdout)}; log: kubectl logs {pod}"

    def detach(self) -> str:
        """Leave the workers to Kubernetes.

        Returns:
            How to look after them.
        """
        names = " ".join(name for name, job in self._jobs.items() if job.workers)
        return f"{self.running} workers; kubectl get job {names} shows them, kubectl delete job {names} ends them"

    def stop(self) -> None:
        """Delete the Jobs whose workers have not ended, and wait for their pods; each hands its trial back."""
        names = [name for name, job in self._jobs.items() if job.workers]
        if not names:
            return
        options = ["--ignore-not-found", "--cascade=foreground", f"--timeout={DELETION_S}s"]
        done = self._kubectl("delete", "job", *names, *options, limit_s=DELETION_S)
        if done.returncode != 0:
            log.warning("kubectl delete job %s: %s", " ".join(names), _one_line(done.stderr))
        self._jobs.clear()

    def _selector(self) -> str:
        return ",".join(f"{key}={value}" for key, value in labels(self._settings, self._job.study).items())

    def _kubectl(
        self, *arguments: str, manifest: Mapping[str, Any] | None = None, limit_s: int = REQUEST_S
    ) -> subprocess.CompletedProcess[str]:
        """Run kubectl; a cluster that does not answer in time is a failed command."""
        where = {"context": self._settings.context, "namespace": self._settings.namespace}
        options = [f"--{name}={value}" for name, value in where.items() if value is not None]
        command = ["kubectl", *options, f"--request-timeout={limit_s}s", *arguments]
        try:
            return subprocess.run(
                command,
                input="" if manifest is None else _as_yaml(manifest),
                capture_output=True,
                text=True,
                check=False,
                timeout=2 * limit_s,
                start_new_session=True,  # Ctrl-C is for this program, which then deletes its Jobs
            )
        except subprocess.TimeoutExpired:
            return subprocess.CompletedProcess(command, 1, "", f"kubectl did not end within {2 * limit_s} s")


def _as_yaml(manifest: Mapping[str, Any]) -> str:
    text: str = yaml.safe_dump(manifest, sort_keys=False, width=120)
    return text


def _one_line(answer: str) -> str:
    return " ".join(answer.split()) or "no message"
