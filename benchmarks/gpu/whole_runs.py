"""Whole runs of the built-in study on a GPU, and how busy the GPU is in the meantime."""

from __future__ import annotations

import statistics
import subprocess
from pathlib import Path

from benchmarks.compare.service_run import run_service
from benchmarks.compare.task import Task

QUERY = ["nvidia-smi", "--query-gpu=utilization.gpu,memory.used", "--format=csv,noheader,nounits", "-lms", "200"]


def service_on_gpu(folder: Path, *arguments: str) -> dict[str, float]:
    """`run_service`, and how busy the GPU was.

    Returns:
        Its figures; utilization, the mean share of time in which a kernel was at work, from the first such moment to
        the last; memory_bytes, the most that was taken.
    """
    folder.mkdir(parents=True, exist_ok=True)
    with (folder.parent / f"{folder.name}.csv").open("w+", encoding="utf-8") as file:
        watching = subprocess.Popen(QUERY, stdout=file)
        try:
            figures = run_service(Task(), folder, *arguments)
        finally:
            watching.terminate()
            watching.wait()
        file.seek(0)
        rows = [[float(value) for value in line.split(",")] for line in file if line.count(",") == 1]
    busy = [at for at, (share, _) in enumerate(rows) if share]
    during = rows[busy[0] : busy[-1] + 1] if busy else []
    shares = [share / 100 for share, _ in during]
    return {
        **figures,
        "utilization": statistics.mean(shares) if shares else 0.0,
        "memory_bytes": max((taken for _, taken in rows), default=0.0) * 2**20,
    }
