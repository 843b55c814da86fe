"""What the page of one study shows, kept in memory and brought up to date by what has changed."""

from __future__ import annotations

import math
import threading
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

from optuna.distributions import BaseDistribution
from optuna.study import StudyDirection
from optuna.trial import FrozenTrial, TrialState

from search.statistics.pareto import pareto_front
from search.storage import optuna_queries
from search.storage.chunks import chunks
from search.storage.dashboard_reading import Mark, StudyRows, best_trial_id, read_marks, read_study_rows, read_values
from search.storage.database import Transaction
from search.storage.optuna_storage import SearchStorage
from search.storage.schema import DEFINITION
from search.web import trial_choice
from search.web.importances import importances
from search.web.study_json import IS_PREFERENTIAL, Shape, study_json, union_space
from search.web.trial_choice import Choice, choose
from search.web.trial_json import attrs_by_trial, trial_json

# Pages ask every ten seconds; those of small studies every two.
FRESH_S = 1.0
# Looking for changes in a large study takes at most this share of the time, but none waits longer than `MAX_AGE_S`.
MAX_SHARE, MAX_AGE_S = 0.2, 10.0
_EMPTY: dict[Any, Any] = {}


@dataclass(frozen=True)
class _Shown:
    """A trial as it was read.

    Attributes:
        key: What it depends on; the trial is read again when that has changed.
        text: Its JSON.
        trial: The trial without its attributes and its curve.
    """

    key: _Key
    text: bytes
    trial: FrozenTrial
    shape: Shape


@dataclass(frozen=True)
class Page:
    """A study as it was at one moment.

    Attributes:
        digest: Equal if nothing has changed, but for trials that have started and not ended.
        head: The JSON of all but the trials; it is to be continued.
        best: The JSON of each of the best trials.
        shown: By trial_id, in their order.
    """

    study: StudyRows
    digest: int
    choice: Choice
    head: bytes
    best: Sequence[bytes]
    shown: Mapping[int, _Shown]

    @property
    def is_preferential(self) -> bool:
        """Whether people compare the trials of the study, which the page shows in another way."""
        return any(key == IS_PREFERENTIAL for key, _ in self.study.system_attrs)

    def json(self, after: int) -> bytes:
        """The answer to a page that has the first `after` trials."""
        trials = [each.text for each in list(self.shown.values())[after:]]
        lists = (b',"best_trials":[', b",".join(self.best), b'],"trials":[', b",".join(trials), b"]}")
        return b"".join((self.head, *lists))


class StudyCopy:
    """One study.

    Args:
        study_id: Optuna's.
    """

    def __init__(self, storage: SearchStorage, study_id: int) -> None:
        self._storage, self._study_id = storage, study_id
        self._lock = threading.Lock()
        self._page: Page | None = None
        self._fresh_until = -math.inf
        # Trials share both, so a copy holds each once.
        self._distributions: dict[str, BaseDistribution] = {}
        self._shapes: dict[Any, Shape] = {}
        self._importances: tuple[int, list[list[dict[str, Any]]]] | None = None

    def page(self) -> Page | None:
        """The study as it is, or was a moment ago; None if there is none.

        Raises:
            StorageError: The database does not answer.
        """
        with self._lock:
            began = time.monotonic()
            if began >= self._fresh_until:
                is_first, self._page = self._page is None, self._storage.database.snapshot(self._read)
                now = time.monotonic()
                # The first reading says nothing about how long the next looks take.
                took_s = 0.0 if is_first else now - began
                self._fresh_until = now + min(MAX_AGE_S, max(FRESH_S, took_s / MAX_SHARE))
            return self._page

    def expire(self) -> None:
        """Look for changes at the next question."""
        self._fresh_until = -math.inf

    def importances(self, page: Page) -> list[list[dict[str, Any]]]:
        """The importances of the parameters, for each objective, as `search.web.importances` has them.

        Raises:
            ValueError: Optuna cannot compute them.
            KeyError: The study was deleted.
        """
        trials = [each.trial for each in page.shown.values()]
        complete = [(each._trial_id, each.datetime_complete) for each in trials if each.state == TrialState.COMPLETE]
        digest = hash((page.study.name, tuple(complete)))
        with self._lock:
            if self._importances is None or self._importances[0] != digest:
                parameters = [name for name, _ in union_space(_distinct(page.shown))]
                self._importances = digest, importances(self._storage, page.study.name, trials, parameters)
            return self._importances[1]

    def _read(self, connection: Transaction) -> Page | None:
        # Changes nothing of this object but a cache: the transaction may be repeated.
        before, study = self._page, read_study_rows(connection, self._study_id)
        if study is None:
            return None
        marks = read_marks(connection, self._study_id)
        digest = hash((study, tuple(marks)))
        is_as_before = before is not None and before.digest == digest
        choice = before.choice if before is not None and is_as_before else _choose(connection, study, marks)
        keys = _keys(study, choice)
        known = before.shown if before is not None and _is_same(before.study, study) else {}
        stale = {
            trial_id: key
            for trial_id, key in keys.items()
            if key.is_going_on or trial_id not in known or known[trial_id].key != key
        }
        read = self._read_trials(connection, stale)
        if before is not None and is_as_before and all(known[each].text == read[each].text for each in read):
            return before
        shown = {mark.trial_id: read.get(mark.trial_id) or known[mark.trial_id] for mark in choice.trials}
        best = [
            shown[each].text if each in shown else self._read_trials(connection, {each: _NO_KEY})[each].text
            for each in _best(connection, study, shown)
        ]
        return Page(study, digest, choice, study_json(study, _distinct(shown), choice), best, shown)

    def _read_trials(self, connection: Transaction, keys: Mapping[int, _Key]) -> dict[int, _Shown]:
        curves = {trial_id for trial_id, key in keys.items() if key.has_curve}
        found: dict[int, _Shown] = {}
        for chunk in chunks(list(keys)):
            trials = optuna_queries.read_trials(connection, chunk, curves_of=curves, distributions=self._distributions)
            found |= {trial._trial_id: self._shown(trial, keys[trial._trial_id]) for trial in trials}
        return found

    def _shown(self, trial: FrozenTrial, key: _Key) -> _Shown:
        shape = Shape(trial)
        shape = self._shapes.setdefault(shape.key, shape)
        text = trial_json(self._study_id, trial, dict(key.attrs), is_short=key.is_short)
        # The rest is in the text, and would take most of the memory, and of the time in which garbage is looked for.
        trial.user_attrs = trial.system_attrs = trial.intermediate_values = _EMPTY
        trial.distributions = shape.distributions
        return _Shown(key, text, trial, shape)


