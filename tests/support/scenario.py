"""The tools of all fault scenarios: a planned study, workers to kill, and a check of the results.

The promise: every planned trial ends exactly once, with the value of an undisturbed run.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from unittest.mock import patch

import fake_objective
import optuna
import optuna.artifacts  # forks need it, and it takes long: it imports boto3
from deaths import Death, in_child
from fork_server import ForkedProcess, fork_program
from gates import PATIENCE_S, Gate, gates_environment
from optuna.trial import TrialState
from sqlalchemy import create_engine, func, select, update
from sqlalchemy.engine import URL, Row
from sqlalchemy.exc import DBAPIError
from swarm import ForkedWorker

from search.errors import EXIT_SPOILED, ProcessSpoiled
from search.objectives.corpus import Corpus, load_corpus
from search.objectives.protocol import Evaluation
from search.objectives.settings import TrainingSettings
from search.options import PlanningOptions
from search.planning import open_planned
from search.storage.schema import queue_table
from search.storage.url import parse_url
from search.storage.values import compact_json
from search.workers.setup import open_worker
from search.workers.worker_loop import Worker

SETTINGS = TrainingSettings(max_iters=20, eval_interval=2)
FIRST_SEED = 7

AnyWorker = subprocess.Popen[Any] | ForkedProcess


@dataclass
class FaultStudy:
    """A study of the fake objective, its database and its workers.

    Attributes:
        folder: Folder for the study file, the corpus, and the workers' logs and artifacts.
        url: The storage URL.
        grid: The values of each axis.
        ms: How long a trial takes, in milliseconds.
        head: More lines at the top of the study file.
        worker_settings: More lines of its section [workers].
        gates: Where trials wait, for workers that start from now on.
    """

    folder: Path
    url: str
    grid: Mapping[str, Sequence[Any]]
    ms: float = 20.0
    seeds: int = 1
    lease_s: float = 1.0
    max_attempts: int = 1000
    retry_delay_s: float = 0.1
    # At every evaluation, since these trials are much shorter than real ones.
    checkpoint_s: float = 0.0
    eval_interval: int = SETTINGS.eval_interval
    name: str = "faulty"
    fuse: str = "off"
    head: str = ""
    worker_settings: str = ""
    gates: Sequence[Gate] = ()
    workers: list[AnyWorker] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.corpus_file.write_text("to be, or not to be: that is the question\n" * 20)
        axes = "".join(f"{axis} = {json.dumps(list(values))}\n" for axis, values in self.grid.items())
        self.file.write_text(
            'objective = "fake_objective:start"\n'
            f"first_seed = {FIRST_SEED}\nseeds = {self.seeds}\n{self.head}\n"
            f"[grid]\n{axes}"
            f"[training]\nmax_iters = {SETTINGS.max_iters}\neval_interval = {self.eval_interval}\n"
            '[pruner]\nname = "none"\n'
            f"[workers]\nlease_s = {self.lease_s}\nmax_attempts = {self.max_attempts}\n"
            f"retry_delay_s = {self.retry_delay_s}\ncheckpoint_s = {self.checkpoint_s}\n"
            f"{self.worker_settings}\n"
        )

    @property
    def file(self) -> Path:
        return self.folder / f"{self.name}.toml"

    @property
    def corpus_file(self) -> Path:
        return self.folder / "corpus.txt"

    @property
    def out(self) -> Path:
        return self.folder / "out"

    @property
    def corpus(self) -> Corpus:
        return load_corpus(self.corpus_file)

    @property
    def options(self) -> PlanningOptions:
        return PlanningOptions(
            study=str(self.file), storage=self.url, corpus=self.corpus_file, out=self.out, fuse=self.fuse
        )

    @property
    def arguments(self) -> list[str]:
        """The command line that `search.run` and `search.worker` have in common."""
        return ["--study", str(self.file), "--storage", self.url, "--corpus", str(self.corpus_file), "--out",
                str(self.out), "--fuse", self.fuse]  # fmt: skip

    def plan(self) -> None:
        """Plan the study."""
        database, _ = open_planned(self.options)
        database.engine.dispose()

    def is_planned(self) -> bool:
        """Whether the database has rows yet."""
        try:
            return bool(self.rows())
        except DBAPIError:
            return False  # no tables

    def named_cells(self) -> list[dict[str, Any]]:
        """All cells with their seeds, in the order in which trials are numbered."""
        points: list[dict[str, Any]] = [{}]
        for axis, values in self.grid.items():
            points = [{**point, axis: value} for point in points for value in values]
        return [{**point, "seed": FIRST_SEED + repetition} for repetition in range(self.seeds) for point in points]

    def undisturbed(self, named: Mapping[str, Any]) -> list[Evaluation]:
        """The curve of an undisturbed trial."""
        cell = {axis: value for axis, value in named.items() if axis != "seed"}
        settings = SETTINGS.model_copy(update={"eval_interval": self.eval_interval})
        with patch.dict(os.environ, FAKE_TRIAL_MS="0", FAKE_GATES="[]"):
            run = fake_objective.start(cell, named["seed"], settings, self.corpus, "cpu")
        while not run.finished:
            run.advance(lambda: False)
        return run.curve

    def close_gate(self, step: int, *cells: Mapping[str, Any], after: int = 0) -> Gate:
        """Close a new gate for the trials of workers that start from now on.

        Args:
            step, cells, after: See `gates.Gate`.
        """
        folder = self.folder / f"gate-{len(list(self.folder.glob('gate-*')))}"
        self.gates = [*self.gates, Gate(folder, step, cells or ({},), after)]
        return self.gates[-1]

    @property
    def environment(self) -> dict[str, str]:
        """The variables that the fake objective reads in a worker of this study."""
        return {"FAKE_TRIAL_MS": str(self.ms), **gates_environment(*self.gates)}

    def start_worker(self) -> AnyWorker:
        """Start one worker process; `log(worker)` returns its log."""
        self.workers.append(ForkedWorker(self.options, self.environment, self._log_file(len(self.workers))))
        return self.workers[-1]

    def start_worker_program(
        self,
        *arguments: str,
        environment: Mapping[str, str] | None = None,
        script: Sequence[str] = (),
        new: bool = False,
    ) -> AnyWorker:
        """Start one worker from the command line.

        Args:
            arguments: More of the command line.
            environment: More variables.
            script: Run this instead of `-m search.worker`, with the same arguments, in a new interpreter.
            new: Start a new interpreter, and not a fork.
        """
        log, given = self._log_file(len(self.workers)), [*self.arguments, *arguments]
        log.unlink(missing_ok=True)
        variables = {**os.environ, **self.environment, **(environment or {})}
        worker: AnyWorker
        if not (new or script):
            worker = fork_program("worker", given, Path.cwd(), variables, log, log)
        else:
            command = [sys.executable, *(script or ["-m", "search.worker"]), *given]
            with log.open("wb") as output:
                nothing = subprocess.DEVNULL
                worker = subprocess.Popen(command, env=variables, stdin=nothing, stdout=output, stderr=output)
        self.workers.append(worker)
        return worker

    def start_workers(self, count: int) -> None:
        """Start `count` workers."""
        for _ in range(count):
            self.start_worker()

    def fork_worker(
        self,
        death: Death | None = None,
        stop_at: Gate | None = None,
        *,
        plan: bool = False,
        meanwhile: Callable[[Worker], object] | None = None,
    ) -> int:
        """Run a worker in a fork of this process, which needs no imports, and wait for its end.

        Args:
            death: Where the worker kills itself, if at all.
            stop_at: Stop the worker when a trial has reached this gate.
            plan: Plan the study first, as `search.run` does.
            meanwhile: Called with the worker, in the same process and another thread.

        Returns:
            The exit code, or minus the number of the signal that ended the worker; the output is in `fork_log`.
        """

        def stop(gate: Gate, event: threading.Event) -> None:
            gate.wait()
            event.set()

        def work() -> None:
            os.environ.update(self.environment)
            if death is not None:
                death.prepare()
            if plan:
                self.plan()
            worker = open_worker(str(self.file), self.url, "cpu", corpus=self.corpus_file, out=self.out, fuse=self.fuse)
            if stop_at is not None:
                threading.Thread(target=stop, args=(stop_at, worker.stop), daemon=True).start()
            if meanwhile is not None:
                threading.Thread(target=meanwhile, args=(worker,), daemon=True).start()
            try:
                worker.run()
            except ProcessSpoiled:
                raise SystemExit(EXIT_SPOILED) from None

        return in_child(work, self.fork_log)

    @property
    def fork_log(self) -> Path:
        """The output of all forked workers."""
        return self.folder / "forked.log"

    def repair(self) -> None:
        """Start normally: plan missing trials and work undisturbed."""
        code = self.fork_worker(plan=True)
        assert code == 0, self.fork_log.read_text()

    def log(self, worker: AnyWorker) -> str:
        """A worker's output; "" before it has written anything."""
        file = self._log_file(self.workers.index(worker))
        return file.read_text() if file.exists() else ""

    def logs(self) -> str:
        """All workers' output."""
        return "\n".join(self.log(worker) for worker in self.workers)

    def _log_file(self, index: int) -> Path:
        return self.folder / f"worker-{index}.log"

    def join(self, timeout_s: float = PATIENCE_S) -> list[int]:
        """Wait for all workers.

        Returns:
            Their exit codes.
        """
        deadline = time.monotonic() + timeout_s
        try:
            return [worker.wait(max(0.0, deadline - time.monotonic())) for worker in self.workers]
        except subprocess.TimeoutExpired:
            raise AssertionError(f"workers still running after {timeout_s} s: {self.counts()}\n{self.logs()}") from None

    def kill_all(self) -> None:
        """Kill all workers that still run."""
        for worker in self.workers:
            if worker.poll() is None:
                worker.kill()
            worker.wait()

    def rows(self) -> list[Row[Any]]:
        """All rows of the database, in the order of planning."""
        with reading(self.url) as connection:
            return list(connection.execute(select(queue_table).order_by(queue_table.c.study, queue_table.c.id)))

    def counts(self) -> dict[str, int]:
        """The number of rows by state."""
        with reading(self.url) as connection:
            query = select(queue_table.c.state, func.count().label("of_state")).group_by(queue_table.c.state)
            found = {row.state: row.of_state for row in connection.execute(query)}
            return {"waiting": 0, "running": 0, "done": 0, **found}

    def holders(self) -> set[int]:
        """The process ids of the workers that hold a lease."""
        with reading(self.url) as connection:
            owners = connection.execute(select(queue_table.c.owner).where(queue_table.c.state == "running")).scalars()
            return {int(owner.rsplit("/", 1)[1].split("-")[0]) for owner in owners}

    def expire_leases(self) -> None:
        """End all leases now, instead of waiting for them to expire."""
        with reading(self.url) as connection:
            connection.execute(update(queue_table).where(queue_table.c.state == "running").values(lease_until=0))
            connection.commit()

    def check_exactly_once(self) -> list[Row[Any]]:
        """Check that every planned trial is complete once, with the results of an undisturbed run to the last bit.

        Returns:
            The rows.
        """
        rows, wanted = self.rows(), self.named_cells()
        assert [row.cell for row in rows] == [compact_json(named) for named in wanted]
        assert {(row.study, row.state, row.outcome, row.reason) for row in rows} == {
            (self.name, "done", "complete", None)
        }
        assert [row.number for row in rows] == list(range(len(wanted)))
        storage = optuna.storages.RDBStorage(parse_url(self.url).render_as_string(hide_password=False))
        try:
            study = optuna.load_study(study_name=self.name, storage=storage, sampler=optuna.samplers.RandomSampler())
            assert [each.study_name for each in storage.get_all_studies()] == [self.name]
            trials = study.get_trials(deepcopy=False)
        finally:
            storage.engine.dispose()
        assert [trial._trial_id for trial in trials] == [row.trial_id for row in rows]
        for trial, row, named in zip(trials, rows, wanted, strict=True):
            self._check_trial(trial, row, named)
        left = [str(path) for path in self.out.rglob("*") if path.name == "checkpoint" or path.suffix == ".tmp"]
        assert left == []
        return rows

    def _check_trial(self, trial: optuna.trial.FrozenTrial, row: Row[Any], named: Mapping[str, Any]) -> None:
        curve = self.undisturbed(named)
        assert trial.state is TrialState.COMPLETE
        assert trial.params == named
        assert trial.intermediate_values == {point.step: point.value for point in curve}
        assert trial.value == row.value == row.val_loss == curve[-1].value
        assert (row.step, row.train_loss) == (curve[-1].step, curve[-1].train_loss)
        assert trial.user_attrs["train_curve"] == [[point.step, point.train_loss] for point in curve]
        assert trial.datetime_start is not None
        assert trial.datetime_complete is not None
        assert trial.datetime_start <= trial.datetime_complete


MakeStudy = Callable[..., FaultStudy]
Record = Callable[[str, object], None]  # pytest's `record_property`


class reading:
    """A connection with plain settings, as another program would open it."""

    def __init__(self, url: str) -> None:
        self._engine = create_engine(parse_url(url), connect_args=_patient(parse_url(url)))

    def __enter__(self) -> Any:
        self._connection = self._engine.connect()
        return self._connection

    def __exit__(self, *_: object) -> None:
        self._connection.close()
        self._engine.dispose()


def _patient(url: URL) -> dict[str, Any]:
    return {"timeout": PATIENCE_S} if url.get_backend_name() == "sqlite" else {}
