"""Sets up torch for a process that trains."""

from __future__ import annotations

import ctypes
import os
from collections.abc import Iterator
from contextlib import contextmanager

import torch

# Parameters of mallopt in glibc's malloc.h.
M_TRIM_THRESHOLD, M_MMAP_MAX = -1, -4


def prepare_torch(device: str = "cpu", threads: int = 1) -> None:
    """Set torch's options of the whole process; call it once, in the thread that trains, before any training.

    Denormal numbers are kept. Rounding them to zero is faster on some processors, but changes losses: by 3e-5 in one of
    nine cells of the built-in study, so that a resumed trial would differ from an undisturbed one of an older version.

    On a GPU float32 stays float32: TF32, whose products have ten bits, would not agree with published losses.

    Args:
        device: Where the process trains; it uses no other GPU.
        threads: CPU threads per operation; one worker per core with one thread each is the fastest use of a machine.
    """
    _keep_freed_memory()
    torch.set_num_threads(threads)
    if device.startswith("cuda"):
        _prepare_cuda(torch.device(device).index or 0)
    os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")  # without it cuBLAS can sum in another order
    # A user's model can need an operation that has no deterministic version: that gets a warning, not an error.
    # The same as use_deterministic_algorithms(True, warn_only=True), which imports torch's compiler to tell it too.
    torch.set_deterministic_debug_mode("warn")
    os.environ.setdefault("TORCHINDUCTOR_DETERMINISTIC", "1")
    torch.utils.deterministic.fill_uninitialized_memory = False  # type: ignore[attr-defined]  # needless writes
    torch.backends.cudnn.benchmark = False


def _prepare_cuda(gpu: int) -> None:
    # CUDA reads it when it starts. With fewer queues, by default 8, stacks wait for each other's kernels.
    os.environ.setdefault("CUDA_DEVICE_MAX_CONNECTIONS", "32")
    # What torch does without naming a device, such as waiting before a capture, would otherwise use GPU 0.
    torch.cuda.set_device(gpu)
    torch.cuda.set_per_process_memory_fraction(float(os.environ.get("SEARCH_GPU_SHARE", "1")), gpu)
    torch.set_float32_matmul_precision("highest")
    torch.backends.cudnn.allow_tf32 = False


@contextmanager
def product_precision(tf32: bool) -> Iterator[None]:
    """Compute the float32 products of a CUDA GPU in TF32 for a while.

    Args:
        tf32: False leaves everything as it is.
    """
    before = torch.get_float32_matmul_precision()
    if tf32:
        torch.set_float32_matmul_precision("high")
    try:
        yield
    finally:
        torch.set_float32_matmul_precision(before)


@contextmanager
def order_of_sums(mode: str) -> Iterator[None]:
    """Set for a while how torch treats operations that sum in another order each time.

    Args:
        mode: "default" allows them. "warn" and "error" take versions that repeat where there are any, else they warn or
            raise RuntimeError; attention on a CUDA GPU repeats with "error" alone.
    """
    before = torch.get_deterministic_debug_mode()
    torch.set_deterministic_debug_mode(mode)
    try:
        yield
    finally:
        torch.set_deterministic_debug_mode(before)


def _keep_freed_memory() -> None:
    """Let glibc keep freed memory for the next step, which allocates the same sizes again.

    By default it returns large blocks to the system, and the next step waits while the system clears them anew: for a
    stack of eight small transformers that took most of a step. Without glibc nothing changes.
    """
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    if mallopt is not None:
        mallopt(M_MMAP_MAX, 0)
        mallopt(M_TRIM_THRESHOLD, 2**31 - 1)
