"""Copies of checkpoints in the artifact store, so that a trial goes on on a machine that shares no folder."""

from __future__ import annotations

import contextlib
import io
import logging
import threading
import time
from collections.abc import Collection

from search.storage.artifact_store import ArtifactStore, artifact_id
from search.storage.checkpoint_file import Checkpoint, pack, unpack
from search.storage.texts import error_text

log = logging.getLogger("storage")

# How long a trial that resumes waits for a store that does not answer.
READ_S = 60.0
# How long a trial that is put back into the queue waits for its last copy.
FLUSH_S = 15.0
FIRST_PAUSE_S, LONGEST_PAUSE_S = 0.5, 10.0
# Of `artifact_id`; leases count from 1. All claims of a trial share one copy.
_NO_TOKEN = 0


class CheckpointCopies:
    """Stores copies beside the training: a thread stores the newest one of each trial, again and again until it can.

    Args:
        store: Where the copies are.
    """

    def __init__(self, store: ArtifactStore) -> None:
        self._store = store
        self._changed = threading.Condition()
        # By id: what is to be stored, or None to remove what is there.
        self._waiting: dict[str, bytes | None] = {}
        self._busy_with: str | None = None
        self._thread: threading.Thread | None = None

    def put(self, checkpoint: Checkpoint, identity: str) -> None:
        """Store a copy soon; one that still waits is replaced.

        Args:
            identity: Distinguishes the trial from all others.
        """
        self._hand_over(_copy_id(identity), pack(checkpoint, identity))

    def remove_soon(self, identity: str) -> None:
        """Remove the copy of a trial soon."""
        self._hand_over(_copy_id(identity), None)

    def remove(self, identity: str) -> None:
        """Remove the copy of a trial now, if there is one.

        Raises:
            Exception: The store does not answer, in whatever words its library has.
        """
        self._remove(_copy_id(identity))

    def flush(self, patience_s: float = FLUSH_S) -> bool:
        """Wait until nothing waits to be stored or removed; whether that is so."""
        with self._changed:
            return self._changed.wait_for(lambda: not self._waiting and self._busy_with is None, patience_s)

    def get(self, identity: str, patience_s: float = READ_S) -> Checkpoint | None:
        """The copy of a trial; None if there is none, or if the store does not answer in time."""
        from optuna.artifacts.exceptions import ArtifactNotFound  # late, as in `artifact_store`

        deadline, pause_s = time.monotonic() + patience_s, FIRST_PAUSE_S
        while True:
            try:
                with self._store.open_reader(_copy_id(identity)) as file:
                    found = unpack(file.read(), identity)
            except ArtifactNotFound:
                return None
            except Exception as error:  # of the file system, or of the library of a bucket
                if time.monotonic() + pause_s > deadline:
                    log.warning("cannot read the copy of a checkpoint: %s", error_text(error))
                    return None
                time.sleep(pause_s)
                pause_s = min(2 * pause_s, LONGEST_PAUSE_S)
                continue
            if found is None:
                log.warning("the copy of a checkpoint is damaged; it is not used")
            return found

    def existing(self, identities: Collection[str]) -> set[str]:
        """Those of the trials that have a copy."""
        by_id = {_copy_id(identity): identity for identity in identities}
        return {by_id[each] for each in self._store.sizes(by_id)}

    def _hand_over(self, copy_id: str, content: bytes | None) -> None:
        with self._changed:
            self._waiting[copy_id] = content
            if self._thread is None:
                self._thread = threading.Thread(target=self._work, name="checkpoint copies", daemon=True)
                self._thread.start()
            self._changed.notify_all()

    def _work(self) -> None:
        pause_s, has_warned = FIRST_PAUSE_S, False
        while True:
            with self._changed:
                self._changed.wait_for(lambda: bool(self._waiting))
                copy_id = next(iter(self._waiting))
                content = self._waiting.pop(copy_id)
                self._busy_with = copy_id
            try:
                if content is None:
                    self._remove(copy_id)
                else:
                    self._store.write(copy_id, io.BytesIO(content))
                pause_s, has_warned = FIRST_PAUSE_S, False
            except Exception as error:  # of the file system, or of the library of a bucket
                if not has_warned:
                    log.warning(
                        "cannot copy a checkpoint (%s); training continues, and it is tried again", error_text(error)
                    )
                has_warned = True
                with self._changed:
                    self._waiting.setdefault(copy_id, content)  # unless there is a newer one
                time.sleep(pause_s)
                pause_s = min(2 * pause_s, LONGEST_PAUSE_S)
            with self._changed:
                self._busy_with = None
                self._changed.notify_all()

    def _remove(self, copy_id: str) -> None:
        from optuna.artifacts.exceptions import ArtifactNotFound  # late, as in `artifact_store`

        with contextlib.suppress(ArtifactNotFound):
            self._store.remove(copy_id)


def _copy_id(identity: str) -> str:
    return artifact_id(identity, _NO_TOKEN, "checkpoint")
