"""What a pruner sees that judges by a named metric: its values, on every database, also of trials that were resumed."""

from __future__ import annotations

import pytest
from optuna.study import Study
from sample_study import STUDY

from search.errors import UsageError
from search.storage.database import Database
from search.storage.leased_writes import LeasedWrites
from search.storage.leases import Lease, Report
from search.storage.optuna_storage import SearchStorage
from search.storage.pruner_storage import PrunerStorage
from search.storage.queue import TrialQueue
from search.strategies.pruning_judge import PruningJudge, compared_metric
from search.study.metrics import Metric
from search.study.pruner_settings import PrunerSettings

METRICS = [Metric("loss"), Metric("accuracy", "maximize")]


def settings(metric: str, direction: str | None = None) -> PrunerSettings:
    given = {"name": "ThresholdPruner", "lower": 0.5, "metric": metric}
    return PrunerSettings.model_validate(given | ({} if direction is None else {"direction": direction}))


def train(queue: TrialQueue, lease: Lease, *accuracies: float | None, first: int = 0) -> None:
    for step, accuracy in enumerate(accuracies, start=first):
        metrics = {"@seconds": 1.0} | ({} if accuracy is None else {"accuracy": accuracy, "recall": accuracy / 2})
        queue.report([Report(lease, step, None, 9.0 - step, metrics)])


def test_finished_and_running_trials_have_the_values_of_the_metric(database: Database, queue: TrialQueue) -> None:
    for accuracies in ([0.2, 0.9], [0.3, None, 0.7]):
        [lease] = queue.claim([STUDY], "ann")
        train(queue, lease, *accuracies)
        queue.finish(lease, "complete", 1.0, further_values=[accuracies[-1] or 0.0])
    [lease] = queue.claim([STUDY], "ann")
    train(queue, lease, 0.4)
    for given, best in (settings("accuracy"), 0.9), (settings("recall", "maximize"), 0.45):
        storage = PrunerStorage(SearchStorage(database), STUDY, metric=compared_metric(given, METRICS))
        share = 1.0 if given.metric == "accuracy" else 0.5
        seen = [trial.intermediate_values for trial in storage.get_all_trials(0)]
        expected = [{0: 0.2, 1: 0.9}, {0: 0.3, 2: 0.7}, {0: 0.4}]
        assert seen == [{step: value * share for step, value in each.items()} for each in expected]
        study = Study(STUDY, storage)
        assert study.direction.name == "MAXIMIZE"
        assert study.best_trial.value == best
        assert storage.complete_values(1)[1].tolist() == [0.9 * share]


def test_the_first_metric_is_what_trials_report_to_optuna() -> None:
    assert compared_metric(PrunerSettings(), METRICS) is None
    assert compared_metric(settings("loss"), METRICS) is None
    assert compared_metric(settings("recall", "minimize"), [Metric("loss")]) is not None


def test_a_resumed_trial_is_judged_by_what_counts(database: Database, queue: TrialQueue) -> None:
    judge = PruningJudge(SearchStorage(database), STUDY, settings("accuracy"), METRICS)
    [lease] = queue.claim([STUDY], "ann")
    train(queue, lease, 0.9, 0.1)
    queue.release(lease)
    [lease] = queue.claim([STUDY], "bob")
    assert lease.token == 2
    trial = judge.trial(lease)
    assert trial.intermediate_values == {0: 9.0, 1: 8.0}  # as it reports
    assert judge.should_prune(trial)
    # The second attempt begins again at step 1, which it finds better.
    LeasedWrites(queue, lease).remove_reports(1)
    del trial.intermediate_values[1]
    assert not judge.should_prune(trial)
    train(queue, lease, 0.8, None, first=1)
    trial.intermediate_values |= {1: 8.0}
    assert not judge.should_prune(trial)
    trial.intermediate_values |= {2: 7.0}
    assert not judge.should_prune(trial)  # nothing new to judge
    with pytest.raises(UsageError, match=r"reports loss, accuracy, recall and no 'accuracy' at step 2; report it too"):
        judge.should_prune(trial, at_each_report=True)
