"""A process that times the plain loop: it reads tasks as lines of JSON and answers each with one line.

`plain_costs.py` starts one for each way to run the loop, because threads and the handling of denormal numbers
are settings of a process.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from collections.abc import Callable

import torch

from benchmarks.compare.plain_loop import PlainLoop
from search.objectives.corpus import load_corpus

WARM_UP = 2
# Before its turn the process slept, and others had the processor's caches: the first milliseconds are slower.
WARM_UP_S = 0.05
TIMED_S = 0.1


def timed(work: Callable[[], object], times: int, device: str) -> tuple[float, float]:
    """Mean wall seconds, and mean CPU seconds of all threads, of calling `work` at least `times`."""
    finish: Callable[[], object] = (lambda: None) if device == "cpu" else torch.cuda.synchronize  # a GPU works on
    _repeat(work, finish, WARM_UP, WARM_UP_S)
    cpu_began = time.process_time()
    calls, took_s = _repeat(work, finish, times, TIMED_S)
    return took_s / calls, (time.process_time() - cpu_began) / calls


def _repeat(work: Callable[[], object], finish: Callable[[], object], times: int, seconds: float) -> tuple[int, float]:
    """Call `work` at least so many times and for so many seconds; returns how often, and the seconds."""
    began, calls = time.perf_counter(), 0
    while calls < times or time.perf_counter() - began < seconds:
        work()
        calls += 1
    finish()
    return calls, time.perf_counter() - began


def main() -> None:
    """Answer tasks {cell, state, steps, batches} until stdin ends."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--flush", action="store_true", help="round denormal numbers to zero")
    parser.add_argument("--threads", type=int, help="default: torch's own choice")
    parser.add_argument("--device", default="cpu", help="default: cpu")
    options = parser.parse_args()
    if options.flush:
        torch.set_flush_denormal(True)
    if options.threads:
        torch.set_num_threads(options.threads)
    corpus = load_corpus()
    train, validation = torch.tensor(corpus.train), torch.tensor(corpus.validation)
    for line in sys.stdin:
        task = json.loads(line)
        loop = PlainLoop(task["cell"], train, validation, corpus.vocab_size, options.device)
        if task["state"]:
            state = torch.load(task["state"], weights_only=True)
            loop.model.load_state_dict(state["model"])
            loop.optimizer.load_state_dict({**loop.optimizer.state_dict(), "state": state["optimizer"]})
        step_s, step_cpu_s = timed(loop.step, task["steps"], options.device)
        batch_s, batch_cpu_s = timed(lambda: loop.evaluate(1), task["batches"], options.device)  # noqa: B023
        answer = {"step_s": step_s, "step_cpu_s": step_cpu_s, "batch_s": batch_s, "batch_cpu_s": batch_cpu_s}
        print(json.dumps(answer), flush=True)


if __name__ == "__main__":
    main()
