"""Makes runs of a study file's `command`."""

from __future__ import annotations

import json
import shutil
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from search.objectives.command.command_run import CommandRun
from search.objectives.command.settings import CommandSettings
from search.objectives.command.template import OWN_PLACEHOLDERS, command_line, script_files
from search.objectives.corpus import Corpus
from search.objectives.errors import ObjectiveError
from search.objectives.protocol import Objective
from search.objectives.settings import TrainingSettings

SCRIPTS = (".py", ".sh")


@dataclass(frozen=True)
class CommandObjective(Objective):
    """Runs a program for each trial; registered as "command".

    Attributes:
        folder: Where the program runs: that of the study file.
    """

    folder: Path = field(default_factory=Path.cwd)

    @property
    def settings_class(self) -> type[TrainingSettings]:
        """The command and what belongs to it."""
        return CommandSettings

    def check_cell(self, cell: Mapping[str, Any], settings: TrainingSettings, corpus: Corpus | None) -> None:
        """Check the command with the values of a cell.

        Raises:
            ObjectiveError: A placeholder is unknown, or the program or the script is not there.
        """
        assert isinstance(settings, CommandSettings)
        if taken := set(OWN_PLACEHOLDERS[:-1]) & cell.keys():
            name = min(taken)
            raise ObjectiveError(
                f"command: {{{name}}} is not an axis, but says the trial's own; rename the axis {name}"
            )
        values: dict[str, object] = dict.fromkeys(OWN_PLACEHOLDERS, 0)
        values.update(dict.fromkeys(("folder", "device", "study", "python"), ""))
        values |= {"max_iters": settings.max_iters, **cell}
        command = command_line(settings, values, resumes=True)
        if not settings.shell:
            self._check_files(settings.words, command)

    def _check_files(self, words: list[str], command: list[str]) -> None:
        if "{" not in words[0]:
            place = self.folder / words[0] if "/" in words[0] else words[0]
            if shutil.which(place) is None:
                raise ObjectiveError(
                    f"command: the program {words[0]!r} is not on the PATH; install it, or give its path "
                    f"(relative to {self.folder})"
                )
        script = next((word for word in words[1:] if word.endswith(SCRIPTS) and "{" not in word), None)
        if script is not None and not script.startswith("-") and not (self.folder / script).is_file():
            raise ObjectiveError(
                f"command: there is no file {script!r} in {self.folder}; put it beside the study file, or give its path"
            )

    def start(
        self, cell: Mapping[str, Any], seed: int, settings: TrainingSettings, corpus: Corpus | None, device: str
    ) -> CommandRun:
        """Make a run; the program starts with its first `advance`."""
        assert isinstance(settings, CommandSettings)
        identity = json.dumps({"cell": dict(cell), "seed": seed}, sort_keys=True)
        return CommandRun(settings, cell, seed, device, self.folder, identity)


def sources(settings: Mapping[str, Any], folder: Path) -> list[Path]:
    """The files that the results of a stored command depend on, as far as it names them.

    Args:
        settings: The [settings] of the study.
        folder: Where the command runs.
    """
    try:
        return script_files(CommandSettings.model_validate(settings), folder)
    except ValueError:  # of another version
        return []
