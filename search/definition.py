"""Study definitions: the TOML file that says what a study varies, how it trains and how it prunes."""

from __future__ import annotations

import tomllib
from collections.abc import Mapping, Sequence
from importlib import resources
from pathlib import Path
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field, StrictBool, StrictFloat, StrictInt, StrictStr, ValidationError

from objectives.settings import TrainingSettings
from search.errors import UsageError

Scalar = StrictBool | StrictInt | StrictFloat | StrictStr
Cell = dict[str, Scalar]

PRUNERS = ("none", "median", "sha", "hyperband")


class PrunerSettings(BaseModel):
    """When a weak trial is stopped."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    name: Literal["none", "median", "sha", "hyperband"] = "median"
    # No trial is pruned before this step.
    warmup_steps: int = Field(default=2000, ge=0)
    # Nor before so many trials are complete.
    min_trials: int = Field(default=4, ge=1)


class WorkerSettings(BaseModel):
    """How workers hold on to trials."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    # A worker that is silent for so long loses its trial.
    lease_s: float = Field(default=60.0, gt=0)
    # So many workers may die of a trial before it is failed for good.
    max_attempts: int = Field(default=3, ge=1)
    # A checkpoint is written at an evaluation when the last one is at least so old.
    checkpoint_s: float = Field(default=0.0, ge=0)


class Published(BaseModel):
    """A loss that somebody published for a cell, to compare with."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    cell: Cell
    val_loss: float
    train_loss: float | None = None


class StudyDefinition(BaseModel):
    """What a study file holds."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    name: str = Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9_.-]*$", max_length=200)
    description: str = ""
    # What a trial measures: "module:function", see objectives/contract.py.
    objective: str = Field(default="objectives.language_model:start", pattern=r"^[\w.]+:\w+$")
    # The axes; the last one varies fastest, and cells run in that order.
    grid: dict[str, list[Scalar]] = Field(min_length=1)
    # Cells outside the grid; they live in the sibling study "<name>-baselines".
    baselines: list[Cell] = []
    # Every cell is trained with `seeds` seeds: first_seed, first_seed + 1, …
    seeds: int = Field(default=1, ge=1)
    first_seed: int = Field(default=1337, ge=0, le=2**31 - 1)
    training: TrainingSettings = TrainingSettings()
    pruner: PrunerSettings = PrunerSettings()
    workers: WorkerSettings = WorkerSettings()
    published: list[Published] = []


def builtin_studies() -> list[str]:
    """The names of the studies that come with lm-search."""
    files = resources.files("search.studies").iterdir()
    return sorted(file.name.removesuffix(".toml") for file in files if file.name.endswith(".toml"))


def load_definition(study: str, settings: Sequence[str] = ()) -> StudyDefinition:
    """Read a built-in study or a study file, with `--set` settings applied.

    Args:
        study: The name of a built-in study, or the path of a TOML file, whose stem names the study.
        settings: "key=value" or "key=value,value" texts; an axis, a training, pruner or worker setting.

    Raises:
        UsageError: No such study; or the file, key and value at fault, with the choices.
    """
    source, text = _read(study)
    try:
        raw = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise UsageError(f"{source} is not valid TOML: {error}") from error
    raw.setdefault("name", Path(source).stem)
    for setting in settings:
        _apply(raw, setting)
    try:
        definition = StudyDefinition.model_validate(raw)
    except ValidationError as error:
        raise UsageError(f"{source}: {_explain(error)}") from error
    _check_axes(source, definition)
    return definition


def _read(study: str) -> tuple[str, str]:
    if study in builtin_studies():
        return f"{study}.toml", (resources.files("search.studies") / f"{study}.toml").read_text(encoding="utf-8")
    path = Path(study)
    if not study.endswith(".toml"):
        known = ", ".join(builtin_studies())
        raise UsageError(f"unknown study {study!r}; built-in studies: {known}; or give the path of a .toml file")
    try:
        return study, path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        why = error.strerror if isinstance(error, OSError) else "it is not UTF-8 text"
        raise UsageError(f"cannot read the study file {study}: {why}") from error


def _apply(raw: dict[str, Any], setting: str) -> None:
    key, equals, text = setting.partition("=")
    key = key.strip()
    if not equals or not key or not text.strip():
        raise UsageError(f"--set {setting}: write KEY=VALUE or KEY=VALUE,VALUE, such as --set n_embd=64,128")
    values = [_parse(part.strip()) for part in text.split(",")]
    sections: dict[str, type[BaseModel]] = {
        "training": TrainingSettings,
        "pruner": PrunerSettings,
        "workers": WorkerSettings,
    }
    grid = raw.get("grid", {})
    if key in grid:
        grid[key] = values
        return
    for section, model in sections.items():
        if key in model.model_fields and key != "name":
            if len(values) > 1:
                raise UsageError(f"--set {setting}: {key} is no axis of the grid and takes one value")
            raw.setdefault(section, {})[key] = values[0]
            return
    settable = [name for model in sections.values() for name in model.model_fields if name != "name"]
    raise UsageError(f"--set {setting}: unknown key {key!r}; axes: {', '.join(grid)}; settings: {', '.join(settable)}")


def _parse(text: str) -> Scalar:
    for kind in (int, float):
        try:
            return kind(text)
        except ValueError:
            continue
    return {"true": True, "false": False}.get(text.lower(), text)


def _explain(error: ValidationError) -> str:
    """The first fault of a study file as one line: key, value, choices."""
    first = error.errors(include_url=False)[0]
    # A value that may have several types fails once per type; the path's last part then names the type.
    key = ".".join(str(part) for part in first["loc"] if part not in ("bool", "int", "float", "str"))
    if first["type"] == "extra_forbidden":
        owner = _section(first["loc"][:-1])
        return f"unknown key {key!r}; choices: {', '.join(owner.model_fields)}"
    value = "" if first["type"] == "missing" else f" = {first['input']!r}"
    message = first["msg"][0].lower() + first["msg"][1:]
    return f"{key}{value}: {message}"


def _section(location: tuple[int | str, ...]) -> type[BaseModel]:
    models: dict[str, type[BaseModel]] = {
        "training": TrainingSettings,
        "pruner": PrunerSettings,
        "workers": WorkerSettings,
        "published": Published,
    }
    return models[str(location[0])] if location else StudyDefinition


def _check_axes(source: str, definition: StudyDefinition) -> None:
    for axis, values in definition.grid.items():
        if not values:
            raise UsageError(f"{source}: the axis grid.{axis} is empty; give it at least one value")
        if len({(type(value), value) for value in values}) < len(values):
            raise UsageError(f"{source}: the axis grid.{axis} = {values} has a value twice")
        if axis == "seed":
            raise UsageError(f"{source}: seed is no axis; write seeds = N, first_seed = N")


def sections(definition: StudyDefinition) -> Mapping[str, Any]:
    """The part of a definition that may change between two starts: how workers prune and hold their trials."""
    return {"pruner": definition.pruner.model_dump(), "workers": definition.workers.model_dump()}
