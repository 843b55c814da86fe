"""How a program failed."""

from __future__ import annotations

from pathlib import Path

from search.objectives.errors import ObjectiveError


class CommandFailed(ObjectiveError):
    """The program ended with an error.

    Attributes:
        output: Its last lines.
        log: The file with its whole output.
        exit_status: What it exited with; None if a signal ended it.
        signal: The signal that ended it.
        may_retry: Whether another attempt may succeed.
    """

    def __init__(
        self,
        message: str,
        *,
        output: str,
        log: Path,
        exit_status: int | None = None,
        signal: str | None = None,
        may_retry: bool = False,
    ) -> None:
        super().__init__(message)
        self.output, self.log = output, log
        self.exit_status, self.signal, self.may_retry = exit_status, signal, may_retry
