"""What an API server and a careful site refuse in a manifest, besides what the schemas of Kubernetes say."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from typing import Any

import kubernetes_validate

VERSIONS = ("1.31", "1.34", "1.37")
NAME = re.compile(r"[a-z0-9]([-a-z0-9]{0,61}[a-z0-9])?")
LABEL_VALUE = re.compile(r"([A-Za-z0-9]([-A-Za-z0-9_.]{0,61}[A-Za-z0-9])?)?")
QUANTITY = re.compile(r"\d+(\.\d+)?(m|[kMGTPE]|[KMGTPE]i)?")
ACTIONS = {"FailJob", "FailIndex", "Ignore", "Count"}

Manifest = Mapping[str, Any]


def faults(document: Manifest) -> list[str]:
    """Everything that is wrong with a manifest."""
    return [*schema_faults(document), *server_faults(document), *policy_faults(document)]


def schema_faults(document: Manifest) -> list[str]:
    """What the schemas of several versions of Kubernetes say, unknown fields included."""
    found = []
    for version in VERSIONS:
        try:
            kubernetes_validate.validate(document, version, strict=True)
        except kubernetes_validate.ValidationError as error:
            found.append(f"{version}: {error.message}")
    return found


def server_faults(document: Manifest) -> list[str]:
    """What an API server refuses although the schemas allow it."""
    found = [] if NAME.fullmatch(document["metadata"]["name"]) else ["metadata.name is no DNS label"]
    found += [f"label {name} = {value!r}" for name, value in _labels(document) if not LABEL_VALUE.fullmatch(value)]
    pod = pod_of(document)
    if pod is not None:
        volumes = {volume["name"] for volume in pod.get("volumes", [])} | {
            claim["metadata"]["name"] for claim in document["spec"].get("volumeClaimTemplates", [])
        }
        for container in containers_of(pod):
            found += [
                f"no volume {mount['name']}" for mount in container["volumeMounts"] if mount["name"] not in volumes
            ]
            for kind in ("requests", "limits"):
                found += [
                    f"quantity {value!r}"
                    for value in container["resources"][kind].values()
                    if not QUANTITY.fullmatch(value)
                ]
    return found + (list(_job_faults(document)) if document["kind"] == "Job" else [])


def _labels(document: Manifest) -> Iterator[tuple[str, str]]:
    yield from document["metadata"].get("labels", {}).items()
    template = document.get("spec", {}).get("template", {})
    yield from template.get("metadata", {}).get("labels", {}).items()


def _job_faults(job: Manifest) -> Iterator[str]:
    spec = job["spec"]
    pod = spec["template"]["spec"]
    if spec.get("completionMode", "NonIndexed") not in ("Indexed", "NonIndexed"):
        yield f"completionMode {spec['completionMode']}"
    if "backoffLimitPerIndex" in spec and spec.get("completionMode") != "Indexed":
        yield "backoffLimitPerIndex without Indexed"
    if len(f"{job['metadata']['name']}-{spec.get('completions', 1) - 1}") > 63:
        yield "the pods' host names are too long"
    if "podFailurePolicy" not in spec:
        return
    if pod.get("restartPolicy") != "Never":
        yield "podFailurePolicy needs restartPolicy Never"
    if spec.get("podReplacementPolicy", "Failed") != "Failed":
        yield "podFailurePolicy needs podReplacementPolicy Failed"
    for rule in spec["podFailurePolicy"]["rules"]:
        yield from _rule_faults(rule, {container["name"] for container in containers_of(pod)})


def _rule_faults(rule: Mapping[str, Any], containers: set[str]) -> Iterator[str]:
    if rule["action"] not in ACTIONS:
        yield f"action {rule['action']}"
    if len(rule.keys() & {"onExitCodes", "onPodConditions"}) != 1:
        yield "a rule has either onExitCodes or onPodConditions"
    codes = rule.get("onExitCodes")
    if codes is None:
        return
    if codes["operator"] not in ("In", "NotIn"):
        yield f"operator {codes['operator']}"
    if codes["operator"] == "In" and 0 in codes["values"]:
        yield "exit code 0 cannot be a failure"
    if codes["values"] != sorted(set(codes["values"])):
        yield "exit codes are not sorted"
    if codes.get("containerName", min(containers)) not in containers:
        yield f"no container {codes['containerName']}"


def policy_faults(document: Manifest) -> list[str]:
    """What the restricted Pod Security Standard forbids, and what this project does without."""
    pod = pod_of(document)
    if pod is None:
        return []
    security = pod.get("securityContext", {})
    found = []
    if security.get("runAsNonRoot") is not True or not security.get("runAsUser"):
        found.append("may run as root")
    if security.get("seccompProfile") != {"type": "RuntimeDefault"}:
        found.append("no seccomp profile")
    if pod.get("automountServiceAccountToken") is not False:
        found.append("mounts a token")
    found += [f"{name} is set" for name in ("hostNetwork", "hostPID", "hostIPC") if pod.get(name)]
    found += [f"host folder in {each['name']}" for each in pod.get("volumes", []) if "hostPath" in each]
    for container in containers_of(pod):
        found += [f"{container['name']}: {each}" for each in _container_faults(container)]
    return found


def _container_faults(container: Mapping[str, Any]) -> Iterator[str]:
    security = container.get("securityContext", {})
    if security.get("allowPrivilegeEscalation") is not False or security.get("privileged"):
        yield "may gain privileges"
    if security.get("capabilities") != {"drop": ["ALL"]}:
        yield "keeps capabilities"
    if security.get("readOnlyRootFilesystem") is not True:
        yield "can write the root file system"
    resources = container.get("resources", {})
    for kind in ("requests", "limits"):
        if not {"cpu", "memory"} <= resources.get(kind, {}).keys():
            yield f"no {kind}"
    for variable in container.get("env", []):
        if re.search("password|storage|token", variable["name"], re.IGNORECASE) and "value" in variable:
            yield f"{variable['name']} in plain text"


def pod_of(document: Manifest) -> Mapping[str, Any] | None:
    """The pod that a manifest makes; None if it makes none."""
    spec: Mapping[str, Any] | None = document.get("spec", {}).get("template", {}).get("spec")
    return spec


def containers_of(pod: Mapping[str, Any]) -> list[Mapping[str, Any]]:
    """The containers of a pod, those included that run before the others."""
    return [*pod.get("initContainers", []), *pod["containers"]]
