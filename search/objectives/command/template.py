"""Placeholders in a command: {learning_rate}, {seed}, {folder}."""

from __future__ import annotations

import difflib
import shlex
from collections.abc import Mapping, Sequence
from pathlib import Path
from string import Formatter

from search.objectives.command.settings import CommandSettings
from search.objectives.errors import ObjectiveError

# What is known besides the values of the cell.
OWN_PLACEHOLDERS = ("seed", "folder", "trial", "attempt", "device", "study", "python", "max_iters")


def fill(text: str, values: Mapping[str, object]) -> str | None:
    """A text with values in place of {name}; {{ and }} are brackets, and {rate:.3f} gives Python's format.

    Returns:
        None if it has {name?} and there is no such value, as for an axis that some cells lack.

    Raises:
        ObjectiveError: A name is unknown, or a bracket is not closed.
    """
    try:
        parts = list(Formatter().parse(text))
    except ValueError as error:
        raise ObjectiveError(f"command: {error} in {text!r}; write a bracket itself as {{{{ or }}}}") from error
    filled = []
    for literal, name, form, conversion in parts:
        filled.append(literal)
        if name is None:
            continue
        optional, name = name.endswith("?"), name.removesuffix("?")
        if optional and name not in values:
            return None
        if name not in values or conversion is not None:
            close = difflib.get_close_matches(name, list(values), n=1)
            meant = f" (did you mean {{{close[0]}}}?)" if close else ""
            choices = ", ".join(f"{{{each}}}" for each in values)
            raise ObjectiveError(
                f"command: unknown placeholder {{{name}}}{meant}; choices: {choices}; write a bracket itself as {{{{"
            )
        try:
            filled.append(format(values[name], form or ""))
        except (ValueError, TypeError) as error:
            raise ObjectiveError(f"command: {{{name}:{form}}} with {values[name]!r}: {error}") from error
    return "".join(filled)


def placeholders(settings: CommandSettings) -> set[str]:
    """The names in the brackets of a command."""
    words = [settings.command] if isinstance(settings.command, str) else settings.command
    return {name.removesuffix("?") for word in words for _, name, _, _ in Formatter().parse(word) if name}


def command_line(settings: CommandSettings, values: Mapping[str, object], *, resumes: bool) -> list[str]:
    """The arguments that start a program.

    Args:
        values: By the name of the placeholder.
        resumes: Whether `settings.resume` is added.

    Raises:
        ObjectiveError: As for `fill`.
    """
    resume = _filled(settings.resume_words, values) if resumes else []
    if settings.shell:
        assert isinstance(settings.command, str), "CommandSettings checks this"
        quoted = {name: _Quoted(value) for name, value in values.items()}
        text = fill(settings.command, quoted)
        if text is None:
            raise ObjectiveError("command: {name?} leaves out an argument, but with shell = true there is only a text")
        return ["/bin/sh", "-c", " ".join([text, *map(shlex.quote, resume)])]
    return [*_filled(settings.words, values), *resume]


def _filled(words: Sequence[str], values: Mapping[str, object]) -> list[str]:
    return [filled for word in words if (filled := fill(word, values)) is not None]


class _Quoted:
    """A value whose text is one word for a shell."""

    def __init__(self, value: object) -> None:
        self._value = value

    def __format__(self, form: str) -> str:
        return shlex.quote(format(self._value, form))


def script_files(settings: CommandSettings, folder: Path) -> list[Path]:
    """The files that a command names without a placeholder, such as train.py.

    Args:
        folder: The folder in which the command runs.
    """
    words = [*settings.words, *settings.resume_words]
    named = [folder / word for word in words if "{" not in word and not word.startswith("-")]
    return list(dict.fromkeys(path for path in named if path.is_file() and folder in path.parents))
