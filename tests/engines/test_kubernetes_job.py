"""The Job that `--launcher kubernetes` submits, and what `--print` shows of it."""

from __future__ import annotations

import copy
import re
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml
from kubernetes_rules import faults
from study_files import FAKE_STUDY, write_corpus, write_study

from search.errors import UsageError
from search.launchers.kubernetes_job import job_manifest, job_name, label_of, read_kubernetes_settings
from search.launchers.protocol import Places
from search.launchers.registry import make_launcher
from search.options import RunOptions
from search.service import preview

NEEDED = {"image": "registry.example.org/lm-search:0.2.0", "secret": "lm-search"}


def job_with(arguments: tuple[str, ...] = ("--study", "a"), number: int = 3, **settings: Any) -> dict[str, Any]:
    read = read_kubernetes_settings({**NEEDED, **settings})
    return job_manifest(read, number, arguments, "a", f"lm-search-{label_of('a')}-1")


SETTINGS: list[dict[str, Any]] = [
    {},
    {"cpu": "500m", "memory": "512M", "namespace": "search", "service_account": "plain"},
    {"gpus": 1, "spot": "gke", "volume": "checkpoints"},
    {"gpus": 2, "gpu_resource": "amd.com/gpu", "spot": "aks", "cpu": 1.5, "memory": 2_000_000_000},
    {"node_selector": {"pool": "a"}, "tolerations": [{"key": "gpu", "operator": "Exists", "effect": "NoSchedule"}]},
    {"pod": {"priorityClassName": "low", "imagePullSecrets": [{"name": "registry"}]}, "spot": "karpenter"},
]


@pytest.mark.parametrize("settings", SETTINGS, ids=str)
def test_schemas_server_and_policies_accept_it(settings: dict[str, Any]) -> None:
    assert faults(job_with(**settings)) == []


def test_what_ends_mean() -> None:
    spec = job_with()["spec"]
    rules = spec["podFailurePolicy"]["rules"]
    assert [rule["action"] for rule in rules] == ["Ignore", "FailJob", "Ignore"]
    assert rules[0]["onPodConditions"] == [{"type": "DisruptionTarget", "status": "True"}]
    assert [rule["onExitCodes"]["values"] for rule in rules[1:]] == [[2], [70, 75]]
    assert (spec["completions"], spec["parallelism"]) == (3, 3)


def test_settings_reach_the_pod() -> None:
    pod = job_with(gpus=1, spot="gke", volume="checkpoints", pod={"priorityClassName": "low"})["spec"]["template"][
        "spec"
    ]
    [container] = pod["containers"]
    assert container["resources"]["limits"] == {"cpu": "1", "memory": "2Gi", "nvidia.com/gpu": "1"}
    assert container["envFrom"] == [{"secretRef": {"name": "lm-search"}}]
    assert pod["nodeSelector"] == {"cloud.google.com/gke-spot": "true"}
    assert pod["tolerations"][0]["key"] == "cloud.google.com/gke-spot"
    assert pod["volumes"][0] == {"name": "out", "persistentVolumeClaim": {"claimName": "checkpoints"}}
    assert pod["priorityClassName"] == "low"


def test_files_that_would_end_with_the_pod_are_not_stored() -> None:
    def arguments(*given: str, **settings: Any) -> list[str]:
        [container] = job_with(given, **settings)["spec"]["template"]["spec"]["containers"]
        found: list[str] = container["args"]
        return found

    assert "none" in arguments("--study", "a")
    assert "none" not in arguments("--study", "a", volume="checkpoints")
    assert arguments("--artifacts", "s3://b/p").count("--artifacts") == 1


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"secret": "a"}, r"^launcher.image is missing: give the image of the workers"),
        (
            {"image": "a"},
            r"^launcher.secret is missing: name the Secret .*; make one with: kubectl create secret generic",
        ),
        ({**NEEDED, "memory": "4Gb"}, r"^launcher.memory = '4Gb': give a quantity such as 500m, 2, 2Gi or 512M$"),
        ({**NEEDED, "spot": "azure"}, r"^launcher.spot = 'azure': Input should be 'aks', 'eks', 'gke' or 'karpenter'$"),
        ({**NEEDED, "secret": "My_Secret"}, r"^launcher.secret = 'My_Secret': String should match"),
        ({**NEEDED, "pod": {"containers": []}}, r"containers is what the launcher makes; remove it from launcher.pod$"),
        ({**NEEDED, "pod": {"restartPolicy": "Always"}}, r"restartPolicy is what the launcher makes"),
        ({**NEEDED, "image": "a b"}, r"^launcher.image = 'a b': give the name of an image, such as"),
        ({**NEEDED, "gpus": -1}, r"^launcher.gpus = -1: Input should be greater than or equal to 0$"),
        (
            {"image": "a", "secrets": "b"},
            r"^launcher.secrets: Kubernetes has no such setting \(did you mean 'secret'\?\); settings: image, secret, "
            r".*; any other field of the pod goes into launcher.pod$",
        ),
    ],
    ids=lambda value: "" if isinstance(value, str) else str(value),
)
def test_wrong_settings(settings: dict[str, Any], message: str) -> None:
    with pytest.raises(UsageError, match=message):
        make_launcher("kubernetes", Places(settings=settings))


