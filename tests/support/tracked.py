"""Evaluations for trackers."""

from __future__ import annotations

from search.storage.leases import Lease, Report
from search.storage.queue import TrialQueue


def evaluate(queue: TrialQueue, lease: Lease, step: int, loss: float) -> None:
    """Report losses of a leased trial, as its worker does; the training loss is smaller by 0.1."""
    assert not queue.report([Report(lease, step, loss - 0.1, loss)])
