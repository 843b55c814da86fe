"""Samplers by name, and one call of a sampler."""

from __future__ import annotations

import inspect
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import optuna
from optuna.distributions import BaseDistribution
from optuna.samplers import BaseGASampler, BaseSampler, BruteForceSampler, RandomSampler, TPESampler
from optuna.study import Study
from optuna.trial import FrozenTrial, Trial, TrialState, create_trial

from search.errors import UsageError
from search.storage.texts import error_text
from search.strategies.shown_trials import ShownTrials
from search.strategies.start_points import start_point
from search.study.metrics import DEFAULT_METRICS, Metric
from search.study.references import load_registered
from search.study.search_space import GRID, SamplerSettings
from search.study.space import Space

# A new sampler is one file and one line here. Optuna's classes (by class name) and a user's ("module:Class") need no
# line.
SAMPLERS: dict[str, str] = {
    "random": "optuna.samplers:RandomSampler",
    "tpe": "search.strategies.tpe:TPESampler",
    "gp": "search.strategies.gp:GPSampler",
}
# Optuna's grid repeats cells across parallel workers, which our sampler = "grid" does not; the others are base classes.
_REFUSED = frozenset({"GridSampler", "BaseSampler", "BaseGASampler"})
OPTUNAS = {
    name: f"optuna.samplers:{name}"
    for name in optuna.samplers.__all__
    if name.endswith("Sampler") and name not in _REFUSED
} | {"TPESampler": SAMPLERS["tpe"], "GPSampler": SAMPLERS["gp"]}
# A quasi-random sampler needs the same seed for every call: all its points belong to one sequence.
_ONE_SEED = frozenset({"QMCSampler"})

# A sampler that starts with more random trials is not tried beyond them.
_MAX_TRIED = 200
# How often a sampler is asked again while it chooses excluded cells.
MAX_ASKED = 30


@dataclass(frozen=True)
class Answer:
    """A sampler's choice, and the notes that it stored for later calls.

    Attributes:
        values: A value for each axis that applies.
        trial_notes: System attributes of the trial.
        study_notes: System attributes of the study.
    """

    values: Mapping[str, Any]
    trial_notes: Mapping[str, Any]
    study_notes: Mapping[str, Any]


def make_sampler(settings: SamplerSettings, seed: int, slot: int = 0) -> BaseSampler:
    """The sampler that `settings` names, for one slot.

    Args:
        seed: The study's first seed; together with `slot` it gives the seed of a sampler that takes one.

    Raises:
        UsageError: There is no such sampler, or it does not accept the arguments.
    """
    named = f"sampler = {settings.name!r}"
    if settings.name in _REFUSED:
        raise UsageError(f"{named}: choices are {', '.join([GRID, *SAMPLERS, *OPTUNAS])}")
    make = load_registered(named, settings.name, SAMPLERS | OPTUNAS, first=[GRID])
    if "seed" in settings.arguments:
        raise UsageError(f"sampler.seed = {settings.arguments['seed']}: write first_seed = N at the top of the file")
    arguments = dict(settings.arguments)
    kind = getattr(make, "__name__", settings.name)
    if callable(make) and "seed" in inspect.signature(make).parameters:
        arguments["seed"] = seed if kind in _ONE_SEED else (seed * 1_000_003 + slot) % 2**32
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # Optuna calls some of its arguments experimental
        try:
            made = make(**arguments)
        except (TypeError, ValueError) as error:
            fault = str(error).replace(f"{kind}.__init__() ", "").splitlines()[0]
            raise UsageError(f"{named}: {kind} {fault}") from error
    if not isinstance(made, BaseSampler):
        raise UsageError(f"{named} is not a sampler; derive it from optuna.samplers.BaseSampler")
    return made


def n_start_points(sampler: BaseSampler) -> int:
    """The number of ended trials before which a sampler draws at random, because it has too little to learn from."""
    found = getattr(sampler, "_n_startup_trials", 0)
    return found if isinstance(found, int) else 0


def sees_trials(sampler: BaseSampler) -> bool:
    """Whether a choice of a sampler can depend on the study's trials; a derived class can look at them."""
    return type(sampler) is not RandomSampler


def is_starting(sampler: BaseSampler, trials: Sequence[FrozenTrial]) -> bool:
    """Whether a sampler would draw at random, given these trials."""
    ended = sum(trial.state in (TrialState.COMPLETE, TrialState.PRUNED) for trial in trials)
    return ended < n_start_points(sampler)


