"""The Job of Kubernetes workers: what a site's settings are, and what a pod may do.

`deploy/helm/lm-search` has the same Job as a template; a test compares the two.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Mapping, Sequence
from typing import Annotated, Any, Literal

from pydantic import Field, field_validator

from search.errors import EXIT_SPOILED, EXIT_STOPPED, EXIT_USAGE
from search.launchers.settings import LauncherSettings, read_launcher_settings

# Crashes of a worker, besides the ends that the policy ignores, after which it is not started again.
MAX_RESTARTS = 20
# A worker stops within 20 s, usually at once.
GRACE_S = 60
# A pod starts while the database may be moving to another node; its worker waits as long as a running one would.
STORAGE_WAIT_S = 600
# An ended Job stays for its logs.
KEPT_S = 86_400
USER = 10001  # of the image
WRITABLE = {"out": "/out", "tmp": "/tmp"}
COMPONENT = {"app.kubernetes.io/name": "lm-search", "app.kubernetes.io/component": "worker"}
STUDY_LABEL, SECRET_LABEL = "lm-search/study", "lm-search/secret"
# The one that the documentation makes: names of Jobs have no part for it, so that they stay short.
USUAL_SECRET = "lm-search"
SECRET_EXAMPLE = (
    f"kubectl create secret generic {USUAL_SECRET} --from-env-file=FILE, with the line "
    "SEARCH_STORAGE=postgresql://user:password@host/database in FILE"
)
# Label and value of the nodes that a provider may take away; pods must tolerate a taint that is the same.
SPOT_NODES = {
    "aks": ("kubernetes.azure.com/scalesetpriority", "spot"),
    "eks": ("eks.amazonaws.com/capacityType", "SPOT"),
    "gke": ("cloud.google.com/gke-spot", "true"),
    "karpenter": ("karpenter.sh/capacity-type", "spot"),
}
_QUANTITY = re.compile(r"\d+(\.\d+)?(m|[kMGTPE]|[KMGTPE]i)?")

Label = Annotated[str, Field(pattern=r"^[a-z0-9]([a-z0-9.-]{0,61}[a-z0-9])?$")]


# Fields of the pod without which there is no worker.
OWN_FIELDS = ("containers", "restartPolicy", "volumes")


class KubernetesSettings(LauncherSettings):
    """What `[launcher]` of a study file says to Kubernetes."""

    image: str = Field(min_length=1, description="give the image of the workers, which has lm-search and your modules")
    # Its keys become environment variables of the workers: SEARCH_STORAGE, and what a bucket needs.
    secret: Label = Field(description=f"name the Secret with the database's URL; make one with: {SECRET_EXAMPLE}")
    # Those of kubectl's configuration unless given.
    context: str | None = None
    namespace: Label | None = None
    # Of each worker; requested, and its limit.
    cpu: str | int | float = 1
    memory: str | int = "2Gi"
    gpus: int = Field(default=0, ge=0)
    gpu_resource: str = "nvidia.com/gpu"
    # Nodes that may be taken away at any time, and whose they are.
    spot: Literal["aks", "eks", "gke", "karpenter"] | None = None
    node_selector: dict[str, str] = Field(default={})
    tolerations: list[dict[str, str | int]] = Field(default=[])
    # A PersistentVolumeClaim that all workers can write, for checkpoints and artifacts, which otherwise end with a pod.
    volume: Label | None = None
    service_account: Label | None = None
    # Further fields of the pod, such as priorityClassName; they replace those that are there.
    pod: dict[str, Any] = Field(default={})

    @field_validator("cpu", "memory")
    @classmethod
    def _check_quantity(cls, quantity: str | int | float) -> str | int | float:
        if not _QUANTITY.fullmatch(str(quantity)):
            raise ValueError("give a quantity such as 500m, 2, 2Gi or 512M")
        return quantity

    @field_validator("image")
    @classmethod
    def _check_image(cls, image: str) -> str:
        if not re.fullmatch(r"\S+", image):
            raise ValueError("give the name of an image, such as registry.example.org/search:1")
        return image

    @field_validator("pod")
    @classmethod
    def _check_pod(cls, pod: dict[str, Any]) -> dict[str, Any]:
        if own := [name for name in OWN_FIELDS if name in pod]:
            raise ValueError(f"{own[0]} is what the launcher makes; remove it from launcher.pod")
        return pod


def read_kubernetes_settings(values: Mapping[str, Any]) -> KubernetesSettings:
    """Validate `[launcher]` for Kubernetes.

    Raises:
        UsageError: A name or a value is wrong, or a value is missing.
    """
    hint = "; any other field of the pod goes into launcher.pod"
    return read_launcher_settings(KubernetesSettings, "Kubernetes", values, hint)


def label_of(study: str) -> str:
    """The name of a study as a label, and as a part of the names of its Jobs; different for different studies."""
    label = re.sub(r"[^a-z0-9]+", "-", study.lower())[:24].strip("-") or "study"
    return label if label == study else f"{label}-{_digest(study)}"


def job_name(settings: KubernetesSettings, study: str, count: int) -> str:
    """The name of a Job; different where `labels` are, so that one namespace holds the Jobs of several databases."""
    database = "" if settings.secret == USUAL_SECRET else f"-{_digest(settings.secret)}"
    return f"lm-search-{label_of(study)}{database}-{count}"


def _digest(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()[:6]


def labels(settings: KubernetesSettings, study: str) -> dict[str, str]:
    """The labels of the Jobs and pods of one study in one database."""
    return {**COMPONENT, STUDY_LABEL: label_of(study), SECRET_LABEL: settings.secret}


def job_manifest(
    settings: KubernetesSettings, number: int, arguments: Sequence[str], study: str, name: str
) -> dict[str, Any]:
    """The manifest of a Job with a worker in each of its pods.

    Args:
        settings: Of the study file.
        number: How many workers.
        arguments: Command line of `search.worker`.
        study: The study's name in the database.
        name: The Job's name.
    """
    return {
        "apiVersion": "batch/v1",
        "kind": "Job",
        "metadata": {
            "name": name,
            **({"namespace": settings.namespace} if settings.namespace else {}),
            "labels": labels(settings, study),
        },
        "spec": {
            "completions": number,
            "parallelism": number,
            # A worker that ends with 0 has found no trial left, and its index is never started again.
            "completionMode": "Indexed",
            "backoffLimitPerIndex": MAX_RESTARTS,
            "podReplacementPolicy": "Failed",
            "podFailurePolicy": {"rules": _failure_rules()},
            "ttlSecondsAfterFinished": KEPT_S,
            "template": {
                "metadata": {"labels": labels(settings, study)},
                "spec": {**_pod(settings, arguments), **settings.pod},
            },
        },
    }


def _failure_rules() -> list[dict[str, Any]]:
    """What the end of a pod means; the first rule that matches counts."""
    return [
        # Drained, preempted or evicted: no fault of the worker.
        {"action": "Ignore", "onPodConditions": [{"type": "DisruptionTarget", "status": "True"}]},
        {"action": "FailJob", "onExitCodes": {"operator": "In", "values": [EXIT_USAGE]}},
        {"action": "Ignore", "onExitCodes": {"operator": "In", "values": [EXIT_SPOILED, EXIT_STOPPED]}},
    ]


def _pod(settings: KubernetesSettings, arguments: Sequence[str]) -> dict[str, Any]:
    selector, tolerations = dict(settings.node_selector), list(settings.tolerations)
    if settings.spot is not None:
        key, value = SPOT_NODES[settings.spot]
        selector[key] = value
        tolerations.append({"key": key, "operator": "Equal", "value": value, "effect": "NoSchedule"})
    out = {"persistentVolumeClaim": {"claimName": settings.volume}} if settings.volume else {"emptyDir": {}}
    return {
        "restartPolicy": "Never",
        "terminationGracePeriodSeconds": GRACE_S,
        "automountServiceAccountToken": False,
        **({"serviceAccountName": settings.service_account} if settings.service_account else {}),
        # A Service called "search" would otherwise set variables that begin like those of our options.
        "enableServiceLinks": False,
        # The first process of a pod then reaps what a trial's programs leave, which a worker does not.
        "shareProcessNamespace": True,
        "securityContext": {
            "runAsNonRoot": True,
            "runAsUser": USER,
            "runAsGroup": USER,
            "fsGroup": USER,
            # Otherwise each pod would walk through all files of a volume as it starts.
            "fsGroupChangePolicy": "OnRootMismatch",
            "seccompProfile": {"type": "RuntimeDefault"},
        },
        **({"nodeSelector": selector} if selector else {}),
        **({"tolerations": tolerations} if tolerations else {}),
        "containers": [_container(settings, arguments)],
        "volumes": [{"name": "out", **out}, {"name": "tmp", "emptyDir": {}}],
    }


def _container(settings: KubernetesSettings, arguments: Sequence[str]) -> dict[str, Any]:
    given = {"cpu": str(settings.cpu), "memory": str(settings.memory)}
    if settings.gpus:
        given[settings.gpu_resource] = str(settings.gpus)
    # Files of a trial that end with its pod would be missed later: its record in the database suffices for a replay.
    kept = [] if settings.volume or "--artifacts" in arguments else ["--artifacts", "none"]
    return {
        "name": "worker",
        "image": settings.image,
        "command": ["lm-search", "worker"],
        "args": ["--storage-wait", str(STORAGE_WAIT_S), *kept, *arguments],
        "env": [{"name": "SEARCH_OUT", "value": WRITABLE["out"]}, {"name": "HOME", "value": WRITABLE["tmp"]}],
        "envFrom": [{"secretRef": {"name": settings.secret}}],
        "resources": {"requests": dict(given), "limits": dict(given)},
        "securityContext": {
            "allowPrivilegeEscalation": False,
            "capabilities": {"drop": ["ALL"]},
            "readOnlyRootFilesystem": True,
        },
        "volumeMounts": [{"name": name, "mountPath": path} for name, path in WRITABLE.items()],
    }
