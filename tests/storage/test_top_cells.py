"""Our pruner: what it promises whatever the order, what it makes of seeds, and that the database tells it enough."""

from __future__ import annotations

import math
from typing import Any

import optuna
from hypothesis import given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st
from optuna.trial import FrozenTrial, TrialState
from sample_study import CELLS, STUDY, optuna_trials

from search.storage.database import Database
from search.storage.leases import Report
from search.storage.optuna_storage import SearchStorage
from search.storage.queue import TrialQueue
from search.strategies.pruning_judge import PruningJudge
from search.strategies.top_cells import TopCellsPruner
from search.study.pruner_settings import PrunerSettings

STEPS = (0, 500, 1000, 1500)


STUDIES = {direction: optuna.create_study(direction=direction) for direction in ("minimize", "maximize")}


class Memory:
    """The trials of a study, and a pruner that is asked about them."""

    def __init__(self, keep: int, warmup_steps: int = 500, direction: str = "minimize") -> None:
        self.direction = direction
        self.trials: list[FrozenTrial] = []
        self.ended_trials: list[FrozenTrial] = []
        self.pruner = TopCellsPruner(self, keep, warmup_steps)

    def ended(self) -> list[FrozenTrial]:
        return self.ended_trials

    def running(self) -> list[FrozenTrial]:
        return [trial for trial in self.trials if trial.state == TrialState.RUNNING]

    def start(self, cell: int, seed: int = 0) -> FrozenTrial:
        trial = optuna.trial.create_trial(state=TrialState.RUNNING)
        trial.params, trial._trial_id = {"cell": cell, "seed": seed}, len(self.trials)
        self.trials.append(trial)
        return trial

    def report(self, trial: FrozenTrial, step: int, loss: float) -> bool:
        """Report a loss, and end the trial if it is pruned or was the last; says whether it was pruned."""
        trial.intermediate_values[step] = loss
        pruned = step < STEPS[-1] and self.pruner.prune(STUDIES[self.direction], trial)
        if pruned or step == STEPS[-1]:
            trial.state = TrialState.PRUNED if pruned else TrialState.COMPLETE
            self.ended_trials.append(trial)
        return pruned

    def train(self, cell: int, losses: list[float], seed: int = 0) -> int | None:
        """Train a trial until it is pruned or complete; the step of its pruning."""
        trial = self.start(cell, seed)
        for step, loss in zip(STEPS, losses, strict=True):
            if self.report(trial, step, loss):
                return step
        return None


losses = st.lists(st.floats(1, 5).map(lambda loss: round(loss, 1)), min_size=len(STEPS), max_size=len(STEPS))


@given(curves=st.lists(losses, min_size=3, max_size=10), keep=st.integers(1, 4), data=st.data())
@hypothesis_settings(max_examples=150)
def test_what_is_among_the_best_at_every_step_is_never_pruned(
    curves: list[list[float]], keep: int, data: st.DataObject
) -> None:
    memory = Memory(keep)
    so_far = [[min(curve[: at + 1]) for at in range(len(STEPS))] for curve in curves]
    safe = {
        cell
        for cell, mine in enumerate(so_far)
        if all(sum(other[at] < mine[at] for other in so_far) < keep for at in range(1, len(STEPS)))
    }
    waiting = data.draw(st.permutations(range(len(curves))))
    held: list[tuple[FrozenTrial, int]] = []
    pruned = set()
    while waiting or held:
        # Any number of workers, in any order of events.
        choice = data.draw(st.integers(0, len(held) if waiting else len(held) - 1))
        if choice == len(held):
            held.append((memory.start(waiting.pop(0)), 0))
            continue
        trial, at = held.pop(choice)
        cell = trial.params["cell"]
        if memory.report(trial, STEPS[at], curves[cell][at]):
            pruned.add(cell)
        elif at + 1 < len(STEPS):
            held.append((trial, at + 1))
    assert not pruned & safe


def test_a_trial_goes_on_while_fewer_than_keep_are_better() -> None:
    memory = Memory(keep=2)
    assert memory.train(0, [4.0, 3.0, 2.5, 2.0]) is None
    assert memory.train(1, [4.0, 3.5, 2.6, 2.1]) is None
    assert memory.train(2, [4.0, 3.2, 2.7, 2.0]) == 1000, "one was better at 500, two at 1000"
    assert memory.train(3, [4.0, 2.9, 2.8, 2.0]) == 1000
    assert memory.train(4, [9.0, 3.5, 2.55, 2.0]) is None, "as good as the second is good enough; step 0 does not count"


def test_the_best_loss_so_far_counts() -> None:
    memory = Memory(keep=1)
    assert memory.train(0, [4.0, 3.0, 2.5, 2.0]) is None
    assert memory.train(1, [4.0, 2.4, 3.9, 2.1]) is None, "one bad evaluation after a good one"


def test_what_was_pruned_itself_stands_in_nobodys_way() -> None:
    memory = Memory(keep=1)
    assert memory.train(0, [4.0, 3.0, 2.0, 1.9]) is None
    assert memory.train(1, [4.0, 2.5, 2.4, 1.9]) == 1000
    assert memory.train(2, [4.0, 2.8, 1.9, 1.8]) is None, "cell 1 was better at 500, but that came to nothing"


