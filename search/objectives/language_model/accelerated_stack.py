"""Runs that train as one model on an accelerator: a few steps a call, each stack beside the others.

Nothing here reads a value of the device between two evaluations. The host draws the batches of several steps, copies
them and the settings of these steps, and replays one captured graph (`search.objectives.language_model.cuda_graphs`).
"""

from __future__ import annotations

import math
from collections.abc import Collection, Sequence

import torch

from search.models.flat_stack import FlatStack
from search.objectives.language_model.cuda_graphs import Lane
from search.objectives.language_model.flat_optimizer import clipped, learning_rates, make_flat_optimizer
from search.objectives.language_model.run import LanguageModelRun
from search.objectives.language_model.stacked_evaluation import StackedEvaluation
from search.objectives.protocol import Evaluation

# Steps of one replay: the host's work for a replay is hardly more than for a step.
MAX_STEPS = 10


class AcceleratedStack:
    """Runs whose models are stacked, each with its own batches, optimizer settings and step count.

    Args:
        runs: E of them, all with the same `search.objectives.language_model.accelerated_group.stack_key`.
    """

    def __init__(self, runs: Sequence[LanguageModelRun]) -> None:
        first, device = runs[0], runs[0].device
        self._slots = list(runs)
        self._gone: set[LanguageModelRun] = set()
        self._lane = Lane(device)
        self._text = first.batches
        self._steps = steps_of_replay(min(first.settings.eval_interval, first.settings.max_iters))
        with self._lane.active():
            self._model = FlatStack([run.model for run in runs], first.settings.label_smoothing)
            self._optimizer = make_flat_optimizer(self._model, runs)
            self._loss_sums = torch.stack([run.loss_sum for run in runs])  # (E,)
            for run, part in zip(runs, self._loss_sums, strict=True):
                run.loss_sum = part
            shape = self._steps, len(runs)
            self._starts = torch.zeros(*shape, first.settings.batch_size, dtype=torch.int64, device=device)
            # Of each step and member: whether it counts, and the numbers of the optimizer.
            self._inputs = torch.zeros(*shape, 1 + self._optimizer.columns, device=device)
            clips = [run.settings.grad_clip or math.inf for run in runs]
            self._clips = None if min(clips) == math.inf else torch.tensor(clips, device=device).unsqueeze(1)
            self._evaluation = StackedEvaluation(self._model, first, len(runs))

    @property
    def runs(self) -> list[LanguageModelRun]:
        """The runs that have not left."""
        return [run for run in self._slots if run not in self._gone]

    @property
    def is_due(self) -> bool:
        """Whether an evaluation of all runs is next; a run that gets there earlier waits for the others."""
        return all(run.due for run in self.runs)

    @property
    def is_half_empty(self) -> bool:
        """Whether so many runs have left that the others should be stacked again."""
        return len(self._gone) * 2 >= len(self._slots)

    def take_steps(self) -> None:
        """Take the next steps with every run, at most up to its evaluation; the device may still be at work."""
        timer = self.runs[0].timer
        timer.begin()
        left = [0 if run in self._gone else min(self._steps, run.steps_to_evaluation) for run in self._slots]
        pinned = self._lane.captures
        starts = torch.zeros(self._starts.shape, dtype=torch.int64, pin_memory=pinned)
        for e, (run, count) in enumerate(zip(self._slots, left, strict=True)):
            if count:
                starts[:count, e] = run.batches.draw_several(count)
        is_on = torch.arange(self._steps).unsqueeze(1) < torch.tensor(left)  # (K, E)
        numbers = self._optimizer.inputs(is_on, learning_rates(self._slots, self._steps))
        inputs = torch.cat((is_on.unsqueeze(-1).float(), numbers), dim=-1)
        with self._lane.active():
            # A copy from pinned memory does not wait for the device, nor the device for the copy.
            self._starts.copy_(starts, non_blocking=True)
            self._inputs.copy_(inputs.pin_memory() if pinned else inputs, non_blocking=True)
        self._lane.run("steps", self._train)
        for run, count in zip(self._slots, left, strict=True):
            run.stepped(steps=count)
        self._lane.pace()
        timer.end("step")

    def begin_evaluation(self) -> None:
        """Start to evaluate all runs; the device may still be at work."""
        self._evaluation.begin(self._lane, self._loss_sums, self._slots)

    def end_evaluation(self) -> list[tuple[LanguageModelRun, Evaluation]]:
        """Wait for what `begin_evaluation` has started.

        Returns:
            The runs with their evaluations; NaN where a training loss since the last evaluation was not finite.
        """
        timer = self.runs[0].timer
        timer.begin()
        measured = self._evaluation.end(self._lane)
        evaluated = []
        with self._lane.active():
            for run, found in zip(self._slots, measured, strict=True):
                if run not in self._gone:
                    evaluated.append((run, run.record_divergence() if found is None else run.add_evaluation(found)))
        finished = [run for run, at in evaluated if run.finished and not at.diverged]
        if finished:
            self._evaluation.measure_details(self._lane, self._slots, finished)
        timer.end("evaluation")
        return evaluated

    def remove(self, leavers: Collection[LanguageModelRun]) -> None:
        """Let runs keep their weights as they are from now on; their places stay until the stack is made anew."""
        self._gone |= {run for run in self._slots if run in leavers}

    def wait(self) -> None:
        """Wait until the device has done what the stack has asked for."""
        self._lane.wait()

    def close(self) -> None:
        """Wait, and free the memory of the captured graphs."""
        self._lane.close()

    def _train(self) -> None:
        """Take the steps that the inputs describe."""
        for starts, inputs in zip(self._starts, self._inputs, strict=True):  # (E, B) and (E, 1 + columns)
            losses = self._model.losses(*self._text.gather(starts))
            (gradient,) = torch.autograd.grad(losses.sum(), self._model.weights)
            with torch.no_grad():
                self._loss_sums.addcmul_(losses, inputs[:, 0])
                if self._clips is not None:
                    gradient = clipped(gradient, self._clips)
                self._optimizer.step(gradient, inputs[:, 1:])


def steps_of_replay(steps: int) -> int:
    """How many steps a graph takes, at most `MAX_STEPS`, so that few or none are left over where evaluations are
    `steps` apart."""
    replays = math.ceil(steps / MAX_STEPS)
    return math.ceil(steps / replays)
