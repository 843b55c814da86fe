"""`--launcher kubernetes` with the real kubectl, against an API server in memory."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from kubernetes_api import KubernetesApi, served

from search.errors import UsageError, WorkersKeepCrashing
from search.launchers import kubernetes
from search.launchers.kubernetes import KubernetesLauncher
from search.launchers.kubernetes_status import read_job
from search.launchers.protocol import Places, WorkerJob
from search.launchers.registry import make_launcher

pytestmark = pytest.mark.engines

STORAGE = "postgresql://me:hush@host/db"
SETTINGS = {"image": "registry.example.org/lm-search:0.2.0", "secret": "lm-search"}


@pytest.fixture
def api(kubectl: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[KubernetesApi]:
    api = KubernetesApi()
    monkeypatch.setattr(kubernetes, "POLL_S", 0.0)
    monkeypatch.setattr(kubernetes, "SUBMIT_AGAIN_S", 0.0)
    with served(api, tmp_path) as environment:
        for name, value in environment.items():
            monkeypatch.setenv(name, value)
        yield api


@dataclass
class Queue:
    """How many trials have not ended."""

    left: int

    def job(self, folder: Path, study: str = "small") -> WorkerJob:
        return WorkerJob(
            ["--study", study, "--out", "/home/me"],
            STORAGE,
            folder / "logs",
            on_death=lambda owner, failure=None: 0,
            unfinished=lambda: self.left,
            study=study,
            remote_arguments=["--study", study],
        )


def launcher(workers: str = "4", **settings: Any) -> KubernetesLauncher:
    made = make_launcher("kubernetes", Places(workers=workers, settings={**SETTINGS, **settings}, storage=STORAGE))
    assert isinstance(made, KubernetesLauncher)
    return made


def completions(api: KubernetesApi) -> dict[str, int]:
    return {name: job["spec"]["completions"] for name, job in api.jobs.items()}


def test_jobs_of_a_study_from_its_start_to_its_stop(api: KubernetesApi, tmp_path: Path) -> None:
    queue = Queue(3)
    first = launcher()
    assert api.jobs == {}, "the check before the start creates nothing"
    first.start(queue.left, queue.job(tmp_path))
    assert completions(api) == {"lm-search-small-1": 3}
    assert first.running == 3
    stored = json.dumps(api.jobs)
    assert "hush" not in stored
    assert "/home/me" not in stored

    # The same command again finds the workers; another study has its own.
    second, other = launcher(), launcher()
    second.start(queue.left, queue.job(tmp_path))
    assert (second.running, len(api.jobs)) == (3, 1)
    assert second.detach().startswith("3 workers; kubectl get job lm-search-small-1 shows them, kubectl delete job lm-")
    other.start(1, queue.job(tmp_path, "other"))
    assert completions(api) == {"lm-search-small-1": 3, "lm-search-other-1": 1}

    # The queue grows; never more workers than trials or than --workers.
    second.tend()
    queue.left = 100
    second.tend()
    second.tend()
    assert completions(api) == {"lm-search-small-1": 3, "lm-search-other-1": 1, "lm-search-small-2": 1}
    assert second.running == 4

    second.stop()
    assert list(api.jobs) == ["lm-search-other-1"]
    assert second.running == 0
    second.stop()


def test_the_same_study_in_two_databases_of_one_namespace(api: KubernetesApi, tmp_path: Path) -> None:
    first, second = launcher(), launcher(secret="other-database")
    first.start(2, Queue(2).job(tmp_path))
    second.start(3, Queue(3).job(tmp_path))
    assert (first.running, second.running, sorted(completions(api).values())) == (2, 3, [2, 3])


def test_workers_that_have_ended_are_not_counted(api: KubernetesApi, tmp_path: Path) -> None:
    queue = Queue(4)
    run = launcher()
    run.start(4, queue.job(tmp_path))
    api.set_status("lm-search-small-1", succeeded=1, failedIndexes="2")
    queue.left = 1
    run.tend()
    assert run.running == 2
    api.set_status("lm-search-small-1", succeeded=4, conditions=[{"type": "Complete", "status": "True"}])
    queue.left = 0
    run.tend()
    assert run.running == 0
    queue.left = 2  # further seeds were planned
    run.tend()
    assert completions(api) == {"lm-search-small-1": 4, "lm-search-small-2": 2}


def test_a_job_that_fails_is_explained(api: KubernetesApi, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    queue = Queue(2)
    run = launcher()
    run.start(2, queue.job(tmp_path))
    failed = {"type": "Failed", "status": "True", "reason": "PodFailurePolicy", "message": "exited with exit code 2"}
    api.set_status("lm-search-small-1", conditions=[failed])
    for pod, code in (("stopped", 75), ("refused", 2), ("killed", 137), ("done", 0)):
        api.add_pod("lm-search-small-1", pod, containerStatuses=[{"state": {"terminated": {"exitCode": code}}}])
        api.logs[pod] = f"starting\nerror: {pod}\n"
    message = (
        r"^Kubernetes Job lm-search-small-1 failed: PodFailurePolicy: exited with exit code 2: error: refused; "
        r"log: kubectl logs refused$"
    )
    with pytest.raises(WorkersKeepCrashing, match=message):
        run.tend()
    assert "a worker ended with exit code 137: error: killed; log: kubectl logs killed" in caplog.messages
    # With the error corrected, the same command starts others, and leaves the log.
    again = launcher()
    again.start(2, queue.job(tmp_path))
    again.tend()
    assert completions(api) == {"lm-search-small-1": 2, "lm-search-small-2": 2}


def test_a_job_that_a_person_deletes_is_not_replaced(api: KubernetesApi, tmp_path: Path) -> None:
    run = launcher()
    run.start(2, Queue(2).job(tmp_path))
    del api.jobs["lm-search-small-1"]
    run.tend()
    assert (api.jobs, run.running) == ({}, 0)


def test_why_a_worker_waits_is_said_once(api: KubernetesApi, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    run = launcher()
    run.start(3, Queue(3).job(tmp_path))
    missing = {"reason": "CreateContainerConfigError", "message": 'secret "lm-search" not found'}
    unplaced = {"type": "PodScheduled", "status": "False", "reason": "Unschedulable", "message": "0/3 nodes available"}
    states: list[dict[str, Any]] = [
        {"containerStatuses": [{"state": {"waiting": missing}}]},
        {"containerStatuses": [{"state": {"waiting": {"reason": "ContainerCreating"}}}]},
        {"conditions": [unplaced]},
    ]
    for number, status in enumerate(states):
        api.add_pod("lm-search-small-1", f"pod-{number}", phase="Pending", **status)
    run.tend()
    run.tend()  # nothing new
    waits = [record.message for record in caplog.records if "waits" in record.message]
    assert waits == [
        'a worker waits: CreateContainerConfigError: secret "lm-search" not found',
        "a worker waits: Unschedulable: 0/3 nodes available",
    ]


def test_what_the_cluster_refuses_is_said_before_anything_is_planned(api: KubernetesApi) -> None:
    with pytest.raises(UsageError, match=r"^--launcher kubernetes: .*priorityClas.*; change \[launcher\], or --set "):
        launcher(pod={"priorityClas": "low"})
    with pytest.raises(
        UsageError, match=r'^--launcher kubernetes: no cluster answers: .*"moon".*; choose one with --set'
    ):
        launcher(context="moon")


def test_a_cluster_that_does_not_answer(api: KubernetesApi, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    run, late = launcher(), launcher()
    run.start(2, Queue(2).job(tmp_path))
    monkeypatch.setattr(api, "answer", lambda *_: (503, "away"))
    run.tend()
    assert run.running == 2, "what was known stays"
    with pytest.raises(UsageError, match=r"^--launcher kubernetes: the cluster did not list the Jobs that are there"):
        late.start(2, Queue(2).job(tmp_path))
    with pytest.raises(UsageError, match=r"^--launcher kubernetes: no cluster answers: [^;]*; choose one with --set"):
        launcher()


@pytest.mark.parametrize(
    ("status", "workers"),
    [
        ({}, 8),
        ({"succeeded": 3}, 5),
        ({"succeeded": 1, "failedIndexes": "0,2-4,7"}, 2),
        ({"succeeded": 8, "conditions": [{"type": "Complete", "status": "False"}]}, 0),
        ({"conditions": [{"type": "Failed", "status": "True", "reason": "FailedIndexes"}]}, 0),
    ],
)
def test_workers_of_a_job(status: dict[str, Any], workers: int) -> None:
    job = {"metadata": {"name": "a"}, "spec": {"completions": 8}, "status": status}
    assert read_job(job).workers == workers
