"""`python -m benchmarks.checkpoint_copies`: the processor time that copies of checkpoints take beside training.

One trial of bigram_v2 with a checkpoint at each evaluation, without and with copies, in turn.
"""

from __future__ import annotations

import logging
import statistics
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

from search.command_line import new_program
from search.errors import user_errors
from search.option_fields import Option, Options
from search.options import PlanningOptions
from search.planning import open_planned
from search.workers.setup import open_worker

STUDY = """
[grid]
model = "bigram_v2"
pe_type = "rope"
n_embd = 256
block_size = 64

[training]
max_iters = {steps}
eval_interval = 50
evaluation = "sampled"
eval_batches = 1

[pruner]
name = "none"

[workers]
checkpoint_s = 0.0
"""


@dataclass(frozen=True, kw_only=True)
class CopiesOptions(Options):
    """The options of this program."""

    artifacts: Annotated[str | None, Option("Where the copies go; else a temporary folder.", "DIR|URL")] = None
    steps: Annotated[int, Option("Training steps; a checkpoint each 50.", "N", minimum=50)] = 600
    pairs: Annotated[int, Option("Pairs of runs; the medians count.", "N", minimum=1)] = 5


def measure(options: CopiesOptions) -> None:
    """Train a trial without and with copies, and print the ratio of the processor times."""
    logging.getLogger("search").setLevel(logging.ERROR)
    with user_errors(), tempfile.TemporaryDirectory() as folder:
        where = options.artifacts or f"{folder}/copies"
        _train(options.steps, None)  # the first run of a process is slower
        plain, copied = [], []
        for _ in range(options.pairs):
            plain.append(_train(options.steps, None))
            copied.append(_train(options.steps, where))
    ratios = sorted(with_copies / without for without, with_copies in zip(plain, copied, strict=True))
    whole = statistics.median(copied) / statistics.median(plain)
    print(f"{options.steps // 50} evaluations, {statistics.median(plain):.1f} s of processor time without copies")
    print(f"with copies {whole:.3f} times that; pairs from {ratios[0]:.3f} to {ratios[-1]:.3f}")


def _train(steps: int, artifacts: str | None) -> float:
    """The processor time of a trial, in seconds."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        (folder / "copies.toml").write_text(STUDY.format(steps=steps))
        file, storage, out = str(folder / "copies.toml"), f"sqlite:///{folder}/copies.db", folder / "out"
        database, _ = open_planned(PlanningOptions(study=file, storage=storage, out=out))
        database.engine.dispose()
        worker = open_worker(file, storage, "cpu", out=out, artifacts=artifacts)
        try:
            began = time.process_time()
            worker.run()
            return time.process_time() - began
        finally:
            worker.queue.database.engine.dispose()


app = new_program(measure, CopiesOptions, (("copies in a bucket", "--artifacts s3://my-bucket/copies"),))

if __name__ == "__main__":
    app()
