"""Checkpoint files of trials: written under a temporary name and renamed, verified when read."""

from __future__ import annotations

import contextlib
import hashlib
import logging
import os
import shutil
from dataclasses import dataclass
from pathlib import Path

from search.storage.artifact_store import ArtifactStore
from search.storage.checkpoint_copies import CheckpointCopies
from search.storage.checkpoint_file import Checkpoint, pack, unpack
from search.storage.private_files import create_private, make_private_folder, open_private

log = logging.getLogger("storage")

# A file of this name and a study's uid in the folder of the study's name.
_MARK = ".study-"
# What else is in such a folder: files of trials, logs of workers, and studies that `run_study` was given as Python.
_OF_STUDIES = ("trial-*", "logs", "study-*")


@dataclass(frozen=True)
class CheckpointStore:
    """The root of the trials' folders: <root>/<study>/trial-00012/.

    Attributes:
        copies: Copies of the checkpoints elsewhere, if there are any.
    """

    root: Path
    copies: CheckpointCopies | None = None

    def trial_folder(self, study: str, number: int) -> Path:
        """The folder of a trial's files; it does not have to exist yet."""
        return self.root / study / f"trial-{number:05d}"

    def work_folder(self, study: str, number: int, identity: str) -> Path:
        """The folder for a trial's own files; it does not have to exist yet.

        Args:
            identity: As for `write_checkpoint`: another trial of the same name and number has another folder.
        """
        return self.trial_folder(study, number) / f"files-{hashlib.sha256(identity.encode()).hexdigest()[:8]}"

    def write_checkpoint(self, study: str, number: int, payload: bytes, identity: str, step: int = 0) -> None:
        """Replace the trial's checkpoint atomically: after a crash either the old or the new one exists.

        Args:
            step: The step of its last evaluation.
            identity: Distinguishes this trial from one of the same study name and number in another database.

        Raises:
            OSError: The disk is full, or the folder cannot be written; the old checkpoint is untouched.
        """
        path, checkpoint = self._checkpoint(study, number), Checkpoint(payload, step)
        if self.copies is not None:
            self.copies.put(checkpoint, identity)
        make_private_folder(path.parent)
        # The process id separates two workers if one has lost its lease without noticing.
        aside = path.with_suffix(f".{os.getpid()}.tmp")
        try:
            with open_private(aside, "wb") as file:
                file.write(pack(checkpoint, identity))
                file.flush()
                # Without this a power cut can leave the new name without the new bytes.
                os.fsync(file.fileno())
            aside.replace(path)
        except BaseException:
            aside.unlink(missing_ok=True)
            raise

    def read_checkpoint(self, study: str, number: int, identity: str, *, is_first: bool = False) -> bytes | None:
        """The trial's newest checkpoint; None if there is none. A damaged or foreign file is set aside.

        Args:
            is_first: Whether this is the first claim of the trial, so that no other machine can have a checkpoint.
        """
        own = self._read(study, number, identity)
        copy = None if self.copies is None or is_first else self.copies.get(identity)
        newest = copy if own is None or (copy is not None and copy.step > own.step) else own
        return None if newest is None else newest.payload

    def _read(self, study: str, number: int, identity: str) -> Checkpoint | None:
        path = self._checkpoint(study, number)
        try:
            content = path.read_bytes()
        except FileNotFoundError:
            return None
        except OSError as error:
            log.warning("cannot read %s (%s); the trial restarts from the beginning", path, error.strerror)
            return None
        found = unpack(content, identity)
        if found is None:
            self.set_aside(study, number, "it is damaged or belongs to another study")
        return found

    def valid_checkpoint(self, study: str, number: int, identity: str) -> bytes | None:
        """The trial's checkpoint in this folder; None without a valid one of this trial. Nothing is changed."""
        try:
            found = unpack(self._checkpoint(study, number).read_bytes(), identity)
        except OSError:
            return None
        return None if found is None else found.payload

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

    def remove_copy_soon(self, identity: str) -> None:
        """Delete the copy of a trial's checkpoint beside the training."""
        if self.copies is not None:
            self.copies.remove_soon(identity)

    def flush_copies(self) -> bool:
        """Wait a while for the copies that are being made; whether all are made."""
        return self.copies is None or self.copies.flush()

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
        if not content or unpack(content, identity) is not None:
            self.remove_checkpoint(study, number)

    def mark_folder(self, study: str, uid: str) -> None:
        """Note that a study has files in the folder of its name, which studies of other databases can share."""
        try:
            make_private_folder(self.root / study)
            create_private(self.root / study / f"{_MARK}{uid}")
        except OSError as error:  # checkpoints cannot be written there either, which is said then
            log.debug("cannot mark the folder of %s: %s", study, error)

    def folder_size(self, study: str) -> int:
        """The bytes of the files of studies in a study's folder."""
        size = 0
        for path in (path for pattern in _OF_STUDIES for path in (self.root / study).glob(f"{pattern}/**/*")):
            with contextlib.suppress(OSError):  # it was removed in this moment
                size += 0 if path.is_dir() else path.lstat().st_size
        return size

    def remove_folder(self, study: str, uid: str) -> None:
        """Delete the folder of a deleted study, except for files that are not of a study; if another study of its name
        uses the folder, delete only what is empty.

        Raises:
            OSError: It cannot be deleted.
        """
        folder = self.root / study
        mark = folder / f"{_MARK}{uid}"
        is_shared = any(other != mark for other in folder.glob(f"{_MARK}*")) or any(folder.glob("trial-*/checkpoint"))
        if mark.exists() and not is_shared:
            # The folder may have other uses: a study can be called as the folder of all artifacts is.
            for path in [each for pattern in _OF_STUDIES for each in folder.glob(pattern)]:
                if path.is_dir() and not path.is_symlink():
                    shutil.rmtree(path)
        mark.unlink(missing_ok=True)  # last: without it a repeated call would leave the rest
        for path in (*folder.glob("trial-*"), folder):
            with contextlib.suppress(OSError):  # it has files, or is not there
                path.rmdir()

    def _checkpoint(self, study: str, number: int) -> Path:
        return self.trial_folder(study, number) / "checkpoint"


def checkpoint_store(out: Path, artifacts: str | None, store: ArtifactStore | None) -> CheckpointStore:
    """The checkpoints in the folder `--out`, with copies in the artifact store if `--artifacts` names one.

    Args:
        artifacts: The value of `--artifacts`; None for the folder inside `--out`, where a copy has no use.
        store: The store that it names.
    """
    return CheckpointStore(out, None if store is None or artifacts is None else CheckpointCopies(store))
