"""A sweep file of Weights & Biases as the content of a study file."""

from __future__ import annotations

import math
import re
import shlex
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import yaml

from search.errors import UsageError
from search.storage.texts import printable
from search.study.names import name_fault
from search.study.sweep_axes import SweepAxes, read_axes, read_number
from search.study.validation_messages import did_you_mean

SAMPLERS = {"grid": "grid", "random": "random", "bayes": "tpe"}
# The number of cells of a sampler without run_cap: a sweep goes on until it is stopped.
TRIALS = 50
KEYS = ("program", "command", "method", "parameters", "metric", "early_terminate", "run_cap", "name", "description")
# Of the service, without an effect here.
IGNORED = ("project", "entity")
DEFAULT_COMMAND = ("${env}", "${interpreter}", "${program}", "${args}")
_MACRO = re.compile(r"\$\{([^}]*)\}")


@dataclass(frozen=True)
class Sweep:
    """A converted sweep.

    Attributes:
        content: The content of a study file.
        notes: What was chosen where a sweep has no counterpart, a sentence each.
    """

    content: Mapping[str, Any]
    notes: Sequence[str]


def read_sweep(text: str, source: str) -> Sweep:
    """Convert a sweep file.

    Args:
        text: Its content, YAML.
        source: Its name, for messages.

    Raises:
        UsageError: It is no sweep file, or has something without a counterpart; the message says what to write.
    """
    try:
        raw = yaml.safe_load(text)
    except (yaml.YAMLError, ValueError, RecursionError) as error:
        raise UsageError(f"{source} is not valid YAML: {printable(error)}") from error
    if not isinstance(raw, Mapping) or "parameters" not in raw:
        raise UsageError(f"{source} is no sweep file of Weights & Biases: it has no parameters")
    try:
        return convert(raw)
    except UsageError as error:
        raise UsageError(f"{source}: {error}") from error


def convert(sweep: Mapping[str, Any]) -> Sweep:
    """The study that does what a sweep does.

    Args:
        sweep: The content of a sweep file.

    Raises:
        UsageError: As for `read_sweep`.
    """
    for key in sweep:
        if key not in (*KEYS, *IGNORED):
            meant, choices = did_you_mean(str(key), KEYS), ", ".join(KEYS)
            raise UsageError(f"{printable(key)} is not supported{meant}; remove it; choices: {choices}")
    method = sweep.get("method")
    if method not in SAMPLERS:
        raise UsageError(f"method: {printable(method)} is not supported; choices: {', '.join(SAMPLERS)}")
    notes: list[str] = []
    axes = read_axes(_mapping(sweep, "parameters"), method)
    content: dict[str, Any] = {**_named(sweep), **_trials(sweep, method, axes, notes), **axes.seeds}
    content |= _metric(sweep, notes)
    content |= {"command": _command(sweep, axes)}
    content |= {"pruner": _pruner(sweep, notes), "grid": axes.grid}
    content |= {"axes": axes.ranges} if axes.ranges else {}
    ignored = [key for key in IGNORED if key in sweep]
    notes += [f"{' and '.join(ignored)}: ignored"] if ignored else []
    return Sweep(content, notes)


def _mapping(content: Mapping[str, Any], key: str) -> Mapping[str, Any]:
    found = content.get(key)
    if not isinstance(found, Mapping):
        raise UsageError(f"{key}: {printable(found)} is no table; write keys below it")
    return found


def _named(sweep: Mapping[str, Any]) -> dict[str, Any]:
    named = {key: str(sweep[key]) for key in ("name", "description") if sweep.get(key) is not None}
    if "name" in named:
        slug = re.sub(r"[^A-Za-z0-9_.-]+", "-", named["name"]).strip("-._")
        named["name"] = named["name"] if name_fault(named["name"]) is None else slug
        if name_fault(named["name"]) is not None:
            del named["name"]
    return named


