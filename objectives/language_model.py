"""Trains a next-character model on a corpus: the training run that a trial consists of."""

from __future__ import annotations

import json
import math
import time
from collections.abc import Callable, Mapping
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from models.registry import build_model, count_parameters
from objectives.batches import BatchSampler
from objectives.cells import ReadCell, check_cell, check_logits, read_cell
from objectives.checkpoints import pack, unpack
from objectives.contract import Evaluation
from objectives.corpus import Corpus
from objectives.evaluation import full_pass, sampled
from objectives.randomness import OwnDraws, generator_for
from objectives.samples import sample_text
from objectives.settings import TrainingSettings

# The planner looks for `check_cell` where `start` is.
__all__ = ["LanguageModelRun", "check_cell", "start"]


class LanguageModelRun:
    """One run, as `objectives.contract.TrainingRun` describes it; made by `start`.

    Args:
        read: The cell.
        seed: Seed of the initial weights and of every draw.
        corpus: The text.
        model: The untrained model, on `device`.
        device: Where it trains.
        fingerprint: Says which run it is; a checkpoint with another one is refused.
    """

    def __init__(
        self, read: ReadCell, seed: int, corpus: Corpus, model: nn.Module, device: torch.device, fingerprint: str
    ) -> None:
        self._block_size, self._settings = read.block_size, read.settings
        self._seed, self._corpus, self._model, self._device = seed, corpus, model, device
        self._fingerprint = fingerprint
        self._train = torch.tensor(corpus.train, device=device)
        self._validation = torch.tensor(corpus.validation, device=device)
        # Fixed, and as long as the validation text, so that both losses cost and scatter alike.
        self._train_stretch = self._train[: len(self._validation)]
        self._batches = BatchSampler(
            self._train, self._block_size, self._settings.batch_size, generator_for(seed, "batches")
        )
        self._draws = OwnDraws(seed, device)
        self._optimizer = torch.optim.AdamW(
            model.parameters(), lr=self._settings.learning_rate, weight_decay=self._settings.weight_decay, fused=True
        )
        self._loss_sum = torch.zeros((), device=device)  # since the last evaluation; finite while all losses are
        self._step = 0
        self._seconds = 0.0
        self._curve: list[Evaluation] = []
        self._by_position: list[float] | None = None
        self._sample: str | None = None

    @property
    def finished(self) -> bool:
        """True once the last evaluation was returned, be it for divergence."""
        return bool(self._curve) and (self._curve[-1].diverged or self._curve[-1].step >= self._settings.max_iters)

    @property
    def curve(self) -> list[Evaluation]:
        """Every evaluation so far, in order of step."""
        return list(self._curve)

    def advance(self, should_stop: Callable[[], bool]) -> Evaluation | None:
        """Train up to the next evaluation: at step 0, every `eval_interval` steps, and at the end.

        Args:
            should_stop: Asked after every step; at least one step is taken, or an evaluation made, in any case.

        Returns:
            The evaluation, its losses NaN as soon as a training loss is not finite (on a GPU that is looked at only
            when an evaluation is due: looking waits for the device), or None when `should_stop` said so.
        """
        assert not self.finished, "a finished run was advanced"
        due = 0
        if self._curve:
            interval = self._settings.eval_interval
            due = min((self._curve[-1].step // interval + 1) * interval, self._settings.max_iters)
        began = time.perf_counter()
        try:
            with self._draws.active():
                while self._step < due:
                    if not self._train_step():
                        return self._record(math.nan, math.nan)
                    if should_stop():
                        return None
                if not math.isfinite(self._loss_sum.item()):
                    return self._record(math.nan, math.nan)
                return self._record(*self._evaluate())
        finally:
            self._seconds += time.perf_counter() - began

    def save(self) -> bytes:
        """Everything that `restore` needs to continue to the same losses, to the last bit."""
        state = {
            "step": self._step,
            "seconds": self._seconds,
            "curve": [(point.step, point.train_loss, point.val_loss) for point in self._curve],
            "loss_sum": self._loss_sum,
            "model": self._model.state_dict(),
            "optimizer": self._optimizer.state_dict(),
            "batches": self._batches.state(),
            "draws": self._draws.state(),
        }
        return pack(self._fingerprint, state)

    def restore(self, payload: bytes) -> None:
        """Continue from what `save` returned.

        Args:
            payload: The bytes; of a run on any kind of device.

        Raises:
            CheckpointError: They are damaged, or of a run with another cell, seed, settings or corpus.
        """
        state = unpack(self._fingerprint, payload)
        self._model.load_state_dict(state["model"])
        self._optimizer.load_state_dict(state["optimizer"])
        self._batches.restore(state["batches"])
        self._draws.restore(state["draws"])
        self._loss_sum = state["loss_sum"].to(self._device)
        self._step, self._seconds = state["step"], state["seconds"]
        self._curve = [Evaluation(*point) for point in state["curve"]]
        self._by_position = self._sample = None

    def describe(self) -> dict[str, Any]:
        """JSON-able facts: n_params, tokens (characters trained on), train_seconds (evaluations included); of a run
        that finished without diverging also sample and val_loss_by_position (nats, one number a position)."""
        facts: dict[str, Any] = {
            "n_params": count_parameters(self._model),
            "tokens": self._step * self._settings.batch_size * self._block_size,
            "train_seconds": self._seconds,
        }
        if self.finished and not self._curve[-1].diverged:
            if self._by_position is None:
                self._by_position = full_pass(self._model, self._validation, self._block_size).by_position
            if self._sample is None:
                self._sample = sample_text(
                    self._model, self._corpus, self._settings.sample_chars, self._block_size, self._seed, self._device
                )
            facts |= {"sample": self._sample, "val_loss_by_position": self._by_position}
        return facts

    def _train_step(self) -> bool:
        """Take one step; False when its loss is seen not to be finite, the weights then stay as they were."""
        x, y = self._batches.next()
        logits: Tensor = self._model(x)  # (B, T, V)
        loss = F.cross_entropy(logits.flatten(0, 1), y.flatten())
        self._step += 1
        if self._device.type == "cpu":
            if not math.isfinite(loss.item()):
                return False
        else:
            self._loss_sum += loss.detach()
        self._optimizer.zero_grad(set_to_none=True)
        loss.backward()  # type: ignore[no-untyped-call]
        self._optimizer.step()
        return True

    def _evaluate(self) -> tuple[float, float]:
        """The training and the validation loss, in nats per character."""
        settings = self._settings
        if settings.evaluation == "full":
            train = full_pass(self._model, self._train_stretch, self._block_size)
            validation = full_pass(self._model, self._validation, self._block_size)
            self._by_position = validation.by_position
            return train.loss, validation.loss

        def estimate(split: str, tokens: Tensor) -> float:
            # A generator for each evaluation: looking at a run more often must not change what it learns.
            generator = generator_for(self._seed, "evaluation", self._step, split)
            size, batches = settings.batch_size, settings.eval_batches
            return sampled(self._model, tokens, self._block_size, size, batches, generator)

        return estimate("train", self._train), estimate("val", self._validation)

    def _record(self, train_loss: float, val_loss: float) -> Evaluation:
        evaluation = Evaluation(self._step, train_loss, val_loss)
        self._curve.append(evaluation)
        self._loss_sum = torch.zeros_like(self._loss_sum)
        return evaluation


def start(
    cell: Mapping[str, Any], seed: int, settings: TrainingSettings, corpus: Corpus, device: str
) -> LanguageModelRun:
    """Make a run that has not taken a step.

    Args:
        cell: "model", "block_size", the model's arguments, and any training settings that are an axis.
        seed: The same seed gives every cell the same stream of random numbers.
        settings: What holds where the cell says nothing.
        corpus: The text.
        device: As torch names it: "cpu", "cuda:0".

    Returns:
        The run.

    Raises:
        ObjectiveError: As for `objectives.cells.check_cell`.
        CorpusError: As for `objectives.cells.check_cell`.
        ModelError: As for `objectives.cells.check_cell`.
    """
    read = read_cell(cell, settings, corpus)
    model = build_model(read.model, read.arguments, seed)
    check_logits(model, read, corpus.vocab_size)
    identity = {"cell": dict(cell), "seed": seed, "settings": read.settings.model_dump(), "corpus": corpus.sha256}
    fingerprint = json.dumps(identity, sort_keys=True, separators=(",", ":"))
    place = torch.device(device)
    return LanguageModelRun(read, seed, corpus, model.to(place), place, fingerprint)
