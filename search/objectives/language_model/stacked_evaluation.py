"""Evaluations of all runs of a stack at once."""

from __future__ import annotations

import math
from collections.abc import Collection, Sequence

import torch
from torch import Tensor

from search.models.flat_stack import FlatStack, place_losses
from search.objectives.language_model.cuda_graphs import Lane
from search.objectives.language_model.evaluation import LOGITS_PER_FORWARD, TOKENS_PER_FORWARD
from search.objectives.language_model.evaluation_texts import Measured, first_predictions
from search.objectives.language_model.run import LanguageModelRun
from search.objectives.language_model.stacked_generation import StackedSampler
from search.objectives.language_model.token_tensors import widened

# Of all members together: they share the device's memory.
TOKENS_OF_ALL = 16 * TOKENS_PER_FORWARD
LOGITS_OF_ALL = 2 * LOGITS_PER_FORWARD


class StackedEvaluation:
    """Measures what `LanguageModelRun.evaluate` measures of one run.

    Sums are added up in float32 over some windows, and in float64 on the host: not every device has float64.

    Args:
        model: The stack.
        run: One of its E runs: all have the same texts, and settings of evaluations.
        members: E.
    """

    def __init__(self, model: FlatStack, run: LanguageModelRun, members: int) -> None:
        self._model, self._settings, self._texts = model, run.settings, run.texts
        self._by_windows = run.settings.evaluation == "full"
        most = run.settings.eval_tokens
        passes = run.texts.scored if self._by_windows else {run.texts.ranks: run.texts.ranking}
        vocab_size = run.corpus.vocab_size
        self._passes = {
            name: FullPass(model, first_predictions(text, most), run.block_size, members, vocab_size)
            for name, text in passes.items()
        }
        self._draws = {
            name: DrawnWindows(model, text, run, members)
            for name, text in ({} if self._by_windows else run.texts.sampled).items()
        }
        self._sampler = StackedSampler(model, run, members)
        self._finite: Tensor | None = None

    def begin(self, lane: Lane, loss_sums: Tensor, runs: Sequence[LanguageModelRun]) -> None:
        """Start to measure every member.

        Args:
            lane: Where it is done.
            loss_sums: (E,) float32, finite where the training losses were.
            runs: The runs of all members, also of those that have left.
        """
        self._finite = lane.to_host(loss_sums)
        if self._by_windows:
            self._begin_passes(lane)
        for name, drawn in self._draws.items():
            drawn.begin(lane, name, [run.evaluation_draws(name) for run in runs])

    def end(self, lane: Lane) -> list[Measured | None]:
        """Wait for the measurements: one for each member; None where a training loss was not finite."""
        passes = {name: each.fetch(lane) for name, each in self._passes.items()} if self._by_windows else {}
        drawn = {name: each.fetch(lane) for name, each in self._draws.items()}
        lane.wait()
        assert self._finite is not None, "begin was called"
        measured: list[Measured | None] = []
        losses = {name: each.losses() for name, each in {**passes, **drawn}.items()}
        by_position = passes[self._texts.ranks].by_position() if passes else None
        for e, loss_sum in enumerate(self._finite.tolist()):
            if not math.isfinite(loss_sum):
                measured.append(None)
                continue
            positions = None if by_position is None else by_position[e]
            measured.append(self._texts.measured({name: each[e] for name, each in losses.items()}, positions))
        return measured

    def begin_details(self, lane: Lane, runs: Sequence[LanguageModelRun]) -> int:
        """Start to write text samples and to measure losses by position.

        Args:
            lane: Where it is done.
            runs: The runs of all members.

        Returns:
            How many calls of `write_next` have to follow.
        """
        if not self._by_windows:
            self._begin_passes(lane)
        return self._sampler.begin(lane, [run.seed for run in runs])

    def write_next(self, lane: Lane) -> None:
        """Append an id to each text sample; the device may still be at work."""
        self._sampler.write_next(lane)

    def end_details(self, lane: Lane, runs: Sequence[LanguageModelRun], finished: Collection[LanguageModelRun]) -> None:
        """Wait for what `begin_details` has started, and give it to finished runs.

        Args:
            lane: Where it is done.
            runs: The runs of all members.
            finished: Those of them that get some.
        """
        fetched = None if self._by_windows else self._passes[self._texts.ranks].fetch(lane)
        members = [e for e, run in enumerate(runs) if run in finished]
        samples = self._sampler.end(lane, members)
        by_position = None if fetched is None else fetched.by_position()
        for e in members:
            runs[e].keep_details(samples[e], None if by_position is None else by_position[e])

    def _begin_passes(self, lane: Lane) -> None:
        for name, each in self._passes.items():
            each.begin(lane, name)


