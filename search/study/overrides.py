"""`--set`, and the argument `settings` of `run_study`: values that replace those of a study file."""

from __future__ import annotations

import copy
import re
import tomllib
from collections.abc import Mapping, Sequence
from typing import Any

from pydantic import BaseModel

from search.errors import UsageError
from search.storage.texts import printable
from search.study.pruner_settings import OWN
from search.study.validation_messages import did_you_mean

# "KEY=VALUE,…" as on the command line, or a key and a Python value.
Setting = str | tuple[str, Any]

_NUMBER = re.compile(r"[+-]?(\d+|(\d+\.\d*|\.\d+|\d+(?=[eE]))([eE][+-]?\d+)?)")
# What stands before the name of a launcher's setting.
LAUNCHER = "launcher."


def setting_name(setting: Setting) -> str:
    """How a setting is written, for messages."""
    if isinstance(setting, str):
        return f"--set {printable(setting)}"
    return f"settings[{printable(setting[0])!r}] = {printable(_representation(setting[1]))}"


def with_setting(
    content: Mapping[str, Any], setting: Setting, sections: Mapping[str, type[BaseModel]]
) -> dict[str, Any]:
    """The content of a study file with one setting applied.

    Args:
        content: The content of the file.
        sections: The models of the sections whose keys can be set, by name.

    Raises:
        UsageError: The key is unknown, or the value cannot be read.
    """
    raw: dict[str, Any] = copy.deepcopy(dict(content))
    named = setting_name(setting)
    key, text = _key_and_text(setting)
    if key.startswith(LAUNCHER) and key != LAUNCHER:
        raw.setdefault("launcher", {})[key.removeprefix(LAUNCHER)] = _launcher_value(setting, text, named)
        return raw
    grid, axes = raw.setdefault("grid", {}), raw.get("axes", {})
    # The top of the file has keys of these names too.
    section_of = {
        name: section for section, model in sections.items() for name in model.model_fields if name not in OWN
    }
    # Only the file has the names of another pruner's arguments.
    pruner = raw.get("pruner", {})
    section_of |= {name: "pruner" for name in (pruner if isinstance(pruner, Mapping) else ()) if name not in OWN}
    table_of = {**section_of, **dict.fromkeys(axes, "axes"), **dict.fromkeys(grid, "grid")}
    place, _, name = key.rpartition(".")
    if key not in table_of and table_of.get(name) == place:
        key = name  # it was written as messages name it, such as workers.lease_s
    for table in (grid, axes):
        if key in table:
            table[key] = _with_values(table[key], setting, text, named)
            return raw
    settable = ["first_seed", "seeds", "trials", *section_of]
    if key not in settable:
        choices = [*grid, *axes, *settable]
        raise UsageError(
            f"{named}: unknown key {key!r}{did_you_mean(key, choices) or did_you_mean(name, choices)}; "
            f"axes: {', '.join([*grid, *axes])}; settings: {', '.join(settable)}"
        )
    values = _values(setting, text, "any", named)
    if isinstance(values, list) and len(values) > 1 and section_of.get(key) == "training":
        grid[key] = values  # a training setting with several values is a further axis
        return raw
    if isinstance(values, list) and isinstance(setting, str) and len(values) != 1:
        raise UsageError(f"{named}: {key} is not an axis and takes one value")
    value = values[0] if isinstance(values, list) and (isinstance(setting, str) or len(values) == 1) else values
    (raw.setdefault(section_of[key], {}) if key in section_of else raw)[key] = value
    return raw


def with_enqueued(content: Mapping[str, Any], cells: Sequence[str | Mapping[str, Any]]) -> dict[str, Any]:
    """The content of a study file with further cells to train first.

    Args:
        cells: "AXIS=VALUE,AXIS=VALUE" as on the command line, or values by axis.

    Raises:
        UsageError: A cell cannot be read.
    """
    before = content.get("enqueue", [])
    further = [_enqueued_cell(content, cell) for cell in cells]
    return {**content, "enqueue": [*before, *further]} if isinstance(before, list) else dict(content)


def _enqueued_cell(content: Mapping[str, Any], cell: str | Mapping[str, Any]) -> dict[str, Any]:
    named = f"--enqueue {printable(cell)}"
    if not isinstance(cell, str):
        if not isinstance(cell, Mapping):
            raise UsageError(f"{named}: write a dictionary with a value for each axis, or a text such as 'lr=0.1,n=2'")
        return {str(axis): python_value(value, named) for axis, value in cell.items()}
    found: dict[str, Any] = {}
    for part in _parts(cell):
        axis, _, text = (each.strip() for each in part.partition("="))
        if not axis or not text or axis in found:
            raise UsageError(f"{named}: write AXIS=VALUE,AXIS=VALUE, each axis once, such as --enqueue lr=0.1,layers=2")
        found[axis] = _text_value(text, _kind_of_axis(content, axis), named)
    return found


def _kind_of_axis(content: Mapping[str, Any], axis: str) -> str:
    """As `_kind`; of values by name "any"."""
    table = {**content.get("grid", {}), **content.get("axes", {})}.get(axis)
    values = table.get("values", table) if isinstance(table, Mapping) else table
    by_name = isinstance(table, Mapping) and ("named" in table or isinstance(table.get("values"), Mapping))
    return "any" if table is None or by_name else _kind(values)


