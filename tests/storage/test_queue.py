"""The contract of the run queue, on every database."""

from __future__ import annotations

import math
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any, TypeVar

import pytest
import swarm
from optuna.trial import TrialState
from sample_study import CELLS, STUDY, change, expire, optuna_storage, optuna_trials, row, rows, sample_plan
from sqlalchemy import Connection, select

from search.storage import optuna_tables
from search.storage.connect import open_database
from search.storage.crashes import TAKEN_OVER
from search.storage.database import Database
from search.storage.errors import EndedElsewhere, LeaseLost
from search.storage.failures import MAX_TRACEBACK, Failure
from search.storage.leases import Lease, Report
from search.storage.planning import plan
from search.storage.queries import counts, trial_summaries
from search.storage.queue import TrialQueue
from search.storage.state_transitions import ENDED_ELSEWHERE

Result = TypeVar("Result")


class ForgetfulDatabase(Database):
    """Every commit loses its acknowledgement once, so everything is done a second time."""

    def write(self, work: Callable[[Connection], Result], *, durable: bool = False) -> Result:
        super().write(work, durable=durable)
        return super().write(work, durable=durable)


def claim(queue: TrialQueue, owner: str = "ann") -> Lease:
    [lease] = queue.claim([STUDY], owner)
    return lease


def snapshot(database: Database, url: str) -> Any:
    """All that a refused call must leave as it was."""
    return [tuple(each) for each in rows(database)], optuna_trials(url)


def test_claims_go_by_priority_then_by_age(database: Database, queue: TrialQueue) -> None:
    change(database, 7, priority=-1)
    change(database, 3, priority=-1)

    leases = queue.claim([STUDY], "ann", limit=4)

    assert [lease.number for lease in leases] == [3, 7, 0, 1]
    assert all((lease.owner, lease.token, lease.attempt, lease.study) == ("ann", 1, 1, STUDY) for lease in leases)


def test_a_claim_shows_in_optuna(queue: TrialQueue, storage_url: str) -> None:
    lease = claim(queue)

    trials = optuna_trials(storage_url)

    assert [trial.state for trial in trials] == [TrialState.RUNNING] + [TrialState.WAITING] * (CELLS - 1)
    assert trials[0]._trial_id == lease.trial_id
    assert trials[0].datetime_start is not None


def test_only_the_studies_asked_for_are_claimed(database: Database, queue: TrialQueue) -> None:
    plan(database, [sample_plan(study="other")])

    assert {lease.study for lease in queue.claim(["other"], "ann", limit=100)} == {"other"}
    assert queue.claim(["nobody's"], "bob") == []
    assert queue.claim([], "bob") == []


def test_eight_threads_claim_each_row_once(storage_url: str, database: Database) -> None:
    plan(database, [sample_plan(seeds=8)])

    def work(name: int) -> list[int]:
        claimed: list[int] = []
        with open_database(storage_url, create=False).closing() as own:
            queue = TrialQueue(own)
            while leases := queue.claim([STUDY], f"{name}-{len(claimed)}"):
                claimed += [lease.number for lease in leases]
        return claimed

    with ThreadPoolExecutor(8) as pool:
        claimed = list(pool.map(work, range(8)))

    assert sorted(number for each in claimed for number in each) == list(range(8 * CELLS))


def test_eight_processes_claim_and_finish_each_row_once(storage_url: str, database: Database) -> None:
    seeds = 34
    plan(database, [sample_plan(seeds)])

    claimed = swarm.run_at_once(8, swarm.claim_all, storage_url, True)

    assert sorted(number for each in claimed for number in each) == list(range(seeds * CELLS))
    assert {(each.state, each.outcome, each.token, each.attempts) for each in rows(database)} == {
        ("done", "complete", 1, 1)
    }
    assert {(trial.state, trial.value) for trial in optuna_trials(storage_url)} == {(TrialState.COMPLETE, 2.5)}


def test_reports_reach_the_row_and_optuna(database: Database, queue: TrialQueue, storage_url: str) -> None:
    first, second = queue.claim([STUDY], "ann", limit=2)
    change(database, first.number, lease_until=1.0)

    assert queue.report([Report(first, 0, 4.0, 4.1), Report(second, 0, 4.2, 4.3), Report(first, 500, 2.0, 2.1)]) == []

    reported = row(database, first.number)
    assert (reported.step, reported.train_loss, reported.val_loss) == (500, 2.0, 2.1)
    trials = optuna_trials(storage_url)
    assert trials[first.number].intermediate_values == {0: 4.1, 500: 2.1}
    assert trials[second.number].intermediate_values == {0: 4.3}
    assert queue.claim([STUDY], "bob")[0].number == 2, "the report renewed the lease that had expired"


