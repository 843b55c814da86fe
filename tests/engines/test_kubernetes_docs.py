"""The commands and settings of docs/deployment.md#kubernetes, as far as they can be tried without a cluster."""

from __future__ import annotations

import re
import shlex
import subprocess
import tomllib
from itertools import pairwise
from pathlib import Path
from typing import Any

import helm_python
import pytest
import yaml
from helm_chart import rendered
from kubernetes_rules import faults

from search.launchers.kubernetes_job import job_manifest, read_kubernetes_settings

PAGE = (Path(__file__).parents[2] / "docs" / "deployment.md").read_text(encoding="utf-8")
[SECTION] = [each for each in PAGE.split("\n## ") if each.startswith("Kubernetes\n")]
BLOCKS = re.findall(r"^```bash\n(.*?)^```$", SECTION.replace("\\\n", " "), re.M | re.S)
LINES = [line for block in BLOCKS for line in block.splitlines()]
HELM = [line for line in LINES if line.startswith("helm ")]


def values_of(command: str) -> dict[str, Any]:
    """The values that a command of helm gives."""
    words = shlex.split(command)
    values: dict[str, Any] = {"database": {"secret": "lm-search"}} if "--reuse-values" in words else {}
    for option, setting in pairwise(words):
        if option in ("--set", "--set-file"):
            values = merged(values, helm_python.parse_set_string(setting))
    return values


def merged(one: dict[str, Any], other: dict[str, Any]) -> dict[str, Any]:
    """Two tables as one, and their tables too."""
    tables = {name: merged(one[name], value) for name, value in other.items() if isinstance(one.get(name), dict)}
    return {**one, **other, **tables}


def test_there_are_commands() -> None:
    assert len(HELM) >= 4


def documents_of(command: str) -> list[dict[str, Any]]:
    """What a command of helm installs."""
    words = shlex.split(command)
    name = words[words.index("deploy/helm/lm-search") - 1]
    return rendered(values_of(command), name)


@pytest.mark.parametrize("command", HELM)
def test_the_chart_takes_the_values(command: str) -> None:
    documents = documents_of(command)
    assert documents
    assert [each for document in documents for each in faults(document)] == []


def test_the_services_and_secrets_that_commands_name_are_those_of_the_chart() -> None:
    documents = [document for command in HELM for document in documents_of(command)]
    there = {f"{each['kind'].lower()}/{each['metadata']['name']}" for each in documents}
    text = "\n".join(LINES)
    named = re.findall(r"\b((?:service|deployment)/[\w-]+)", text)
    named += [f"secret/{name}" for name in re.findall(r"(?:kubectl get secret |launcher\.secret=)([\w-]+)", text)]
    assert len(named) >= 5
    assert {*named} <= there


def test_the_secret_has_the_url(kubectl: str, tmp_path: Path) -> None:
    [write, create] = [line for line in LINES if "database.env" in line]
    script = f"{write}\n{create} --dry-run=client --output=yaml"
    done = subprocess.run(["bash", "-ec", script], capture_output=True, text=True, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert list(yaml.safe_load(done.stdout)["data"]) == ["SEARCH_STORAGE"]
    assert (tmp_path / "database.env").stat().st_mode & 0o077 == 0


def test_the_settings_of_the_example() -> None:
    [example] = re.findall(r"^```toml\n(\[launcher\].*?)^```$", SECTION, re.M | re.S)
    launcher = tomllib.loads(example)["launcher"]
    assert launcher.pop("name") == "kubernetes"
    settings = read_kubernetes_settings(launcher)
    assert faults(job_manifest(settings, 2, [], "a", "lm-search-a-1")) == []
    named = {*re.findall(r"\b\w+\b", SECTION)}
    assert type(settings).model_fields.keys() <= named, "a setting is not documented"
