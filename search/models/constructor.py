"""How a model's constructor takes its arguments: by name, or as the fields of one `config`, as nanoGPT's does."""

from __future__ import annotations

import dataclasses
import inspect
import sys
import typing
from collections.abc import Mapping
from typing import Any

CONFIG = "config"


def config_class(model: type[Any]) -> type[Any] | None:
    """The dataclass that a constructor takes as its only argument; None if it takes its arguments by name.

    It is the type of the parameter `config`, or else the dataclass "<Model>Config" in the module of the model or of a
    class that it derives from.

    Args:
        model: The class.
    """
    parameters = inspect.signature(model).parameters
    if list(parameters) != [CONFIG]:
        return None
    try:
        typed = typing.get_type_hints(model.__init__).get(CONFIG)
    except NameError:  # a name that only type checkers import
        typed = None
    beside = [getattr(sys.modules.get(each.__module__), f"{each.__name__}Config", None) for each in model.__mro__]
    for found in (typed, *beside):
        if inspect.isclass(found) and dataclasses.is_dataclass(found):
            return found
    return None


def arguments_of(model: type[Any]) -> tuple[set[str], set[str]]:
    """The required and the optional arguments of a constructor, or of its config.

    `*args` and `**kwargs` are in neither: an axis of a grid must name an explicit argument.

    Args:
        model: The class.
    """
    required: set[str] = set()
    optional: set[str] = set()
    for parameter in inspect.signature(config_class(model) or model).parameters.values():
        if parameter.kind in (inspect.Parameter.VAR_POSITIONAL, inspect.Parameter.VAR_KEYWORD):
            continue
        (required if parameter.default is inspect.Parameter.empty else optional).add(parameter.name)
    return required, optional


def construct(model: type[Any], arguments: Mapping[str, Any]) -> Any:
    """Make an instance of a class.

    Args:
        model: The class.
        arguments: By the names that `arguments_of` gives.
    """
    config = config_class(model)
    return model(**arguments) if config is None else model(config(**arguments))
