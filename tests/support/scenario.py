"""What every fault scenario needs: a planned study, workers to be killed, and the check that nothing came of it.

The promise: every planned trial ends exactly once, with the value that an undisturbed run would have given.
"""

from __future__ import annotations

import itertools
import json
import logging
import os
import pkgutil
import signal
import subprocess
import sys
import threading
import time
import traceback
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NoReturn
from unittest.mock import patch

import fake_objective
import optuna
from optuna.trial import TrialState
from sqlalchemy import create_engine, func, select, update
from sqlalchemy.engine import URL, Row
from sqlalchemy.exc import DBAPIError

from search.objectives.corpus import Corpus, load_corpus
from search.objectives.protocol import Evaluation
from search.objectives.settings import TrainingSettings
from search.options import PlanningOptions
from search.planning import open_planned
from search.storage.schema import queue_table
from search.storage.slots import canonical
from search.storage.url import parse_url
from search.workers.setup import open_worker

SETTINGS = TrainingSettings(max_iters=20, eval_interval=2)
FIRST_SEED = 7
# A dead worker, or one that waits for its turn on a busy machine: far above what an idle machine needs.
PATIENCE_S = 60.0

Cell = Mapping[str, Any]


@dataclass
class FaultStudy:
    """A study of the stand-in objective, its database, and the workers that were started for it.

    Attributes:
        folder: Gets the study file, the corpus, the workers' logs and their artifacts.
        url: The storage URL.
        cells: The grid; one axis per key of the first cell.
        ms: What a trial takes, in milliseconds.
        head: More lines at the top of the study file.
    """

    folder: Path
    url: str
    grid: Mapping[str, Sequence[Any]]
    ms: float = 20.0
    seeds: int = 1
    lease_s: float = 1.0
    max_attempts: int = 1000
    retry_delay_s: float = 0.1
    # At every evaluation: trials here are much shorter than those that the default is for.
    checkpoint_s: float = 0.0
    eval_interval: int = SETTINGS.eval_interval
    name: str = "faulty"
    fuse: str = "off"
    head: str = ""
    workers: list[subprocess.Popen[Any]] = field(default_factory=list)

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
        """Plan the study as its first worker would."""
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
        """The curve of a trial that nothing happens to."""
        cell = {axis: value for axis, value in named.items() if axis != "seed"}
        settings = SETTINGS.model_copy(update={"eval_interval": self.eval_interval})
        with patch.dict(os.environ, STANDIN_MS="0"):
            run = fake_objective.start(cell, named["seed"], settings, self.corpus, "cpu")
        while not run.finished:
            run.advance(lambda: False)
        return run.curve

    def start_worker(
        self, *arguments: str, environment: Mapping[str, str] | None = None, script: Sequence[str] = ()
    ) -> subprocess.Popen[Any]:
        """Start one worker process; its log is `log(worker)`.

        Args:
            arguments: More of the command line.
            environment: More variables.
            script: Run this instead of `-m search.worker`, with the same arguments.
        """
        command = [sys.executable, *(script or ["-m", "search.worker"]), *self.arguments, *arguments]
        with self._log_file(len(self.workers)).open("wb") as output:
            worker = subprocess.Popen(
                command,
                env={**os.environ, "STANDIN_MS": str(self.ms), **(environment or {})},
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
            )
        self.workers.append(worker)
        return worker

    def start_workers(self, count: int) -> None:
        """Start `count` workers."""
        for _ in range(count):
            self.start_worker()

    def fork_worker(self, death: Death | None = None, stop_after_s: float | None = None) -> int:
        """Be a worker in a process that is forked from this one, which spares it the imports, and wait for its end.

        Args:
            death: Where it kills itself; nowhere when None.
            stop_after_s: It is asked to stop after so long.

        Returns:
            Its exit code, or minus the number of the signal that ended it. What it said is in `fork_log`.
        """

        def work() -> None:
            os.environ["STANDIN_MS"] = str(self.ms)
            if death is not None:
                death.prepare()
            worker = open_worker(str(self.file), self.url, "cpu", corpus=self.corpus_file, out=self.out, fuse=self.fuse)
            if stop_after_s is not None:
                threading.Timer(stop_after_s, worker.stop.set).start()
            worker.run()

        return in_child(work, self.fork_log)

    @property
    def fork_log(self) -> Path:
        """What all forked workers said."""
        return self.folder / "forked.log"

    def repair(self) -> None:
        """The next ordinary start: a worker that nothing happens to."""
        code = self.fork_worker()
        assert code == 0, self.fork_log.read_text()

    def log(self, worker: subprocess.Popen[Any]) -> str:
        """What a worker said."""
        return self._log_file(self.workers.index(worker)).read_text()

    def logs(self) -> str:
        """What all workers said."""
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
            raise AssertionError(f"workers still run after {timeout_s} s: {self.counts()}\n{self.logs()}") from None

    def kill_all(self) -> None:
        """Leave no process behind."""
        for worker in self.workers:
            if worker.poll() is None:
                worker.kill()
            worker.wait()

    def rows(self) -> list[Row[Any]]:
        """All rows of the database, in the order of planning."""
        with reading(self.url) as connection:
            return list(connection.execute(select(queue_table).order_by(queue_table.c.study, queue_table.c.id)))

    def counts(self) -> dict[str, int]:
        """How many rows are in which state."""
        with reading(self.url) as connection:
            query = select(queue_table.c.state, func.count().label("of_state")).group_by(queue_table.c.state)
            found = {row.state: row.of_state for row in connection.execute(query)}
            return {"waiting": 0, "running": 0, "done": 0, **found}

    def holders(self) -> set[int]:
        """The process ids of the workers whose lease is said to last."""
        with reading(self.url) as connection:
            owners = connection.execute(select(queue_table.c.owner).where(queue_table.c.state == "running")).scalars()
            return {int(owner.rsplit("/", 1)[1].split("-")[0]) for owner in owners}

    def set_row(self, number: int, **values: Any) -> None:
        """Change a row by hand."""
        with reading(self.url) as connection:
            connection.execute(update(queue_table).where(queue_table.c.number == number).values(values))
            connection.commit()

    def check_exactly_once(self) -> list[Row[Any]]:
        """Every planned trial is complete, once, with what an undisturbed run gives to the last bit.

        Returns:
            The rows.
        """
        rows, wanted = self.rows(), self.named_cells()
        assert [row.cell for row in rows] == [canonical(named) for named in wanted]
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
        assert trial.intermediate_values == {point.step: point.val_loss for point in curve}
        assert trial.value == row.value == row.val_loss == curve[-1].val_loss
        assert (row.step, row.train_loss) == (curve[-1].step, curve[-1].train_loss)
        assert trial.user_attrs["train_curve"] == [[point.step, point.train_loss] for point in curve]
        assert trial.datetime_start is not None
        assert trial.datetime_complete is not None
        assert trial.datetime_start <= trial.datetime_complete


