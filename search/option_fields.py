"""Options as fields of a class, and what is derived from them: arguments, signatures and docstrings."""

from __future__ import annotations

import os
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import MISSING, dataclass, fields
from inspect import Parameter, Signature
from textwrap import fill
from typing import Any, TypeVar, get_args, get_origin, get_type_hints

from search.errors import UsageError

AnyOptions = TypeVar("AnyOptions", bound="Options")


@dataclass(frozen=True)
class Option:
    """Describes a field of an options class to users.

    Attributes:
        help: One sentence, for `--help` and for the docstring of `run_study`.
        metavar: The name of the value in `--help`; None for the name of its type.
        flag: The command-line option; None for "--" and the field's name.
        env: The environment variable, if there is one.
        unset: The meaning of None, in words.
        minimum, maximum: The smallest and largest number.
        hidden: Whether `--help` omits the option.
        secret: Whether the value may contain a password; it is then never part of a command line, which `ps` shows.
        is_argument: Whether the value stands on the command line without a flag.
        convert: Converts a value of a Python caller to the type of the field.
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
    is_argument: bool = False
    convert: Callable[[Any], Any] | None = None


@dataclass(frozen=True)
class OptionField:
    """One field of an options class.

    Attributes:
        name: The name of the field.
        type: The annotation without the `Option`.
        default: The default; `dataclasses.MISSING` if a value is required.
        option: The description for users.
    """

    name: str
    type: Any
    default: Any
    option: Option

    @property
    def flag(self) -> str:
        """The command-line option; for a switch that is on by default, the option that turns it on."""
        return self.option.flag or f"--{self.name.replace('_', '-')}"

    @property
    def is_switch(self) -> bool:
        """Whether it stands on the command line without a value."""
        return bool in (self.type, *get_args(self.type))

    @property
    def opposite(self) -> str | None:
        """The option that turns off a switch that is on by default; None for other options."""
        return self.flag.replace("--", "--no-", 1) if self.default is True else None

    def as_arguments(self, value: Any) -> list[str]:
        """Return the command-line arguments that set the field to `value`."""
        if isinstance(value, bool):
            return [self.flag] if value else [self.opposite] if self.opposite else []
        values = value if isinstance(value, tuple) else (value,)
        return [text for each in values for text in (self.flag, str(each))]

    def from_text(self, text: str, before: Any = None) -> Any:
        """The value of an argument; of a repeatable option all values, with those `before`.

        Raises:
            ValueError: It is no number, or too small or too large.
        """
        if get_origin(self.type) is tuple:
            return (*(before or ()), text)
        kinds = (self.type, *get_args(self.type))
        if int not in kinds and float not in kinds:
            return text
        number = int(text) if int in kinds else float(text)
        low, high = self.option.minimum, self.option.maximum
        if (low is not None and not number >= low) or (high is not None and not number <= high):
            raise ValueError(f"{text} is out of range")
        return number


# Of the classes that were asked for: reading annotations takes a millisecond.
_FIELDS: dict[type[Options], tuple[OptionField, ...]] = {}


@dataclass(frozen=True, kw_only=True, eq=False, repr=False)
class Options:
    """The base class of all options classes.

    Give each `@dataclass(frozen=True, kw_only=True, eq=False, repr=False)`: making these methods for every class took
    longer than the rest of an options module.
    """

    def __eq__(self, other: object) -> bool:
        return type(self) is type(other) and vars(self) == vars(other)

    def __hash__(self) -> int:
        return hash((type(self), *vars(self).values()))

    def __repr__(self) -> str:
        # A URL can have a password.
        shown = [each.name for each in option_fields(type(self)) if not each.option.secret]
        return f"{type(self).__name__}({', '.join(f'{name}={getattr(self, name)!r}' for name in shown)})"

    def __post_init__(self) -> None:
        for each in option_fields(type(self)):
            value = getattr(self, each.name)
            if each.option.convert is not None and value is not None:
                object.__setattr__(self, each.name, each.option.convert(value))

    @classmethod
    def from_keywords(cls: type[AnyOptions], keywords: Mapping[str, Any]) -> AnyOptions:
        """Make options from keyword arguments.

        Raises:
            UsageError: A keyword is not the name of an option.
        """
        names = [each.name for each in option_fields(cls)]
        for name in keywords:
            if name not in names:
                from search.study.validation_messages import did_you_mean  # pydantic takes a tenth of a second

                raise UsageError(f"unknown option {name!r}{did_you_mean(name, names)}; choices: {', '.join(names)}")
        return cls(**keywords)

    def shared_with(self, cls: type[AnyOptions], **changes: Any) -> AnyOptions:
        """Make options of `cls` with the values of the shared fields, and `changes`."""
        names = {each.name for each in option_fields(type(self))}
        common = {each.name: getattr(self, each.name) for each in option_fields(cls) if each.name in names}
        return cls(**{**common, **changes})

    @classmethod
    def from_arguments(cls: type[AnyOptions], arguments: Sequence[str]) -> AnyOptions | None:
        """Read what `as_arguments` has written, and secrets from the environment; None for any other command line."""
        found = option_fields(cls)
        flags = {each.flag: (each, True) for each in found}
        flags |= {each.opposite: (each, False) for each in found if each.opposite}
        secrets = [each for each in found if each.option.secret and os.environ.get(each.option.env or "")]
        values: dict[str, Any] = {each.name: os.environ[each.option.env or ""] for each in secrets}
        rest = iter(arguments)
        try:
            for flag in rest:
                each, is_on = flags[flag]
                values[each.name] = is_on if each.is_switch else each.from_text(next(rest), values.get(each.name))
            return cls(**values)
        except (KeyError, StopIteration, ValueError, TypeError):
            return None

    def as_arguments(self, without: Collection[str] = ()) -> list[str]:
        """Return the command-line arguments for these options: all that differ from the defaults, without secrets.

        Args:
            without: The names of fields to leave out.
        """
        arguments = []
        for each in option_fields(type(self)):
            if each.name in without:
                continue
            value = getattr(self, each.name)
            # Pass a default too if the program would otherwise read another value from the environment.
            is_needed = value != each.default or (each.option.env or "") in os.environ
            if is_needed and value is not None and not each.option.secret:
                arguments += each.as_arguments(value)
        return arguments


def option_fields(cls: type[Options]) -> tuple[OptionField, ...]:
    """Return the fields of an options class in the order of `--help`."""
    if cls not in _FIELDS:
        hints = get_type_hints(cls, include_extras=True)
        found = [(each, *get_args(hints[each.name])) for each in fields(cls)]
        _FIELDS[cls] = tuple(OptionField(each.name, kind, each.default, option) for each, kind, option in found)
    return _FIELDS[cls]


def python_signature(cls: type[Options], result: Any, **first: Any) -> Signature:
    """Return the signature of a function that takes these options.

    Args:
        cls: The options class.
        result: The return annotation.
        first: The options that may be positional arguments, with their defaults.
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
    """Return the lines below "Args:" in the docstring of a function that takes these options."""
    lines = []
    for each in option_fields(cls):
        default = each.option.unset or (None if each.default in (MISSING, None, (), False) else each.default)
        text = f"{each.name}: {each.option.help}" + (f" Default: {default}." if default else "")
        lines.append(fill(text, 112, subsequent_indent="    "))
    return "\n".join(lines)
