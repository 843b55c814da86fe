"""A study on Kubernetes from its plan to its end: the commands of its pods run here, as a kubelet would run them."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
from gates import Gate, gates_environment
from kubernetes_api import KubernetesApi, served
from postgres import PostgresServer
from study_files import all_rows, write_study

from search.errors import EXIT_FAILED_TRIALS, EXIT_SPOILED, EXIT_STOPPED, EXIT_USAGE
from search.options import RunStudyOptions
from search.service import run_with_options

pytestmark = pytest.mark.engines

STUDY = """
objective = "fake_objective:start"

[grid]
fault = ["none", "CUDA"]

[training]
max_iters = 20
eval_interval = 5

[pruner]
name = "none"

[workers]
max_attempts = 1
retry_delay_s = 0.1

[launcher]
name = "kubernetes"
image = "registry.example.org/lm-search:0.2.0"
secret = "lm-search"
"""


class Pod:
    """The worker of a Job's pod.

    Args:
        job: The Job, as the cluster has it.
        secret: The content of the Secret that it names.
        study: The folder that the image has as /study.
        out: What is mounted at /out.
        variables: More of the environment.
        arguments: More of the command line.
    """

    def __init__(
        self, job: Mapping[str, Any], secret: Mapping[str, str], study: Path, out: Path,
        variables: Mapping[str, str], *arguments: str,
    ) -> None:  # fmt: skip
        [container] = job["spec"]["template"]["spec"]["containers"]
        assert container["command"] == ["lm-search", "worker"]
        environment = {name: os.environ[name] for name in ("PATH", "PYTHONPATH")}
        environment |= {**secret, **{each["name"]: each["value"] for each in container["env"]}, **variables}
        environment |= {"JOB_COMPLETION_INDEX": "0", "SEARCH_OUT": str(out)}
        command = [sys.executable, "-P", "-m", "search", "worker", *container["args"], *arguments]
        self.popen = subprocess.Popen(command, cwd=study, env=environment, stderr=subprocess.PIPE, text=True)

    def end(self) -> tuple[int, str]:
        """Its exit code, and what it said."""
        _, said = self.popen.communicate(timeout=100)
        return self.popen.returncode, said


def test_a_study_from_its_plan_to_its_end(
    kubectl: str,
    postgres: PostgresServer,
    tmp_path: Path,
    work_folder: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    api, study, storage = KubernetesApi(), tmp_path / "study", postgres.create_schema(f"kubernetes_{os.getpid()}")
    study.mkdir()
    options = RunStudyOptions(study=write_study(study, STUDY, "pods"), storage=storage, quiet=True)
    with served(api, tmp_path) as environment:
        for name, value in environment.items():
            monkeypatch.setenv(name, value)
        detached = run_with_options(RunStudyOptions(**{**vars(options), "detach": True}))
        assert detached.exit_code == 0
        assert re.search(r"^detached: 2 workers; kubectl get job lm-search-pods-1 ", capsys.readouterr().err, re.M)
        job = api.jobs["lm-search-pods-1"]
        rules = job["spec"]["podFailurePolicy"]["rules"]
        codes = {code: each["action"] for each in rules[1:] for code in each["onExitCodes"]["values"]}

        secret, gate = {"SEARCH_STORAGE": storage}, Gate(tmp_path / "gate", 3)
        wrong = Pod(job, secret, study, tmp_path / "out", {}, "--device", "moon")
        drained = Pod(job, secret, study, tmp_path / "out", gates_environment(gate))
        gate.wait()
        drained.popen.send_signal(signal.SIGTERM)
        code, said = drained.end()
        assert (code, codes[code]) == (EXIT_STOPPED, "Ignore"), said
        assert [(row["state"], row["attempts"]) for row in all_rows(storage)] == [("waiting", 0)] * 2
        code, said = wrong.end()
        assert (code, codes[code]) == (EXIT_USAGE, "FailJob"), said

        # Its replacement goes on from the checkpoint and meets an error of the GPU; the next one trains the rest.
        ended = [Pod(job, secret, study, tmp_path / "out", {}).end() for _ in range(2)]
        assert [(code, codes.get(code)) for code, _ in ended] == [(EXIT_SPOILED, "Ignore"), (0, None)], ended
        assert "resumes after step" in ended[0][1]
        assert sorted((row["outcome"], row["attempts"]) for row in all_rows(storage)) == [
            ("complete", 1),
            ("failed", 1),
        ]

        api.set_status("lm-search-pods-1", succeeded=2, conditions=[{"type": "Complete", "status": "True"}])
        watched = run_with_options(options)
        assert watched.exit_code == EXIT_FAILED_TRIALS
        assert (watched.counts["complete"], watched.counts["failed"]) == (1, 1)
        assert api.requests == ["CREATE lm-search-pods-1"]
