"""Runs that train as one model on an accelerator, beside other stacks.

The host draws the batches of many steps in advance, and copies them to the device with the numbers that the optimizer
needs for each step. A few of these steps are captured as one graph (`search.objectives.language_model.cuda_graphs`),
which finds its inputs itself, so that each replay is a single call. Nothing here reads a value of the device between
two evaluations.
"""

from __future__ import annotations

import math
from collections.abc import Collection, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from search.models.flat_stack import FlatStack
from search.objectives.language_model.cuda_graphs import IN_FLIGHT, Lane, steps_of_replay
from search.objectives.language_model.flat_optimizer import clipped, learning_rates, make_flat_optimizer
from search.objectives.language_model.run import LanguageModelRun
from search.objectives.language_model.stacked_evaluation import StackedEvaluation
from search.objectives.language_model.training_step import uses_tf32
from search.objectives.protocol import Evaluation

# Windows that are drawn in advance: 8 MB of numbers on the device.
MOST_DRAWN = 1 << 20


@dataclass
class Plan:
    """Steps whose inputs are on the device.

    Attributes:
        steps: How many each member takes: up to its evaluation, or as many as are planned at once.
        draws: The states of the members' generators before their batches were drawn.
        replays: How many calls take all steps.
        done: How many were made.
    """

    steps: list[int]
    draws: list[Tensor]
    replays: int
    done: int = 0