def _with_values(axis: Any, setting: Setting, text: str, named: str) -> Any:
    """An axis with other values; its condition and the names of its values stay."""
    table: Mapping[str, Any] = axis if isinstance(axis, Mapping) else {"values": axis}
    when = {"when": table["when"]} if "when" in table else {}
    before = table.get("values", axis)  # of a range: the range
    by_name = before if "values" in table and isinstance(before, Mapping) else table.get("named", {})
    values = _values(setting, text, "any" if by_name else _kind(before), named)
    if isinstance(values, dict):
        return {**values, **when}
    if before is by_name:
        if unknown := [value for value in values if not isinstance(value, str) or value not in by_name]:
            choices = ", ".join(by_name)
            raise UsageError(f"{named}: {printable(unknown[0])} is not the name of a value; choices: {choices}")
        return {"values": {name: by_name[name] for name in values}, **when}
    used = {name: by_name[name] for name in values if isinstance(name, str) and name in by_name}
    kept = {**({"named": used} if used else {}), **when}
    return {"values": values, **kept} if kept else values


def _key_and_text(setting: Setting) -> tuple[str, str]:
    if not isinstance(setting, str):
        key = setting[0]
        if not isinstance(key, str):
            raise UsageError(f"{setting_name(setting)}: a key is a text, such as 'n_embd'")
        return key, ""
    key, _, text = setting.partition("=")
    if not key.strip() or not text.strip():
        raise UsageError(f"{setting_name(setting)}: write KEY=VALUE or KEY=VALUE,VALUE, such as --set n_embd=64,128")
    return key.strip(), text.strip()


def _kind(axis: Any) -> str:
    """What the values of an axis are: "text", "number", or "any"."""
    if isinstance(axis, Mapping):
        return "number"
    kinds = {type(value) for value in (axis if isinstance(axis, list) else [axis])}
    return "text" if kinds == {str} else "number" if kinds and kinds <= {int, float} else "any"


def _values(setting: Setting, text: str, kind: str, named: str) -> Any:
    """The values of a setting: a list, or a mapping for a range."""
    if not isinstance(setting, str):
        value = python_value(setting[1], named)
        return value if isinstance(value, (list, dict)) else [value]
    parts = _parts(text)
    if not all(parts):
        raise UsageError(f"{named}: write KEY=VALUE or KEY=VALUE,VALUE, such as --set n_embd=64,128")
    values = [_text_value(part, kind, named) for part in parts]
    return values[0] if len(values) == 1 and isinstance(values[0], (list, dict)) else values


def _launcher_value(setting: Setting, text: str, named: str) -> Any:
    """The value of a launcher's setting; unlike that of an axis, a value alone is not a list of it."""
    if not isinstance(setting, str):
        return python_value(setting[1], named)
    values = _values(setting, text, "any", named)
    is_alone = len(_parts(text)) == 1 and not text.startswith("[")
    return values[0] if is_alone and isinstance(values, list) else values


def _parts(text: str) -> list[str]:
    """The parts between commas that are in no quotes and no brackets."""
    parts, depth, quote = [""], 0, ""
    for letter in text:
        if quote:
            quote = "" if letter == quote else quote
        elif letter in "\"'" and parts[-1].strip(" [{,")[-1:] in ("", "="):
            quote = letter
        elif letter in "[{":
            depth += 1
        elif letter in "]}":
            depth -= 1
        elif letter == "," and depth <= 0:
            parts.append("")
            continue
        parts[-1] += letter
    return [part.strip() for part in parts]


def _text_value(part: str, kind: str, named: str) -> Any:
    """A value as TOML reads it; a text needs no quotes, and in an axis of texts 1.10 is a text."""
    is_quoted = part[0] in "\"'[{"
    if is_quoted or kind != "text":
        try:
            read = tomllib.loads(f"value = {part}")
        except (ValueError, RecursionError) as error:
            if is_quoted:
                raise UsageError(f"{named}: {printable(part)} is not a value of TOML ({error})") from error
        else:
            value = read["value"]
            if len(read) == 1 and (is_quoted or type(value) in (bool, int, float)):
                return value
    if kind == "text":
        return part
    if part.lower() in ("true", "false"):
        return part.lower() == "true"
    if _NUMBER.fullmatch(part) and len(part) < 1_000:
        return int(part) if part.lstrip("+-").isdigit() else float(part)
    # "range(1", "1O" and "6 4" are typing errors rather than texts; quotes make them texts.
    if set(part) & set("()[]{}\"'") or (kind == "number" and re.match(r"[+-]?\.?\d", part)):
        raise UsageError(f"{named}: {printable(part)} is neither a number nor a plain text; put a text in quotes")
    return part


def python_value(value: Any, named: str) -> Any:
    """A Python value unchanged, as the types that a study file has.

    Args:
        named: How the value is written, for messages.

    Raises:
        UsageError: A study file cannot have it.
    """
    if value is None or isinstance(value, bool):
        return value
    # Subclasses, such as NumPy's float64 or an enumeration, have the same value.
    for kind in (int, float):
        if isinstance(value, kind):
            return kind(value)
    if isinstance(value, str):
        return str.__str__(value)
    if isinstance(value, range) and len(value) > 1_000_000:
        raise UsageError(f"{named}: it has {len(value)} values; at most 1000000 are allowed")
    if isinstance(value, (list, tuple, range)):
        return [python_value(each, named) for each in value]
    if isinstance(value, Mapping):
        return {str(key): python_value(each, named) for key, each in value.items()}
    raise UsageError(
        f"{named}: a value of type {type(value).__name__} cannot be stored; give None, bool, int, float, str, a list "
        "or tuple of them, a range, or a dictionary such as {'low': 0.1, 'high': 1.0}"
    )


def _representation(value: Any) -> str:
    try:
        return repr(value)
    except Exception:  # a user's class
        return f"<{type(value).__name__}>"
