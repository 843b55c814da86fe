"""What an option is: a field of an options class; and what is made of such a class, the command line aside."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from dataclasses import MISSING, dataclass, fields
from inspect import Parameter, Signature
from textwrap import fill
from typing import Any, TypeVar, get_args, get_type_hints

from search.errors import UsageError

AnyOptions = TypeVar("AnyOptions", bound="Options")


@dataclass(frozen=True)
class Option:
    """What a field of an options class is to its users.

    Attributes:
        help: One sentence, for `--help` and for the docstring of `run_study`.
        metavar: What the value is called in `--help`; None for the name of its type.
        flag: The command-line option; None for "--" and the field's name.
        env: The environment variable; None for none.
        unset: What None stands for, in words.
        minimum, maximum: Smallest and largest number.
        hidden: Whether `--help` leaves it out.
        secret: Whether it may hold a password: never written into a command line, which `ps` shows.
        convert: Makes what Python callers may give into what the field holds.
    """

    help: str
    metavar: str | None = None
    flag: str | None = None
    env: str | None = None
    unset: str | None = None
    minimum: float | None = None
    maximum: float | None = None
    hidden: bool = False
    secret: bool = False
    convert: Callable[[Any], Any] | None = None


@dataclass(frozen=True)
class OptionField:
    """One field of an options class.

    Attributes:
        type: Its annotation, without the `Option`.
        default: `dataclasses.MISSING` where a value must be given.
    """

    name: str
    type: Any
    default: Any
    option: Option

    @property
    def flag(self) -> str:
        """The command-line option; of a switch that is on by default, the one that turns it on."""
        return self.option.flag or f"--{self.name.replace('_', '-')}"

    @property
    def opposite(self) -> str | None:
        """The command-line option that turns off a switch that is on by default; None for all others."""
        return self.flag.replace("--", "--no-", 1) if self.default is True else None

    def as_arguments(self, value: Any) -> list[str]:
        """The command line that gives the field `value`."""
        if isinstance(value, bool):
            return [self.flag] if value else [self.opposite] if self.opposite else []
        values = value if isinstance(value, tuple) else (value,)
        return [text for each in values for text in (self.flag, str(each))]


@dataclass(frozen=True, kw_only=True)
class Options:
    """The base of all options classes."""

    def __post_init__(self) -> None:
        for each in option_fields(type(self)):
            value = getattr(self, each.name)
            if each.option.convert is not None and value is not None:
                object.__setattr__(self, each.name, each.option.convert(value))

    @classmethod
    def from_keywords(cls: type[AnyOptions], keywords: Mapping[str, Any]) -> AnyOptions:
        """Options from the arguments of a Python call.

        Raises:
            UsageError: One of the names is no option.
        """
        names = [each.name for each in option_fields(cls)]
        for name in keywords:
            if name not in names:
                from search.study.validation_messages import did_you_mean  # pydantic takes a tenth of a second

                raise UsageError(f"unknown option {name!r}{did_you_mean(name, names)}; choices: {', '.join(names)}")
        return cls(**keywords)

    def shared_with(self, cls: type[AnyOptions], **changes: Any) -> AnyOptions:
        """The options that `cls` has in common with these, and `changes`."""
        mine = {each.name for each in option_fields(type(self))}
        common = {each.name: getattr(self, each.name) for each in option_fields(cls) if each.name in mine}
        return cls(**{**common, **changes})

    def as_arguments(self) -> list[str]:
        """The command line of a program that takes these options: what differs from the defaults, secrets aside."""
        arguments = []
        for each in option_fields(type(self)):
            value = getattr(self, each.name)
            # A default is passed too where the program would otherwise take another value from the environment.
            is_needed = value != each.default or (each.option.env or "") in os.environ
            if is_needed and value is not None and not each.option.secret:
                arguments += each.as_arguments(value)
        return arguments


def option_fields(cls: type[Options]) -> tuple[OptionField, ...]:
    """The fields of an options class, in the order in which `--help` lists them."""
    hints = get_type_hints(cls, include_extras=True)
    found = []
    for each in fields(cls):
        kind, option = get_args(hints[each.name])
        found.append(OptionField(each.name, kind, each.default, option))
    return tuple(found)


def python_signature(cls: type[Options], result: Any, **first: Any) -> Signature:
    """The signature of a function that takes these options.

    Args:
        result: The annotation of what it returns.
        first: Defaults of the options that may be given by position.
    """
    parameters = []
    for each in option_fields(cls):
        kind = Parameter.POSITIONAL_OR_KEYWORD if each.name in first else Parameter.KEYWORD_ONLY
        default = first.get(each.name, each.default)
        parameters.append(
            Parameter(each.name, kind, default=Parameter.empty if default is MISSING else default, annotation=each.type)
        )
    return Signature(sorted(parameters, key=lambda each: each.kind), return_annotation=result)


def as_docstring(cls: type[Options]) -> str:
    """The lines below "Args:" in the docstring of a function that takes these options."""
    lines = []
    for each in option_fields(cls):
        default = each.option.unset or (None if each.default in (MISSING, None, (), False) else each.default)
        text = f"{each.name}: {each.option.help}" + (f" Default: {default}." if default else "")
        lines.append(fill(text, 112, subsequent_indent="    "))
    return "\n".join(lines)
