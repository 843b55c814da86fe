"""Serializes the state of a run; detects damage and mix-ups before loading anything."""

from __future__ import annotations

import hashlib
import io
from typing import Any

import torch

from search.objectives.errors import CheckpointError

DIGEST_BYTES = 32  # SHA-256 of what follows it


def pack(fingerprint: str, state: dict[str, Any]) -> bytes:
    """Serialize the state of a run.

    Args:
        fingerprint: Identifies the run.
        state: Tensors, numbers, strings, and lists, tuples and dicts of them.

    Returns:
        A digest, then the `torch.save` of both.
    """
    buffer = io.BytesIO()
    torch.save({"fingerprint": fingerprint, "state": state}, buffer)
    body = buffer.getvalue()
    return hashlib.sha256(body).digest() + body


def unpack(fingerprint: str, payload: bytes) -> dict[str, Any]:
    """Read what `pack` wrote, its tensors on the CPU.

    Args:
        fingerprint: Identifies the expected run.
        payload: The bytes.

    Returns:
        The state.

    Raises:
        CheckpointError: The bytes are damaged, not a checkpoint, or belong to another run.
    """
    digest, body = payload[:DIGEST_BYTES], payload[DIGEST_BYTES:]
    if hashlib.sha256(body).digest() != digest:
        raise CheckpointError(f"the checkpoint of {len(payload)} bytes is damaged: delete it to restart the run")
    try:
        content = torch.load(io.BytesIO(body), map_location="cpu", weights_only=True)
        found, state = content["fingerprint"], dict(content["state"])
    except Exception as error:  # torch.load fails with whatever its zip and pickle readers raise
        raise CheckpointError(f"the checkpoint cannot be read ({error}): delete it to restart the run") from error
    if found != fingerprint:
        raise CheckpointError(f"the checkpoint belongs to another run: expected {fingerprint}, found {found}")
    return state
