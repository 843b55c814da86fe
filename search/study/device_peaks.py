"""How many floating-point operations per second GPUs can do at most."""

from __future__ import annotations

# In float32 without tensor cores, from NVIDIA's data sheets; the name begins as torch and the driver give it.
_FLOAT32: dict[str, float] = {
    "NVIDIA H200 NVL": 60.0e12,
    "NVIDIA H200": 66.9e12,
    "NVIDIA H100 PCIe": 51.2e12,
    "NVIDIA H100 NVL": 60.0e12,
    "NVIDIA H100": 66.9e12,
    "NVIDIA A100": 19.5e12,
    "NVIDIA L40S": 91.6e12,
    "NVIDIA L4": 30.3e12,
    "NVIDIA A10G": 31.5e12,
    "NVIDIA A10": 31.2e12,
    "Tesla V100-PCIE": 14.0e12,
    "Tesla V100": 15.7e12,
    "Tesla T4": 8.1e12,
    "NVIDIA GeForce RTX 4090": 82.6e12,
    "NVIDIA GeForce RTX 3090": 35.6e12,
}


def float32_peak(gpu: str) -> float | None:
    """The peak of a GPU in float32; None if it is not known.

    Args:
        gpu: Its name, as `torch.cuda.get_device_name` gives it.
    """
    longest_first = sorted(_FLOAT32, key=len, reverse=True)
    return next(
        (_FLOAT32[name] for name in longest_first if gpu == name or gpu.startswith((f"{name} ", f"{name}-"))), None
    )
