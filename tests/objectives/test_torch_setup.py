from __future__ import annotations

import os
import platform
import subprocess
import sys
from collections.abc import Iterator

import pytest
import torch

from search.objectives.language_model.rng import derive_seed
from search.objectives.torch_setup import prepare_torch


def test_derived_seeds_are_stable_and_apart() -> None:
    assert derive_seed(1337, "batches") == 1779484113541292717, "old records could not be replayed"
    assert len({derive_seed(1, "a"), derive_seed(2, "a"), derive_seed(1, "b"), derive_seed(1, "a", 0)}) == 4


@pytest.fixture(autouse=True)
def torch_as_before(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    threads, strict = torch.get_num_threads(), torch.are_deterministic_algorithms_enabled()
    monkeypatch.setitem(os.environ, "CUBLAS_WORKSPACE_CONFIG", ":4096:8")
    yield
    torch.set_num_threads(threads)
    torch.use_deterministic_algorithms(strict)


def test_prepare_torch_sets_one_thread_and_keeps_denormals() -> None:
    prepare_torch()
    assert torch.get_num_threads() == 1
    assert torch.are_deterministic_algorithms_enabled()
    assert (torch.tensor([1e-38]) * 1e-3).item() > 0.0


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="other C libraries have no such setting")
def test_a_step_gets_the_memory_of_the_step_before() -> None:
    """In a process of its own: what a test process has allocated before may leave no room for the heap to grow."""
    code = (
        "import resource, torch\n"
        "from search.objectives.torch_setup import prepare_torch\n"
        "def new_pages():\n"
        "    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt\n"
        "    torch.ones(2**24)\n"  # 64 MiB, which glibc would return to the system at once
        "    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before\n"
        "prepare_torch()\n"
        "new_pages()\n"
        "print(new_pages())\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert int(done.stdout) < 100
