"""Any sequence of calls to the run queue, compared with a model of it in a few lines."""

from __future__ import annotations

import itertools
from copy import deepcopy
from dataclasses import dataclass, field
from typing import Any

import optuna
import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    Bundle,
    RuleBasedStateMachine,
    consumes,
    invariant,
    multiple,
    rule,
    run_state_machine_as_test,
)
from optuna.storages._rdb import models
from optuna.trial import TrialState
from sample_study import CELLS, expire, rows, sample_plan
from sqlalchemy import Connection, Integer, select, text

from search.storage.connect import open_database
from search.storage.database import Database
from search.storage.errors import LeaseLost
from search.storage.leases import Lease, Report
from search.storage.planning import plan
from search.storage.queries import counts, planned_study
from search.storage.queue import TrialQueue
from search.storage.schema import metadata
from search.storage.state_transitions import OPTUNA_STATE
from search.storage.url import parse_url

MAX_ATTEMPTS = 3
# Optuna's tables and ours, each after those that it refers to.
TABLES = [
    table
    for table in (
        *models.BaseModel.metadata.sorted_tables,
        *(metadata.tables[name] for name in ("search_studies", "search_runs")),
    )
    if table.name not in ("version_info", "alembic_version")
]


@dataclass
class Trial:
    """What the model knows of one trial."""

    state: str = "waiting"
    owner: str | None = None
    attempts: int = 0
    token: int = 0
    expired: bool = False
    highest: int = 0
    at_claim: int = 0
    curve: dict[int, float] = field(default_factory=dict)
    value: float | None = None

    @property
    def progressed(self) -> bool:
        return self.highest > self.at_claim


@dataclass
class Copy:
    """A backup: the content of all tables, and what the model knew."""

    tables: dict[str, list[dict[str, Any]]]
    uid: str | None
    trials: list[Trial]