class AcceleratedStack:
    """Runs whose models are stacked, each with its own batches, optimizer settings and step count.

    Args:
        runs: E of them, all with the same `search.objectives.language_model.accelerated_group.stack_key`.
    """

    def __init__(self, runs: Sequence[LanguageModelRun]) -> None:
        first, device = runs[0], runs[0].device
        self._slots = list(runs)
        self._gone: set[LanguageModelRun] = set()
        self._finished: list[LanguageModelRun] = []
        self._lane = Lane(device, uses_tf32(first.settings, device))
        self._text = first.batches
        self._plan: Plan | None = None
        interval = min(first.settings.eval_interval, first.settings.max_iters)
        self._steps = steps_of_replay(interval)  # K
        drawn = self._steps * len(runs) * first.settings.batch_size
        replays = max(1, min(math.ceil(interval / self._steps), MOST_DRAWN // drawn))
        with self._lane.active():
            self._model = FlatStack([run.model for run in runs], first.settings.label_smoothing)
            self._optimizer = make_flat_optimizer(self._model, runs)
            self._loss_sums = torch.stack([run.loss_sum for run in runs])  # (E,)
            for run, part in zip(runs, self._loss_sums, strict=True):
                run.loss_sum = part
            # The inputs of all planned steps, and where the next replay finds its own.
            shape = replays * self._steps, len(runs)
            self._starts = torch.zeros(*shape, first.settings.batch_size, dtype=torch.int64, device=device)
            self._inputs = torch.zeros(
                *shape, 1 + self._optimizer.columns, device=device
            )  # whether it counts, and more
            self._at = torch.arange(self._steps, device=device)
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
        return self._plan is None and all(run.due for run in self.runs)

    @property
    def is_half_empty(self) -> bool:
        """Whether so many runs have left that the others should be stacked again."""
        return len(self._gone) * 2 >= len(self._slots)

    @property
    def is_captured(self) -> bool:
        """Whether its steps are replays of a graph, which take the host no time worth mentioning."""
        return self._lane.has_captured("steps")

    def take_steps(self, most: int = IN_FLIGHT) -> None:
        """Take the next few steps with every run, at most up to its evaluation; the device may still be at work.

        Args:
            most: How many calls may have been made before the device has done their steps; it waits for more.
        """
        timer = self._slots[0].timer
        timer.begin()
        plan = self._plan = self._plan or self._make_plan()
        self._lane.run("steps", self._train)
        plan.done += 1
        if plan.done == plan.replays:
            self._end_plan(plan, plan.steps)
        self._lane.pace(most)
        timer.end("step")

    def pause(self) -> None:
        """Wait until the device has done what was asked for, and forget the steps that were only planned."""
        self._lane.wait()
        if (plan := self._plan) is None:
            return
        taken = [min(steps, plan.done * self._steps) for steps in plan.steps]
        for run, draws, count in zip(self._slots, plan.draws, taken, strict=True):
            run.batches.restore(draws)
            if count:
                run.batches.draw_several(count)
        self._end_plan(plan, taken)

    def begin_evaluation(self) -> None:
        """Start to evaluate all runs; the device may still be at work."""
        self._evaluation.begin(self._lane, self._loss_sums, self._slots)

    def end_evaluation(self) -> list[tuple[LanguageModelRun, Evaluation]]:
        """Wait for what `begin_evaluation` has started.

        Returns:
            The runs with their evaluations; NaN where a training loss since the last evaluation was not finite.
        """
        timer = self._slots[0].timer
        timer.begin()
        measured = self._evaluation.end(self._lane)
        evaluated = []
        with self._lane.active():
            for run, found in zip(self._slots, measured, strict=True):
                if run not in self._gone:
                    evaluated.append((run, run.record_divergence() if found is None else run.add_evaluation(found)))
        self._lane.wait()  # a checkpoint is copied on another stream
        self._finished = [run for run, at in evaluated if run.finished and not at.diverged]
        timer.end("evaluation")
        return evaluated

    def begin_details(self) -> int:
        """Start to measure what finished runs have besides their evaluations, such as text samples.

        Returns:
            How many calls of `write_next` have to follow before `end_details`.
        """
        return self._evaluation.begin_details(self._lane, self._slots) if self._finished else 0

    def write_next(self) -> None:
        """Append an id to each text sample; the device may still be at work."""
        self._evaluation.write_next(self._lane)

    def end_details(self) -> None:
        """Wait for what `begin_details` has started."""
        if self._finished:
            self._evaluation.end_details(self._lane, self._slots, self._finished)
        self._finished = []

    def remove(self, leavers: Collection[LanguageModelRun]) -> None:
        """Let runs keep their weights as they are from now on; their places stay until the stack is made anew."""
        gone = {run for run in self.runs if run in leavers}
        if gone:
            self.pause()
        self._gone |= gone

    def close(self) -> None:
        """Free the memory of the captured graphs; `pause` comes first."""
        self._lane.close()

    def _make_plan(self) -> Plan:
        """Draw the batches of many steps and copy them to the device, with the numbers of each step."""
        most = len(self._starts)
        steps = [0 if run in self._gone else min(most, run.steps_to_evaluation) for run in self._slots]
        draws = [run.batches.state() for run in self._slots]
        replays = math.ceil(max(steps) / self._steps)
        count = replays * self._steps
        starts = torch.zeros(count, *self._starts.shape[1:], dtype=torch.int64, pin_memory=self._lane.captures)
        for e, (run, taken) in enumerate(zip(self._slots, steps, strict=True)):
            if taken:
                starts[:taken, e] = run.batches.draw_several(taken)
        is_on = torch.arange(count).unsqueeze(1) < torch.tensor(steps)  # (count, E)
        numbers = self._optimizer.inputs(is_on, learning_rates(self._slots, count))
        inputs = torch.cat((is_on.unsqueeze(-1).float(), numbers), dim=-1)
        with self._lane.active():
            # A copy from pinned memory does not wait for the device, nor the device for the copy.
            self._starts[:count].copy_(starts, non_blocking=True)
            self._inputs[:count].copy_(inputs.pin_memory() if self._lane.captures else inputs, non_blocking=True)
            torch.arange(self._steps, out=self._at)
        return Plan(steps, draws, replays)

    def _end_plan(self, plan: Plan, taken: Sequence[int]) -> None:
        self._optimizer.count(taken)
        for run, steps in zip(self._slots, taken, strict=True):
            run.stepped(steps=steps)
        self._plan = None

    def _train(self) -> None:
        """Take the K steps whose inputs are next."""
        starts, inputs = self._starts.index_select(0, self._at), self._inputs.index_select(0, self._at)
        self._at += self._steps
        for drawn, numbers in zip(starts, inputs, strict=True):  # (E, B) and (E, 1 + columns)
            losses = self._model.losses(*self._text.gather(drawn))
            (gradient,) = torch.autograd.grad(losses.sum(), self._model.weights)
            with torch.no_grad():
                self._loss_sums.addcmul_(losses, numbers[:, 0])
                if self._clips is not None:
                    gradient = clipped(gradient, self._clips)
                self._optimizer.step(gradient, numbers[:, 1:])
