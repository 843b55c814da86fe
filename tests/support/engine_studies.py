"""A study of a function that waits where a file tells it to, and the commands that train it on an engine."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path

from gates import wait_until

from search.launchers.child_process import child_environment

STUDY = """
objective = "walk:walk"

[grid]
{grid}

[training]
max_iters = 3

[pruner]
name = "none"

[workers]
lease_s = {lease_s}

[launcher]
{launcher}
"""
END_S = 300.0
PATIENCE_S = 150.0


class EngineStudy:
    """A study in a folder.

    Attributes:
        patience_s: For how many seconds `wait_for` waits at most.

    Args:
        folder: The folder, which exists.
        source: The module `walk`; its trials read the folder from WALK_FOLDER, and wait while hold-CELL is there.
        study: The study file, walk.toml.
        environment: More variables.
        storage: The storage URL.
        arguments: More of the command line of `search.run`.
    """

    patience_s = PATIENCE_S

    def __init__(
        self,
        folder: Path,
        source: str,
        study: str,
        environment: Mapping[str, str],
        storage: str = "sqlite:///walk.db",
        arguments: tuple[str, ...] = (),
    ) -> None:
        self.folder, self._storage, self._arguments = folder, storage, arguments
        (folder / "walk.py").write_text(source)
        (folder / "walk.toml").write_text(study)
        self._environment = child_environment({**environment, "WALK_FOLDER": str(folder)})

    def run(self, *more: str) -> subprocess.Popen[str]:
        """Start `search.run` on the study."""
        command = [sys.executable, "-P", "-m", "search.run", "--study", "walk.toml", "--storage", self._storage]
        command += ["--devices", "cpu", *self._arguments, *more]
        return subprocess.Popen(
            command, cwd=self.folder, env=self._environment, stderr=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )

    def finish(self, *more: str) -> tuple[int, str]:
        """Run it to its end; its exit code and what it said."""
        process = self.run(*more)
        _, said = process.communicate(timeout=END_S)
        return process.returncode, said

    def hold(self, *cells: str) -> None:
        """Let trials wait at step 2."""
        for cell in cells:
            (self.folder / f"hold-{cell}").touch()

    def release(self) -> None:
        """Let all trials go on."""
        for hold in self.folder.glob("hold-*"):
            hold.unlink()

    def reached(self, cell: str) -> list[str]:
        """What the trial that waits has said of its place; empty if it does not wait."""
        try:
            return (self.folder / f"reached-{cell}").read_text().split()
        except FileNotFoundError:
            return []

    def wait_for(self, *cells: str, run: subprocess.Popen[str] | None = None) -> None:
        """Wait until trials are at the hold; with a run, fail with what it said if it ends before that."""

        def all_wait() -> bool:
            if run is not None:
                assert run.poll() is None, run.communicate()[1]
            return all(self.reached(cell) for cell in cells)

        wait_until(all_wait, f"the trials {cells} at the hold", self.patience_s)

    def again(self, *cells: str) -> None:
        """Forget that trials have reached the hold, to see when they do so again."""
        for cell in cells:
            (self.folder / f"reached-{cell}").unlink(missing_ok=True)
