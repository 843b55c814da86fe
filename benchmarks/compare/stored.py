"""Measurements that are made once and stored with their date and the load of the machine."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from benchmarks.compare.tables import machine


class StoredMeasurements:
    """Measurements in a folder.

    Args:
        work: The folder; it is made.
        makers: How each measurement is made, by its name.
    """

    def __init__(self, work: Path, makers: Mapping[str, Callable[[], Any]]) -> None:
        self._work, self._makers = work, makers
        work.mkdir(parents=True, exist_ok=True)

    def measure(self, name: str) -> Any:
        """Return the figures of a measurement; measure if they are not stored yet."""
        if self.kept(name) is None:
            print(f"measuring: {name}", file=sys.stderr, flush=True)
            before = {"taken": f"{datetime.now(UTC):%Y-%m-%d %H:%M}", "load": os.getloadavg()[0], "machine": machine()}
            text = json.dumps({**before, "figures": self._makers[name]()})
            part = self._work / f"{name}.part"
            part.write_text(text, encoding="utf-8")
            part.rename(self._work / f"{name}.json")
        return self.kept(name)

    def kept(self, name: str) -> Any:
        """The stored figures of a measurement; None if it is missing or was impossible."""
        file = self._work / f"{name}.json"
        return json.loads(file.read_text(encoding="utf-8"))["figures"] if file.exists() else None

    def circumstances(self) -> dict[str, dict[str, Any]]:
        """The time, load and machine of each stored measurement, in the order of their makers."""
        names = [name for name in self._makers if self.kept(name) is not None]
        return {name: json.loads((self._work / f"{name}.json").read_text(encoding="utf-8")) for name in names}