def test_a_step_reported_again_replaces_the_first(database: Database, queue: TrialQueue, storage_url: str) -> None:
    lease = claim(queue)
    queue.report([Report(lease, 500, 3.0, 3.1)])

    queue.report([Report(lease, 500, 2.0, 2.1)])

    assert optuna_trials(storage_url)[0].intermediate_values == {500: 2.1}
    assert row(database, 0).val_loss == 2.1


@pytest.mark.parametrize("loss", [math.nan, math.inf, -math.inf])
def test_losses_that_are_no_numbers_can_be_reported(
    database: Database, queue: TrialQueue, storage_url: str, loss: float
) -> None:
    lease = claim(queue)

    assert queue.report([Report(lease, 500, loss, loss)]) == []

    assert row(database, 0).val_loss == (None if math.isnan(loss) else loss)
    assert repr(optuna_trials(storage_url)[0].intermediate_values[500]) == repr(loss)


def test_an_old_token_is_refused_and_writes_nothing(database: Database, queue: TrialQueue, storage_url: str) -> None:
    old = claim(queue)
    queue.report([Report(old, 0, 4.0, 4.1)])
    expire(database, old)
    new = claim(queue, "bob")
    assert (new.number, new.trial_id, new.token, new.attempt) == (old.number, old.trial_id, 2, 2)
    before = snapshot(database, storage_url)

    assert queue.report([Report(old, 500, 1.0, 1.1)]) == [old]
    assert queue.renew([old]) == [old]
    queue.release(old)
    with pytest.raises(LeaseLost, match="trial 0 of small"):
        queue.finish(old, "complete", 1.1, {"n_params": 1})

    assert snapshot(database, storage_url) == before
    queue.report([Report(new, 500, 2.0, 2.1)])
    queue.finish(new, "complete", 2.1)
    assert optuna_trials(storage_url)[0].intermediate_values == {0: 4.1, 500: 2.1}


def test_one_lost_lease_does_not_spoil_the_others(database: Database, queue: TrialQueue, storage_url: str) -> None:
    first, second = queue.claim([STUDY], "ann", limit=2)
    expire(database, first)
    claim(queue, "bob")

    assert queue.report([Report(first, 0, 1.0, 1.0), Report(second, 0, 2.0, 2.0)]) == [first]
    assert queue.renew([second, first]) == [first]

    assert [trial.intermediate_values for trial in optuna_trials(storage_url)[:2]] == [{}, {0: 2.0}]


def test_a_lease_lives_as_long_as_it_is_renewed(database: Database, queue: TrialQueue) -> None:
    lease = claim(queue)
    change(database, 0, lease_until=1.0)

    assert queue.renew([lease]) == []

    assert claim(queue, "bob").number == 1
    with database.engine.connect() as connection:
        left = row(database, 0).lease_until - connection.execute(select(database.now())).scalar_one()
    assert 50 < left <= 60


def test_an_expired_lease_goes_before_waiting_rows(database: Database, queue: TrialQueue, storage_url: str) -> None:
    leases = queue.claim([STUDY], "ann", limit=5)
    started = optuna_trials(storage_url)[3].datetime_start
    expire(database, leases[3])

    lease = claim(queue, "bob")

    assert (lease.number, lease.token, lease.attempt) == (3, 2, 2)
    assert optuna_trials(storage_url)[3].datetime_start == started


def test_an_orderly_release_is_no_attempt(database: Database, queue: TrialQueue, storage_url: str) -> None:
    lease = claim(queue)
    queue.report([Report(lease, 0, 4.0, 4.1)])

    queue.release(lease)

    released = row(database, 0)
    assert (released.state, released.attempts, released.owner, released.lease_until) == ("waiting", 0, None, None)
    trial = optuna_trials(storage_url)[0]
    assert (trial.state, trial.intermediate_values) == (TrialState.WAITING, {0: 4.1})
    again = claim(queue, "bob")
    assert (again.number, again.token, again.attempt) == (0, 2, 1)


def test_a_release_with_a_reason_counts_and_waits(database: Database, queue: TrialQueue) -> None:
    lease = claim(queue)

    queue.release(lease, "MemoryError: no memory", delay_s=3600)

    assert (row(database, 0).attempts, row(database, 0).reason) == (1, "MemoryError: no memory")
    assert claim(queue, "bob").number == 1
    change(database, 0, not_before=row(database, 0).not_before - 3601)
    again = claim(queue, "cid")
    assert (again.number, again.attempt) == (0, 2)


