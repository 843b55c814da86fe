"""The random numbers of a run: all of them follow from its seed, none depends on the process."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping
from contextlib import contextmanager

import torch
from torch import Tensor


def derive_seed(seed: int, *purpose: str | int) -> int:
    """Derive a seed from the seed of a run and a purpose.

    Args:
        seed: The seed of the run.
        purpose: What the numbers are for, such as "batches", or "evaluation", 500, "val".

    Returns:
        The first 8 bytes, big-endian, halved, of the SHA-256 of "seed/purpose/..."; the same in every process,
        version and machine, and the same for every cell, so that cells of one seed see the same draws and their
        comparison is paired.
    """
    text = "/".join(str(part) for part in (seed, *purpose))
    return int.from_bytes(hashlib.sha256(text.encode()).digest()[:8], "big") >> 1


def generator_for(seed: int, *purpose: str | int) -> torch.Generator:
    """Make a CPU generator for one purpose of a run; arguments as for `derive_seed`."""
    return torch.Generator().manual_seed(derive_seed(seed, *purpose))


def random_states(device: torch.device) -> dict[str, Tensor]:
    """The states of torch's global generators of the CPU and of a CUDA device: uint8 tensors on the CPU."""
    states = {"cpu": torch.get_rng_state()}
    if device.type == "cuda":
        states["cuda"] = torch.cuda.get_rng_state(device)
    return states


def set_random_states(states: Mapping[str, Tensor], device: torch.device) -> None:
    """Set torch's global generators to what `random_states` returned."""
    torch.set_rng_state(states["cpu"])
    if device.type == "cuda":
        torch.cuda.set_rng_state(states["cuda"], device)


class ModelRng:
    """Gives a model that draws from torch's global generators (as dropout does) a separate stream per run.

    Args:
        seed: The seed of the run.
        device: The model's device.
    """

    def __init__(self, seed: int, device: torch.device) -> None:
        self._device = device
        self._states = {"cpu": generator_for(seed, "module").get_state()}
        if device.type == "cuda":
            self._states["cuda"] = torch.Generator(device).manual_seed(derive_seed(seed, "module")).get_state()

    @contextmanager
    def active(self) -> Iterator[None]:
        """Swap in the run's stream; restore the global one at the end."""
        with torch.random.fork_rng(devices=[self._device] if self._device.type == "cuda" else []):
            set_random_states(self._states, self._device)
            try:
                yield
            finally:
                self._states = random_states(self._device)

    def state(self) -> dict[str, Tensor]:
        """The states of the streams, for a checkpoint: uint8 tensors on the CPU."""
        return dict(self._states)

    def restore(self, states: dict[str, Tensor]) -> None:
        """Resume from `state`; streams of device types that this run does not use are ignored."""
        self._states.update({kind: state for kind, state in states.items() if kind in self._states})
