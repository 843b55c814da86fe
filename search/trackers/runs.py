"""What trackers share whose service keeps runs: one run for each trial, which gets every event once."""

from __future__ import annotations

import importlib
import math
import re
from collections.abc import Mapping
from types import ModuleType
from typing import Any, Protocol

from search.errors import UsageError
from search.trackers.protocol import EndEvent, EvaluationEvent, Event, TrialName


class Run(Protocol):
    """The run of a trial in a service.

    Attributes:
        last_step: The last step that the service has; -1 if it has none.
        last_claim: The claim whose end it has; 0 if it has none.
    """

    last_step: int
    last_claim: int

    def log(self, event: EvaluationEvent) -> None:
        """Send an evaluation, which the service lacks.

        Raises:
            Exception: The service cannot take it now.
        """
        ...

    def end(self, event: EndEvent) -> None:
        """Send the end of the trial, which the service lacks.

        Raises:
            Exception: The service cannot take it now.
        """
        ...


class RunTracker:
    """Sends to the run of each trial what it lacks: the events of a trial come in order, also after a restart."""

    def __init__(self) -> None:
        self._runs: dict[tuple[str, str, int], Run] = {}

    def find_or_create(self, trial: TrialName) -> Run:
        """The run of a trial, in whatever state the service has it.

        Raises:
            Exception: The service does not answer.
        """
        raise NotImplementedError

    def track(self, event: Event) -> None:
        """Send an event, unless the service has it.

        Raises:
            Exception: The service cannot take it now.
        """
        trial = event.trial
        key = trial.uid, trial.study, trial.number
        run = self._runs.get(key)
        if run is None:
            run = self._runs[key] = self.find_or_create(trial)
        if isinstance(event, EndEvent):
            if event.claim > run.last_claim:
                run.end(event)
                run.last_claim = event.claim
        elif event.step > run.last_step:
            run.log(event)
            run.last_step = event.step


class LatestMetrics:
    """The last value of each metric that a run has: the end of a trial repeats those of its last evaluation.

    Args:
        known: Step and value by name, of what the service has already.
    """

    def __init__(self, known: Mapping[str, tuple[int, float]] | None = None) -> None:
        self._known = dict(known or {})

    @property
    def last_step(self) -> int:
        """The highest step; -1 without any."""
        return max((step for step, _ in self._known.values()), default=-1)

    def lacking(self, metrics: Mapping[str, float], step: int) -> dict[str, float]:
        """Those of the metrics that the run lacks; from now on it has them."""
        new = {name: value for name, value in metrics.items() if not _is_same(self._known.get(name), (step, value))}
        self._known |= {name: (step, value) for name, value in new.items()}
        return new


def _is_same(first: tuple[int, float] | None, second: tuple[int, float]) -> bool:
    # Services store other numbers for NaN and infinity.
    return first is not None and first[0] == second[0] and (first[1] == second[1] or not math.isfinite(second[1]))


def as_code_block(text: str) -> str:
    """A text as Markdown that keeps its lines."""
    return "    " + text.replace("\n", "\n    ")


def require(module: str, library: str, extra: str) -> ModuleType:
    """Import what an extra installs.

    Args:
        module: The module's name.
        library: What messages call it.
        extra: The extra of lm-search with it.

    Raises:
        UsageError: It is not installed, or does not work; the message says how to install it.
    """
    try:
        return importlib.import_module(module)
    except ImportError as error:
        raise UsageError(
            f"{library} is not installed ({error}); install it with: pip install 'lm-search[{extra}]'"
        ) from error


def run_name(trial: TrialName) -> str:
    """The name of a trial's run, such as "00012 n_embd=64 seed=1337": sorts as the trials do.

    It has any length. A service that takes no long names gets its beginning, which tells the runs of a study apart.
    """
    values = " ".join(f"{name}={value}" for name, value in trial.cell.items())
    return f"{trial.number:05d} {values} seed={trial.seed}"


def parameters(trial: TrialName) -> dict[str, Any]:
    """The cell and the seed of a trial."""
    return {**trial.cell, "seed": trial.seed}


def only(allowed: str, text: str, longest: int) -> str:
    """A text with "_" for other characters than the allowed ones, cut to a length.

    Args:
        allowed: The characters, as in a regular expression's brackets.
    """
    return re.sub(f"[^{allowed}]", "_", text)[:longest].strip()