def test_a_trial_that_kills_its_workers_is_failed_for_good(
    database: Database, queue: TrialQueue, storage_url: str
) -> None:
    for owner in ("ann", "bob", "cid"):
        last = claim(queue, owner)
        expire(database, last)

    assert claim(queue, "dan").number == 1

    buried = row(database, 0)
    reason = "3 workers crashed while training this trial; last: cid"
    assert (buried.state, buried.outcome, buried.value, buried.reason) == ("done", "failed", None, reason)
    trial = optuna_trials(storage_url)[0]
    assert (trial.state, trial.user_attrs["reason"]) == (TrialState.FAIL, reason)
    with pytest.raises(LeaseLost, match="trial 0 of small"):
        queue.finish(last, "complete", 2.0)  # its worker was slow, not dead
    assert row(database, 0).outcome == "failed"


@pytest.mark.parametrize(
    ("outcome", "value", "stored", "state"),
    [
        ("complete", 2.25, 2.25, TrialState.COMPLETE),
        ("pruned", 2.75, 2.75, TrialState.PRUNED),
        ("diverged", math.nan, None, TrialState.FAIL),
        ("diverged", math.inf, math.inf, TrialState.FAIL),
        ("failed", None, None, TrialState.FAIL),
    ],
)
def test_every_outcome_is_told_to_both(
    database: Database,
    queue: TrialQueue,
    storage_url: str,
    outcome: Any,
    value: float | None,
    stored: float | None,
    state: TrialState,
) -> None:
    lease = claim(queue)
    reason = None if outcome == "complete" else "made up"

    queue.finish(lease, outcome, value, {"n_params": 4096}, reason)

    done = row(database, 0)
    assert (done.state, done.outcome, done.value, done.reason) == ("done", outcome, stored, reason)
    assert done.finished_at >= done.started_at
    trial = optuna_trials(storage_url)[0]
    assert (trial.state, trial.value) == (state, stored)
    assert trial.user_attrs == {"n_params": 4096, "outcome": outcome, **({"reason": reason} if reason else {})}
    assert trial.duration is not None
    assert counts(database, [STUDY])[outcome] == 1
    assert queue.unfinished([STUDY]) == CELLS - 1


def test_a_failed_attempt_leaves_no_reason_on_a_complete_trial(database: Database, queue: TrialQueue) -> None:
    queue.release(claim(queue), "MemoryError: no memory")

    queue.finish(claim(queue), "complete", 2.0)

    assert row(database, 0).reason is None


def test_lost_acknowledgements_change_nothing(storage_url: str, database: Database, queue: TrialQueue) -> None:
    forgetful = TrialQueue(ForgetfulDatabase(database.engine), max_attempts=1)

    lease = claim(forgetful)
    assert (lease.number, lease.attempt) == (0, 1), "the same row again, and nobody died of it"
    assert forgetful.report([Report(lease, 0, 4.0, 4.1)]) == []
    forgetful.finish(lease, "complete", 2.0)

    lease = claim(forgetful)
    forgetful.release(lease)
    assert (row(database, 1).state, row(database, 1).attempts) == ("waiting", 0)

    lease = claim(forgetful)
    assert lease.number == 1
    forgetful.finish(lease, "failed", None, reason="made up")
    forgetful.retry_failed([STUDY])
    plan(forgetful.database, [sample_plan(seeds=2)])

    assert [each.state for each in rows(database)] == ["done"] + ["waiting"] * (2 * CELLS - 1)
    states = [trial.state for trial in optuna_trials(storage_url)]
    assert states == [TrialState.COMPLETE] + [TrialState.WAITING] * (2 * CELLS - 1)
    assert optuna_trials(storage_url)[0].intermediate_values == {0: 4.1}


@pytest.mark.parametrize(
    ("value", "further", "outcome"),
    [(math.inf, (), "diverged"), (-math.inf, (), "diverged"), (1.0, (math.inf,), "diverged"), (1e308, (), "complete")],
)
def test_an_infinite_value_diverges_and_is_complete_for_optuna(
    database: Database, queue: TrialQueue, storage_url: str, value: float, further: tuple[float, ...], outcome: str
) -> None:
    lease = claim(queue)
    queue.finish(lease, "complete", value, further_values=further)
    assert (row(database, 0).outcome, row(database, 0).value) == (outcome, value)
    trial = optuna_trials(storage_url)[0]
    assert (trial.state, trial.values, trial.user_attrs["outcome"]) == (TrialState.COMPLETE, [value, *further], outcome)


