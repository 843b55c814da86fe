"""Text that every database stores, from any object: what an error says, or what an objective describes, is anything."""

from __future__ import annotations

import json
import operator
from typing import Any

# Enough for a message with its cause; a longer one loses its middle.
MAX_TEXT = 2_000
# One text of an attribute, such as a text that a model wrote.
MAX_ATTRIBUTE_TEXT = 200_000


def storable_text(value: object, most: int | None = MAX_TEXT) -> str:
    """Any object as text that SQLite and PostgreSQL store and UTF-8 encodes.

    NUL characters and lone surrogates become escapes such as `\\x00`.

    Args:
        value: A text, or an object whose `str` is its text; that may raise an exception.
        most: The number of characters, beyond which the middle is cut; None for no limit.
    """
    try:
        text = str(value)
    except Exception as error:  # a user's class
        text = f"<{type(value).__name__}, whose text cannot be made: {type(error).__name__}>"
    text = text.replace("\0", "\\x00").encode("utf-8", "backslashreplace").decode("utf-8")
    return text if most is None else shortened(text, most)


def error_text(error: BaseException, most: int = 500) -> str:
    """An error in one line: its class, and the first line of its message."""
    lines = storable_text(error).splitlines()
    return shortened(f"{type(error).__name__}: {lines[0] if lines else ''}".removesuffix(": "), most)


def shortened(text: str, most: int) -> str:
    """A text of at most `most` characters; a longer one loses its middle, because its ends say most."""
    if len(text) <= most:
        return text
    tail = most // 3
    return f"{text[: most - tail - 1]}…{text[len(text) - tail :]}"


def printable(text: object, most: int = 200) -> str:
    """Text in one line, at most `most` characters; line breaks and control characters become escapes such as `\\n`."""
    plain = storable_text(text, None)
    if not plain.isprintable():
        plain = "".join(each if each.isprintable() else each.encode("unicode_escape").decode() for each in plain)
    return shortened(plain, most)


def storable_json(value: Any) -> str:
    """Any object as JSON that every database stores.

    Texts are as `storable_text`; numbers of other libraries become Python's, and what JSON cannot express becomes text.
    """
    return json.dumps(_plain(value))


def _plain(value: Any, depth: int = 0) -> Any:
    if value is None or isinstance(value, bool):
        return value
    if isinstance(value, str):
        return storable_text(value, MAX_ATTRIBUTE_TEXT)
    # Each depth of nesting is a call, and a list can hold itself.
    if depth < 50:
        if isinstance(value, dict):
            return {storable_text(key): _plain(each, depth + 1) for key, each in value.items()}
        if isinstance(value, (list, tuple)):
            return [_plain(each, depth + 1) for each in value]
    for number in (operator.index, float):
        try:
            return number(value)
        except Exception:  # a user's class
            continue
    return storable_text(value)
