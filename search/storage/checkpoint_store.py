"""Checkpoint files of trials: written under a temporary name and renamed, verified when read."""

from __future__ import annotations

import hashlib
import logging
import os
from dataclasses import dataclass
from pathlib import Path

from search.storage.private_files import make_private_folder, open_private

log = logging.getLogger("storage")

_MAGIC = b"lm-search checkpoint 1\n"
_DIGEST_SIZE = hashlib.sha256().digest_size


@dataclass(frozen=True)
class CheckpointStore:
    """The root of the trials' folders: <root>/<study>/trial-00012/."""

    root: Path

    def trial_folder(self, study: str, number: int) -> Path:
        """The folder of a trial's files; it does not have to exist yet."""
        return self.root / study / f"trial-{number:05d}"

    def write_checkpoint(self, study: str, number: int, payload: bytes, identity: str) -> None:
        """Replace the trial's checkpoint atomically: after a crash either the old or the new one exists.

        Args:
            identity: Distinguishes this trial from one of the same study name and number in another database.

        Raises:
            OSError: The disk is full, or the folder cannot be written; the old checkpoint is untouched.
        """
        path = self._checkpoint(study, number)
        make_private_folder(path.parent)
        # The process id separates two workers if one has lost its lease without noticing.
        aside = path.with_suffix(f".{os.getpid()}.tmp")
        try:
            with open_private(aside, "wb") as file:
                file.write(_MAGIC + _digest(payload, identity))
                file.write(payload)
                file.flush()
                # Without this a power cut can leave the new name without the new bytes.
                os.fsync(file.fileno())
            aside.replace(path)
        except BaseException:
            aside.unlink(missing_ok=True)
            raise

    def read_checkpoint(self, study: str, number: int, identity: str) -> bytes | None:
        """The trial's checkpoint; None if there is none, or only a damaged or foreign one, which is set aside."""
        path = self._checkpoint(study, number)
        try:
            content = path.read_bytes()
        except FileNotFoundError:
            return None
        except OSError as error:
            log.warning("cannot read %s (%s); the trial restarts from the beginning", path, error.strerror)
            return None
        start = len(_MAGIC) + _DIGEST_SIZE
        payload = content[start:]
        if content[:start] != _MAGIC + _digest(payload, identity):
            self.set_aside(study, number, "it is damaged or belongs to another study")
            return None
        return payload

    def set_aside(self, study: str, number: int, why: str) -> None:
        """Rename an unusable checkpoint: no worker reads it again, and a user can still inspect it."""
        path = self._checkpoint(study, number)
        rejected = path.with_suffix(".rejected")
        message = "checkpoint %s is not used: %s; it is kept as %s, and the trial restarts from the beginning"
        log.warning(message, path, why, rejected.name)
        try:
            path.replace(rejected)
        except OSError as error:
            log.warning("cannot rename %s (%s)", path, error.strerror)

    def remove_checkpoint(self, study: str, number: int) -> None:
        """Delete the checkpoint of an ended trial."""
        path = self._checkpoint(study, number)
        try:
            path.unlink(missing_ok=True)
            for partial in path.parent.glob("*.tmp"):  # left by a killed worker
                partial.unlink(missing_ok=True)
        except OSError as error:
            log.warning("cannot remove %s (%s)", path, error.strerror)

    def with_leftovers(self, study: str) -> list[int]:
        """Numbers of the trials that have a checkpoint or a partial one."""
        found = [*(self.root / study).glob("trial-*/checkpoint"), *(self.root / study).glob("trial-*/*.tmp")]
        return sorted({int(path.parent.name.removeprefix("trial-")) for path in found})

    def remove_leftovers(self, study: str, number: int, identity: str) -> None:
        """Delete the checkpoint of an ended trial whose worker crashed before deleting it; keep a foreign one."""
        try:
            content = self._checkpoint(study, number).read_bytes()
        except OSError:
            content = b""
        start = len(_MAGIC) + _DIGEST_SIZE
        if not content or content[:start] == _MAGIC + _digest(content[start:], identity):
            self.remove_checkpoint(study, number)

    def _checkpoint(self, study: str, number: int) -> Path:
        return self.trial_folder(study, number) / "checkpoint"


def _digest(payload: bytes, identity: str) -> bytes:
    return hashlib.sha256(identity.encode() + b"\0" + payload).digest()
