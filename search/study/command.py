"""`command = "…"` of a study file: the registered objective "command" with the command among its settings."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from search.objectives.registry import COMMAND
from search.storage.texts import printable


def normalize_command(raw: Any) -> Any:
    """A study file's content with its command under `settings`.

    Raises:
        ValueError: It has an objective too.
    """
    if not isinstance(raw, Mapping) or raw.get("command") is None:
        return raw
    command = raw["command"]
    words = command if isinstance(command, list) else [command]
    if not all(isinstance(word, str) for word in words):
        raise ValueError(f"command = {printable(repr(command))}: write a text, or a list of texts")
    own = raw.get("settings", {})
    if raw.get("objective", COMMAND) != COMMAND:
        raise ValueError(f"command and objective = {raw['objective']!r} exclude each other; remove one of them")
    if not isinstance(own, Mapping):
        return raw
    if own.get("command", command) != command:
        raise ValueError("command is at the top of the file and in [settings]; remove one of them")
    return {**raw, "objective": COMMAND, "settings": {"command": command, **own}}
