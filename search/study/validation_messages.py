"""An error in a study file as one line: key, value, choices."""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Mapping, Sequence

from pydantic import BaseModel, ValidationError

from search.storage.texts import printable

# For these pydantic's messages use Python's terms.
_MESSAGES = {
    "too_short": "give it at least one entry",
    "list_type": "write a list, such as [64, 128]",
    "dict_type": "write a table of KEY = VALUE lines",
    "model_type": "write a table of KEY = VALUE lines",
    "bool_type": "write a finite number, a text, true or false",
    "string_pattern_mismatch": "write MODULE:FUNCTION",
}
# Fields of a study file's model that a file has inside its axes.
OF_AXES = ("when", "named")


def _shown(value: object) -> str:
    try:
        return printable(repr(value))
    except Exception:  # a value of a Python caller
        return f"<{type(value).__name__}>"


def did_you_mean(word: str, choices: Iterable[str]) -> str:
    """A suggestion for a misspelt word, in brackets; empty if no choice is similar."""
    close = difflib.get_close_matches(word, list(choices), n=1)
    return f" (did you mean {close[0]!r}?)" if close else ""


def explain(error: ValidationError, file_model: type[BaseModel], sections: Mapping[str, type[BaseModel]]) -> str:
    """The first error of a study file as one line.

    Args:
        file_model: The model of the file.
        sections: The models of its tables, by key.
    """
    faults = error.errors(include_url=False)
    # A misspelt key explains more than the missing key that it causes.
    first = next((fault for fault in faults if fault["type"] == "extra_forbidden"), faults[0])
    location = first["loc"]
    if first["type"] in ("union_tag_invalid", "union_tag_not_found"):
        kinds = sorted({name.split(".")[1] for name in sections if name.startswith("analyses.")})
        kind = first["input"].get("kind")
        problem = "is missing" if kind is None else f"= {_shown(kind)} is unknown{did_you_mean(str(kind), kinds)}"
        return f"{_key(location)}.kind {problem}; choices: {', '.join(kinds)}"
    if first["type"] == "extra_forbidden":
        above = location[:-1]
        fields = (sections[_section_name(above)] if above else file_model).model_fields
        choices = [name for name in fields if above or name not in OF_AXES]
        key = _key(location)
        return f"unknown key {key!r}{did_you_mean(str(location[-1]), choices)}; choices: {', '.join(choices)}"
    if first["type"] == "value_error":  # our own message is complete, except for the key
        about = f"name = {_shown(first['input'])}: " if location == ("name",) else ""
        about = f"{'.'.join(map(str, location))}: " if location[:1] == ("axes",) else about
        return about + first["msg"].removeprefix("Value error, ")
    # A value with several allowed types fails once per type, bool first; the last part of the path is the type.
    is_union = first["type"] == "bool_type" and location[-1] == "bool"
    key = _key(location[:-1] if is_union else location)
    if first["type"] == "bool_type" and not is_union:
        return f"{key} = {_shown(first['input'])}: write true or false"
    if first["type"] == "missing":
        return f"{key} is missing"
    if first["type"] == "list_type" and key in ("baselines", "published", "claims", "analyses"):
        return f"{key} = {_shown(first['input'])}: write [[{key}]] above the keys of each"
    return f"{key} = {_shown(first['input'])}: {_MESSAGES.get(first['type'], first['msg'].replace('Input', 'it'))}"


def _key(location: Sequence[int | str]) -> str:
    """A place of a study file as its keys; pydantic's has the kind of an analysis, too."""
    has_kind = location[0] == "analyses" and len(location) > 2
    return ".".join(map(str, (*location[:2], *location[3:]) if has_kind else location))


def _section_name(location: Sequence[int | str]) -> str:
    """The key in `sections` of a table of a study file."""
    if location[0] == "analyses":
        return ".".join(each for each in location if isinstance(each, str))
    return str(location[0])