@dataclass(frozen=True)
class Death:
    """A process kills itself (SIGKILL) at one call of one function.

    Attributes:
        function: "module:name" or "module:Class.name".
        when: "before" the call or "after" it.
        call: Which call it is, from 1.
    """

    function: str
    when: str
    call: int = 1

    def __str__(self) -> str:
        return f"{self.when}-{self.function.rpartition(':')[2]}-{self.call}"

    def prepare(self) -> None:
        """From now on this process is doomed."""
        module, _, path = self.function.partition(":")
        place, _, name = path.rpartition(".")
        owner = pkgutil.resolve_name(f"{module}:{place}")
        original, calls = getattr(owner, name), itertools.count(1)

        def deadly(*arguments: Any, **keywords: Any) -> Any:
            last = next(calls) == self.call
            if last and self.when == "before":
                os.kill(os.getpid(), signal.SIGKILL)
            result = original(*arguments, **keywords)
            if last:
                os.kill(os.getpid(), signal.SIGKILL)
            return result

        setattr(owner, name, deadly)


def in_child(work: Callable[[], object], log_file: Path) -> int:
    """Run `work` in a forked process and wait for its end.

    Returns:
        Its exit code, or minus the number of the signal that ended it.
    """
    pid = os.fork()
    if pid == 0:
        _be_child(work, log_file)
    deadline = time.monotonic() + PATIENCE_S
    while True:
        ended, status = os.waitpid(pid, os.WNOHANG)
        if ended:
            return os.waitstatus_to_exitcode(status)
        if time.monotonic() >= deadline:
            os.kill(pid, signal.SIGKILL)
            os.waitpid(pid, 0)
            raise AssertionError(f"the child still runs after {PATIENCE_S} s: {log_file.read_text()}")
        time.sleep(0.005)


def _be_child(work: Callable[[], object], log_file: Path) -> NoReturn:
    code = 70
    try:
        output = os.open(log_file, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
        os.dup2(output, 1)
        os.dup2(output, 2)
        # Not pytest's handlers and streams: their buffers belong to the parent.
        sys.stderr = os.fdopen(2, "w", buffering=1)
        logging.basicConfig(level=logging.INFO, stream=sys.stderr, format="%(levelname)s %(message)s", force=True)
        work()
        code = 0
    except SystemExit as end:
        code = int(end.code or 0)
    except BaseException:
        traceback.print_exc()
    finally:
        os._exit(code)


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


def wait_until(condition: Callable[[], object], what: str, timeout_s: float = PATIENCE_S) -> None:
    """Ask every few milliseconds until `condition` holds.

    Args:
        what: What is waited for, to be read when it does not come.
    """
    deadline = time.monotonic() + timeout_s
    while not condition():
        assert time.monotonic() < deadline, f"waited {timeout_s} s for: {what}"
        time.sleep(0.02)
