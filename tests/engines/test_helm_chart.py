"""The Helm chart: it renders for many values, and its workers are those of `--launcher kubernetes`."""

from __future__ import annotations

import copy
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import helm_python
import pytest
import typer
import typer.main
import yaml
from helm_chart import CHART, rendered
from kubernetes_rules import containers_of, faults, pod_of
from study_files import FAKE_GRID, all_rows, program, sqlite

import search.worker
from search.launchers.kubernetes_job import SPOT_NODES, job_manifest, read_kubernetes_settings
from search.workers.setup import open_worker

OWN_DATABASE = {"database": {"secret": "lm-search"}}
VALUES: dict[str, dict[str, Any]] = {
    "for trying": {"postgres": {"enabled": True}},
    "own database": OWN_DATABASE,
    "database alone": {"postgres": {"enabled": True}, "workers": {"count": 0}},
    "GPUs on spot nodes": {**OWN_DATABASE, "workers": {"gpus": 1, "spot": "gke", "count": 8}, "volume": "checkpoints"},
    "bucket": {**OWN_DATABASE, "artifacts": "s3://bucket/prefix"},
    "own study": {
        **OWN_DATABASE,
        "study": {
            "name": "my.toml",
            "files": {"my.toml": "[grid]\n", "mine.py": "x = 1\n"},
            "options": ["--seeds", "3"],
        },
    },
    "planned elsewhere": {**OWN_DATABASE, "study": {"plan": False}, "networkPolicy": {"enabled": False}},
    "ingress": {
        **OWN_DATABASE,
        "dashboard": {
            "secret": "reader",
            "tokenSecret": "token",
            "ingress": {"enabled": True, "host": "search.example.org", "className": "nginx", "tlsSecret": "tls"},
        },
        "imagePullSecrets": [{"name": "registry"}],
    },
    "no dashboard": {**OWN_DATABASE, "dashboard": {"enabled": False}},
    "placed": {
        **OWN_DATABASE,
        "workers": {"nodeSelector": {"pool": "a"}, "tolerations": [{"key": "gpu", "operator": "Exists"}]},
        "networkPolicy": {"egress": [{"ports": [{"port": 9000, "protocol": "TCP"}]}]},
    },
}


def of_kind(kind: str, documents: list[dict[str, Any]]) -> list[dict[str, Any]]:
    return [each for each in documents if each["kind"] == kind]


def test_lint() -> None:
    found = helm_python.lint(CHART, strict=True)
    assert found["errors"] == []
    assert [each for each in found["messages"] if each["severity"] > 1] == []  # 1: an icon is recommended


@pytest.mark.parametrize("name", VALUES)
def test_schemas_server_and_policies_accept_it(name: str) -> None:
    documents = rendered(VALUES[name])
    assert documents
    found = {f"{each['kind']} {each['metadata']['name']}": faults(each) for each in documents}
    assert {what: wrong for what, wrong in found.items() if wrong} == {}
    assert len(found) == len(documents), "two manifests of one name"
    for document in documents:
        pod = pod_of(document)
        for container in [] if pod is None else containers_of(pod):
            assert container["image"]
            assert not container["image"].endswith(":")


def test_kinds() -> None:
    def kinds(name: str) -> dict[str, int]:
        found = [each["kind"] for each in rendered(VALUES[name])]
        return {kind: found.count(kind) for kind in sorted({*found})}

    common = {"Deployment": 1, "Job": 1, "NetworkPolicy": 2, "Service": 1, "ServiceAccount": 1}
    assert kinds("own database") == {**common, "Secret": 1}
    assert kinds("for trying") == {**common, "NetworkPolicy": 3, "Secret": 3, "Service": 2, "StatefulSet": 1}
    assert "Job" not in kinds("database alone")
    assert kinds("ingress") == {**common, "Ingress": 1}
    assert kinds("own study") == {**common, "ConfigMap": 1, "Secret": 1}
    assert kinds("no dashboard") == {"Job": 1, "NetworkPolicy": 1, "ServiceAccount": 1}
    assert "NetworkPolicy" not in kinds("planned elsewhere")