def _trials(sweep: Mapping[str, Any], method: str, axes: SweepAxes, notes: list[str]) -> dict[str, Any]:
    """The sampler, and how many cells it chooses."""
    cap = sweep.get("run_cap")
    if cap is not None and (type(cap) is not int or cap < 1):
        raise UsageError(f"run_cap: {printable(cap)} is no number of runs; write 1 or more")
    if method == "grid":
        cells = math.prod(len(values) for values in axes.grid.values()) * axes.seeds.get("seeds", 1)
        if cap is not None and cap < cells:
            raise UsageError(
                f"run_cap: {cap} is below the {cells} trials of the grid, which trains all of them; write method: "
                "random, or fewer values"
            )
        return {}
    if method != SAMPLERS[method]:
        notes.append(f"method {method} → sampler {SAMPLERS[method]}")
    if cap is None:
        notes.append(f"no run_cap → trials = {TRIALS}; another number: --set trials=N")
    seeds = axes.seeds.get("seeds", 1)
    if cap is not None and cap < seeds:
        raise UsageError(
            f"parameters.seed: each cell gets {seeds} seeds, and run_cap allows {cap} runs; write at most "
            f"{cap} seeds, or rename the parameter"
        )
    if seeds > 1:
        notes.append(f"parameters.seed → {seeds} seeds for each cell")
    return {"sampler": SAMPLERS[method], "trials": TRIALS if cap is None else cap // seeds}


def _metric(sweep: Mapping[str, Any], notes: list[str]) -> dict[str, Any]:
    if "metric" not in sweep:
        if sweep["method"] == "bayes" or "early_terminate" in sweep:
            raise UsageError("metric is missing; write metric: with name: and goal: minimize or maximize")
        return {}
    metric = _mapping(sweep, "metric")
    for key in metric:
        if key not in ("name", "goal", "target"):
            raise UsageError(f"metric.{printable(key)} is not supported; remove it; choices: name, goal, target")
    name, goal = metric.get("name"), metric.get("goal", "minimize")
    if not isinstance(name, str) or not name:
        raise UsageError(f"metric.name: {printable(name)} is no name of a metric")
    if goal not in ("minimize", "maximize"):
        raise UsageError(f"metric.goal: {printable(goal)} is not supported; choices: minimize, maximize")
    if "target" in metric:
        notes.append(f"metric.target: ignored; to stop there, give --target {printable(metric['target'])}")
    return {"metric": name, "direction": goal}


def _pruner(sweep: Mapping[str, Any], notes: list[str]) -> dict[str, Any]:
    if "early_terminate" not in sweep:
        return {"name": "none"}
    early = _mapping(sweep, "early_terminate")
    kind, eta = early.get("type"), early.get("eta", 3)
    if kind != "hyperband":
        raise UsageError(
            f"early_terminate.type: {printable(kind)} is not supported; write hyperband, or leave early_terminate out "
            "and give --pruner NAME"
        )
    first = early.get("min_iter")
    if first is None and "max_iter" in early:
        first = read_number("early_terminate.max_iter", early["max_iter"]) // eta ** int(early.get("s", 1))
    if first is None:
        raise UsageError("early_terminate.min_iter is missing; write the step at which runs are first compared")
    arguments = {"min_resource": max(1, int(first)), "reduction_factor": max(2, round(eta))}
    notes.append(
        f"early_terminate hyperband → pruner SuccessiveHalvingPruner, first at step {arguments['min_resource']}, "
        f"reduction factor {arguments['reduction_factor']}"
    )
    return {"name": "SuccessiveHalvingPruner", **arguments}


def _command(sweep: Mapping[str, Any], axes: SweepAxes) -> list[str]:
    """The program with its arguments, the values of a cell as {axis}."""
    program = sweep.get("program")
    command = sweep.get("command", DEFAULT_COMMAND)
    if isinstance(command, str):
        command = shlex.split(command)
    if program is None and any("${program}" in str(part) for part in command):
        raise UsageError("program is missing; write the script that a trial runs, such as program: train.py")
    return [found for part in command for found in _expanded(str(part), str(program), axes)]


def _expanded(part: str, program: str, axes: SweepAxes) -> list[str]:
    if part == "${env}":  # it only finds the interpreter
        return []
    if part in ("${args}", "${args_no_hyphens}"):
        hyphens = "--" if part == "${args}" else ""
        return [f"{_escaped(hyphens + name)}={{{axis}}}" for axis, name in axes.flags.items()]

    values = {"interpreter": "{python}", "program": program}
    if unknown := [name for name in _MACRO.findall(part) if name not in values]:
        raise UsageError(
            f"command: ${{{unknown[0]}}} is not supported; use ${{args}} or ${{args_no_hyphens}}, or write a study "
            "file with a command of its own"
        )
    return [_MACRO.sub(lambda found: values[found[1]], _escaped_outside(part))]


def _escaped(text: str) -> str:
    return text.replace("{", "{{").replace("}", "}}")


def _escaped_outside(part: str) -> str:
    """The text with braces doubled, but for those of macros."""
    at, parts = 0, []
    for found in _MACRO.finditer(part):
        parts += [_escaped(part[at : found.start()]), found[0]]
        at = found.end()
    return "".join([*parts, _escaped(part[at:])])
