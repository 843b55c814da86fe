"""Writes the files of a finished trial to the artifact store: record, curve, sample and weights."""

from __future__ import annotations

import csv
import io
import json
import logging
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from search.objectives.command.output import COMPRESSED_LOG, LOG
from search.objectives.protocol import TRAIN_LOSS, Evaluation, KeepsFiles, Recorded
from search.storage.artifact_store import ArtifactStore, artifact_id, put
from search.storage.leases import Lease
from search.storage.slots import cell_and_seed
from search.storage.texts import error_text
from search.study.metrics import DEFAULT_NAME
from search.study.trial_facts import TABLE_FACTS

log = logging.getLogger("search.worker")

LOGS = (LOG, COMPRESSED_LOG)
MAX_EARLIER = 20  # how many earlier claims of a trial are searched for files


@dataclass(frozen=True)
class StoredArtifacts:
    """The stored files of one trial.

    Attributes:
        names: The names of the files.
        attrs: System attributes that make the files artifacts of the trial.
    """

    store: ArtifactStore | None = None
    identity: str = ""
    token: int = 0
    names: tuple[str, ...] = ()
    attrs: dict[str, str] = field(default_factory=dict)

    @property
    def text(self) -> str | None:
        """The names and ids of the files that are stored; None without any."""
        found = [json.loads(meta) for meta in self.attrs.values()]
        return ", ".join(f"{each['filename']} ({each['artifact_id']})" for each in found) or None

    def remove_earlier(self) -> None:
        """Remove the files of earlier workers that stored them and crashed before they finished the trial."""
        for token in range(max(1, self.token - MAX_EARLIER), self.token):
            self._remove(token)

    def discard(self) -> None:
        """Remove these files: the lease was lost, and another worker stores its own."""
        self._remove(self.token)

    def _remove(self, token: int) -> None:
        for name in self.names:
            assert self.store is not None, "names without a store"
            try:
                self.store.remove(artifact_id(self.identity, token, name))
            except Exception as error:  # usually it does not exist, and nothing depends on it
                log.debug("cannot remove an artifact: %s", error)


@dataclass(frozen=True)
class ArtifactWriter:
    """Stores the files of the trials of one study.

    Attributes:
        store: Where to store them; None stores nothing.
        study: Facts of the study's definition for the record: objective, training, corpus, uid.
        environment: The result of `search.workers.provenance.environment`.
        metric: The name of the study's metric.
    """

    store: ArtifactStore | None
    study: Mapping[str, Any]
    environment: Mapping[str, Any]
    metric: str = DEFAULT_NAME

    def store_files(
        self,
        lease: Lease,
        identity: str,
        run: Recorded,
        facts: Mapping[str, Any],
        outcome: str,
        reason: str | None,
        kept: Mapping[str, Path] | None = None,
    ) -> StoredArtifacts:
        """Store the files of a trial that is about to end; an error is logged and costs only the file.

        Args:
            lease: The lease of the trial.
            identity: Distinguishes the trial from all others.
            run: The training run of the trial.
            facts: The user attributes of the trial.
            outcome: How the trial ends.
            reason: Why, unless it is complete.
            kept: Further files, by name.
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
            for name, path in (kept or {}).items():
                content = path.read_bytes()
                files[name] = content
                attrs |= put(self.store, artifact_id(identity, lease.token, name), name, content)
        except Exception as error:
            log.warning(
                "trial %d of %s: cannot store %s: %s; the losses are stored",
                *(lease.number, lease.study, name, _why(error)),
            )
        # Another attempt's log may have had the other name.
        names = dict.fromkeys((*files, *(LOGS if files.keys() & set(LOGS) else ())))
        return StoredArtifacts(self.store, identity, lease.token, tuple(names), attrs)

    def store_log(self, lease: Lease, identity: str, files: Mapping[str, bytes]) -> StoredArtifacts:
        """Store the log of a trial that is about to fail; an error is logged and costs only the file.

        Args:
            lease: The lease of the trial.
            identity: Distinguishes the trial from all others.
            files: The log, by file name.
        """
        if self.store is None or not files:
            return StoredArtifacts()
        attrs: dict[str, str] = {}
        try:
            for name, content in files.items():
                attrs |= put(self.store, artifact_id(identity, lease.token, name), name, content)
        except Exception as error:
            log.warning("trial %d of %s: cannot store its log: %s", lease.number, lease.study, _why(error))
        return StoredArtifacts(self.store, identity, lease.token, tuple({*files, *LOGS}), attrs)

    def remove_stale_parts(self) -> None:
        """Remove partly written files of workers that were killed."""
        if self.store is not None:
            self.store.remove_stale_parts()

    def _files(
        self, lease: Lease, run: Recorded, facts: Mapping[str, Any], outcome: str, reason: str | None
    ) -> dict[str, bytes]:
        """File contents by name; the record comes first, since it is worth most when the disk is nearly full."""
        cell, seed = cell_and_seed(lease.cell)
        last = run.curve[-1] if run.curve else None
        record = {
            **{"study": lease.study, "trial": lease.number, "outcome": outcome, "reason": reason},
            **{"cell": cell, "seed": seed},
            **{key: facts[key] for key in (*TABLE_FACTS, "train_loss") if key in facts},
            self.metric: last.value if last is not None and not last.diverged else None,
            "step": None if last is None else last.step,
            **self.study,
            "environment": self.environment,
        }
        files = {
            "record.json": json.dumps(record, indent=1).encode(),
            "curve.csv": _curve(run.curve, self.metric).encode(),
        }
        if facts.get("sample"):
            files["sample.txt"] = str(facts["sample"]).encode()
        return {**files, **run.files()} if isinstance(run, KeepsFiles) else files


def _why(error: Exception) -> str:
    return os.strerror(error.errno) if isinstance(error, OSError) and error.errno else error_text(error)


def _curve(evaluations: Sequence[Evaluation], metric: str) -> str:
    """A line for each evaluation, with all metrics; every number as Python writes it, so that none loses a digit."""
    others = dict.fromkeys(name for each in evaluations for name in each.metrics if name != TRAIN_LOSS)
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(["step", TRAIN_LOSS, metric, *others])
    for each in evaluations:
        writer.writerow([each.step, each.train_loss, each.value, *(each.metrics.get(name) for name in others)])
    return text.getvalue()
