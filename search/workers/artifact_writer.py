"""What a trial leaves in the artifact store: its record, curve, sample and weights."""

from __future__ import annotations

import json
import logging
import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from search.objectives.protocol import KeepsFiles, TrainingRun
from search.storage.artifact_store import ArtifactStore, artifact_id, put
from search.storage.leases import Lease
from search.storage.slots import cell_and_seed

log = logging.getLogger("search.worker")

MAX_EARLIER = 20  # so many earlier claims of a trial are looked through for files


@dataclass(frozen=True)
class StoredArtifacts:
    """What was kept of one trial.

    Attributes:
        names: Of the files.
        attrs: System attributes that make the files artifacts of the trial.
    """

    store: ArtifactStore | None = None
    identity: str = ""
    token: int = 0
    names: tuple[str, ...] = ()
    attrs: dict[str, str] = field(default_factory=dict)

    def settle(self) -> None:
        """The trial has ended with these files: remove those of workers that died between their files and its end."""
        for token in range(max(1, self.token - MAX_EARLIER), self.token):
            self._remove(token)

    def discard(self) -> None:
        """The trial went on elsewhere."""
        self._remove(self.token)

    def _remove(self, token: int) -> None:
        for name in self.names:
            assert self.store is not None, "no store, no names"
            try:
                self.store.remove(artifact_id(self.identity, token, name))
            except Exception as error:  # it is not there, as a rule; and nothing hangs on it
                log.debug("cannot remove an artifact: %s", error)


@dataclass(frozen=True)
class ArtifactWriter:
    """Keeps the files of the trials of one study.

    Attributes:
        store: Where; None keeps the record only.
        study: What the study's definition says: objective, training, corpus, uid.
        environment: As `environment` makes it.
    """

    store: ArtifactStore | None
    study: Mapping[str, Any]
    environment: Mapping[str, Any]

    def keep(
        self, lease: Lease, identity: str, run: TrainingRun, facts: Mapping[str, Any], outcome: str, reason: str | None
    ) -> StoredArtifacts:
        """Store the files of a trial that is about to end; whatever fails is told and costs no more than the file.

        Args:
            identity: Tells the trial from all others.
            facts: Its user attributes.
        """
        if self.store is None:
            return StoredArtifacts()
        attrs: dict[str, str] = {}
        files: dict[str, bytes] = {}
        name = "its files"
        try:
            files = self._files(lease, run, facts, outcome, reason)
            for name, content in files.items():
                attrs |= put(self.store, artifact_id(identity, lease.token, name), name, content)
        except Exception as error:
            why = os.strerror(error.errno) if isinstance(error, OSError) and error.errno else f"{error}"
            log.warning("trial %d of %s: %s not kept: %s; its losses are", lease.number, lease.study, name, why)
        return StoredArtifacts(self.store, identity, lease.token, tuple(files), attrs)

    def tidy(self) -> None:
        """Remove what workers left in the store that were killed in the middle of a file."""
        if self.store is not None:
            self.store.remove_stale_parts()

    def _files(
        self, lease: Lease, run: TrainingRun, facts: Mapping[str, Any], outcome: str, reason: str | None
    ) -> dict[str, bytes]:
        """By name; the record first: of a disk that is nearly full it is the best use."""
        cell, seed = cell_and_seed(lease.cell)
        record = {
            **{"study": lease.study, "trial": lease.number, "outcome": outcome, "reason": reason},
            **{"cell": cell, "seed": seed},
            **{key: facts[key] for key in ("n_params", "tokens", "train_seconds", "train_loss") if key in facts},
            "val_loss": run.curve[-1].val_loss if not run.curve[-1].diverged else None,
            "step": run.curve[-1].step,
            **self.study,
            "environment": self.environment,
        }
        curve = "".join(f"{point.step},{point.train_loss!r},{point.val_loss!r}\n" for point in run.curve)
        files = {
            "record.json": json.dumps(record, indent=1).encode(),
            "curve.csv": f"step,train_loss,val_loss\n{curve}".encode(),
        }
        if facts.get("sample"):
            files["sample.txt"] = str(facts["sample"]).encode()
        return {**files, **run.files()} if isinstance(run, KeepsFiles) else files
