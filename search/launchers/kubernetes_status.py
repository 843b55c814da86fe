"""What a Kubernetes cluster says of Jobs and pods, as far as a launcher needs it."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from search.errors import EXIT_SPOILED, EXIT_STOPPED

# Reasons of a container that is on its way.
STARTING = frozenset({"ContainerCreating", "PodInitializing"})


@dataclass(frozen=True)
class JobStatus:
    """A Job of the study, as the cluster describes it.

    Attributes:
        workers: How many of its workers have not ended; pods that wait for a node are among them.
        is_complete: Whether all of them have found no trial left.
        failure: Why the Job failed; "" if it did not.
    """

    name: str
    workers: int
    is_complete: bool = False
    failure: str = ""


def read_job(job: Mapping[str, Any]) -> JobStatus:
    """The state of a Job.

    Args:
        job: As `kubectl get job --output=json` prints it.
    """
    name, status = job["metadata"]["name"], job.get("status", {})
    true = {each["type"]: each for each in status.get("conditions", []) if each["status"] == "True"}
    if "Failed" in true:
        return JobStatus(name, 0, failure=_reason(true["Failed"]))
    if "Complete" in true or "deletionTimestamp" in job["metadata"]:
        return JobStatus(name, 0, is_complete="Complete" in true)
    ended = status.get("succeeded", 0) + _count_indexes(status.get("failedIndexes", ""))
    return JobStatus(name, job["spec"]["completions"] - ended)


def _count_indexes(text: str) -> int:
    """How many indexes a text such as "1,3-5" names."""
    ends = [each.split("-") for each in text.split(",") if each]
    return sum(int(each[-1]) - int(each[0]) + 1 for each in ends)


def crashed_pods(pods: Iterable[Mapping[str, Any]], job: str) -> list[tuple[int, str]]:
    """The pods of a Job whose workers have crashed or refused their options.

    Returns:
        Exit code and name of each; wrong options, which are the smallest number, come first.
    """
    return sorted(
        (state["terminated"]["exitCode"], pod["metadata"]["name"])
        for pod in pods
        if pod["metadata"].get("labels", {}).get("job-name") == job
        for container in pod.get("status", {}).get("containerStatuses", [])
        if "terminated" in (state := container.get("state", {}))
        if state["terminated"]["exitCode"] not in (0, EXIT_SPOILED, EXIT_STOPPED)
    )


def reasons_to_wait(pods: Iterable[Mapping[str, Any]]) -> Iterator[str]:
    """Why pods do not start: no node has room, the image is missing, the Secret is missing."""
    for pod in pods:
        status = pod.get("status", {})
        for each in status.get("containerStatuses", []):
            waiting = each.get("state", {}).get("waiting", {})
            if waiting.get("reason", "") not in ("", *STARTING):
                yield _reason(waiting)
        for each in status.get("conditions", []):
            if (each["type"], each["status"]) == ("PodScheduled", "False"):
                yield _reason(each)


def _reason(state: Mapping[str, Any]) -> str:
    """The reason of a condition or state, and its message."""
    return ": ".join(str(state[key]) for key in ("reason", "message") if state.get(key))