@pytest.mark.parametrize(
    ("state", "value", "outcome"),
    [(TrialState.FAIL, None, "failed"), (TrialState.COMPLETE, 1.5, "complete"), (TrialState.PRUNED, None, "pruned")],
)
def test_a_trial_ended_through_optuna_keeps_that_end(
    database: Database, queue: TrialQueue, storage_url: str, state: TrialState, value: float | None, outcome: str
) -> None:
    lease = claim(queue)
    storage = optuna_storage(storage_url)
    storage.set_trial_state_values(lease.trial_id, state, None if value is None else [value])
    storage.engine.dispose()

    with pytest.raises(EndedElsewhere, match="trial 0 of small"):
        queue.finish(lease, "complete", 2.0, {"n_params": 1})

    ended = row(database, 0)
    assert (ended.state, ended.outcome, ended.value, ended.reason) == ("done", outcome, value, ENDED_ELSEWHERE)
    trial = optuna_trials(storage_url)[0]
    assert (trial.state, trial.value, trial.user_attrs) == (state, value, {})


def test_what_a_dead_worker_held_can_be_claimed_at_once(queue: TrialQueue) -> None:
    queue.claim([STUDY], "ann", limit=2)
    claim(queue, "bob")

    assert queue.abandon("ann") == 2
    assert queue.abandon("nobody") == 0

    assert [lease.number for lease in queue.claim([STUDY], "cid", limit=3)] == [0, 1, 3]


def test_retried_trials_are_as_new(database: Database, queue: TrialQueue, storage_url: str) -> None:
    complete, pruned, diverged, failed = queue.claim([STUDY], "ann", limit=4)
    for lease in (complete, pruned, diverged, failed):
        queue.report([Report(lease, 0, 4.0, 4.1)])
    queue.finish(complete, "complete", 2.0)
    queue.finish(pruned, "pruned", 2.5, reason="pruned at step 0")
    queue.finish(diverged, "diverged", math.inf, {"n_params": 1}, "the loss was not finite")
    database.write(lambda connection: optuna_tables.write_system_attrs(connection, failed.trial_id, {"rung": 1}))
    queue.finish(failed, "failed", None, {"n_params": 1}, "made up")

    assert queue.retry_failed([STUDY, "other"]) == 2

    for lease in (diverged, failed):
        again = row(database, lease.number)
        assert (again.state, again.attempts, again.outcome, again.value, again.step) == ("waiting", 0, None, None, None)
        trial = optuna_trials(storage_url)[lease.number]
        assert (trial.state, trial.value, trial.intermediate_values) == (TrialState.WAITING, None, {})
        assert (trial.user_attrs, trial.system_attrs, trial.datetime_start) == ({}, {}, None)
        assert trial.params["seed"] == 1337
        with pytest.raises(LeaseLost, match=f"trial {lease.number} of small"):
            queue.finish(lease, "complete", 1.0)
    assert [row(database, lease.number).outcome for lease in (complete, pruned)] == ["complete", "pruned"]
    assert [(lease.number, lease.token, lease.attempt) for lease in queue.claim([STUDY], "bob", limit=2)] == [
        (2, 2, 1),
        (3, 2, 1),
    ]


def failure_of(database: Database, number: int) -> Failure:
    found = Failure.from_json(row(database, number).failure)
    assert found is not None
    return found


def lose(database: Database, queue: TrialQueue, owner: str, step: int | None = None) -> Lease:
    """Claim the first trial, reach a step, and let the lease expire."""
    lease = claim(queue, owner)
    assert lease.number == 0
    if step is not None:
        assert queue.report([Report(lease, step, 4.0, 4.1)]) == []
    expire(database, lease)
    return lease


def test_attempts_that_make_progress_do_not_count(database: Database, queue: TrialQueue) -> None:
    for step in (9, 16, 24, 33, 47):
        assert lose(database, queue, f"host/cpu-0/{step}", step).attempt == 1
    # From here on no attempt gets further: the third one is the last.
    attempts = [lose(database, queue, f"host/cpu-0/again-{step}", step).attempt for step in (47, 30, 47)]
    assert attempts == [1, 2, 3]
    assert failure_of(database, 0).kind == "host gone"

    assert claim(queue, "next").number == 1
    ended = row(database, 0)
    assert (ended.outcome, ended.attempts, ended.highest_step) == ("failed", 3, 47)
    assert ended.reason == "3 workers crashed while training this trial; last: host/cpu-0/again-47"
    last = failure_of(database, 0)
    assert (last.kind, last.worker, last.host, last.attempt, last.step) == (
        *("host gone", "host/cpu-0/again-47", "host", 3, 47),
    )