def check_sampler(
    settings: SamplerSettings,
    distributions: Mapping[str, BaseDistribution],
    space: Space | None = None,
    metrics: Sequence[Metric] = DEFAULT_METRICS,
) -> list[str]:
    """Let a sampler choose a cell from made-up results, in memory: many errors show only after its start points.

    Args:
        metrics: What the study's trials are ranked by.

    Returns:
        Sentences about what it does not learn.

    Raises:
        UsageError: It cannot choose a cell, or it needs a package that is not installed.
    """
    sampler, named = make_sampler(settings, 0), f"sampler = {settings.name!r}"
    n_trials = min(max(n_start_points(sampler), 1), _MAX_TRIED) + 1
    try:
        points = [start_point(distributions, at, 0, space) for at in range(n_trials)]
        trials = [
            create_trial(
                params=cell,
                distributions={name: distributions[name] for name in cell},
                values=[float(at)] * len(metrics),
            )
            for at, cell in enumerate(points)
        ]
        ask(sampler, distributions, trials, {}, space, metrics)
        return _unlearned(sampler, trials, space, metrics)
    except UsageError:
        raise
    except ImportError as error:
        missing = _missing_package(error)
        step = f"install it with: pip install {missing}" if missing else error_text(error)
        raise UsageError(f"{named} needs a package that is not installed; {step}") from error
    except Exception as error:
        raise UsageError(f"{named} cannot choose from this search space: {error_text(error)}") from error


def _unlearned(
    sampler: BaseSampler, trials: Sequence[FrozenTrial], space: Space | None, metrics: Sequence[Metric]
) -> list[str]:
    """A sentence if a sampler learns from the axes that all cells have, and draws the others at random."""
    if space is None or not space.when or isinstance(sampler, (TPESampler, BruteForceSampler)):
        return []
    study = _study(sampler, trials, {}, metrics)
    if not sampler.infer_relative_search_space(study, trials[-1]):
        return []
    return [
        f"{type(sampler).__name__} learns only about the axes that every cell has; it draws {', '.join(space.when)} at "
        'random; sampler = "tpe" learns about them too'
    ]


def _missing_package(error: BaseException | None) -> str | None:
    """The package that an import error, or its cause, names."""
    while error is not None:
        if isinstance(error, ImportError) and error.name:
            return error.name.partition(".")[0]
        error = error.__cause__ or error.__context__
    return None


def ask(
    sampler: BaseSampler,
    distributions: Mapping[str, BaseDistribution],
    trials: Sequence[FrozenTrial],
    study_notes: Mapping[str, Any],
    space: Space | None = None,
    metrics: Sequence[Metric] = DEFAULT_METRICS,
    ids: Sequence[int] | None = None,
) -> Answer:
    """Ask a sampler for the next cell of a study with exactly the trials `trials`.

    Args:
        trials: With a value for each metric; they are numbered anew, in this order.
        space: Which axes a cell has, and which cells are excluded; by default every cell has every axis.
        metrics: Their directions are those of the study.
        ids: By which `study_notes` name the trials; by default their numbers.

    Returns:
        Its choice; without values if it chose excluded cells only, `MAX_ASKED` times.
    """
    space = Space({}) if space is None else space
    names = [name for name in (*space.order, *distributions) if name in distributions]
    names = list(dict.fromkeys(names if space.when else distributions))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        before = optuna.logging.get_verbosity()
        optuna.logging.set_verbosity(optuna.logging.WARNING)
        try:
            study = _study(sampler, trials, study_notes, metrics, ids)
            for _ in range(MAX_ASKED):
                trial = study.ask()
                for name in names:
                    if space.applies(name, trial.params):
                        trial._suggest(name, distributions[name])
                if not space.is_excluded(trial.params):
                    return _answer(study, trial, study_notes)
                # The sampler sees the excluded cell as one of the worst, so it learns to choose others.
                study.tell(trial, state=TrialState.PRUNED)
        finally:
            optuna.logging.set_verbosity(before)
    return Answer({}, {}, {})


def _study(
    sampler: BaseSampler,
    trials: Sequence[FrozenTrial],
    notes: Mapping[str, Any],
    metrics: Sequence[Metric],
    ids: Sequence[int] | None = None,
) -> Study:
    storage, directions = ShownTrials(), [each.optuna_direction for each in metrics]
    study = optuna.create_study(storage=storage, sampler=sampler, directions=directions)
    storage.show(study._study_id, trials, ids)
    for key, value in _usable(notes, sampler, trials).items():
        storage.set_study_system_attr(study._study_id, key, value)
    return study


def _usable(notes: Mapping[str, Any], sampler: BaseSampler, trials: Sequence[FrozenTrial]) -> Mapping[str, Any]:
    """The notes without the parents of a generation of which one has no value any more, since it got a further seed or
    was deleted: a genetic sampler compares parents, and chooses them again where no note names them."""
    if not isinstance(sampler, BaseGASampler):
        return notes
    parents = sampler._get_parent_cache_key_prefix()
    complete = {trial._trial_id for trial in trials if trial.state is TrialState.COMPLETE}
    return {key: ids for key, ids in notes.items() if not key.startswith(parents) or complete.issuperset(ids)}


def _answer(study: Study, trial: Trial, before: Mapping[str, Any]) -> Answer:
    frozen = study._storage.get_trial(trial._trial_id)
    notes = study._storage.get_study_system_attrs(study._study_id)
    changed = {key: value for key, value in notes.items() if before.get(key) != value}
    return Answer(frozen.params, frozen.system_attrs, changed)
