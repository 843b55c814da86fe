"""One training run of a next-character model on a corpus, from its first step to its text sample."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from safetensors.torch import save as to_safetensors
from torch import Tensor, nn

from search.models.registry import count_parameters
from search.objectives.corpus import Corpus
from search.objectives.language_model.batches import BatchSampler, starts_of
from search.objectives.language_model.cells import ReadCell
from search.objectives.language_model.checkpoints import pack, unpack
from search.objectives.language_model.cuda_graphs import Lane
from search.objectives.language_model.evaluation import PassLosses, full_pass, sampled
from search.objectives.language_model.evaluation_texts import Measured, first_predictions, texts_on
from search.objectives.language_model.flops import flops_of
from search.objectives.language_model.generation import sample_text
from search.objectives.language_model.interface import logits_of
from search.objectives.language_model.optimizer import cloned_state
from search.objectives.language_model.rng import ModelRng, generator_for
from search.objectives.language_model.training_step import TrainingStep, precision
from search.objectives.phase_timer import PhaseTimer
from search.objectives.protocol import TRAIN_LOSS, Evaluation

NO_METRICS: Mapping[str, float] = {}


class LanguageModelRun:
    """One training run; implements `search.objectives.protocol.TrainingRun`; made by `objective.start`.

    Args:
        read: The cell.
        seed: Seed of the initial weights and of every draw.
        corpus: The text.
        model: The untrained model, on `device`.
        device: Where it trains.
        fingerprint: Identifies the run; a checkpoint with another one is rejected.

    Attributes:
        read, model, optimizer, batches, settings: What it trains, and how. A stack uses these to train several runs as
            one, and counts the steps with `stepped`.
        texts: What it is evaluated on.
        draws: The run's own random numbers for its model; active while it takes steps.
        loss_sum: () float32 on the device, of the losses since the last evaluation; finite while all losses are.
        timer: Its time, by kind of work.
    """

    def __init__(
        self, read: ReadCell, seed: int, corpus: Corpus, model: nn.Module, device: torch.device, fingerprint: str
    ) -> None:
        self.read, self.settings, self.block_size = read, read.settings, read.block_size
        self.model, self.device = model, device
        self.seed, self.corpus, self._fingerprint = seed, corpus, fingerprint
        self.texts = texts_on(corpus, device)
        draws, starts = generator_for(seed, "batches"), starts_of(self.settings.batches)
        self.batches = BatchSampler(self.texts.train, self.block_size, self.settings.batch_size, draws, starts)
        self.draws = ModelRng(seed, device)
        self.timer = PhaseTimer()
        self._training_step = TrainingStep(model, self.batches, self.settings, device, self.timer)
        self.optimizer = self._training_step.optimizer
        self._predictor = logits_of(model)
        self.loss_sum = torch.zeros((), device=device)
        self._step = 0
        self._seconds = 0.0
        self._curve: list[Evaluation] = []
        self._by_position: list[float] | None = None
        self._sample: str | None = None

    @property
    def finished(self) -> bool:
        """True once the last evaluation was returned, also after divergence or when its patience is at an end."""
        if not self._curve:
            return False
        last = self._curve[-1]
        return last.diverged or last.step >= self.settings.max_iters or self._is_out_of_patience()

    @property
    def step(self) -> int:
        """Training steps taken."""
        return self._step

    @property
    def curve(self) -> list[Evaluation]:
        """Every evaluation so far, in order of step."""
        return list(self._curve)

    @property
    def due(self) -> bool:
        """True when an evaluation is next: at step 0, every `eval_interval` steps, and at the end."""
        return self.steps_to_evaluation == 0

    @property
    def steps_to_evaluation(self) -> int:
        """How many steps there are before the next evaluation."""
        if not self._curve:
            return 0
        interval = self.settings.eval_interval
        return max(0, min((self._curve[-1].step // interval + 1) * interval, self.settings.max_iters) - self._step)

    def advance(self, should_stop: Callable[[], bool]) -> Evaluation | None:
        """Train up to the next evaluation.

        Args:
            should_stop: Called after every step; each call takes at least one step or makes an evaluation.

        Returns:
            The evaluation, or None if `should_stop` returned True. Its losses are NaN as soon as a training loss is
            not finite; on a GPU this is checked only when an evaluation is due, because it waits for the device.
        """
        assert not self.finished, "a finished run was advanced"
        with self.draws.active():
            while not self.due:
                if not self.take_step():
                    return self.record_divergence()
                if should_stop():
                    return None
        return self.evaluate()

    def take_step(self) -> bool:
        """Take one step; False if its loss is found not to be finite, and then the weights stay unchanged."""
        began = time.perf_counter()
        finite = self._training_step.take(self._step, self.loss_sum)
        self.stepped(time.perf_counter() - began)
        return finite

    def take_steps_on(self, lane: Lane) -> None:
        """Do the work of all steps to come on a lane, which captures it."""
        self._training_step.take_on(lane)

    def stepped(self, seconds: float = 0.0, steps: int = 1) -> None:
        """Count steps that were taken, and time that this run has cost."""
        self._step += steps
        self._seconds += seconds

    def evaluate(self) -> Evaluation:
        """Measure the losses; NaN when a training loss since the last evaluation was not finite."""
        self.timer.begin()
        began = time.perf_counter()
        if not math.isfinite(self.loss_sum.item()):
            return self.record_divergence()
        with self.draws.active(), precision(self.settings, self.device):
            evaluation = self.add_evaluation(self._measure())
        if self.finished:
            self._measure_details()
        self.timer.end("evaluation")
        self._seconds += time.perf_counter() - began
        return evaluation

    def add_evaluation(self, measured: Measured) -> Evaluation:
        """Add what was measured at this step to the curve."""
        if measured.by_position is not None:
            self._by_position = list(measured.by_position)
        evaluation = measured.at(self._step)
        self._curve.append(evaluation)
        self.loss_sum.zero_()
        return evaluation

    def record_divergence(self) -> Evaluation:
        """End the run at this step, with NaN losses."""
        return self.add_evaluation(Measured(math.nan, math.nan))

    def save(self) -> bytes:
        """Everything that `restore` needs to resume with bit-equal losses."""
        state = {
            "step": self._step,
            "seconds": self._seconds,
            "curve": [(point.step, point.train_loss, point.value) for point in self._curve],
            "further": [
                {name: point.metrics[name] for name in point.metrics if name != TRAIN_LOSS} for point in self._curve
            ],
            "loss_sum": self.loss_sum.clone(),
            # Cloned, because a slice of a stack would be saved with the whole stack.
            "model": {name: value.clone() for name, value in self.model.state_dict().items()},
            "optimizer": cloned_state(self.optimizer),
            "batches": self.batches.state(),
            "draws": self.draws.state(),
        }
        return pack(self._fingerprint, state)

    def restore(self, payload: bytes) -> None:
        """Resume from what `save` returned.

        Args:
            payload: The bytes, from a run on any kind of device.

        Raises:
            CheckpointError: The bytes are damaged, or from a run with another cell, seed, settings or corpus.
        """
        state = unpack(self._fingerprint, payload)
        self.model.load_state_dict(state["model"])
        self.optimizer.load_state_dict(state["optimizer"])
        self.batches.restore(state["batches"])
        self.draws.restore(state["draws"])
        self.loss_sum.copy_(state["loss_sum"])
        self._step, self._seconds = state["step"], state["seconds"]
        further = state.get("further") or [NO_METRICS] * len(state["curve"])  # earlier versions had none
        self._curve = [
            Evaluation(step, value, {TRAIN_LOSS: train_loss, **others})
            for (step, train_loss, value), others in zip(state["curve"], further, strict=True)
        ]
        self._by_position = self._sample = None

    def describe(self) -> dict[str, Any]:
        """JSON-serializable facts: n_params, tokens (characters trained on), train_seconds and flops (evaluations
        included); for a run that finished without diverging also sample and val_loss_by_position (nats, one number per
        position)."""
        facts: dict[str, Any] = {
            "n_params": count_parameters(self.model),
            "tokens": self._step * self._tokens_per_step,
            "train_seconds": self._seconds,
        }
        if (flops := self.count_flops()) is not None:
            facts["flops"] = flops
        if self.finished and not self._curve[-1].diverged:
            self._measure_details()
            facts |= {"sample": self._sample, "val_loss_by_position": self._by_position}
        return facts

    def count_flops(self) -> float | None:
        """As `search.objectives.counted_runs.CountsFlops`."""
        counted = flops_of(self)
        return None if counted is None else counted.total(self._step, sum(not each.diverged for each in self._curve))

    @property
    def _tokens_per_step(self) -> int:
        return self.settings.batch_size * self.settings.gradient_accumulation_steps * self.block_size

    def _is_out_of_patience(self) -> bool:
        """Whether the last `patience` evaluations brought no new best."""
        if not self.settings.patience:
            return False
        values = [point.value for point in self._curve]
        return self.settings.patience < len(values) - values.index(min(values))

    def _measure_details(self) -> None:
        """Measure what a finished run has besides its losses, unless that is done."""
        with precision(self.settings, self.device):
            if self._by_position is None:
                self._by_position = self._pass(self.texts.ranking).by_position
            if self._sample is None:
                length = self.settings.sample_chars
                self._sample = sample_text(
                    self._predictor, self.corpus, length, self.block_size, self.seed, self.device
                )

    def keep_details(self, sample: str, by_position: Sequence[float] | None) -> None:
        """Take what a finished run has besides its losses from a stack, which measures all its runs at once.

        Args:
            sample: A text written by its model.
            by_position: The loss that ranks by position; None if the last evaluation had it.
        """
        self._sample = sample
        if by_position is not None:
            self._by_position = list(by_position)

    def files(self) -> dict[str, bytes]:
        """The files to keep of an ended run: the weights."""
        # Cloned: the format does not support tensors that share memory, such as tied weights and slices of a stack.
        state = {name: value.detach().cpu().clone().contiguous() for name, value in self.model.state_dict().items()}
        return {"model.safetensors": to_safetensors(state)}

    def _measure(self) -> Measured:
        """The training loss, the loss that ranks, and with a held-out text also the validation loss beside it."""
        settings, texts = self.settings, self.texts
        if settings.evaluation == "full":
            passes = {name: self._pass(text) for name, text in texts.scored.items()}
            return texts.measured({name: each.loss for name, each in passes.items()}, passes[texts.ranks].by_position)

        def estimate(name: str, tokens: Tensor) -> float:
            generator = self.evaluation_draws(name)
            size, batches = settings.batch_size, settings.eval_batches
            return sampled(self._predictor, tokens, self.block_size, size, batches, generator)

        return texts.measured({name: estimate(name, tokens) for name, tokens in texts.sampled.items()})

    def evaluation_draws(self, text: str) -> torch.Generator:
        """The generator of the random batches of one text at this step."""
        # A separate one per evaluation: evaluating a run more often must not change its training.
        return generator_for(self.seed, "evaluation", self._step, text)

    def _pass(self, text: Tensor) -> PassLosses:
        """The losses over a text, or over its first `eval_tokens` predictions."""
        part = first_predictions(text, self.settings.eval_tokens)
        return full_pass(self._predictor, part, self.block_size, self.pass_vocab_size)

    @property
    def pass_vocab_size(self) -> int:
        """The vocabulary that bounds how many windows a forward pass of an evaluation takes."""
        # Other batches of windows add up in another order, so texts keep those of earlier versions.
        return self.corpus.vocab_size if self.corpus.is_mapped else 1