def test_running_trials_are_compared_too() -> None:
    memory = Memory(keep=1)
    first, second = memory.start(0), memory.start(1)
    assert not memory.report(first, 500, 3.0)
    assert memory.report(second, 500, 3.1)


def test_seeds_of_a_cell_count_as_one_by_their_mean() -> None:
    memory = Memory(keep=2)
    for seed in range(3):
        assert memory.train(0, [4.0, 3.0, 2.5, 2.0], seed) is None
    assert memory.train(1, [4.0, 3.1, 2.6, 2.1]) is None, "three better trials are one better cell"
    assert memory.train(2, [4.0, 3.0, 2.4, 2.1]) is None
    # With its first seed the mean of cell 1 is 3.1 at 500, and that of cell 2 becomes 3.25.
    assert memory.train(2, [4.0, 3.5, 2.4, 2.1], seed=1) == 500
    assert memory.train(1, [4.0, 2.9, 2.2, 2.1], seed=1) is None


def test_a_trial_counts_once_in_the_mean_of_its_cell() -> None:
    memory = Memory(keep=1)
    assert memory.train(0, [4.0, 3.0, 2.0, 2.0]) is None
    second = memory.start(0, seed=1)
    assert memory.report(second, 500, 3.4) is False
    assert memory.train(1, [4.0, 3.25, 2.0, 2.0]) == 500, "the mean of cell 0 is 3.2"
    # The study knows of the second trial's 3.4 already when it is asked about it again.
    memory.train(2, [4.0, 3.1, 3.0, 3.0])
    assert memory.pruner._with_running(500, second, 1)[0].mean == 3.2


def test_a_cell_pruned_twice_gets_no_more() -> None:
    memory = Memory(keep=1)
    memory.train(0, [4.0, 3.0, 2.5, 2.0])
    bad = [4.0, 3.5, 2.9, 2.8]
    assert [memory.train(1, bad, seed) for seed in range(4)] == [500, 500, 0, 0]
    assert memory.train(0, [4.0, 3.0, 2.5, 2.0], seed=1) is None


def test_nan_is_no_loss() -> None:
    memory = Memory(keep=1)
    trial = memory.start(0)
    assert not memory.report(trial, 500, math.nan), "nobody is better"
    assert memory.train(1, [4.0, 3.5, 2.9, 2.8]) is None
    assert memory.report(trial, 1000, math.nan)


def test_a_trial_without_a_loss_goes_on() -> None:
    memory = Memory(keep=1)
    memory.train(0, [1.0, 1.0, 1.0, 1.0])
    assert memory.pruner.prune(STUDIES["minimize"], memory.start(1)) is False


def test_many_cells() -> None:
    memory = Memory(keep=70)
    for cell in range(150):
        assert memory.train(cell, [9e9, 3.0 + cell, 2.0 + cell, 1.0 + cell]) == (None if cell < 70 else 500)


def top(keep: int) -> PrunerSettings:
    return PrunerSettings.model_validate({"name": "top", "warmup_steps": 500, "keep": keep})


def test_the_database_tells_it_enough(database: Database, queue: TrialQueue, storage_url: str) -> None:
    """Ended and running trials of other workers, and its own after a restart, through the real storage."""
    judge = PruningJudge(SearchStorage(database), STUDY, top(keep=2))
    judge._history._refresh_s = 0.0
    expected = Memory(keep=2)
    outcomes: list[Any] = []
    for lease in queue.claim([STUDY], "ann", limit=CELLS):
        trial, twin = judge.trial(lease), expected.start(lease.number)
        assert {**trial.params, "seed": 0} == {**_params(storage_url, lease.number), "seed": 0}
        outcome: Any = "complete"
        for step in STEPS:
            loss = 3.0 + (lease.number * 7 % CELLS) / 10 - step / 1000
            queue.report([Report(lease, step, loss, loss)])
            trial.intermediate_values[step] = loss
            twin_pruned = expected.report(twin, step, loss)
            if step < STEPS[-1]:
                assert judge.should_prune(trial) == twin_pruned
            if twin_pruned:
                outcome = "pruned"
                break
        queue.finish(lease, outcome, loss)
        outcomes.append(outcome)
    assert 2 <= outcomes.count("complete") < CELLS


def _params(url: str, number: int) -> dict[str, Any]:
    return next(trial.params for trial in optuna_trials(url) if trial.number == number)


def test_what_a_trial_had_before_a_restart_counts(database: Database, queue: TrialQueue) -> None:
    judge = PruningJudge(SearchStorage(database), STUDY, top(keep=1))
    judge._history._refresh_s = 0.0
    rival, lease = queue.claim([STUDY], "ann", limit=2)
    queue.report([Report(rival, 500, 2.5, 2.5), Report(rival, 1000, 2.5, 2.5)])
    queue.finish(rival, "complete", 2.5)
    queue.report([Report(lease, 500, 2.0, 2.0)])
    queue.release(lease)
    [lease] = queue.claim([STUDY], "bob")
    trial = judge.trial(lease)
    queue.report([Report(lease, 1000, 3.0, 3.0)])
    trial.intermediate_values[1000] = 3.0
    assert judge.should_prune(trial) is False
    del trial.intermediate_values[500]
    assert judge.should_prune(trial) is True
