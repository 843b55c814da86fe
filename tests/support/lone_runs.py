"""Runs of the language model that are trained alone, and groups beside them to compare with."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Protocol

from search.objectives.corpus import Corpus, encode, load_corpus
from search.objectives.language_model.objective import start
from search.objectives.language_model.run import LanguageModelRun
from search.objectives.protocol import Evaluation


class Group(Protocol):
    """Runs that train together."""

    @property
    def runs(self) -> Sequence[LanguageModelRun]:
        """Those that have not left."""

    def advance(self, should_stop: Any) -> list[tuple[LanguageModelRun, Evaluation]]:
        """Train until an evaluation."""

    def remove(self, leavers: Sequence[LanguageModelRun]) -> None:
        """Let runs leave."""


def never() -> bool:
    """Never stop."""
    return False


def start_of_shakespeare(characters: int) -> Corpus:
    """The start of the text: evaluations over all of it would take most of the time."""
    corpus = load_corpus()
    return encode("shakespeare", corpus.decode(corpus.train[:characters]))


class LoneRuns:
    """Begins runs on a text, and trains them one by one, each once however many tests compare with it.

    Args:
        settings: Of runs for which none are given.
    """

    def __init__(self, text: Corpus, settings: Any) -> None:
        self._text, self._settings = text, settings
        self._trained: dict[str, LanguageModelRun] = {}

    def begin(self, cell: dict[str, Any], seed: int, settings: Any = None) -> LanguageModelRun:
        """A run before its first step."""
        return start(cell, seed, self._settings if settings is None else settings, self._text, "cpu")

    def alone(self, cell: dict[str, Any], seed: int, settings: Any = None) -> LanguageModelRun:
        """A run that has been trained to its end."""
        key = f"{cell} {seed} {settings}"
        if key not in self._trained:
            self._trained[key] = run = self.begin(cell, seed, settings)
            while not run.finished:
                run.advance(never)
        return self._trained[key]


def train_together(group: Group, leave_after: dict[LanguageModelRun, int] | None = None) -> None:
    """Train all members to their ends; some leave after an evaluation at the given step, as pruned ones do."""
    while group.runs:
        evaluated = group.advance(never)
        group.remove([run for run, at in evaluated if run.finished or at.step == (leave_after or {}).get(run)])


def losses(run: LanguageModelRun) -> list[float]:
    """The training and the validation loss of each evaluation."""
    return [loss for point in run.curve for loss in (point.metrics["train_loss"], point.value)]
