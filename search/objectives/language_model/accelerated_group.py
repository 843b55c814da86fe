"""A group of runs on an accelerator: a stack for each shape, all of them at work at the same time."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence

import torch

from search.models.flat_stack import FlatStack
from search.models.stacked import can_stack, shape_of
from search.objectives.language_model import training_step
from search.objectives.language_model.accelerated_stack import AcceleratedStack
from search.objectives.language_model.batches import windows_of
from search.objectives.language_model.cuda_graphs import IN_FLIGHT
from search.objectives.language_model.flat_optimizer import is_understood
from search.objectives.language_model.flops import flops_of
from search.objectives.language_model.lone_run import LoneRun
from search.objectives.language_model.memory_need import MemoryNeed
from search.objectives.language_model.run import LanguageModelRun
from search.objectives.protocol import Evaluation

MAX_MEMBERS = 64  # of a stack; more would not make it faster
MAX_PRODUCTS = 65_535  # that a batched product may have on CUDA: E * B of a stack
TRIED_WINDOWS = 2  # on which a stack is compared with its members
ROUNDS_AHEAD = 16  # of steps that keep a device busy while the host counts the operations of a shape


class AcceleratedGroup:
    """Runs that advance together; removing one does not affect the others.

    Runs whose models cannot be stacked take their steps alone, one after the other.

    Args:
        runs: All on one device.
        memory: The formula of what runs need; it is corrected once by what the group takes.
    """

    def __init__(self, runs: Sequence[LanguageModelRun], memory: MemoryNeed | None = None) -> None:
        self._memory, self._evaluations = memory, 0
        self._needs = [(run.read, run.corpus.vocab_size) for run in runs]
        # One of each cell: the counts do not depend on the seed.
        self._uncounted = list({(stack_key(run), repr(run.read.arguments)): run for run in runs}.values())
        self._alone: list[LoneRun] = []
        self.stacks: list[AcceleratedStack] = []
        by_key: dict[object, list[LanguageModelRun]] = {}
        for run in runs:
            by_key.setdefault(stack_key(run), []).append(run)
        for alike in by_key.values():
            if not can_stack_runs(alike):
                self._alone += map(LoneRun, alike)
                continue
            most = min(MAX_MEMBERS, MAX_PRODUCTS // alike[0].settings.batch_size)
            self.stacks += [AcceleratedStack(alike[at : at + most]) for at in range(0, len(alike), most)]

    @property
    def runs(self) -> list[LanguageModelRun]:
        """The runs of the group, in no particular order."""
        return [*(each.run for each in self._alone), *(run for stack in self.stacks for run in stack.runs)]

    def advance(self, should_stop: Callable[[], bool]) -> list[tuple[LanguageModelRun, Evaluation]]:
        """Train until an evaluation of at least one run is due.

        Args:
            should_stop: Called after every round of steps; each call takes at least one or makes an evaluation.

        Returns:
            The runs that were evaluated, with NaN if a loss was not finite; none if `should_stop` returned True. A
            finished run must be removed before the next call.
        """
        runs, began = self.runs, time.perf_counter()
        spent_alone = 0.0
        evaluated: list[tuple[LanguageModelRun, Evaluation]] = []
        while not evaluated:
            evaluated = self._evaluate_due()
            if not evaluated:
                self._take_steps()
            spent_alone -= time.perf_counter()
            evaluated += [(each.run, at) for each in self._alone if (at := each.advance()) is not None]
            spent_alone += time.perf_counter()
            if not evaluated and should_stop():
                for stack in self.stacks:
                    stack.pause()
                for each in self._alone:
                    each.pause()
                break
        # The stacks share the device, so each of their runs pays for the same share of the time.
        lone = {each.run for each in self._alone}
        stacked = [run for run in runs if run not in lone]
        share_s = (time.perf_counter() - began - spent_alone) / max(1, len(stacked))
        for run in stacked:
            run.stepped(share_s, steps=0)
        return evaluated

    def _take_steps(self) -> None:
        """Take a few steps with every stack; a run that was not yet counted is, while the device is busy."""
        counts = bool(self.stacks and self._uncounted) and all(stack.is_captured for stack in self.stacks)
        for ahead in range(ROUNDS_AHEAD if counts else 1):
            for stack in self.stacks:
                if not stack.is_due:
                    stack.take_steps(IN_FLIGHT + ahead)
        if counts:
            flops_of(self._uncounted.pop())

    def _evaluate_due(self) -> list[tuple[LanguageModelRun, Evaluation]]:
        due = [stack for stack in self.stacks if stack.is_due]
        for stack in due:
            stack.begin_evaluation()
        evaluated = [each for stack in due for each in stack.end_evaluation()]
        left = {stack: stack.begin_details() for stack in due}
        for written in range(max(left.values(), default=0)):  # an id with every stack in turn
            for stack in due:
                if written < left[stack]:
                    stack.write_next()
        for stack in due:
            stack.end_details()
        self._evaluations += bool(due)
        if self._evaluations == 2 and self._memory is not None:  # every kind of work has been captured
            self._memory.compare(self._needs)
            self._memory = None
        return evaluated

    def remove(self, leavers: Sequence[LanguageModelRun]) -> None:
        """Remove runs; their models stay unchanged."""
        gone = set(leavers)
        for each in self._alone:
            if each.run in gone:
                each.close()
        self._alone = [each for each in self._alone if each.run not in gone]
        stacks = []
        for stack in self.stacks:
            stack.remove(gone)
            if not stack.is_half_empty:
                stacks.append(stack)
                continue
            stack.pause()
            stack.close()
            if left := stack.runs:
                stacks.append(AcceleratedStack(left))
        self.stacks = stacks


def stack_key(run: LanguageModelRun) -> tuple[object, ...]:
    """What runs must have in common to be one stack; all else is an input of a step or a number of a member."""
    settings = run.settings
    alike = [settings.batch_size, settings.optimizer, settings.optimizer_args, settings.label_smoothing]
    alike += [settings.dtype]
    alike += [settings.eval_interval, settings.evaluation, settings.eval_batches, settings.eval_tokens]
    return shape_of(run.model), run.block_size, run.texts, repr((*alike, settings.sample_chars))


def can_stack_runs(runs: Sequence[LanguageModelRun]) -> bool:
    """Whether runs with the same `stack_key` can train as a stack; tried on the CPU."""
    first = runs[0]
    if not (training_step.can_stack(first.model, first.settings) and is_understood(first.settings)):
        return False
    if any(each.dtype != torch.float32 for each in first.model.parameters()):
        return False
    # One of each cell: seeds differ in numbers alone, which are compared.
    of_cells = {repr(run.read.arguments): run for run in runs}
    tried = dict.fromkeys((*runs[:2], *of_cells.values()))
    start = first.corpus.train[: first.block_size + TRIED_WINDOWS]
    windows = windows_of(torch.tensor(start.astype("int64")), first.block_size)
    return can_stack([run.model for run in tried], windows[:, :-1], windows[:, 1:], FlatStack)
