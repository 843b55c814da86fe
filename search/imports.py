"""Imports at the start of a program, without looking for garbage in the meantime."""

from __future__ import annotations

import gc
from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def importing() -> Iterator[None]:
    """Put off garbage collection while modules are imported, and exempt them from it afterwards.

    Modules make many objects that stay. Looking through them again and again took an eighth of the time to import
    torch, and of the time until a run can plan.
    """
    was_enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        gc.freeze()
        if was_enabled:
            gc.enable()