class _Key(NamedTuple):
    """What the JSON of a trial depends on.

    Attributes:
        attrs: The attributes of the study that belong to the trial.
        has_curve, is_short: How it is shown.
    """

    mark: Mark | None
    attrs: tuple[tuple[str, Any], ...]
    has_curve: bool
    is_short: bool

    @property
    def is_going_on(self) -> bool:
        """Whether the trial changes without that its mark does."""
        return self.mark is not None and self.mark.is_going_on


# Of a best trial that is not shown among the others, as good as one that is.
_NO_KEY = _Key(None, (), True, True)


def _keys(study: StudyRows, choice: Choice) -> dict[int, _Key]:
    of_trials = attrs_by_trial(study.parsed_system_attrs())
    return {
        mark.trial_id: _Key(
            mark,
            tuple(of_trials.get(mark.trial_id, {}).items()),
            mark.trial_id in choice.curves,
            not choice.is_all,
        )
        for mark in choice.trials
    }


def _is_same(before: StudyRows, study: StudyRows) -> bool:
    """Whether the trials of a study are those of before: a new study can have the ids of a deleted one.

    A study that gets new values has other distributions in all of its trials.
    """
    return (before.name, before.directions, _definition(before)) == (study.name, study.directions, _definition(study))


def _definition(study: StudyRows) -> str | None:
    return next((text for key, text in study.user_attrs if key == DEFINITION), None)


def _choose(connection: Transaction, study: StudyRows, marks: Sequence[Mark]) -> Choice:
    signs = [-1 if each is StudyDirection.MAXIMIZE else 1 for each in study.directions]
    if len(marks) <= trial_choice.WHOLE:
        return choose(marks, {}, signs)
    infeasible = optuna_queries.read_infeasible(connection, [study.name])
    return choose(marks, read_values(connection, study.study_id), signs, infeasible)


def _best(connection: Transaction, study: StudyRows, shown: Mapping[int, _Shown]) -> list[int]:
    """The ids of the best trials."""
    if len(study.directions) == 1:
        best = best_trial_id(connection, study)
        return [] if best is None else [best]
    signs = [-1 if each is StudyDirection.MAXIMIZE else 1 for each in study.directions]
    ended = [each.trial for each in shown.values() if each.trial.state == TrialState.COMPLETE]
    complete = [trial for trial in ended if len(trial.values or ()) == len(signs)]
    losses = [[sign * value for sign, value in zip(signs, trial.values, strict=True)] for trial in complete]
    return [trial._trial_id for trial, is_best in zip(complete, pareto_front(losses), strict=True) if is_best]


def _distinct(shown: Mapping[int, _Shown]) -> list[Shape]:
    """Each shape once, where it was last seen: optuna-dashboard looks at the last trials first."""
    found: dict[Any, Shape] = {}
    for each in reversed(list(shown.values())):
        found.setdefault(each.shape.key, each.shape)
    return list(found.values())[::-1]
