"""`--profile`: how the workers spent their time."""

from __future__ import annotations

import contextlib
import json
import logging
import sys
from collections import Counter
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from search.storage.private_files import make_private_folder, open_private

if TYPE_CHECKING:
    from search.workers.worker_loop import Worker

log = logging.getLogger("search.worker")

# In the order in which they occur in a trial.
WORK = ("starting", "data", "forward", "backward", "optimizer", "step", "evaluation", "storage", "waiting")


@contextlib.contextmanager
def profiled(worker: Worker, out: Path, enabled: bool) -> Iterator[None]:
    """Write how a worker spent its time to <out>/profile/ and to its log when it ends.

    Args:
        worker: The worker to measure.
        out: The folder `--out`.
        enabled: False does nothing.
    """
    if enabled and "torch" in sys.modules:
        import torch

        if worker.context.device.startswith("cuda"):
            worker.wait_for_device = lambda: torch.cuda.synchronize(worker.context.device)
    try:
        yield
    finally:
        if enabled:
            folder = _folder(out)
            make_private_folder(folder)
            seconds = dict(worker.timer.seconds)
            with open_private(folder / f"{worker.owner.replace('/', '_')}.json", "w") as file:
                json.dump(seconds, file)
            log.info("where the time went:\n%s", as_text(seconds))


def clear_profiles(out: Path) -> None:
    """Remove the profiles of earlier runs."""
    for file in _folder(out).glob("*.json"):
        file.unlink(missing_ok=True)


def summed_profiles(out: Path) -> dict[str, float]:
    """Return seconds by kind of work, summed over all workers since `clear_profiles`."""
    total: Counter[str] = Counter()
    for file in _folder(out).glob("*.json"):
        total.update(json.loads(file.read_text(encoding="utf-8")))
    return dict(total)


def as_text(seconds: Mapping[str, float]) -> str:
    """Format one line per kind of work: seconds, and their share of the total."""
    total = sum(seconds.values()) or 1.0
    rows = [*(work for work in WORK if work in seconds), *sorted(set(seconds) - set(WORK))]
    return "\n".join(f"{work:<11}{seconds[work]:>9.1f} s {seconds[work] / total:>6.1%}" for work in rows)


def _folder(out: Path) -> Path:
    return out / "profile"