@pytest.mark.parametrize("step", [None, 0])
def test_an_attempt_without_a_step_counts(database: Database, queue: TrialQueue, step: int | None) -> None:
    assert [lose(database, queue, f"{n}", step).attempt for n in range(3)] == [1, 2, 3]
    assert claim(queue, "next").number == 1


def test_a_living_worker_takes_its_attempt_back_and_leases_get_longer(database: Database, queue: TrialQueue) -> None:
    for turn in range(8):
        lease = lose(database, queue, f"{turn}")
        heir = claim(queue, f"heir {turn}")
        assert queue.note_alive(lease) == TAKEN_OVER
        lost = failure_of(database, 0)
        assert (lost.kind, lost.worker) == ("lease lost", f"{turn}")
        assert row(database, 0).attempts == heir.attempt - 1
        assert queue.renew([heir]) == []
        left = row(database, 0).lease_until - database.read(lambda c: c.execute(select(database.now())).scalar_one())
        assert left == pytest.approx(60 * 2 ** min(6, turn + 1), abs=5)
        queue.release(heir)
    [heir] = queue.claim([STUDY], "heir")
    assert queue.report([Report(heir, 500, 2.0, 2.0)]) == []
    queue.release(heir)
    claim(queue)
    assert (row(database, 0).attempts, row(database, 0).lost_leases) == (1, 0), "progress starts again"


def test_a_trial_that_failed_because_its_workers_seemed_gone_waits_again(
    database: Database, queue: TrialQueue, storage_url: str
) -> None:
    leases = [lose(database, queue, f"{n}") for n in range(3)]
    claim(queue, "next")
    assert row(database, 0).outcome == "failed"

    assert queue.note_alive(leases[0]) == TAKEN_OVER

    again = row(database, 0)
    assert (again.state, again.outcome, again.attempts) == ("waiting", None, 2)
    assert optuna_trials(storage_url)[0].state is TrialState.WAITING
    assert queue.claim([STUDY], "last")[0].number == 0


def test_how_a_worker_ended_is_recorded(database: Database, queue: TrialQueue) -> None:
    lease = claim(queue, "host/cpu-1/12-ab")
    queue.report([Report(lease, 500, 2.0, 2.0)])
    killed = Failure("worker crashed", signal="SIGKILL", log="/logs/worker-cpu-1.log")

    assert queue.abandon(lease.owner, killed) == 1
    heir = claim(queue, "heir")

    assert heir.number == 0
    found = failure_of(database, 0)
    facts = (found.kind, found.signal, found.log, found.host, found.worker, found.attempt, found.step)
    assert facts == ("worker crashed", "SIGKILL", "/logs/worker-cpu-1.log", "host", lease.owner, 1, 500)
    assert trial_summaries(database, [STUDY])[0].failure == found
    late = Failure("timeout", error="too slow\nand more", traceback="x" * 10_000)
    assert queue.release(heir, failure=late)
    found = failure_of(database, 0)
    assert (found.kind, found.error, len(found.traceback or "")) == ("timeout", "too slow", MAX_TRACEBACK)


@pytest.mark.parametrize("text", ["\0", "\ud800", "é\n", "a" * 10_000])
def test_a_failure_of_any_text_can_be_stored(
    database: Database, queue: TrialQueue, storage_url: str, text: str
) -> None:
    queue.finish(claim(queue), "failed", None, reason="made up", failure=Failure("error", error=text, log=text[:9]))

    assert failure_of(database, 0).kind == "error"
    assert optuna_trials(storage_url)[0].user_attrs["failure"]["kind"] == "error"


def test_another_owner_with_the_same_token_is_refused(database: Database, queue: TrialQueue, storage_url: str) -> None:
    """As after a restored backup: two workers hold the first trial, each with token 1."""
    late = claim(queue, "ann")
    change(database, 0, owner="bob")
    before = snapshot(database, storage_url)

    assert queue.report([Report(late, 500, 1.0, 1.1)]) == [late]
    assert queue.renew([late]) == [late]
    assert queue.release(late) is False
    with pytest.raises(LeaseLost, match="trial 0 of small"):
        queue.finish(late, "complete", 9.99)
    assert snapshot(database, storage_url) == before
