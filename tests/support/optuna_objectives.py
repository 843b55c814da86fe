"""Objective functions as people write them for Optuna, one of each kind; study files name them with this module.

None of them knows of lm-search. Each is a function of its parameters: called again with the same ones, it returns the
same values.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import optuna
from optuna import Trial, TrialPruned
from optuna.trial import TrialState

from search.strategies.tpe import TPESampler

RNG = np.random.default_rng(5)
X = RNG.normal(size=(120, 6))
Y = X @ np.array([1.5, -2.0, 0.0, 0.7, 0.0, 0.0]) + RNG.normal(scale=0.3, size=120)
LABELS = (Y > 0).astype(float)


def ridge(trial: Trial) -> float:
    """Cross-validated error of a linear model with a penalty: one number, no report."""
    alpha = trial.suggest_float("alpha", 1e-4, 1e3, log=True)
    folds = np.array_split(np.arange(len(X)), trial.suggest_int("folds", 2, 6))
    errors = []
    for fold in folds:
        train = np.setdiff1d(np.arange(len(X)), fold)
        weights = np.linalg.solve(X[train].T @ X[train] + alpha * np.eye(X.shape[1]), X[train].T @ Y[train])
        errors.append(float(np.mean((X[fold] @ weights - Y[fold]) ** 2)))
    return float(np.mean(errors))


def classifier(trial: Trial) -> float:
    """Accuracy of one of two kinds of classifier, each with parameters of its own; to be maximized."""
    if trial.suggest_categorical("classifier", ["neighbours", "centroid"]) == "neighbours":
        k = trial.suggest_int("k", 1, 31, step=2)
        distances = np.linalg.norm(X[:, None] - X[None], axis=2)
        found = LABELS[np.argsort(distances, axis=1)[:, 1 : k + 1]].mean(axis=1) > 0.5
    else:
        shift = trial.suggest_float("shift", -1.0, 1.0)
        centres = [X[label == LABELS].mean(axis=0) for label in (0, 1)]
        near = [np.linalg.norm(X - centre, axis=1) for centre in centres]
        found = near[0] - near[1] > shift
    return float(np.mean(found == LABELS))


def network(trial: Trial) -> float:
    """A training loop with reports and pruning."""
    rng = np.random.default_rng(trial.suggest_int("init", 0, 3))
    width, rate = trial.suggest_int("width", 2, 16, log=True), trial.suggest_float("rate", 1e-3, 0.3, log=True)
    first, second = rng.normal(size=(6, width)), rng.normal(size=width)
    error = 0.0
    for epoch in range(8):
        hidden = np.tanh(X @ first)
        residual = hidden @ second - Y
        error = float(np.mean(residual**2))
        trial.report(error, epoch)
        if trial.should_prune():
            raise TrialPruned
        first -= rate * X.T @ (np.outer(residual, second) * (1 - hidden**2)) / len(X)
        second -= rate * hidden.T @ residual / len(X)
    return error


def layers(trial: Trial) -> float:
    """A number of parameters that depends on another."""
    n_layers = trial.suggest_int("n_layers", 1, 4)
    widths = [trial.suggest_int(f"width_{layer}", 4, 64, log=True) for layer in range(n_layers)]
    return float(sum(abs(width - 20) for width in widths) + 3 * n_layers)


def accuracy_and_size(trial: Trial) -> tuple[float, float]:
    """Two objectives."""
    kept = [trial.suggest_categorical(f"feature_{at}", [True, False]) for at in range(6)]
    columns = X[:, kept] if any(kept) else np.zeros((len(X), 1))
    weights, *_ = np.linalg.lstsq(columns, Y, rcond=None)
    return float(np.mean((columns @ weights - Y) ** 2)), float(sum(kept))


def constrained(trial: Trial) -> float:
    """A constraint."""
    x, y = trial.suggest_float("x", -5, 5), trial.suggest_float("y", -5, 5)
    trial.set_constraint("inside", x**2 + y**2 - 9)
    return (x - 4) ** 2 + (y - 4) ** 2


def constrained_pair(trial: Trial) -> Sequence[float]:
    """Two objectives with a constraint, as a list."""
    x, y = trial.suggest_float("x", 0, 5), trial.suggest_float("y", 0, 3)
    trial.set_constraint("first", (x - 5) ** 2 + y**2 - 25)
    return [4 * x**2 + 4 * y**2, (x - 5) ** 2 + (y - 5) ** 2]


def noted(trial: Trial) -> float:
    """Attributes, the number, the parameters, and a default that is never suggested twice."""
    x = trial.suggest_float("x", 0.0, 1.0, step=0.05)
    again = trial.suggest_float("x", 0.0, 1.0, step=0.05)
    trial.set_user_attr("is_even", trial.number % 2 == 0)
    assert trial.params == {"x": x}
    assert again == x
    return x**2


class Sphere:
    """An object that is called."""

    def __call__(self, trial: Trial) -> np.float64:
        return np.float64(sum(trial.suggest_float(f"x{at}", -1, 1) ** 2 for at in range(3)))


sphere = Sphere()


def empty(trial: Trial) -> float:
    """Nothing but one parameter."""
    return (trial.suggest_float("x", -10, 10) - 2) ** 2


def counts_read(trial: Trial) -> int:
    """How many ended trials TPE has chosen from."""
    trial.suggest_float("x", 0, 1)
    sampler = trial.study.sampler
    assert isinstance(sampler, TPESampler)
    assert sampler.ended is not None
    return len(sampler.ended.losses)


def counts_ended(trial: Trial) -> int:
    """How many complete trials a sampler sees that reads the study as Optuna's own samplers do."""
    trial.suggest_float("x", 0, 1)
    return len(trial.study._get_trials(deepcopy=False, states=(TrialState.COMPLETE,), use_cache=True))


