"""One program as a training run: its metrics, its end, its log."""

from __future__ import annotations

import logging
import os
import shlex
import signal
import sys
import time
from collections.abc import Generator, Iterator, Mapping
from pathlib import Path
from typing import Any

from search.objectives.command.errors import CommandFailed
from search.objectives.command.metrics import Metrics
from search.objectives.command.output import LOG, LOG_ATTRIBUTE, MARK, kept_log, last_lines, shown
from search.objectives.command.program import Program, private, program_environment, variable
from search.objectives.command.settings import CommandSettings
from search.objectives.command.supervisor import STILL_RUNS
from search.objectives.command.template import command_line
from search.objectives.errors import ObjectiveError
from search.objectives.generator_run import GeneratorRun
from search.objectives.protocol import Attempt, Evaluation

log = logging.getLogger("search.worker")

LOCK = ".lm-search.lock"
MIN_POLL_S, MAX_POLL_S = 0.01, 0.2
# A program that a signal ended may have got it because the whole machine stops; the worker then gets it too.
STOP_WAIT_S = 2.0


class CommandRun(GeneratorRun):
    """One program; implements `search.objectives.protocol.TrainingRun` and `KeepsFiles`.

    Args:
        folder: Where the program runs.
        identity: Distinguishes this run from those of other cells and seeds.
    """

    def __init__(
        self,
        settings: CommandSettings,
        cell: Mapping[str, Any],
        seed: int,
        device: str,
        folder: Path,
        identity: str,
    ) -> None:
        name = settings.command if isinstance(settings.command, str) else shlex.join(settings.command)
        super().__init__(f"the command {shown(name)}", self._run, identity, settings.max_iters, may_differ=True)
        self._settings, self._cell, self._seed = settings, cell, seed
        self._device, self._study_folder = device, folder
        self._folder: Path | None = None

    def _run(self, attempt: Attempt) -> Generator[Any, None, Evaluation | None]:
        trial = attempt.make_trial()
        self._folder = folder = trial.folder.absolute()
        command, own = self._command(attempt, trial, folder)
        _announce(trial.attempt, command, folder / LOG)
        trial.set_user_attr(LOG_ATTRIBUTE, {"host": os.uname().nodename, "path": str(folder / LOG)})
        metrics = Metrics(self._settings, attempt.metric, folder, attempt.others)
        program = self._start(command, own, folder)
        try:
            poll_s = MIN_POLL_S
            while True:
                ended = program.has_ended()  # before reading, so that nothing is missed
                yield from metrics.read(to_the_end=ended)
                for step, late in metrics.take_late().items():
                    trial.log(late, step)
                if metrics.has_grown or attempt.must_pause():
                    poll_s = MIN_POLL_S
                    yield  # a sign of life, or a place to stop at
                if ended:
                    break
                time.sleep(poll_s)
                poll_s = min(2 * poll_s, MAX_POLL_S)
            if program.status != 0:
                yield from _wait_for_stop(attempt, program)
                raise self._failure(program, folder)
            yield
            return metrics.at_the_end(self._name, folder / LOG)
        finally:
            program.stop()

    def _command(self, attempt: Attempt, trial: Any, folder: Path) -> tuple[list[str], dict[str, str]]:
        """The command of an attempt, and the variables that describe it."""
        settings = self._settings
        device = "cuda:0" if self._device.startswith("cuda") else self._device
        facts = {
            **{"seed": self._seed, "folder": folder, "trial": trial.number, "attempt": trial.attempt},
            **{"device": device, "study": attempt.study},
        }
        own = {f"SEARCH_{name.upper()}": str(value) for name, value in facts.items()}
        own |= {variable(name): str(value) for name, value in self._cell.items()}
        resumes = trial.resumed and (settings.checkpoint is None or (folder / settings.checkpoint).exists())
        values = {"max_iters": settings.max_iters, **self._cell, **facts, "python": sys.executable}
        return command_line(settings, values, resumes=resumes), own

    def _start(self, command: list[str], own: Mapping[str, str], folder: Path) -> Program:
        environment = program_environment(os.environ, own, self._settings.env, self._device)
        try:
            return Program(
                command, self._study_folder, environment, folder / LOG, folder / LOCK, self._settings.grace_s
            )
        except OSError as error:
            raise ObjectiveError(f"cannot start {self._name} in {self._study_folder}: {error.strerror}") from error

    def _failure(self, program: Program, folder: Path) -> ObjectiveError:
        path = folder / LOG
        if program.error is not None:
            # It ends with its worker, which may be suspended.
            retry = program.error == STILL_RUNS
            return CommandFailed(
                f"cannot run {self._name}: {program.error}; check it", output="", log=path, may_retry=retry
            )
        assert program.status is not None
        lines = last_lines(path)
        last = f": {shown(lines[-1], 300)}" if lines else ", without any output"
        if program.status < 0:
            name = _signal_name(-program.status)
            # Usually there was too little memory.
            retry = name == "SIGKILL"
            return CommandFailed(f"the program was ended by {name}{last}", output="\n".join(lines), log=path,
                                 signal=name, may_retry=retry)  # fmt: skip
        return CommandFailed(
            f"the program ended with exit status {program.status}{last}",
            output="\n".join(lines), log=path, exit_status=program.status,
        )  # fmt: skip

    def files(self) -> Mapping[str, bytes]:
        """The log, shortened and compressed if it is long, and the files that the study file keeps."""
        if self._folder is None:
            return {}
        found = {}
        for name in self._settings.kept:
            paths = [path for path in sorted(self._folder.glob(name)) if path.is_file()]
            if not paths:
                log.warning("there is no %s in %s to keep", name, self._folder)
            for path in paths:
                try:
                    found[path.relative_to(self._folder).as_posix()] = path.read_bytes()
                except OSError as error:
                    log.warning("cannot keep %s: %s", path, error.strerror)
        return {**kept_log(self._folder / LOG), **found}


def _wait_for_stop(attempt: Attempt, program: Program) -> Iterator[None]:
    """Give a stop request that also reached the program the time to reach the worker."""
    deadline = time.monotonic() + STOP_WAIT_S
    asked = (-signal.SIGTERM, -signal.SIGINT, 128 + signal.SIGTERM, 128 + signal.SIGINT)
    while program.status in asked and time.monotonic() < deadline:
        if attempt.must_pause():
            yield
        time.sleep(MIN_POLL_S)


def _announce(attempt: int, command: list[str], path: Path) -> None:
    """Begin the part of the log that belongs to an attempt."""
    try:
        with open(path, "ab", opener=private) as file:
            file.write(f"{MARK}{attempt}: {shlex.join(command)}\n".encode())
    except OSError as error:
        raise ObjectiveError(f"cannot write {path} ({error.strerror}); give another --out") from error


def _signal_name(number: int) -> str:
    try:
        return signal.Signals(number).name
    except ValueError:
        return f"signal {number}"
