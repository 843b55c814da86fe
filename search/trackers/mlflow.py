"""Sends a study to MLflow: an experiment of its name, a run for the study, and in it a run for each trial."""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from search.errors import UsageError
from search.storage.dialects import DIALECTS
from search.trackers.protocol import EndEvent, EvaluationEvent, Event, TrialName
from search.trackers.runs import LatestMetrics, RunTracker, as_code_block, only, parameters, require, run_name

if TYPE_CHECKING:
    import mlflow
    from mlflow.entities import Metric, Run

SCHEMES = ("http", "https", *DIALECTS, "mysql", "mssql", "databricks")
SQLITE, MEMORY = "sqlite:///", ":memory:"
# The tags by which a later run finds what it has sent.
UID, NUMBER, CLAIM = "lm_search.study_uid", "lm_search.trial", "lm_search.claim"
STATUS = {"complete": "FINISHED", "pruned": "KILLED", "diverged": "FAILED", "failed": "FAILED"}
# MLflow's limits.
NAME_CHARACTERS, LONGEST_NAME, LONGEST_TAG = r"\w./: -", 250, 5000
TIMEOUT_S = 10


class MlflowTracker(RunTracker):
    """Sends the events of studies to an MLflow server or database; needs the extra `mlflow`.

    Args:
        target: MLflow's tracking URI. It may contain a password, so no message shows more of it than its host.

    Raises:
        UsageError: It is no such URI, or MLflow is not installed.
    """

    def __init__(self, target: str) -> None:
        super().__init__()
        if not _is_uri(target):
            raise UsageError(
                "name a server or a database, such as --track mlflow:http://localhost:5000 or "
                f"--track mlflow:sqlite:///mlflow.db; choices are {', '.join(SCHEMES)}"
            )
        require("mlflow", "MLflow", "mlflow")
        self._uri = target
        self._studies: dict[tuple[str, str], _StudyRuns] = {}

    @cached_property
    def _client(self) -> mlflow.MlflowClient:
        from mlflow import MlflowClient, environment_variables

        # MLflow waits for minutes for a server that is away, and other trackers would wait with it.
        environment_variables.MLFLOW_HTTP_REQUEST_MAX_RETRIES.default = 0
        environment_variables.MLFLOW_HTTP_REQUEST_TIMEOUT.default = TIMEOUT_S
        make_database(self._uri)
        return MlflowClient(tracking_uri=self._uri)

    def track(self, event: Event) -> None:
        """Send an event, unless MLflow has it.

        Raises:
            MlflowException: MLflow cannot take it now.
        """
        try:
            super().track(event)
        except Exception:
            # A request without an answer may have arrived all the same, so the next one asks what is there.
            self._studies.clear()
            self._runs.clear()
            raise

    def find_or_create(self, trial: TrialName) -> MlflowRun:
        """The run of a trial; a new one has the trial's parameters."""
        from mlflow.entities import Param

        study = self._study(trial)
        run = study.runs.get(str(trial.number)) or self._client.create_run(
            study.experiment,
            start_time=_milliseconds(trial.started_at),
            tags={"mlflow.parentRunId": study.parent, UID: trial.uid, NUMBER: str(trial.number)},
            run_name=run_name(trial)[:LONGEST_NAME],
        )
        if not run.data.params:
            values = [Param(_name(name), str(value)) for name, value in parameters(trial).items()]
            self._client.log_batch(run.info.run_id, params=values)
        return MlflowRun(self._client, run)

    def _study(self, trial: TrialName) -> _StudyRuns:
        key = trial.uid, trial.study
        if key not in self._studies:
            found = self._client.get_experiment_by_name(trial.study)
            experiment = found.experiment_id if found else self._client.create_experiment(trial.study)
            runs = {run.data.tags.get(NUMBER): run for run in self._runs_of(experiment, trial.uid)}
            parent = runs.get(None) or self._client.create_run(experiment, tags={UID: trial.uid}, run_name=trial.study)
            if parent.info.status != "RUNNING":
                self._client.update_run(parent.info.run_id, status="RUNNING")
            self._studies[key] = _StudyRuns(experiment, parent.info.run_id, runs)
        return self._studies[key]

    def _runs_of(self, experiment: str, uid: str) -> Iterator[Run]:
        token = None
        while token != "":
            page = self._client.search_runs([experiment], f"tags.`{UID}` = '{uid}'", page_token=token)
            yield from page
            token = page.token or ""

    def close(self) -> None:
        """End the runs of the studies.

        Raises:
            MlflowException: MLflow does not answer.
        """
        for study in self._studies.values():
            self._client.set_terminated(study.parent)