def careful(trial: Trial, penalty: float = 10.0) -> float:
    """Some trials fail, and the objective catches what it can; it looks at the study."""
    x = trial.suggest_float("x", -1, 1)
    kind = trial.suggest_categorical("kind", [None, 1, "1", True])
    try:
        if x > 0.9:
            raise ValueError("outside")
        before = [each.value for each in trial.study.get_trials(states=(optuna.trial.TrialState.COMPLETE,))]
        assert all(value is not None for value in before)
        return x**2 + (kind is None)
    except Exception:
        return penalty


def waits(trial: Trial) -> float:
    """Tells the test its parameters and process, and waits at step 1 for its permission to go on."""
    folder = Path(os.environ["WAITING"])
    x, kind = trial.suggest_float("x", 0, 1), trial.suggest_categorical("kind", ["a", "b"])
    y = trial.suggest_float("y", 0, 1) if kind == "a" else 0.0
    with (folder / f"trial-{trial.number}").open("a") as file:
        file.write(f"{os.getpid()} {x!r} {kind} {y!r}\n")
    trial.report(x, 0)
    while not (folder / "open").exists() and not (folder / f"open-{trial.number}").exists():
        if (folder / "tick").exists():
            trial.should_prune()
    trial.report(x + y, 1)
    return x + y


# Whatever a study file needs besides the objective and the number of trials.
KINDS: dict[str, str] = {
    "ridge": "",
    "classifier": 'metric = "accuracy"\ndirection = "maximize"',
    "network": 'sampler = "random"',
    "layers": "",
    "accuracy_and_size": 'metrics = ["error", "features"]\ndirections = ["minimize", "minimize"]',
    "constrained": "",
    "constrained_pair": 'directions = ["minimize", "minimize"]\nsampler = "NSGAIISampler"',
    "noted": "",
    "sphere": 'sampler = { name = "tpe", multivariate = true }',
    "careful": "",
}


def call(reference: str, trial: Any) -> Any:
    """Call an objective by name."""
    return globals()[reference](trial)


def pair_with_reports(trial: Trial) -> tuple[float, float]:
    """Two objectives, with reports of the first, which Optuna itself refuses."""
    x = trial.suggest_float("x", 0, 1)
    for step in range(3):
        trial.report(x + 1 / (step + 1), step)
        if trial.should_prune():
            raise TrialPruned
    return x, 1 - x


def few(trial: Trial) -> float:
    """Two choices, each drawn several times."""
    depth = trial.suggest_int("depth", 1, 2)
    for step in range(4):
        trial.report(depth + trial.number % 3 + 1 / (step + 1), step)
        if trial.should_prune():
            raise TrialPruned
    return depth + trial.number % 3
