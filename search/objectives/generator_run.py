"""Runs a generator function as a trial. No torch.

A generator cannot be saved. An interrupted trial therefore calls its function again. Evaluations that are known already
are compared by step and not reported again: they are equal if every random number comes from the seed. A function that
resumes from a checkpoint of its own skips them.
"""

from __future__ import annotations

import json
import logging
import operator
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from typing import Any

from search.objectives.errors import CheckpointError, ObjectiveError
from search.objectives.protocol import Attempt, Evaluation

log = logging.getLogger("search.worker")

MAX_STEP = 2**31 - 1  # the limit of the database's column


class GeneratorRun:
    """One call of a generator function; implements `search.objectives.protocol.TrainingRun`.

    Args:
        name: The objective's name, for messages.
        begin: Calls the function. A generator that returns an `Evaluation` ends with that one.
        identity: Distinguishes this run from those of other cells and seeds.
        max_iters: The step at which the study's trials end. From this step on, an evaluation is held back until the
            function resumes, because only then it is clear whether it is the last, which no pruner must judge.
        may_differ: Whether another call may yield other values, which then silently replace the earlier ones.
    """

    def __init__(
        self,
        name: str,
        begin: Callable[[Attempt], Iterator[Any]],
        identity: str,
        max_iters: int,
        *,
        may_differ: bool = False,
    ) -> None:
        self._name, self._identity, self._max_iters = name, identity, max_iters
        self._begin, self._may_differ = begin, may_differ
        self._attempt = Attempt()
        self._yielded: Iterator[Any] | None = None
        self._curve: list[Evaluation] = []
        self._at = 0  # how many evaluations of the curve this call has passed
        self._held: Evaluation | None = None
        self._last_step = -1
        self._seconds = 0.0
        self._finished = False
        self._replaced: int | None = None

    @property
    def finished(self) -> bool:
        """Whether the function has ended."""
        return self._finished

    @property
    def curve(self) -> list[Evaluation]:
        """Every evaluation so far, in order of step."""
        return list(self._curve)

    def attach(self, attempt: Attempt) -> None:
        """As `search.objectives.protocol.KnowsAttempt`."""
        self._attempt = attempt
        self._continue_from(list(attempt.earlier))

    def _continue_from(self, curve: list[Evaluation]) -> None:
        self._curve = curve
        self._seconds = next((point.seconds for point in reversed(curve) if point.seconds is not None), 0.0)

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
                if self._yielded is None:
                    self._yielded = self._begin(self._attempt)
                yielded = next(self._yielded)
            except StopIteration as end:
                if isinstance(end.value, Evaluation):
                    self._held = end.value
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
            step, *values = yielded
            evaluation = self._evaluation(operator.index(step), values)
        except (TypeError, ValueError) as error:
            raise ObjectiveError(
                f"{self._name} yields {shortened(yielded)}; it must yield step, value, or step, "
                f'{{"{self._attempt.metric}": value, …}}, or step, train_loss, val_loss: a whole number and numbers'
            ) from error
        if evaluation.step > MAX_STEP:
            raise ObjectiveError(
                f"{self._name} yields step {evaluation.step}; the largest is {MAX_STEP}: count in thousands, say"
            )
        if evaluation.step <= self._last_step:
            before = f"after step {self._last_step}" if self._last_step >= 0 else "first"
            raise ObjectiveError(
                f"{self._name} yields step {evaluation.step} {before}; steps must start at 0 or above and increase"
            )
        self._last_step = evaluation.step
        return replace(evaluation, seconds=self._seconds)

    def _evaluation(self, step: int, values: list[Any]) -> Evaluation:
        if len(values) == 1 and isinstance(values[0], Mapping):
            value, metrics = split_metrics(self._name, values[0], self._attempt.metric)
            return Evaluation(step, value, metrics)
        if len(values) == 2:
            return Evaluation.of_losses(step, float(values[0]), float(values[1]))
        (value,) = values
        return Evaluation(step, float(value))

    def _is_new(self, evaluation: Evaluation) -> bool:
        """Append an evaluation to the curve, unless it repeats one that an earlier call yielded."""
        while self._at < len(self._curve) and self._curve[self._at].step < evaluation.step:
            self._at += 1  # the function has resumed behind it
        stored = self._curve[self._at] if self._at < len(self._curve) else None
        if stored is not None and not _agree(stored, evaluation):
            self._drop_unrepeated()
        elif stored is not None:
            self._at += 1
            return False
        self._curve.append(evaluation)
        self._at += 1
        return True

    def _drop_unrepeated(self) -> None:
        if not self._may_differ:
            log.warning(
                "%s is not reproducible after step %s: the trial was interrupted, and its rerun with the same seed "
                "gives other values, which replace the earlier ones; draw every random number from the seed",
                self._name,
                self._curve[self._at - 1].step if self._at else "0, the start",
            )
        self._replaced = self._curve[self._at].step
        del self._curve[self._at :]

    def take_replaced(self) -> int | None:
        """As `search.objectives.protocol.Replaces`."""
        replaced, self._replaced = self._replaced, None
        return replaced

    def _end(self) -> Evaluation:
        if self._held is not None:
            self._is_new(self._held)
            self._held = None
        if not self._curve:
            raise ObjectiveError(f"{self._name} ended without yielding step, value")
        if 0 < self._at < len(self._curve):
            self._drop_unrepeated()
        self._finished = True
        return self._curve[-1]

    def close(self) -> None:
        """End the function at its last yield."""
        close = getattr(self._yielded, "close", None)
        if close is not None:
            close()

    def save(self) -> bytes:
        """The evaluations so far; a rerun of the function is compared with them."""
        curve = [[point.step, point.value, dict(point.metrics), point.seconds] for point in self._curve]
        return json.dumps({"of": self._identity, "evaluations": curve}).encode()

    def restore(self, payload: bytes) -> None:
        """Resume after the evaluations of `save`, once the function has reached them again.

        Raises:
            CheckpointError: The payload is not a checkpoint of this run.
        """
        try:
            state = json.loads(payload)
            identity = state["of"]
            if "curve" in state:  # of lm-search 0.2
                curve = [Evaluation.of_losses(*point) for point in state["curve"]]
            else:
                curve = [Evaluation(*point) for point in state["evaluations"]]
        except (ValueError, TypeError, KeyError) as error:
            raise CheckpointError(f"it is damaged: {error}") from error
        if identity != self._identity or not curve:
            raise CheckpointError("it belongs to another run")
        # The database can know more: a worker that crashes has reported evaluations since its last checkpoint.
        if not self._curve or curve[-1].step >= self._curve[-1].step:
            self._continue_from(curve)

    def describe(self) -> Mapping[str, Any]:
        """How long the function has run, in seconds."""
        return {"train_seconds": self._seconds}


