"""Makes runs of a study file's `command`."""

from __future__ import annotations

import json
import os
import shlex
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from search.objectives.command.command_run import CommandRun
from search.objectives.command.metric_lines import COMMON_NAMES
from search.objectives.command.metrics import check_pattern
from search.objectives.command.program import VARIABLES, variable
from search.objectives.command.settings import CommandSettings
from search.objectives.command.template import OWN_PLACEHOLDERS, command_line, placeholders, script_files
from search.objectives.corpus import Corpus
from search.objectives.errors import ObjectiveError
from search.objectives.protocol import Objective
from search.objectives.settings import TrainingSettings

SCRIPTS = (".py", ".sh")
# Programs that run another one where other files are.
ELSEWHERE = {"apptainer", "docker", "enroot", "kubectl", "podman", "singularity", "ssh"}
# As much of a script is searched for the variables that it reads.
MAX_SCRIPT = 1 << 20


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

    def check_study(self, axes: Sequence[str], metrics: Sequence[str], settings: TrainingSettings) -> None:
        """As `search.objectives.protocol.ChecksStudy`.

        Raises:
            ObjectiveError: The pattern lacks a metric, or the program gets no value of an axis.
        """
        assert isinstance(settings, CommandSettings)
        check_pattern(settings, metrics)
        used = placeholders(settings)
        if (unused := [axis for axis in axes if axis not in used]) and not self._mentions(settings, VARIABLES):
            axis = unused[0]
            raise ObjectiveError(
                f"the command never uses the axis {axis}, so its values would change nothing; write {{{axis}}} in it, "
                f"such as --{axis}={{{axis}}}; a program that reads variables: env {variable(axis)}={{{axis}}} …"
            )

    def _mentions(self, settings: CommandSettings, variables: str) -> bool:
        """Whether the command, or a script that it names, mentions variables that begin so."""
        texts = [word.encode() for word in settings.words]
        for path in script_files(settings, self.folder):
            with path.open("rb") as file:
                texts.append(file.read(MAX_SCRIPT))
        return any(variables.encode() in text for text in texts)

    def takes_seed(self, settings: TrainingSettings) -> bool:
        """Whether the command has {seed}, or reads the variable with it."""
        assert isinstance(settings, CommandSettings)
        return "seed" in placeholders(settings) or self._mentions(settings, "SEARCH_SEED")

    def metric_names(self, settings: TrainingSettings) -> Sequence[str] | None:
        """The groups of the patterns; None without a pattern."""
        assert isinstance(settings, CommandSettings)
        groups = [name for pattern in settings.patterns for name in pattern.groupindex]
        return [name for name in dict.fromkeys(groups) if name not in (*COMMON_NAMES, settings.step)] or None

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
            if Path(place).is_file() and not os.access(place, os.X_OK):
                raise ObjectiveError(
                    f"command: {words[0]!r} is not executable; chmod +x {shlex.quote(str(place))}, or put the program "
                    f"that runs it before it, such as {_interpreter(words[0])} {shlex.quote(words[0])}"
                )
            if shutil.which(place) is None:
                raise ObjectiveError(
                    f"command: the program {words[0]!r} is not on the PATH; install it, or give its path "
                    f"(relative to {self.folder})"
                )
        at = next((at for at, word in enumerate(words) if at and word.endswith(SCRIPTS) and "{" not in word), None)
        script = None if at is None or ELSEWHERE & {Path(word).name for word in words[:at]} else words[at]
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


def _interpreter(script: str) -> str:
    return "bash" if script.endswith(".sh") else "python"


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