class Fetched:
    """Sums of losses on their way to the host.

    Args:
        sums: (E, N, T): by member, group of windows and position.
        rest: (E, R): of the last window, which is shorter; R may be 0.
        windows: Windows of length T.
        predictions: All predictions.
    """

    def __init__(self, sums: Tensor, rest: Tensor, windows: int, predictions: int) -> None:
        self._sums, self._rest, self._windows, self._predictions = sums, rest, windows, predictions

    def losses(self) -> list[float]:
        """The mean loss of each member."""
        total = self._sums.double().sum(dim=(1, 2)) + self._rest.double().sum(dim=1)
        losses: list[float] = (total / self._predictions).tolist()
        return losses

    def by_position(self) -> list[list[float]]:
        """The mean loss of each member by position, over full windows, as `evaluation.PassLosses`."""
        means = self._sums.double().sum(dim=1) / self._windows if self._windows else self._rest.double()
        found: list[list[float]] = means.tolist()
        return found


class FullPass:
    """Predicts every id but the first of a text once, in windows that do not overlap.

    A last window that is shorter is filled up with ids that are not counted; a model that predicts the next id does not
    see them before its own prediction.

    Args:
        model: The stack.
        tokens: (N,) as `token_tensors.as_tensor` makes them; N >= 2.
        block_size: Ids T of a window.
        members: E.
        vocab_size: Ids V.
    """

    def __init__(self, model: FlatStack, tokens: Tensor, block_size: int, members: int, vocab_size: int) -> None:
        self._model, self._tokens, device = model, tokens, tokens.device
        self._predictions = len(tokens) - 1
        self._full, self._short = divmod(self._predictions, block_size)
        windows = math.ceil(self._predictions / block_size)
        most = min(TOKENS_PER_FORWARD, TOKENS_OF_ALL // members, LOGITS_OF_ALL // (members * vocab_size))
        rows = min(windows, max(1, most // block_size))
        self._groups = math.ceil(windows / rows)
        self._at = torch.zeros(1, dtype=torch.int64, device=device)  # the group of windows that is next
        self._places = torch.arange(rows * block_size, device=device).view(rows, block_size)
        self._sums = torch.zeros(members, self._groups, block_size, device=device)
        self._rest = torch.zeros(members, self._groups, block_size, device=device)

    def begin(self, lane: Lane, name: str) -> None:
        """Start to sum up the losses of each member.

        Args:
            lane: Where it is done.
            name: Of the text.
        """
        with lane.active():
            self._at.zero_()
        for _ in range(self._groups):
            lane.run(f"pass over {name}", self._work)

    def _work(self) -> None:
        """Sum up the losses in the next group of windows, a forward pass in all."""
        with torch.no_grad():
            places = self._places + self._at * self._places.numel()  # (rows, T)
            inside = places.clamp(max=self._predictions - 1)
            logits = self._model.logits(widened(self._tokens[inside]), training=False)
            losses = place_losses(logits, widened(self._tokens[inside + 1]))  # (E, rows, T)
            losses = losses.where(places < self._predictions, 0)
            is_full = places < self._full * self._places.shape[1]
            for kept, which in ((self._sums, is_full), (self._rest, ~is_full)):
                kept.index_copy_(1, self._at, losses.where(which, 0).sum(dim=1, keepdim=True))
            self._at += 1

    def fetch(self, lane: Lane) -> Fetched:
        """Copy the sums to the host; they are there after the lane was waited for."""
        with lane.active():
            rest = self._rest.sum(dim=1)[:, : self._short]
        return Fetched(lane.to_host(self._sums), lane.to_host(rest), self._full, self._predictions)


class DrawnWindows:
    """Estimates the loss of each member as the mean over random batches, as `evaluation.sampled`.

    Args:
        model: The stack.
        tokens: (N,), what the windows are drawn from.
        run: One of its runs.
        members: E.
    """

    def __init__(self, model: FlatStack, tokens: Tensor, run: LanguageModelRun, members: int) -> None:
        self._model, self._windows = model, run.batches.on(tokens)
        self._batches, size = run.settings.eval_batches, run.settings.batch_size
        self._shape = members, size, run.block_size
        self._starts = torch.zeros(members, size, dtype=torch.int64, device=tokens.device)
        self._at = torch.zeros(1, dtype=torch.int64, device=tokens.device)
        self._sums = torch.zeros(members, self._batches, device=tokens.device)

    def begin(self, lane: Lane, name: str, draws: Sequence[torch.Generator]) -> None:
        """Start to sum up the losses.

        Args:
            lane: Where it is done.
            name: Of the text.
            draws: The generator of each member.
        """
        starts = torch.stack([self._windows.draw_with(each, self._batches) for each in draws], dim=1)  # (n, E, B)
        with lane.active():
            self._at.zero_()
            on_device = starts.to(self._starts.device, non_blocking=True)
        for each in on_device:
            with lane.active():
                self._starts.copy_(each)
            lane.run(f"evaluation on windows of {name}", self._work)

    def _work(self) -> None:
        with torch.no_grad():
            x, y = self._windows.gather(self._starts)
            losses = place_losses(self._model.logits(x, training=False), y).sum(dim=(1, 2))
            self._sums.index_copy_(1, self._at, losses.unsqueeze(1))
            self._at += 1

    def fetch(self, lane: Lane) -> Fetched:
        """As `FullPass.fetch`."""
        _, size, block_size = self._shape
        sums = lane.to_host(self._sums)
        return Fetched(sums.unsqueeze(-1), sums[:, :0], 0, self._batches * size * block_size)
