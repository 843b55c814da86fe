"""What a trial leaves behind beside its losses: a record of what it ran on, and its files in the artifact store."""

from __future__ import annotations

import hashlib
import inspect
import json
import logging
import os
import platform
import sys
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cache
from importlib import import_module
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from objectives.contract import TrainingRun
from search.own_code import own_modules
from search.planner import without_seed
from storage.artifact_store import ArtifactStore, artifact_id, put
from storage.leases import Lease
from storage.slots import parameters_of

log = logging.getLogger("search.worker")

RECORD = "record"  # the user attribute of a trial
PACKAGES = ("torch", "numpy", "optuna", "lm-search")
MAX_EARLIER = 20  # so many earlier claims of a trial are looked through for files
RESULT_ROOMS = ("objectives", "models")  # whose sources decide about losses


def environment(device: str, definition: Mapping[str, Any]) -> dict[str, Any]:
    """Everything beside the study's definition that a trial's losses depend on, by name; JSON-able and flat.

    Args:
        device: As torch names it.
        definition: The study's, as the database has it.
    """
    facts: dict[str, Any] = {name: _version(name) for name in PACKAGES}
    facts |= {
        "code": code_digest(tuple(own_modules(definition))),
        "python": platform.python_version(),
        "system": platform.system(),
    }
    facts |= {"machine": platform.machine(), "processor": processor_name(), "device": device.partition(":")[0]}
    torch = sys.modules.get("torch")  # only where the objective needs it
    if torch is not None:
        facts["threads"] = torch.get_num_threads()
        if device.startswith("cuda"):
            facts["gpu"] = torch.cuda.get_device_name(device)
    return facts


@cache
def code_digest(modules: tuple[str, ...]) -> str:
    """First 16 hex digits of the SHA-256 of the sources that decide about losses: ours, and a study's own modules."""
    digest = hashlib.sha256()
    paths = [path for room in RESULT_ROOMS for path in sorted(_folder(room).glob("*.py"))]
    for module in modules:
        source = inspect.getsourcefile(import_module(module))
        paths += [Path(source)] if source else []
    for path in paths:
        digest.update(path.name.encode() + b"\0" + path.read_bytes() + b"\0")
    return digest.hexdigest()[:16]


def _folder(room: str) -> Path:
    return Path(inspect.getfile(import_module(room))).parent


def _version(package: str) -> str | None:
    try:
        return version(package)
    except PackageNotFoundError:
        return None  # lm-search itself, when it runs from its sources


@cache
def processor_name() -> str:
    """The processor's model name, as the operating system tells it."""
    try:
        for line in Path("/proc/cpuinfo").read_text(encoding="utf-8", errors="replace").splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    except OSError:
        pass
    return platform.processor() or platform.machine()


@dataclass(frozen=True)
class Kept:
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
class Keeper:
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
    ) -> Kept:
        """Store the files of a trial that is about to end; whatever fails is told and costs no more than the file.

        Args:
            identity: Tells the trial from all others.
            facts: Its user attributes.
        """
        if self.store is None:
            return Kept()
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
        return Kept(self.store, identity, lease.token, tuple(files), attrs)

    def tidy(self) -> None:
        """Remove what workers left in the store that were killed in the middle of a file."""
        if self.store is not None:
            self.store.remove_stale_parts()

    def _files(
        self, lease: Lease, run: TrainingRun, facts: Mapping[str, Any], outcome: str, reason: str | None
    ) -> dict[str, bytes]:
        """By name; the record first: of a disk that is nearly full it is the best use."""
        cell = parameters_of(lease.cell)
        record = {
            **{"study": lease.study, "trial": lease.number, "outcome": outcome, "reason": reason},
            **{"cell": without_seed(cell), "seed": cell["seed"]},
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
        more = getattr(run, "files", None)  # an objective need not have any
        return files if more is None else {**files, **more()}