class QueueMachine(RuleBasedStateMachine):
    """A study, its workers, each claim under another owner, and a copy of the database that may come back.

    The model knows who holds each trial. So nothing is accepted from anyone else: not from a second owner, and not for
    another planning of the study.
    """

    leases = Bundle("leases")
    database: Database
    plain: optuna.storages.RDBStorage
    names = itertools.count()

    def __init__(self) -> None:
        super().__init__()
        self.study = f"study-{next(self.names)}"
        self.queue = TrialQueue(self.database, max_attempts=MAX_ATTEMPTS)
        self.owners = itertools.count()
        self.trials: list[Trial] = []
        self.uid: str | None = None
        self.plan(1)
        self.copy = self.back_up_now()

    def back_up_now(self) -> Copy:
        def read(connection: Connection) -> dict[str, list[dict[str, Any]]]:
            return {t.name: [dict(row._mapping) for row in connection.execute(select(t))] for t in TABLES}

        return Copy(self.database.read(read), self.uid, deepcopy(self.trials))

    @rule()
    def back_up(self) -> None:
        self.copy = self.back_up_now()

    @rule(target=leases)
    def restore(self) -> Any:
        """An older copy comes back while all workers still run; ids and tokens are given again, to other workers."""

        def write(connection: Connection) -> None:
            for table in reversed(TABLES):
                connection.execute(table.delete())
            for table in TABLES:
                if self.copy.tables[table.name]:
                    connection.execute(table.insert(), self.copy.tables[table.name])
                [key] = [*table.primary_key.columns][:1]
                if connection.dialect.name == "postgresql" and isinstance(key.type, Integer):
                    sequence = f"pg_get_serial_sequence('{table.name}', '{key.name}')"
                    highest = f"(SELECT coalesce(max({key.name}), 0) + 1 FROM {table.name})"
                    connection.execute(text(f"SELECT setval({sequence}, {highest}, false)"))
            if connection.dialect.name == "sqlite":
                connection.execute(text("UPDATE sqlite_sequence SET seq = (SELECT max(id) FROM search_runs)"))

        self.database.write(write)
        self.uid, self.trials = self.copy.uid, deepcopy(self.copy.trials)
        return self.claim_now(2)

    @rule()
    def delete(self) -> None:
        if self.uid is not None:
            self.plain.delete_study(self.plain.get_study_id_from_name(self.study))
        self.uid, self.trials = None, []

    @rule(seeds=st.integers(1, 2))
    def plan(self, seeds: int) -> None:
        planned = plan(self.database, [sample_plan(seeds, self.study)])
        missing = max(0, seeds * CELLS - len(self.trials))
        self.trials += [Trial() for _ in range(missing)]
        assert (planned.added, planned.repaired) == (missing, 0)
        found = planned_study(self.database, self.study)
        assert found is not None
        assert self.uid in (None, found[0])
        self.uid = found[0]

    @rule(target=leases, limit=st.integers(1, 3))
    def claim(self, limit: int) -> Any:
        return self.claim_now(limit)

    def claim_now(self, limit: int) -> Any:
        expired = [at for at, trial in enumerate(self.trials) if trial.state == "running" and trial.expired][:limit]
        wanted = [at for at in expired if self.trials[at].attempts < MAX_ATTEMPTS or self.trials[at].progressed]
        for at in set(expired) - set(wanted):
            self.trials[at].state, self.trials[at].token = "failed", self.trials[at].token + 1
        waiting = [at for at, trial in enumerate(self.trials) if trial.state == "waiting"]
        wanted += waiting[: limit - len(wanted)]

        claimed = self.queue.claim([self.study], f"owner {next(self.owners)}", limit)

        assert [lease.number for lease in claimed] == wanted
        for lease in claimed:
            trial = self.trials[lease.number]
            trial.state, trial.owner, trial.expired = "running", lease.owner, False
            trial.attempts, trial.token = 1 if trial.progressed else trial.attempts + 1, trial.token + 1
            trial.at_claim = trial.highest
            assert (lease.attempt, lease.token) == (trial.attempts, trial.token)
        return multiple(*claimed)

    def claimed(self, lease: Lease) -> Trial | None:
        """The trial of a lease that no worker has claimed since, in this planning of the study and this copy of it."""
        if lease.study_uid != self.uid or lease.number >= len(self.trials):
            return None
        trial = self.trials[lease.number]
        return trial if (trial.token, trial.owner) == (lease.token, lease.owner) else None

    def held(self, lease: Lease) -> bool:
        trial = self.claimed(lease)
        return trial is not None and trial.state == "running"

    @rule(lease=leases, step=st.sampled_from([0, 500, 1000]), loss=st.floats(allow_nan=False))
    def report(self, lease: Lease, step: int, loss: float) -> None:
        lost = self.queue.report([Report(lease, step, loss, loss)])
        assert lost == ([] if self.held(lease) else [lease])
        if not lost:
            trial = self.trials[lease.number]
            trial.curve[step], trial.highest, trial.expired = loss, max(trial.highest, step), False

    @rule(lease=leases)
    def renew(self, lease: Lease) -> None:
        assert self.queue.renew([lease]) == ([] if self.held(lease) else [lease])
        if self.held(lease):
            self.trials[lease.number].expired = False

    @rule(lease=leases, reason=st.sampled_from([None, "no memory"]))
    def release(self, lease: Lease, reason: str | None) -> None:
        trial = self.claimed(lease) or Trial()
        left = reason is None or trial.attempts < MAX_ATTEMPTS or trial.progressed
        released = self.held(lease) and left
        assert self.queue.release(lease, reason) == released
        if released:
            trial.owner = None
            trial.state, trial.attempts = "waiting", trial.attempts - (reason is None)

    @rule(lease=leases)
    def expire(self, lease: Lease) -> None:
        if self.held(lease):
            expire(self.database, lease)
            self.trials[lease.number].expired = True

    @rule(lease=leases, outcome=st.sampled_from(sorted(OPTUNA_STATE)), value=st.floats(1, 5))
    def finish(self, lease: Lease, outcome: Any, value: float) -> None:
        trial = self.claimed(lease)
        if trial is not None and self.held(lease):
            self.queue.finish(lease, outcome, value)
            trial.state, trial.value = outcome, value
        elif trial is not None and trial.state in OPTUNA_STATE:
            self.queue.finish(lease, outcome, value)  # as after a lost acknowledgement
        else:
            with pytest.raises(LeaseLost, match=f"trial {lease.number} of {self.study}"):
                self.queue.finish(lease, outcome, value)

    @rule(lease=consumes(leases))
    def forget(self, lease: Lease) -> None:
        """A worker dies, and its lease is not used again."""

    @rule()
    def retry(self) -> None:
        failed = [at for at, trial in enumerate(self.trials) if trial.state in ("failed", "diverged")]
        assert self.queue.retry_failed([self.study]) == len(failed)
        for at in failed:
            self.trials[at] = Trial(token=self.trials[at].token)

    @invariant()
    def rows_agree(self) -> None:
        found = rows(self.database, self.study)
        assert [row.number for row in found] == list(range(len(self.trials)))
        for row, trial in zip(found, self.trials, strict=True):
            assert (row.outcome or row.state) == trial.state
            assert (row.attempts, row.token, row.value) == (trial.attempts, trial.token, trial.value)
            assert row.owner == trial.owner

    @rule()
    def optuna_agrees(self) -> None:
        expected: dict[str, TrialState] = {str(state): ended for state, ended in OPTUNA_STATE.items()}
        expected |= {"waiting": TrialState.WAITING, "running": TrialState.RUNNING}
        if self.uid is None:
            assert self.queue.unfinished([self.study]) == 0
            return
        found = optuna.load_study(study_name=self.study, storage=self.plain).trials
        assert [trial.number for trial in found] == list(range(len(self.trials)))
        for seen, trial in zip(found, self.trials, strict=True):
            assert seen.state == expected[trial.state]
            assert (seen.intermediate_values, seen.value) == (trial.curve, trial.value)
        assert self.queue.unfinished([self.study]) == sum(t.state in ("waiting", "running") for t in self.trials)
        states = [trial.state for trial in self.trials]
        assert counts(self.database, [self.study]) == {state: states.count(state) for state in expected}

    def teardown(self) -> None:
        self.optuna_agrees()
        self.delete()


@pytest.mark.parametrize("examples", [8, pytest.param(500, marks=[pytest.mark.soak, pytest.mark.timeout(1800)])])
def test_any_sequence_of_calls_agrees_with_the_model(storage_url: str, examples: int) -> None:
    with open_database(storage_url, create=True).closing() as database:
        plain = optuna.storages.RDBStorage(parse_url(storage_url).render_as_string(hide_password=False))
        machine = type("Machine", (QueueMachine,), {"database": database, "plain": plain})
        checks = settings(max_examples=examples, stateful_step_count=30, suppress_health_check=list(HealthCheck))
        run_state_machine_as_test(machine, settings=checks)
        plain.engine.dispose()
