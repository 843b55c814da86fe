"""The names of the models, and functions to find and build one. Importing this module does not import torch."""

from __future__ import annotations

import importlib
import inspect
from collections.abc import Mapping
from types import ModuleType
from typing import TYPE_CHECKING, Any, cast

from search.models.constructor import arguments_of, construct
from search.models.errors import ModelError

if TYPE_CHECKING:
    from torch import nn

# Adding a model is one file and one line here. A user's own model needs no line: "module:Class" names it.
MODELS: dict[str, str] = {
    "bigram": "search.models.bigram:Bigram",
    "bigram_mf": "search.models.bigram_mf:BigramMF",
    "bigram_v2": "search.models.bigram_v2:BigramV2",
    "gpt": "search.models.gpt:GPT",
}

# Here and not with the encodings, so that a study can be checked without torch.
PE_TYPES = ("randn", "sinpe", "rope")  # of bigram_v2
GPT_PE_TYPES = ("learned", "sinpe", "rope", "none")


def import_named(named: str, module: str, choices: str, refused: type[Exception]) -> ModuleType:
    """Import the module that a setting or an axis names.

    Args:
        named: What names it, for messages.
        module: Its name.
        choices: What else to do, for messages.
        refused: The class of the error if it does not import.
    """
    try:
        return importlib.import_module(module)
    except (Exception, SystemExit) as error:  # a user's module can raise anything at import
        raise refused(
            f"{named}: module {module!r} does not import ({type(error).__name__}: {error}); "
            f"put it beside the study file or on PYTHONPATH, or {choices}"
        ) from error


def model_class(name: str) -> type[nn.Module]:
    """Find the class of a model.

    Args:
        name: A registered name, or "module:Class" for any importable torch module.

    Returns:
        The class, not an instance.

    Raises:
        ModelError: The name is not registered, its module does not import, the module lacks the class, or the
            class is not a `torch.nn.Module`.
    """
    reference = MODELS.get(name, name)
    module_name, _, class_name = reference.partition(":")
    if not module_name or not class_name:
        raise ModelError(f"unknown model {name!r}: choose one of {', '.join(MODELS)}, or name your own as module:Class")
    module = import_named(f"model {name!r}", module_name, f"choose one of {', '.join(MODELS)}", ModelError)
    found = getattr(module, class_name, None)
    if found is None:
        classes = [key for key, value in vars(module).items() if inspect.isclass(value)]
        raise ModelError(
            f"model {name!r}: module {module_name!r} has no class {class_name!r}; it has {', '.join(classes) or 'none'}"
        )
    return _require_module_class(name, found)


def _require_module_class(name: str, found: object) -> type[nn.Module]:
    from torch import nn

    if not (inspect.isclass(found) and issubclass(found, nn.Module)):
        raise ModelError(f"model {name!r} is not a torch.nn.Module: name a class that derives from it")
    return found


def model_arguments(name: str) -> tuple[set[str], set[str]]:
    """List the arguments of a model's constructor, or of the `config` that it takes.

    Args:
        name: As for `model_class`.

    Returns:
        The names of the required arguments, and the names of those with a default, as for
        `search.models.constructor.arguments_of`.

    Raises:
        ModelError: As for `model_class`.
    """
    return arguments_of(model_class(name))


def check_arguments(name: str, arguments: Mapping[str, Any]) -> None:
    """Check arguments against the constructor of a model.

    Args:
        name: As for `model_class`.
        arguments: Keyword arguments for the constructor.

    Raises:
        ModelError: An argument is unknown to the constructor, or a required one is missing; or as for `model_class`.
    """
    required, optional = model_arguments(name)
    takes = ", ".join(sorted(required | optional)) or "nothing"
    unknown = sorted(set(arguments) - required - optional)
    if unknown:
        raise ModelError(f"model {name!r} does not take {', '.join(unknown)}: it takes {takes}")
    missing = sorted(required - set(arguments))
    if missing:
        raise ModelError(
            f"model {name!r} needs {', '.join(missing)}: give each a value in the study file (it takes {takes})"
        )


def build_model(name: str, arguments: Mapping[str, Any], seed: int) -> nn.Module:
    """Build a model on the CPU, with initial weights that depend only on the seed.

    Args:
        name: As for `model_class`.
        arguments: Keyword arguments for the constructor.
        seed: Seed of the initial weights. The global generator is restored afterwards, so a model (a user's too) can
            draw from it, as torch does by default.

    Returns:
        The model, in training mode.

    Raises:
        ModelError: As for `check_arguments`, or the constructor refuses a value.
    """
    import torch

    check_arguments(name, arguments)
    built = model_class(name)
    with torch.random.fork_rng(devices=[]):
        # torch.manual_seed would also reseed the generators of the GPUs, which are not restored here.
        torch.default_generator.manual_seed(seed)
        try:
            return cast("nn.Module", construct(built, arguments))
        except ModelError:
            raise
        except (TypeError, ValueError, RuntimeError) as error:
            values = ", ".join(f"{key}={value!r}" for key, value in arguments.items())
            raise ModelError(f"model {name!r} cannot be built with {values}: {error}") from error


def count_parameters(model: nn.Module) -> int:
    """Count the trainable parameters of a model.

    Args:
        model: Any torch module.

    Returns:
        The number of elements of all parameters that receive gradients, a shared one counted once.
    """
    return sum(parameter.numel() for parameter in model.parameters() if parameter.requires_grad)