@pytest.mark.parametrize(
    ("chart", "launcher", "arguments"),
    [
        ({}, {}, []),
        ({"gpus": 1, "cpu": "500m", "memory": "4Gi"}, {"gpus": 1, "cpu": "500m", "memory": "4Gi"}, []),
        ({"gpus": 2, "gpuResource": "amd.com/gpu"}, {"gpus": 2, "gpu_resource": "amd.com/gpu"}, ["s3://b/p"]),
        *(({"spot": name, "gpus": 1}, {"spot": name, "gpus": 1}, []) for name in SPOT_NODES),
        (
            {"nodeSelector": {"pool": "a"}, "tolerations": [{"key": "gpu", "operator": "Exists"}]},
            {"node_selector": {"pool": "a"}, "tolerations": [{"key": "gpu", "operator": "Exists"}]},
            [],
        ),
    ],
    ids=str,
)
@pytest.mark.parametrize("volume", ["", "checkpoints"])
def test_its_workers_are_those_of_the_launcher(
    chart: dict[str, Any], launcher: dict[str, Any], arguments: list[str], volume: str
) -> None:
    artifacts = "".join(arguments)
    values = {**OWN_DATABASE, "study": {"plan": False}, "workers": {**chart, "count": 3}, "volume": volume}
    [ours] = of_kind("Job", rendered({**values, "artifacts": artifacts, "image": {"repository": "r", "tag": "1"}}))
    settings = {**launcher, "image": "r:1", "secret": "lm-search", "service_account": "demo"}
    settings |= {"volume": volume} if volume else {}
    given = [*(["--artifacts", artifacts] if artifacts else []), "--study", "bigram"]
    given += ["--device", "cuda:0" if "gpus" in launcher else "cpu"]
    theirs = job_manifest(read_kubernetes_settings(settings), 3, given, "bigram", ours["metadata"]["name"])
    assert comparable(ours) == comparable(theirs)


def comparable(job: Mapping[str, Any]) -> dict[str, Any]:
    """The specification of a Job without what each of the two has for itself."""
    spec = copy.deepcopy(dict(job["spec"]))
    spec.pop("ttlSecondsAfterFinished", None)  # Helm removes what it has installed
    spec["template"].pop("metadata")
    spec["template"]["spec"]["containers"][0].pop("imagePullPolicy", None)
    return spec


def test_a_change_of_the_workers_makes_another_job() -> None:
    def name(**values: Any) -> str:
        [job] = of_kind("Job", rendered({**OWN_DATABASE, **values}))
        found: str = job["metadata"]["name"]
        return found

    assert name() == name() == name(dashboard={"memory": "2Gi"})
    changed: list[dict[str, Any]] = [
        {"workers": {"count": 3}},
        {"study": {"options": ["--seeds", "3"]}},
        {"study": {"files": {"a.py": ""}}},
    ]
    changed += [{"study": {"files": {"a.py": "x = 1"}}}, {"image": {"tag": "2"}}]
    names = {name(**values) for values in changed}
    assert len(names | {name()}) == len(changed) + 1


def test_each_pod_plans_first_with_the_options_of_the_study() -> None:
    [job] = of_kind("Job", rendered(VALUES["own study"]))
    [plan] = job["spec"]["template"]["spec"]["initContainers"]
    assert [*plan["command"], *plan["args"]] == [
        *("lm-search", "run", "--plan-only", "--storage-wait", "600", "--study", "my.toml", "--seeds", "3"),
    ]
    [files] = of_kind("ConfigMap", rendered(VALUES["own study"]))
    assert files["data"] == {"my.toml": "[grid]\n", "mine.py": "x = 1\n"}


