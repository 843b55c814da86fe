"""Checkpoint files of trials: written under a temporary name and renamed, verified when read."""

from __future__ import annotations

import contextlib
import hashlib
import logging
import os
import shutil
from dataclasses import dataclass
from pathlib import Path

from search.storage.private_files import create_private, make_private_folder, open_private

log = logging.getLogger("storage")

_MAGIC = b"lm-search checkpoint 1\n"
# A file of this name and a study's uid in the folder of the study's name.
_MARK = ".study-"
_DIGEST_SIZE = hashlib.sha256().digest_size


@dataclass(frozen=True)
class CheckpointStore:
    """The root of the trials' folders: <root>/<study>/trial-00012/."""

    root: Path

    def trial_folder(self, study: str, number: int) -> Path:
        """The folder of a trial's files; it does not have to exist yet."""
        return self.root / study / f"trial-{number:05d}"

    def work_folder(self, study: str, number: int, identity: str) -> Path:
        """The folder for a trial's own files; it does not have to exist yet.

        Args:
            identity: As for `write_checkpoint`: another trial of the same name and number has another folder.
        """
        return self.trial_folder(study, number) / f"files-{hashlib.sha256(identity.encode()).hexdigest()[:8]}"

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
        payload = _payload(content, identity)
        if payload is None:
            self.set_aside(study, number, "it is damaged or belongs to another study")
        return payload

    def valid_checkpoint(self, study: str, number: int, identity: str) -> bytes | None:
        """The trial's checkpoint; None without a valid one of this trial. Nothing is changed."""
        try:
            return _payload(self._checkpoint(study, number).read_bytes(), identity)
        except OSError:
            return None

    def has_checkpoint(self, study: str, number: int) -> bool:
        """Whether there is a checkpoint in a trial's place, of this trial or of another study's."""
        return self._checkpoint(study, number).exists()

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
        if not content or _payload(content, identity) is not None:
            self.remove_checkpoint(study, number)

    def mark_folder(self, study: str, uid: str) -> None:
        """Note that a study has files in the folder of its name, which studies of other databases can share."""
        try:
            make_private_folder(self.root / study)
            create_private(self.root / study / f"{_MARK}{uid}")
        except OSError as error:  # checkpoints cannot be written there either, which is said then
            log.debug("cannot mark the folder of %s: %s", study, error)

    def folder_size(self, study: str) -> int:
        """The bytes of all files in a study's folder."""
        size = 0
        for path in (self.root / study).rglob("*"):
            with contextlib.suppress(OSError):  # it was removed in this moment
                size += 0 if path.is_dir() else path.lstat().st_size
        return size

    def remove_folder(self, study: str, uid: str) -> None:
        """Delete the folder of a deleted study; if another study of its name uses it, only what is empty.

        Raises:
            OSError: It cannot be deleted.
        """
        folder = self.root / study
        mark = folder / f"{_MARK}{uid}"
        is_shared = any(other != mark for other in folder.glob(f"{_MARK}*")) or any(folder.glob("trial-*/checkpoint"))
        if mark.exists() and not is_shared:
            for path in folder.iterdir():
                if path.is_dir() and not path.is_symlink():
                    shutil.rmtree(path)
                elif path != mark:
                    path.unlink()
        mark.unlink(missing_ok=True)  # last: without it a repeated call would leave the rest
        for path in (*folder.glob("trial-*"), folder):
            with contextlib.suppress(OSError):  # it has files, or is not there
                path.rmdir()

    def _checkpoint(self, study: str, number: int) -> Path:
        return self.trial_folder(study, number) / "checkpoint"


def _payload(content: bytes, identity: str) -> bytes | None:
    """The payload of a checkpoint file; None if it is damaged or belongs to another trial."""
    start = len(_MAGIC) + _DIGEST_SIZE
    return content[start:] if content[:start] == _MAGIC + _digest(content[start:], identity) else None


def _digest(payload: bytes, identity: str) -> bytes:
    return hashlib.sha256(identity.encode() + b"\0" + payload).digest()
