"""The bytes of a checkpoint file: its digest tells a whole one of this trial from any other."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass

_MAGIC, _OLD_MAGIC = b"lm-search checkpoint 2\n", b"lm-search checkpoint 1\n"
_DIGEST_SIZE = hashlib.sha256().digest_size
_STEP_SIZE = 8


@dataclass(frozen=True)
class Checkpoint:
    """A checkpoint of a trial.

    Attributes:
        payload: What the run saved.
        step: The step of its last evaluation, which tells the newest of several; 0 if it is not known.
    """

    payload: bytes
    step: int = 0


def pack(checkpoint: Checkpoint, identity: str) -> bytes:
    """The content of a checkpoint file.

    Args:
        identity: Distinguishes the trial from all others.
    """
    body = checkpoint.step.to_bytes(_STEP_SIZE, "big") + checkpoint.payload
    return _MAGIC + _digest(body, identity) + body


def unpack(content: bytes, identity: str) -> Checkpoint | None:
    """The checkpoint of a file, also of one of an earlier version; None if it is damaged or of another trial."""
    magic, rest = content[: len(_MAGIC)], content[len(_MAGIC) :]
    digest, body = rest[:_DIGEST_SIZE], rest[_DIGEST_SIZE:]
    if magic not in (_MAGIC, _OLD_MAGIC) or digest != _digest(body, identity):
        return None
    if magic == _OLD_MAGIC:
        return Checkpoint(body)
    return Checkpoint(body[_STEP_SIZE:], int.from_bytes(body[:_STEP_SIZE], "big"))


def _digest(body: bytes, identity: str) -> bytes:
    return hashlib.sha256(identity.encode() + b"\0" + body).digest()