def make_database(uri: str) -> None:
    """Make a new SQLite file under another name first: MLflow cannot finish one that it was interrupted in making."""
    path, mark, query = uri.removeprefix(SQLITE).partition("?")
    file = Path(path)
    if not uri.startswith(SQLITE) or path in ("", MEMORY) or file.exists():
        return
    from mlflow.store.tracking import DEFAULT_LOCAL_FILE_AND_ARTIFACT_PATH
    from mlflow.store.tracking.sqlalchemy_store import SqlAlchemyStore

    new = file.with_name(f"{file.name}.new")
    new.unlink(missing_ok=True)
    store = SqlAlchemyStore(f"{SQLITE}{new}{mark}{query}", DEFAULT_LOCAL_FILE_AND_ARTIFACT_PATH)
    store.engine.dispose()
    new.replace(file)


@dataclass
class _StudyRuns:
    """What MLflow has of a study: its experiment, the id of its own run, and the runs by trial as they were found."""

    experiment: str
    parent: str
    runs: Mapping[str | None, Run]


class MlflowRun:
    """The run of a trial.

    Args:
        client: The client.
        run: What MLflow has of it.
    """

    def __init__(self, client: mlflow.MlflowClient, run: Run) -> None:
        self._client, self._id = client, run.info.run_id
        self._is_running = run.info.status == "RUNNING"
        self._latest = LatestMetrics({each.key: (each.step, each.value) for each in run.to_proto().data.metrics})
        self.last_step = self._latest.last_step
        self.last_claim = int(run.data.tags.get(CLAIM, 0))

    def log(self, event: EvaluationEvent) -> None:
        """Send an evaluation; a run that had ended goes on."""
        if not self._is_running:
            self._client.update_run(self._id, status="RUNNING")
            self._is_running = True
        self._client.log_batch(self._id, metrics=self._new_metrics(event.metrics, event.step))

    def end(self, event: EndEvent) -> None:
        """Send the end: at last the tag by which a later run knows that nothing is missing."""
        from mlflow.entities import RunTag

        tags = {"lm_search.outcome": event.outcome, CLAIM: str(event.claim)}
        if event.reason:
            tags["lm_search.reason"] = event.reason[:LONGEST_TAG]
        if event.sample:
            tags["mlflow.note.content"] = as_code_block(event.sample)[:LONGEST_TAG]  # the description
        self._client.set_terminated(self._id, STATUS[event.outcome], _milliseconds(event.ended_at))
        self._is_running = False
        metrics = self._new_metrics(event.metrics, event.step or 0)
        self._client.log_batch(self._id, metrics=metrics, tags=[RunTag(*tag) for tag in tags.items()])

    def _new_metrics(self, values: Mapping[str, float], step: int) -> list[Metric]:
        from mlflow.entities import Metric

        now = _milliseconds(None)
        lacking = self._latest.lacking({_name(name): value for name, value in values.items()}, step)
        return [Metric(name, value, now, step) for name, value in lacking.items()]


def _is_uri(target: str) -> bool:
    scheme = target.partition(":")[0].partition("+")[0]
    with suppress(ValueError):  # such as an unclosed bracket
        return scheme in SCHEMES and (not scheme.startswith("http") or bool(urlsplit(target).hostname))
    return False


def _name(name: str) -> str:
    return only(NAME_CHARACTERS, name, LONGEST_NAME)


def _milliseconds(seconds: float | None) -> int:
    return int((time.time() if seconds is None else seconds) * 1000)
