"""How a language model is trained: the settings that only this objective has. No torch here."""

from __future__ import annotations

import re
from typing import Annotated, Any, Literal, Self

from pydantic import Field, field_validator, model_validator

from search.objectives.settings import Count, TrainingSettings

Share = Annotated[float, Field(ge=0, le=1)]
Momentum = Annotated[float, Field(ge=0, lt=1)]
# One of `OPTIMIZERS`, or "module:Class" of any torch optimizer.
OPTIMIZERS = ("adamw", "sgd")
# Batches of windows that start anywhere.
UNIFORM = "uniform"
# Arguments of an optimizer's constructor, and the settings that give them.
OPTIMIZER_SETTINGS = {
    "params": "the model",
    "lr": "learning_rate",
    "weight_decay": "weight_decay",
    "betas": "beta1 and beta2",
    "momentum": "momentum",
}


# Settings that change what is measured or kept, but not what is trained.
UNTRAINED = ("eval_interval", "evaluation", "eval_batches", "eval_tokens", "sample_chars")


class LanguageModelSettings(TrainingSettings):
    """Settings of one training run of a language model; names that nanoGPT has too mean what they mean there."""

    optimizer: str = "adamw"
    beta1: Momentum = 0.9  # AdamW: decay of the mean of gradients
    beta2: Momentum = 0.999  # AdamW: decay of the mean of squared gradients
    momentum: Momentum = 0.0  # SGD
    # Further arguments of the optimizer's constructor, such as { nesterov = true }.
    optimizer_args: dict[str, bool | int | float | str] = Field(default={})
    # How the learning rate moves after the warm-up: `search.objectives.language_model.schedule`.
    schedule: Literal["constant", "cosine", "linear", "wsd"] = "constant"
    warmup_iters: Annotated[int, Field(ge=0)] = 0  # first steps, in which the learning rate rises linearly
    min_lr_ratio: Share = 0.0  # the learning rate at the end of a decay, as a share of the highest
    decay_share: Share = 0.2  # "wsd": the share of all steps at the end in which the learning rate decays
    grad_clip: Annotated[float, Field(ge=0)] = 0.0  # the largest norm of all gradients; 0: not clipped
    # Or "module:function" that draws where the windows of a batch start, as `batches.uniform_starts` does.
    batches: str = UNIFORM
    gradient_accumulation_steps: Count = 1  # batches whose gradients are averaged in a step
    # Below 1, where the training loss would not depend on the text.
    label_smoothing: Annotated[float, Field(ge=0, lt=1)] = 0.0  # of the training loss; evaluations have none
    # Of matrix products; weights and optimizer stay in float32. "tf32" is float32 except on a CUDA GPU.
    dtype: Literal["float32", "tf32", "bfloat16"] = "float32"
    compile: bool = False  # torch.compile
    # On a CUDA GPU a user's model that cannot be stacked does the same work in each step, so it can be replayed.
    cuda_graph: bool = False
    eval_tokens: Count | None = None  # a full pass predicts only so many tokens of each text; None: all
    patience: Annotated[int, Field(ge=0)] = 0  # evaluations without a new best that end a run; 0: none do

    @property
    def betas(self) -> tuple[float, float]:
        """Both decays of AdamW, as torch's optimizers take them."""
        return self.beta1, self.beta2

    @field_validator("optimizer")
    @classmethod
    def _check_optimizer(cls, optimizer: str) -> str:
        if optimizer not in OPTIMIZERS and not re.fullmatch(r"[\w.]+:\w+", optimizer):
            raise ValueError(f"choose one of {', '.join(OPTIMIZERS)}, or name a torch optimizer as module:Class")
        return optimizer

    @field_validator("batches")
    @classmethod
    def _check_batches(cls, batches: str) -> str:
        if batches != UNIFORM and not re.fullmatch(r"[\w.]+:\w+", batches):
            raise ValueError(f"give {UNIFORM!r}, or name a function as module:function")
        return batches

    @field_validator("optimizer_args")
    @classmethod
    def _check_optimizer_args(cls, arguments: dict[str, bool | int | float | str]) -> dict[str, Any]:
        for name, setting in OPTIMIZER_SETTINGS.items():
            if name in arguments:
                raise ValueError(f"{name} is set by {setting}; remove it from optimizer_args")
        return arguments

    @model_validator(mode="after")
    def _check_cuda_graph(self) -> Self:
        if self.cuda_graph and (self.compile or self.optimizer not in OPTIMIZERS):
            other = "compile" if self.compile else f"optimizer = {self.optimizer!r}"
            raise ValueError(f"cuda_graph has no effect with {other}; leave out one of them")
        return self

    @model_validator(mode="after")
    def _check_warmup(self) -> Self:
        if self.warmup_iters >= self.max_iters:
            raise ValueError(
                f"warmup_iters={self.warmup_iters} is not below max_iters={self.max_iters}, so the learning rate "
                "would never be reached; make the warm-up shorter"
            )
        return self
