"""Where the random numbers of a run come from: all of them follow from its seed, none from the process it runs in."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import Tensor


def derive_seed(seed: int, *purpose: str | int) -> int:
    """Turn the seed of a run and a purpose into a seed of its own.

    Args:
        seed: The seed of the run.
        purpose: What the numbers are for, such as "batches", or "evaluation", 500, "val".

    Returns:
        The first 8 bytes, big-endian, halved, of the SHA-256 of "seed/purpose/..."; the same in every process,
        version and machine, and the same for every cell, so that cells of one seed see the same draws and their
        comparison is a paired one.
    """
    text = "/".join(str(part) for part in (seed, *purpose))
    return int.from_bytes(hashlib.sha256(text.encode()).digest()[:8], "big") >> 1


def generator_for(seed: int, *purpose: str | int) -> torch.Generator:
    """Make a CPU generator for one purpose of a run; arguments as for `derive_seed`."""
    return torch.Generator().manual_seed(derive_seed(seed, *purpose))


class OwnDraws:
    """Gives the draws that a model makes from torch's global generators (dropout does) a stream of the run's own.

    Args:
        seed: The seed of the run.
        device: Where the model lives.
    """

    def __init__(self, seed: int, device: torch.device) -> None:
        self._device = device
        self._states = {"cpu": generator_for(seed, "module").get_state()}
        if device.type == "cuda":
            self._states["cuda"] = torch.Generator(device).manual_seed(derive_seed(seed, "module")).get_state()

    @contextmanager
    def active(self) -> Iterator[None]:
        """Swap the run's stream in, and the global one back at the end."""
        on_cuda = self._device.type == "cuda"
        with torch.random.fork_rng(devices=[self._device] if on_cuda else []):
            torch.set_rng_state(self._states["cpu"])
            if on_cuda:
                torch.cuda.set_rng_state(self._states["cuda"], self._device)
            try:
                yield
            finally:
                self._states["cpu"] = torch.get_rng_state()
                if on_cuda:
                    self._states["cuda"] = torch.cuda.get_rng_state(self._device)

    def state(self) -> dict[str, Tensor]:
        """Where the streams stand, for a checkpoint: uint8 tensors on the CPU."""
        return dict(self._states)

    def restore(self, states: dict[str, Tensor]) -> None:
        """Go on from `state`; a stream of a kind of device that this run does not use is left out."""
        self._states.update({kind: state for kind, state in states.items() if kind in self._states})
