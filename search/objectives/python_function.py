"""A plain generator function as an objective: `def loss(params, seed): … yield step, train_loss, val_loss`. No torch.

A generator cannot be saved. An interrupted trial therefore reruns from its start, without reporting until it reaches
the point of interruption, and its evaluations are compared with the stored ones: they are equal if every random number
comes from the seed.
"""

from __future__ import annotations

import inspect
import json
import logging
import operator
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from search.objectives.corpus import Corpus
from search.objectives.errors import CheckpointError, ObjectiveError
from search.objectives.protocol import Evaluation, Objective
from search.objectives.settings import TrainingSettings

log = logging.getLogger("search.worker")

# The arguments that a generator function can take, by name.
ARGUMENTS = ("params", "seed", "settings", "corpus", "device")
MAX_STEP = 2**31 - 1  # the limit of the database's column


class GeneratorRun:
    """One call of a generator function; implements `search.objectives.protocol.TrainingRun`.

    Args:
        name: The objective's name, for messages.
        begin: Calls the function.
        identity: Distinguishes this run from those of other cells and seeds.
        max_iters: The step at which the study's trials end. From this step on, an evaluation is held back until the
            function resumes, because only then it is clear whether it is the last, which no pruner must judge.
    """

    def __init__(self, name: str, begin: Callable[[], Iterator[Any]], identity: str, max_iters: int) -> None:
        self._name, self._identity, self._max_iters = name, identity, max_iters
        self._yielded = begin()
        self._curve: list[Evaluation] = []
        self._at = 0  # how many evaluations of the curve this call has yielded
        self._held: Evaluation | None = None
        self._last_step = -1
        self._seconds = 0.0
        self._finished = False

    @property
    def finished(self) -> bool:
        """Whether the function has ended."""
        return self._finished

    @property
    def curve(self) -> list[Evaluation]:
        """Every evaluation so far, in order of step."""
        return list(self._curve)

    def advance(self, should_stop: Callable[[], bool]) -> Evaluation | None:
        """Resume the function until its next evaluation.

        Args:
            should_stop: Called before each resumption of the function; if it returns True, the run pauses.

        Returns:
            The evaluation, which is the last one again if the function ended without yielding a new one; None if
            `should_stop` returned True.

        Raises:
            ObjectiveError: The function yields something else, steps that do not increase, or nothing.
            Exception: Whatever the function raises.
        """
        while not should_stop():
            began = time.monotonic()
            try:
                yielded = next(self._yielded)
            except StopIteration:
                return self._end()
            finally:
                self._seconds += time.monotonic() - began
            if yielded is None:  # a bare yield is only a place to stop at
                continue
            evaluation, self._held = self._held, self._read(yielded)
            if evaluation is None and self._held.step < self._max_iters:
                evaluation, self._held = self._held, None
            if evaluation is not None and self._is_new(evaluation):
                return evaluation
        return None

    def _read(self, yielded: Any) -> Evaluation:
        try:
            step, train_loss, val_loss = yielded
            evaluation = Evaluation(operator.index(step), float(train_loss), float(val_loss))
        except (TypeError, ValueError) as error:
            raise ObjectiveError(
                f"{self._name} yields {shortened(yielded)}; it must yield step, train_loss, val_loss: a whole number "
                f"and two numbers (with one loss only, yield it twice)"
            ) from error
        if not self._last_step < evaluation.step <= MAX_STEP:
            before = f"after step {self._last_step}" if self._last_step >= 0 else "first"
            raise ObjectiveError(
                f"{self._name} yields step {evaluation.step} {before}; steps must start at 0 or above and increase"
            )
        self._last_step = evaluation.step
        return evaluation

    def _is_new(self, evaluation: Evaluation) -> bool:
        """Append an evaluation to the curve, unless it repeats one that an earlier call yielded."""
        stored = self._curve[self._at] if self._at < len(self._curve) else None
        if stored is not None and stored != evaluation:
            self._drop_unrepeated()
        elif stored is not None:
            self._at += 1
            return False
        self._curve.append(evaluation)
        self._at += 1
        return True

    def _drop_unrepeated(self) -> None:
        log.warning(
            "%s is not reproducible after step %s: the trial was interrupted, and its rerun with the same seed gives "
            "other losses, which replace the earlier ones; draw every random number from the seed",
            self._name,
            self._curve[self._at - 1].step if self._at else "0, the start",
        )
        del self._curve[self._at :]

    def _end(self) -> Evaluation:
        if self._held is not None:
            self._is_new(self._held)
            self._held = None
        if self._at == 0:
            raise ObjectiveError(f"{self._name} ended without yielding step, train_loss, val_loss")
        if self._at < len(self._curve):
            self._drop_unrepeated()
        self._finished = True
        return self._curve[-1]

    def save(self) -> bytes:
        """The evaluations so far; a rerun of the function is compared with them."""
        curve = [[point.step, point.train_loss, point.val_loss] for point in self._curve]
        return json.dumps({"of": self._identity, "curve": curve}).encode()

    def restore(self, payload: bytes) -> None:
        """Resume after the evaluations of `save`, once the function has reached them again.

        Raises:
            CheckpointError: The payload is not a checkpoint of this run.
        """
        try:
            state = json.loads(payload)
            identity, curve = state["of"], [Evaluation(*point) for point in state["curve"]]
        except (ValueError, TypeError, KeyError) as error:
            raise CheckpointError(f"it is damaged: {error}") from error
        if identity != self._identity or not curve:
            raise CheckpointError("it belongs to another run")
        self._curve = curve

    def describe(self) -> Mapping[str, Any]:
        """How long the function has run, in seconds."""
        return {"train_seconds": self._seconds}


