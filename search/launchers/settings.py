"""The settings of launchers: `[launcher]` of a study file, or `--set launcher.KEY=VALUE`."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, TypeVar

from pydantic import BaseModel, ConfigDict, ValidationError

from search.errors import UsageError
from search.launchers.protocol import Places
from search.study.validation_messages import did_you_mean


class LauncherSettings(BaseModel):
    """Settings besides devices and workers; each launcher has a subclass."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)


Settings = TypeVar("Settings", bound=LauncherSettings)
# More workers than this are asked for with --workers.
MOST_WORKERS = 100


def read_launcher_settings(kind: type[Settings], engine: str, values: Mapping[str, Any], hint: str = "") -> Settings:
    """Validate `[launcher]` for an engine.

    Args:
        kind: The description of a field without a default says what to give.
        engine: Its name in messages: "SLURM".
        hint: The end of the message for an unknown name.

    Raises:
        UsageError: A name or a value is wrong, or a value is missing.
    """
    try:
        return kind.model_validate(dict(values))
    except ValidationError as error:
        faults = error.errors()
        # A misspelt name explains more than the missing one that it causes.
        fault = next((each for each in faults if each["type"] == "extra_forbidden"), faults[0])
        name = ".".join(map(str, fault["loc"][:1]))
        if fault["type"] == "extra_forbidden":
            known = list(kind.model_fields)
            raise UsageError(
                f"launcher.{name}: {engine} has no such setting{did_you_mean(name, known)}; settings: "
                f"{', '.join(known)}{hint}"
            ) from error
        if fault["type"] == "missing":
            raise UsageError(f"launcher.{name} is missing: {kind.model_fields[name].description}") from error
        message = fault["msg"].removeprefix("Value error, ")
        raise UsageError(f"launcher.{name} = {fault['input']!r}: {message}") from error


def device_of(places: Places, engine: str, picks: str) -> str:
    """What torch calls the device of a worker that an engine binds to its card.

    Args:
        engine: Its name in messages: "SLURM".
        picks: What picks the cards there: "gres picks the cards".

    Returns:
        "cpu" or "cuda:0"; "" for the card that the engine gives, or the CPU.

    Raises:
        UsageError: `--devices` names cards.
    """
    choices = {"auto": "", "cpu": "cpu", "cuda": "cuda:0"}
    if places.devices not in choices:
        raise UsageError(f"--devices {places.devices}: with {engine} choose auto, cpu or cuda; {picks}")
    return choices[places.devices]


def most_workers(places: Places) -> int:
    """The largest number of workers at the same time.

    Raises:
        UsageError: `--workers` is no number.
    """
    if places.workers == "auto":
        return MOST_WORKERS
    if not (places.workers.isdecimal() and int(places.workers) > 0):
        raise UsageError(f"--workers {places.workers}: give a number from 1 up, or auto")
    return int(places.workers)
