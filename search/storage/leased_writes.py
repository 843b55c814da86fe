"""What user code writes to its own trial while it runs: each write is refused once the lease is lost."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from sqlalchemy import Connection

from search.storage import optuna_tables
from search.storage.errors import LeaseLost
from search.storage.leases import Lease, Report, held_values
from search.storage.metrics import add_metrics, delete_metrics
from search.storage.optuna_tables import Parameter
from search.storage.queue import TrialQueue

# What Optuna stores on a trial that an earlier attempt must not leave to the next one.
_OF_ATTEMPT = ("constraints", "completed_rung_")


@dataclass(frozen=True)
class LeasedWrites:
    """Writes to the trial of a lease, each in one transaction.

    Every method raises LeaseLost if the lease is no longer valid, and StorageUnavailable without a database; nothing
    was written then.
    """

    queue: TrialQueue
    lease: Lease

    def begin(self) -> None:
        """Remove what an earlier attempt left, except for its parameters and reports."""
        if self.lease.token > 1:
            self._write(lambda c: optuna_tables.delete_system_attrs(c, self.lease.trial_id, _OF_ATTEMPT))

    def parameter(self, name: str, parameter: Parameter) -> None:
        """Store a parameter that has no value yet."""
        self._write(lambda c: optuna_tables.add_parameter(c, self.lease.trial_id, name, parameter))

    def system_attrs(self, attrs: Mapping[str, Any]) -> None:
        """Store system attributes."""
        self._write(lambda c: optuna_tables.write_system_attrs(c, self.lease.trial_id, attrs))

    def user_attrs(self, attrs: Mapping[str, Any]) -> None:
        """Store user attributes."""
        self._write(lambda c: optuna_tables.write_user_attrs(c, self.lease.trial_id, attrs))

    def metrics(self, step: int, metrics: Mapping[str, float]) -> None:
        """Add metrics to those of a step."""
        self._write(lambda c: add_metrics(c, self.lease.trial_id, step, metrics))

    def report(self, report: Report, *, replaces_later: bool) -> None:
        """Store an evaluation and renew the lease.

        Args:
            replaces_later: Whether reports of this step and later ones, of an earlier attempt, are removed.
        """
        if not replaces_later:
            if self.queue.report([report]):
                raise self._lost()
            return

        self.remove_reports(report.step)
        self.report(report, replaces_later=False)

    def remove_reports(self, step: int) -> None:
        """Remove the reports of a step and of later ones."""

        def work(connection: Connection) -> None:
            optuna_tables.delete_intermediate_values(connection, self.lease.trial_id, step)
            delete_metrics(connection, self.lease.trial_id, step)

        self._write(work)

    def _write(self, work: Callable[[Connection], None]) -> None:
        def write(connection: Connection) -> bool:
            # A write is a sign of life, as a report is; and the row that it locks keeps another worker from the trial.
            if connection.execute(self.queue.renewal, held_values(self.lease)).rowcount == 0:
                return False
            work(connection)
            return True

        if not self.queue.database.write(write):
            raise self._lost()

    def _lost(self) -> LeaseLost:
        return LeaseLost(f"trial {self.lease.number} of {self.lease.study}")
