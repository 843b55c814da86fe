"""The [workers] section of a study file."""

from __future__ import annotations

from pydantic import BaseModel, Field

from search.study.claims import STRICT


class WorkerSettings(BaseModel):
    """How workers lease, retry and checkpoint trials."""

    model_config = STRICT

    # A worker that does not renew its lease for this long loses the trial.
    lease_s: float = Field(default=60.0, gt=0)
    # After this many failed attempts, crashes of workers included, a trial fails for good.
    max_attempts: int = Field(default=3, ge=1)
    # Wait before the second attempt of a trial that ran out of memory or disk; it doubles with each further attempt.
    retry_delay_s: float = Field(default=5.0, ge=0)
    # An evaluation writes a checkpoint if the last one is at least this old.
    checkpoint_s: float = Field(default=10.0, ge=0)
    # A trial that trains for longer is ended: it fails if it made progress, and otherwise has used an attempt. 0 sets
    # no limit.
    trial_timeout_s: float = Field(default=0.0, ge=0)
    # A trial without a step, a bare yield or an evaluation in this time is ended, which is an attempt. Two hours are
    # longer than an epoch of nearly any search, and three deadlocks in a row still leave most of a night.
    stall_timeout_s: float = Field(default=7200.0, ge=0)
    # Only this many trials of a study keep their files: the best. None keeps the files of all.
    keep_artifacts: int | None = Field(default=None, ge=1)
