"""What a study that confirms another one is evaluated on."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass


@dataclass(frozen=True)
class Confirmation:
    """What the trials of a confirmation are evaluated on.

    Attributes:
        text: The held-out text, in words; None if it is the text that the cells were selected on, or if there is none.
        sha256: Hex digest of the held-out text.
    """

    text: str | None = None
    sha256: str | None = None


def parse_confirmation(stored: Mapping[str, str] | None) -> Confirmation | None:
    """A confirmation from a study's definition; None for any other study."""
    return None if stored is None else Confirmation(**stored)
