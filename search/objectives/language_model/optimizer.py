"""The optimizer of a run: torch's AdamW or SGD, a user's class, or what the model makes itself."""

from __future__ import annotations

import functools
import inspect
from collections.abc import Mapping
from typing import Any

import torch
from torch import nn
from torch.optim import Optimizer

from search.objectives.errors import ObjectiveError
from search.objectives.language_model.references import find
from search.objectives.language_model.schedule import is_constant, rate_factor
from search.objectives.language_model.settings import OPTIMIZERS, LanguageModelSettings

# A model's method that makes its optimizer, as minGPT, nanoGPT and Lightning call it.
HOOK = "configure_optimizers"


@functools.cache
def eager(kind: type[Optimizer]) -> type[Optimizer]:
    """A class of torch for steps that are never compiled; every result is equal to the last bit.

    torch wraps these methods for `torch.compile`, and the wrappers import the compiler at their first call: more than a
    second of the time in which a worker starts. Where torch has no such wrappers, the methods are its own.
    """
    methods = {name: inspect.unwrap(getattr(kind, name)) for name in ("add_param_group", "load_state_dict")}
    methods |= {name: inspect.unwrap(getattr(kind, name)) for name in ("state_dict", "zero_grad")}
    step = torch.no_grad()(inspect.unwrap(kind.step))
    return type(f"Eager{kind.__name__}", (kind,), {**methods, "step": step})


def make_optimizer(model: nn.Module, settings: LanguageModelSettings, device: torch.device) -> Optimizer:
    """Make the optimizer of a run.

    Args:
        model: On `device`. Its method `configure_optimizers`, if it has one, makes the optimizer.
        settings: What it is made with.
        device: On a CUDA device the steps of AdamW can be captured as a graph.

    Raises:
        ObjectiveError: The class does not exist or is no optimizer, or it or the hook refuses a value.
    """
    hook = getattr(model, HOOK, None)
    if callable(hook):
        return _from_hook(hook, settings, device)
    kind, arguments = _arguments(settings, device)
    try:
        made: Optimizer = kind(model.parameters(), **arguments, **settings.optimizer_args)
    except (TypeError, ValueError, RuntimeError) as error:
        values = "".join(f" {name}={value!r}" for name, value in settings.optimizer_args.items())
        given = f" with optimizer_args{values}" if values else ""
        raise ObjectiveError(f"optimizer {settings.optimizer!r} cannot be made{given}: {error}") from error
    return made


def _arguments(settings: LanguageModelSettings, device: torch.device) -> tuple[Any, dict[str, Any]]:
    """The class of an optimizer, and its arguments other than `optimizer_args`."""
    arguments: dict[str, Any] = {"lr": settings.learning_rate, "weight_decay": settings.weight_decay}
    if settings.optimizer == "adamw":
        more = {"betas": settings.betas, "fused": True, "capturable": device.type == "cuda"}
        return eager(torch.optim.AdamW), arguments | more
    if settings.optimizer == "sgd":
        return eager(torch.optim.SGD), arguments | {"momentum": settings.momentum, "fused": True}
    kind = _optimizer_class(settings.optimizer)
    possible = arguments | {"betas": settings.betas, "momentum": settings.momentum}
    taken = inspect.signature(kind).parameters
    return kind, {name: value for name, value in possible.items() if name in taken}


def _optimizer_class(reference: str) -> type[Optimizer]:
    choices = f"choose one of {', '.join(OPTIMIZERS)}, or name a torch optimizer as module:Class"
    found = find("optimizer", reference, choices)
    if not (inspect.isclass(found) and issubclass(found, Optimizer)):
        raise ObjectiveError(f"optimizer {reference!r} is not a torch.optim.Optimizer: {choices}")
    return found


def _from_hook(hook: Any, settings: LanguageModelSettings, device: torch.device) -> Optimizer:
    """What a model's own method makes; it takes the settings, or some of them by nanoGPT's names."""
    by_name: Mapping[str, Any] = {
        "settings": settings,
        "train_config": settings,
        "learning_rate": settings.learning_rate,
        "weight_decay": settings.weight_decay,
        "betas": settings.betas,
        "device_type": device.type,
    }
    parameters = inspect.signature(hook).parameters
    names = ["settings"] if len(parameters) == 1 and not set(parameters) & set(by_name) else list(parameters)
    if unknown := [name for name in names if name not in by_name]:
        raise ObjectiveError(
            f"{HOOK} of the model has the parameters {', '.join(unknown)}; it gets settings, or some of "
            f"{', '.join(name for name in by_name if name != 'settings')}"
        )
    try:
        made = hook(*(by_name[name] for name in names))
    except Exception as error:  # a user's method can raise anything
        raise ObjectiveError(f"{HOOK} of the model failed: {type(error).__name__}: {error}") from error
    if not isinstance(made, Optimizer):
        raise ObjectiveError(
            f"{HOOK} of the model returned {type(made).__name__}: let it return a torch.optim.Optimizer"
        )
    return made


class LearningRates:
    """Moves the learning rates of an optimizer along the schedules of its runs.

    Args:
        optimizer: Its groups have their highest learning rates.
    """

    def __init__(self, optimizer: Optimizer) -> None:
        self._optimizer = optimizer
        self._highest = [float(group["lr"]) for group in optimizer.param_groups]

    def set(self, group: int, step: int, settings: LanguageModelSettings) -> None:
        """Set the learning rate of one group for a step.

        Args:
            group: Index of the group.
            step: As for `rate_factor`.
            settings: Those of the group's run.
        """
        if is_constant(settings):
            return
        # Looked up, because loading a state replaces the groups.
        of_group = self._optimizer.param_groups[group]
        rate = self._highest[group] * rate_factor(step, settings)
        if isinstance(of_group["lr"], torch.Tensor):  # of steps that are captured
            of_group["lr"].fill_(rate)
        else:
            of_group["lr"] = rate

    def set_all(self, step: int, settings: LanguageModelSettings) -> None:
        """Set the learning rates of all groups, which belong to one run."""
        for group in range(len(self._highest)):
            self.set(group, step, settings)


def cloned_state(optimizer: Optimizer) -> dict[str, Any]:
    """The state of an optimizer, for a checkpoint; cloned, since slices of a stack would be saved with the stack."""
    state = optimizer.state_dict()
    # A captured step has its learning rate in a tensor on the device.
    groups = [
        {**group, "lr": float(group["lr"])} if torch.is_tensor(group.get("lr")) else group
        for group in state["param_groups"]
    ]
    cloned = {
        index: {name: value.clone() if isinstance(value, torch.Tensor) else value for name, value in of_one.items()}
        for index, of_one in state["state"].items()
    }
    return {**state, "state": cloned, "param_groups": groups}