def _agree(stored: Evaluation, evaluation: Evaluation) -> bool:
    """Whether an evaluation repeats a stored one; metrics that only one of them has do not matter."""
    shared = stored.metrics.keys() & evaluation.metrics.keys()
    same = all(stored.metrics[name] == evaluation.metrics[name] for name in shared)
    return same and (stored.step, stored.value) == (evaluation.step, evaluation.value)


def split_metrics(name: str, metrics: Mapping[Any, Any], metric: str) -> tuple[float, dict[str, float]]:
    """The study's metric and the others, from what a function yields or returns.

    Args:
        name: The objective's name, for messages.
        metric: The name of the study's metric.

    Raises:
        ObjectiveError: The study's metric is missing.
        TypeError, ValueError: A metric is not a number.
    """
    found = {str(key): float(value) for key, value in metrics.items()}
    if metric not in found:
        choices = ", ".join(found) or "none"
        raise ObjectiveError(
            f"{name} gives the metrics {choices}, but not {metric!r}, by which the study ranks; add it, or name "
            f'another in the study file: metric = "{next(iter(found), "accuracy")}"'
        )
    return found.pop(metric), found


def shortened(value: object) -> str:
    """A value as text of at most 80 characters, for a message."""
    text = repr(value)
    return text if len(text) <= 80 else text[:77] + "…"