def test_what_a_pod_plans_its_worker_finds(work_folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    values = {
        **OWN_DATABASE,
        "study": {"name": "my.toml", "files": {"my.toml": FAKE_GRID}, "options": ["--seeds", "3"]},
    }
    documents = rendered(values)
    for file, text in of_kind("ConfigMap", documents)[0]["data"].items():
        (work_folder / file).write_text(text)
    [job] = of_kind("Job", documents)
    [plan], [worker] = (job["spec"]["template"]["spec"][each] for each in ("initContainers", "containers"))
    monkeypatch.setenv("SEARCH_STORAGE", sqlite(work_folder))
    monkeypatch.setenv("SEARCH_OUT", str(work_folder / "out"))
    done = program(plan["command"][1], *plan["args"], cwd=work_folder)
    assert done.returncode == 0, done.stderr
    assert len(all_rows(sqlite(work_folder))) == 27  # 8 cells and a baseline, 3 seeds
    with typer.main.get_command(search.worker.app).make_context("worker", list(worker["args"])) as context:
        opened = open_worker(context.params["study"], sqlite(work_folder), "cpu", out=work_folder / "out")
    with opened.queue.database.closing():
        assert opened.studies.keys() == {"my", "my-baselines"}


def test_passwords_are_in_secrets_alone() -> None:
    documents = rendered(VALUES["for trying"])
    secrets = of_kind("Secret", documents)
    password = next(each["stringData"]["password"] for each in secrets if "password" in each.get("stringData", {}))
    assert re.fullmatch("[A-Za-z0-9]{32}", password)
    urls = [each["stringData"]["SEARCH_STORAGE"] for each in secrets if "SEARCH_STORAGE" in each.get("stringData", {})]
    assert urls == [f"postgresql://search:{password}@demo-postgres/search"]
    assert password not in yaml.safe_dump([each for each in documents if each["kind"] != "Secret"])


def test_visitors_of_the_ingress_need_the_token_and_its_name() -> None:
    documents = rendered(VALUES["ingress"])
    [dashboard] = of_kind("Deployment", documents)
    [container] = dashboard["spec"]["template"]["spec"]["containers"]
    arguments = " ".join(container["args"])
    assert "--token-file /run/token/token --allow-host search.example.org" in arguments
    assert "--no-token" not in arguments
    assert "--writable" not in arguments
    assert container["envFrom"] == [{"secretRef": {"name": "reader"}}]
    assert dashboard["spec"]["template"]["spec"]["volumes"][-1]["secret"]["secretName"] == "token"


def test_network_policies() -> None:
    policies = {each["metadata"]["name"]: each["spec"] for each in of_kind("NetworkPolicy", rendered(VALUES["bucket"]))}
    assert policies["demo-worker"]["ingress"] == []
    ports = [port["port"] for rule in policies["demo-worker"]["egress"] for port in rule["ports"]]
    assert ports == [53, 53, 5432, 443]
    [postgres] = [
        each["spec"]
        for each in of_kind("NetworkPolicy", rendered(VALUES["for trying"]))
        if each["metadata"]["name"] == "demo-postgres"
    ]
    assert postgres["egress"] == []
    # Every pod belongs to a policy.
    documents = rendered(VALUES["for trying"])
    selectors = [each["spec"]["podSelector"]["matchLabels"].items() for each in of_kind("NetworkPolicy", documents)]
    for document in documents:
        if pod_of(document) is not None:
            labels = document["spec"]["template"]["metadata"]["labels"]
            assert sum(selector <= labels.items() for selector in selectors) == 1, document["metadata"]["name"]


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({}, "database.secret: name a Secret with SEARCH_STORAGE, or try postgres.enabled=true"),
        ({**OWN_DATABASE, "imagee": {}}, "imagee"),
        ({**OWN_DATABASE, "workers": {"gpu": 1}}, "gpu"),
        ({**OWN_DATABASE, "workers": {"count": -1}}, "count"),
        ({**OWN_DATABASE, "workers": {"memory": "4Gb"}}, "memory"),
        ({**OWN_DATABASE, "workers": {"spot": "azure"}}, "spot"),
        ({**OWN_DATABASE, "study": {"options": "--seeds 3"}}, "options"),
        ({**OWN_DATABASE, "dashboard": {"ingress": {"enabled": True}}}, "dashboard.ingress.host"),
    ],
    ids=str,
)
def test_wrong_values(values: dict[str, Any], message: str) -> None:
    with pytest.raises(helm_python.HelmError, match=re.escape(message)):
        rendered(values)


def test_the_schema_has_every_value() -> None:
    schema = yaml.safe_load(Path(CHART, "values.schema.json").read_text())
    values = yaml.safe_load(Path(CHART, "values.yaml").read_text())

    def check(values: Mapping[str, Any], schema: Mapping[str, Any], path: str) -> None:
        if "properties" not in schema:
            return
        assert schema["additionalProperties"] is False, path
        # Helm gives each chart that another one includes a table "global".
        assert values.keys() == schema["properties"].keys() - {"global"}, path
        for name, value in values.items():
            if isinstance(value, dict):
                check(value, schema["properties"][name], f"{path}.{name}")

    check(values, schema, "")