def shortened(value: object) -> str:
    """A value as text of at most 80 characters, for a message."""
    text = repr(value)
    return text if len(text) <= 80 else text[:77] + "…"


@dataclass(frozen=True)
class GeneratorObjective(Objective):
    """Makes a run of a generator function for a cell and a seed.

    Attributes:
        function: Takes some of `ARGUMENTS`.
        reference: "module:function".
        taken: Those that it takes.
        check: `check_cell` of its module; None leaves cells unchecked.
    """

    function: Callable[..., Iterator[Any]]
    reference: str
    taken: frozenset[str]
    check: Callable[[Mapping[str, Any], TrainingSettings, Corpus | None], None] | None = None

    @property
    def takes_corpus(self) -> bool:
        """Whether it takes a text."""
        return "corpus" in self.taken

    def check_cell(self, cell: Mapping[str, Any], settings: TrainingSettings, corpus: Corpus | None) -> None:
        """As `Objective.check_cell`."""
        if self.check is not None:
            self.check(cell, settings, corpus)

    def start(
        self, cell: Mapping[str, Any], seed: int, settings: TrainingSettings, corpus: Corpus | None, device: str
    ) -> GeneratorRun:
        """Make a run at step 0."""
        given = {"params": dict(cell), "seed": seed, "settings": settings, "corpus": corpus, "device": device}
        arguments = {name: value for name, value in given.items() if name in self.taken}
        identity = json.dumps({"cell": dict(cell), "seed": seed}, sort_keys=True)
        return GeneratorRun(self.reference, lambda: self.function(**arguments), identity, settings.max_iters)


def check_generator(function: Callable[..., Any], named: str) -> frozenset[str]:
    """Which of `ARGUMENTS` a generator function takes.

    Args:
        named: How the study file names it, for the message.

    Raises:
        ObjectiveError: The function requires another argument.
    """
    parameters = inspect.signature(function).parameters
    variable = (inspect.Parameter.VAR_POSITIONAL, inspect.Parameter.VAR_KEYWORD)
    unknown = [
        name
        for name, parameter in parameters.items()
        if name not in ARGUMENTS and parameter.default is inspect.Parameter.empty and parameter.kind not in variable
    ]
    if unknown:
        raise ObjectiveError(
            f"{named} takes {', '.join(unknown)}, but a generator function can take only {', '.join(ARGUMENTS)}; "
            f"the values of a cell are in params"
        )
    return frozenset(parameters) & frozenset(ARGUMENTS)