@pytest.mark.parametrize(
    ("places", "message"),
    [
        (
            Places("cuda:1", settings=NEEDED),
            r"^--devices cuda:1: with Kubernetes choose auto, cpu or cuda; launcher.gpus asks for cards$",
        ),
        (Places(workers="x", settings=NEEDED), r"^--workers x: give a number from 1 up, or auto$"),
        (
            Places(settings=NEEDED, storage="sqlite:///search.db"),
            r"^--launcher kubernetes: pods cannot share sqlite:///search.db; give --storage postgresql://",
        ),
    ],
    ids=lambda value: "" if isinstance(value, str) else str(value),
)
def test_wrong_options(places: Places, message: str) -> None:
    with pytest.raises(UsageError, match=message):
        make_launcher("kubernetes", places)


def test_without_kubectl(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(
        UsageError, match=r"^--launcher kubernetes: there is no kubectl on this machine; install it, or "
    ):
        make_launcher("kubernetes", Places(settings=NEEDED, storage="postgresql://me@host/db"))


@pytest.mark.parametrize(
    ("study", "label"),
    [("bigram", "bigram"), ("a-1", "a-1"), ("My study/ä", r"my-study-[0-9a-f]{6}"), ("日本", r"study-[0-9a-f]{6}")],
)
def test_any_study_has_a_label_of_its_own(study: str, label: str) -> None:
    assert re.fullmatch(label, label_of(study))
    assert (
        faults(job_manifest(read_kubernetes_settings(NEEDED), 100, [], study, f"lm-search-{label_of(study)}-100")) == []
    )


def test_long_names_that_begin_alike_differ() -> None:
    first, second = label_of("x" * 200), label_of("x" * 201)
    assert first != second
    assert len(first) <= 31


def test_names_of_jobs_differ_by_database_and_are_short_enough() -> None:
    settings = [read_kubernetes_settings({**NEEDED, "secret": secret}) for secret in ("lm-search", "a", "b" * 63)]
    names = [job_name(each, "x" * 200, 100) for each in settings]
    assert len(set(names)) == 3
    assert [faults(job_manifest(settings[0], 100, [], "a", name)) for name in names] == [[]] * 3


BREAKS: dict[str, Callable[[dict[str, Any]], object]] = {
    "needs restartPolicy Never": lambda job: pod(job).update(restartPolicy="OnFailure"),
    "exit code 0": lambda job: rule(job, 1)["onExitCodes"].update(values=[0, 2]),
    "not sorted": lambda job: rule(job, 2)["onExitCodes"].update(values=[75, 70]),
    "no container trainer": lambda job: rule(job, 1)["onExitCodes"].update(containerName="trainer"),
    "action Restart": lambda job: rule(job, 1).update(action="Restart"),
    "operator Within": lambda job: rule(job, 1)["onExitCodes"].update(operator="Within"),
    "either onExitCodes or": lambda job: rule(job, 1).update(onPodConditions=rule(job, 0)["onPodConditions"]),
    "without Indexed": lambda job: job["spec"].pop("completionMode"),
    "completionMode indexed": lambda job: job["spec"].update(completionMode="indexed"),
    "no DNS label": lambda job: job["metadata"].update(name="lm_search"),
    "host names are too long": lambda job: job["metadata"].update(name="x" * 62),
    "quantity '4Gb'": lambda job: container(job)["resources"]["limits"].update(memory="4Gb"),
    "no volume tmp": lambda job: pod(job)["volumes"].pop(),
    "unexpected": lambda job: job["spec"].update(backoffLimitPerIdx=1),
    "may run as root": lambda job: pod(job)["securityContext"].update(runAsUser=0),
    "mounts a token": lambda job: pod(job).pop("automountServiceAccountToken"),
    "no limits": lambda job: container(job)["resources"]["limits"].pop("memory"),
    "may gain privileges": lambda job: container(job)["securityContext"].update(privileged=True),
    "keeps capabilities": lambda job: container(job)["securityContext"].update(capabilities={"add": ["SYS_ADMIN"]}),
    "SEARCH_STORAGE in plain text": lambda job: container(job)["env"].append({"name": "SEARCH_STORAGE", "value": "x"}),
}


def pod(job: dict[str, Any]) -> dict[str, Any]:
    found: dict[str, Any] = job["spec"]["template"]["spec"]
    return found


def container(job: dict[str, Any]) -> dict[str, Any]:
    found: dict[str, Any] = pod(job)["containers"][0]
    return found


def rule(job: dict[str, Any], index: int) -> dict[str, Any]:
    found: dict[str, Any] = job["spec"]["podFailurePolicy"]["rules"][index]
    return found


@pytest.mark.parametrize("fault", BREAKS)
def test_faults_are_noticed(fault: str) -> None:
    job = copy.deepcopy(job_with())
    BREAKS[fault](job)
    assert any(fault in found for found in faults(job)), faults(job)


def options(study: str, *settings: str, **more: Any) -> RunOptions:
    return RunOptions(study=study, settings=settings, print=True, **more)


def test_print_needs_neither_cluster_nor_database(
    work_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setenv("SEARCH_OUT", "elsewhere")
    study = tmp_path / "mine"
    study.mkdir()
    write_corpus(study)
    file = write_study(study, 'corpus = "text.txt"\n' + FAKE_STUDY)
    needed = [f"launcher.{name}={value}" for name, value in NEEDED.items()]
    wanted = options(file, *needed, "launcher.cpu=2", launcher="kubernetes", storage="postgresql://me:hush@host/db")
    text = preview(wanted)
    job = yaml.safe_load(text)
    assert faults(job) == []
    assert job["metadata"]["name"] == "lm-search-small-1"
    assert job["spec"]["completions"] == 9  # 8 cells and a baseline
    assert container(job)["command"] == ["lm-search", "worker"]
    arguments = ["--storage-wait", "600", "--artifacts", "none", "--study", "small", "--corpus", "text.txt"]
    assert container(job)["args"] == [*arguments, "--device", "cpu"]
    assert "hush" not in text
    assert str(tmp_path) not in text
    assert list(work_folder.iterdir()) == []


def test_print_shows_the_script_of_slurm(work_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    text = preview(options("bigram", "launcher.partition=gpu", "launcher.array_limit=8", launcher="slurm", workers="9"))
    assert "#SBATCH --array=0-8%8\n" in text
    assert "#SBATCH --partition=gpu\n" in text
    assert "#SBATCH --job-name=search-bigram\n" in text
    assert list(work_folder.iterdir()) == []


def test_print_of_a_launcher_that_submits_nothing(work_folder: Path) -> None:
    with pytest.raises(UsageError, match=r"^--print: this launcher submits nothing; choose --launcher slurm or kube"):
        preview(options("bigram"))


def test_what_is_printed_is_a_base_for_kustomize(work_folder: Path, kubectl: str) -> None:
    needed = [f"launcher.{name}={value}" for name, value in NEEDED.items()]
    (work_folder / "job.yaml").write_text(preview(options("bigram", *needed, launcher="kubernetes", workers="2")))
    (work_folder / "kustomization.yaml").write_text(
        """
resources: [job.yaml]
namePrefix: team-
images: [{name: registry.example.org/lm-search, newTag: "1"}]
patches:
  - target: {kind: Job}
    patch: |
      - {op: add, path: /spec/template/spec/priorityClassName, value: low}
"""
    )
    assert shutil.which(kubectl)
    done = subprocess.run([kubectl, "kustomize", "."], capture_output=True, text=True, cwd=work_folder)
    assert done.returncode == 0, done.stderr
    job = yaml.safe_load(done.stdout)
    assert faults(job) == []
    assert job["metadata"]["name"] == "team-lm-search-bigram-1"
    assert container(job)["image"] == "registry.example.org/lm-search:1"
    assert pod(job)["priorityClassName"] == "low"


@pytest.mark.parametrize(
    ("devices", "gpus", "device"), [("auto", 0, "cpu"), ("auto", 1, "cuda:0"), ("cpu", 0, "cpu"), ("cuda", 1, "cuda:0")]
)
def test_the_device_of_a_worker(work_folder: Path, devices: str, gpus: int, device: str) -> None:
    needed = [f"launcher.{name}={value}" for name, value in NEEDED.items()]
    job = yaml.safe_load(
        preview(options("bigram", *needed, f"launcher.gpus={gpus}", launcher="kubernetes", devices=devices))
    )
    assert container(job)["args"][-2:] == ["--device", device]


def test_settings_of_every_kind_on_the_command_line(work_folder: Path) -> None:
    settings = [f"launcher.{name}={value}" for name, value in NEEDED.items()]
    settings += [
        'launcher.node_selector={"a.b/c" = "d", e = "f"}',
        'launcher.tolerations=[{key = "a", operator = "Exists"}]',
    ]
    settings += ["launcher.memory=512M", "launcher.gpus=1", 'launcher.pod={priorityClassName = "low"}']
    job = yaml.safe_load(preview(options("bigram", *settings, launcher="kubernetes")))
    assert pod(job)["nodeSelector"] == {"a.b/c": "d", "e": "f"}
    assert pod(job)["tolerations"] == [{"key": "a", "operator": "Exists"}]
    assert pod(job)["priorityClassName"] == "low"
    assert container(job)["resources"]["limits"] == {"cpu": "1", "memory": "512M", "nvidia.com/gpu": "1"}
