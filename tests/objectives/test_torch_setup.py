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
    threads, mode = torch.get_num_threads(), torch.get_deterministic_debug_mode()
    monkeypatch.setitem(os.environ, "CUBLAS_WORKSPACE_CONFIG", ":4096:8")
    yield
    torch.set_num_threads(threads)
    torch.set_deterministic_debug_mode(mode)


def test_prepare_torch_sets_one_thread_and_keeps_denormals() -> None:
    prepare_torch()
    assert torch.get_num_threads() == 1
    assert torch.are_deterministic_algorithms_enabled()
    assert (torch.tensor([1e-38]) * 1e-3).item() > 0.0


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="other C libraries have no such setting")
def test_a_step_gets_the_memory_of_the_step_before() -> None:
    """Page faults of a step, in processes of their own: what this one has allocated before would count too."""
    code = (
        "import resource, statistics, sys, torch\n"
        "from search.objectives.torch_setup import prepare_torch\n"
        "torch.set_num_threads(1)\n"  # threads that wait for a core take its time
        "if sys.argv[1] == 'prepared':\n"
        "    prepare_torch()\n"
        "weights, found = torch.ones(1024, 8, requires_grad=True), []\n"
        "for _ in range(20):\n"
        "    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt\n"
        "    torch.relu(torch.ones(9216, 8) @ weights.T).sum().backward()\n"  # tensors of 36 MiB
        "    weights.grad = None\n"
        "    found.append(resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before)\n"
        "print(statistics.median(found[10:]))\n"  # the heap grows for some steps, as its blocks come to lie
    )
    faults = {
        how: float(subprocess.run([sys.executable, "-c", code, how], capture_output=True, check=True).stdout)
        for how in ("plain", "prepared")
    }
    assert faults["plain"] > 10_000, "glibc returns such blocks to the system"
    assert faults["prepared"] < 0.2 * faults["plain"]


@pytest.mark.parametrize(("device", "gpu"), [("cuda", 0), ("cuda:0", 0), ("cuda:1", 1)])
def test_only_the_gpu_of_the_worker_is_touched(device: str, gpu: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """A call without a device would make a context on GPU 0, and limit the memory that others have there."""
    calls: list[object] = []
    monkeypatch.setattr(torch.cuda, "set_device", calls.append)
    monkeypatch.setattr(torch.cuda, "set_per_process_memory_fraction", lambda *given: calls.append(given))
    monkeypatch.setenv("SEARCH_GPU_SHARE", "0.5")
    prepare_torch(device)
    assert calls == [gpu, (0.5, gpu)]
    assert torch.get_float32_matmul_precision() == "highest"
    assert not torch.backends.cudnn.allow_tf32


def test_a_worker_on_the_cpu_touches_no_gpu(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("is_available", "set_device", "set_per_process_memory_fraction"):
        monkeypatch.setattr(torch.cuda, name, lambda *given: pytest.fail("a GPU was touched"))
    prepare_torch("cpu")
