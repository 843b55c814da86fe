"""What a study file says of its program."""

from __future__ import annotations

import re
import shlex
from collections.abc import Mapping
from pathlib import PurePath
from typing import Annotated

from pydantic import Field, field_validator, model_validator

from search.objectives.settings import TrainingSettings

# The worker's watchdog ends a process that has not stopped after 20 s.
MAX_GRACE_S = 15.0


class CommandSettings(TrainingSettings):
    """The command of a study file, and its [settings]."""

    section = "settings"

    # A text is split as a shell would; a list is taken as it is.
    command: str | list[str]
    # Give the text to /bin/sh.
    shell: bool = False
    # Added to the command when an interrupted trial goes on; with `checkpoint` only if that file is in its folder.
    resume: str | list[str] = ""
    checkpoint: str | None = None
    # The JSON-lines file with the metrics; a relative path is in the trial's folder.
    metrics: str = "metrics.jsonl"
    # A regular expression, or several, with a named group for each metric and for the step.
    pattern: str | list[str] = Field(default=[], min_length=1)
    # What the program calls its step; None for one of the usual names, "" for a program without steps.
    step: str | None = None
    # How long a stopped program has after SIGTERM before SIGKILL, in seconds.
    grace_s: Annotated[float, Field(ge=0, le=MAX_GRACE_S, strict=False)] = 10.0
    # Files of the trial's folder that are kept as artifacts: names, or patterns such as "*.png".
    keep: str | list[str] = ""
    # Further environment variables.
    env: Mapping[str, str] = Field(default_factory=dict)

    @field_validator("command", "resume")
    @classmethod
    def _check_words(cls, words: str | list[str]) -> str | list[str]:
        if isinstance(words, str):
            shlex.split(words)  # ValueError: No closing quotation
        return words

    @field_validator("pattern")
    @classmethod
    def _check_patterns(cls, given: str | list[str]) -> str | list[str]:
        for pattern in [given] if isinstance(given, str) else given:
            try:
                groups = re.compile(pattern).groupindex
            except re.error as error:
                raise ValueError(f"no regular expression: {error}") from error
            if not groups:
                raise ValueError(r"it needs a named group for each metric, such as 'loss (?P<val_loss>\S+)'")
        return given

    @field_validator("keep")
    @classmethod
    def _check_kept(cls, given: str | list[str]) -> str | list[str]:
        for name in _names(given):
            if not PurePath(name).parts or PurePath(name).is_absolute() or ".." in PurePath(name).parts:
                raise ValueError(
                    f"{name!r} is no file of the trial's folder; write its path in it, such as 'out/*.png'"
                )
        return given

    @model_validator(mode="after")
    def _check_command(self) -> CommandSettings:
        if self.shell and not isinstance(self.command, str):
            raise ValueError("shell = true takes the command as one text")
        if not self.shell and not self.words:
            raise ValueError("the command is empty")
        return self

    @property
    def words(self) -> list[str]:
        """The arguments of the command, the program first; for a shell those of the text, as far as they show."""
        return _words(self.command)

    @property
    def resume_words(self) -> list[str]:
        """The arguments of `resume`."""
        return _words(self.resume)

    @property
    def kept(self) -> list[str]:
        """The patterns of `keep`."""
        return _names(self.keep)

    @property
    def patterns(self) -> list[re.Pattern[str]]:
        """The regular expressions."""
        return [re.compile(each) for each in ([self.pattern] if isinstance(self.pattern, str) else self.pattern)]


def _names(given: str | list[str]) -> list[str]:
    """One name or several; "" is none."""
    return [given] * bool(given) if isinstance(given, str) else given


def _words(given: str | list[str]) -> list[str]:
    return shlex.split(given) if isinstance(given, str) else list(given)
