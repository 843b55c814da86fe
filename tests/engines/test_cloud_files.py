"""The files for SkyPilot and dstack start workers that our command line takes; their schemas were checked by hand."""

from __future__ import annotations

import shlex
from pathlib import Path
from typing import Any

import pytest
import typer
import yaml

from search.worker import app

DEPLOY = Path(__file__).parents[2] / "deploy"


def commands_of(text: dict[str, Any]) -> list[str]:
    """The lines of shell of a task."""
    return text["commands"] if "commands" in text else [*text["setup"].splitlines(), *text["run"].splitlines()]


def variables_of(text: dict[str, Any]) -> set[str]:
    """The names of the variables that a task sets."""
    if "env" in text:
        return {each.partition("=")[0] for each in text["env"]}
    return {*text["envs"], *text["secrets"]}


@pytest.mark.parametrize("name", ["skypilot.yaml", "dstack.yaml"])
def test_the_workers_command_is_one(name: str) -> None:
    text = yaml.safe_load((DEPLOY / name).read_text())
    install, worker = commands_of(text)
    assert install == "pip install 'lm-search[postgres,s3]'"
    head, arguments = shlex.split(worker)[:3], shlex.split(worker)[3:]
    assert head == ["python", "-m", "search.worker"]
    given = [each.replace("$STUDY", "bigram") for each in arguments]
    typer.main.get_command(app).make_context("worker", given)  # raises for a wrong option
    assert {"STUDY", "SEARCH_STORAGE", "SEARCH_ARTIFACTS", "AWS_ACCESS_KEY_ID"} <= variables_of(text)
