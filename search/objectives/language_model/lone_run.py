"""A run in a group whose model cannot be stacked: it takes its steps on a stream of its own, beside the others."""

from __future__ import annotations

from search.models.registry import MODELS
from search.objectives.language_model.cuda_graphs import Lane
from search.objectives.language_model.optimizer import HOOK
from search.objectives.language_model.run import LanguageModelRun
from search.objectives.language_model.settings import OPTIMIZERS
from search.objectives.language_model.training_step import uses_tf32
from search.objectives.protocol import Evaluation


class LoneRun:
    """A run with its stream; on a CUDA device steps that are always alike are captured as a graph.

    Args:
        run: A run that takes its own steps.
    """

    def __init__(self, run: LanguageModelRun) -> None:
        self.run = run
        self._lane = Lane(run.device, uses_tf32(run.settings, run.device))
        if self._lane.captures and can_capture(run):
            run.take_steps_on(self._lane)

    def advance(self) -> Evaluation | None:
        """Take a step, or make the evaluation that is due; after a step the device may still be at work."""
        run = self.run
        with self._lane.active():
            if run.due:
                evaluation = run.evaluate()
                self._lane.wait()  # a checkpoint is copied on another stream
                return evaluation
            with run.draws.active():
                return None if run.take_step() else run.record_divergence()

    def pause(self) -> None:
        """Wait until the device has done what was asked for."""
        self._lane.wait()

    def close(self) -> None:
        """Free the memory of the captured graph."""
        self._lane.close()


def can_capture(run: LanguageModelRun) -> bool:
    """Whether every step of a run does the same work on the device.

    A user's model can count its steps, or decide by chance, in Python, and a graph would repeat what it did first: so
    the study has to say that it does not.
    """
    settings = run.settings
    has_our_optimizer = settings.optimizer in OPTIMIZERS and not hasattr(run.model, HOOK)
    return (run.read.model in MODELS or settings.cuda_graph) and has_our_optimizer and not settings.compile
