"""`python -m benchmarks.gpu_host`: what the host does for a GPU, counted with a pretended CUDA runtime.

It prints the nodes of a captured step, waits and allocations between evaluations, the memory while trials leave, the
formula for memory beside what the allocator takes, and the wall time of whole runs, which is the host's own: kernels
cost nothing there. It needs two things that are not part of lm-search:

    GPU_HOST_PYTHON    a Python with a CUDA build of torch and the packages of lm-search
    GPU_HOST_WRAPPER   a command that runs another one where that torch sees a pretended GPU, and where a module
                       `fakecuda` has `reset()` and `counts()`: nodes, gemms, syncs, mallocs and replays since the reset
"""

from __future__ import annotations

import functools
import importlib
import os
import re
import resource
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

from search.command_line import new_program
from search.errors import UsageError, user_errors
from search.option_fields import Option, Options

ROOT = Path(__file__).parent.parent
CELLS: tuple[dict[str, Any], ...] = (
    {"model": "bigram", "block_size": 8},
    {"model": "bigram_mf", "block_size": 8, "n_embd": 384},
    *(
        {"model": "bigram_v2", "n_embd": n_embd, "block_size": block_size, "pe_type": pe_type}
        for pe_type in ("randn", "rope")  # sinpe has the shapes of randn
        for n_embd in (64, 128, 256)
        for block_size in (8, 16, 32, 64)
    ),
)
MEMBERS = (1, 8, 64)
LEAVERS = 100


@dataclass(frozen=True, kw_only=True)
class HostOptions(Options):
    """The options of this program."""

    runs: Annotated[bool, Option("Whole runs too, which take a minute.")] = True
    inside: Annotated[bool, Option("Count in this process, which runs under the wrapper.")] = False


def measure(options: HostOptions) -> None:
    """Count what the host does for a GPU, without one."""
    with user_errors():
        if options.inside:
            count_all()
            return
        python, wrapper = (os.environ.get(f"GPU_HOST_{name}", "") for name in ("PYTHON", "WRAPPER"))
        if not (python and wrapper):
            raise UsageError(f"GPU_HOST_PYTHON and GPU_HOST_WRAPPER are not set; {(__doc__ or '').split('. ', 1)[1]}")
        command = [*wrapper.split(), python]
        environment = {**os.environ, "PYTHONPATH": str(ROOT), "CUDA_VISIBLE_DEVICES": "0", "PYTHONWARNINGS": "ignore"}
        subprocess.run([*command, "-m", "benchmarks.gpu_host", "--inside"], env=environment, check=True)
        for seeds in (1, 10) if options.runs else ():
            run_study(command, environment, seeds)


def run_study(command: Sequence[str], environment: Mapping[str, str], seeds: int) -> None:
    """Print the wall time of the built-in study on the pretended GPU."""
    with tempfile.TemporaryDirectory() as folder:
        storage = ["--storage", f"sqlite:///{folder}/search.db", "--out", folder]
        study = ["--study", "bigram", "--pruner", "none", "--seeds", str(seeds), "--quiet", *storage]
        began, cpu = time.time(), _cpu_seconds()
        done = subprocess.run(
            [*command, "-m", "search.run", *study], env=environment, cwd=folder, capture_output=True, text=True
        )
        wall, cpu = time.time() - began, _cpu_seconds() - cpu
        if done.returncode:
            raise UsageError(f"the run ended with {done.returncode}: {done.stderr.strip()}")
        log = next(Path(folder).glob("bigram/logs/*.log")).read_text(encoding="utf-8")
        first = re.search(r"^(\S+ \S+),(\d+) INFO trial", log, re.M)
        assert first is not None, log
        claimed = time.mktime(time.strptime(first[1], "%Y-%m-%d %H:%M:%S")) + int(first[2]) / 1000
        print(
            f"whole run of {38 * seeds} trials: {wall:.1f} s, {claimed - began:.1f} s of them before the first trial; "
            f"{cpu:.1f} s of CPU time of all its processes, load {os.getloadavg()[0]:.1f}",
            flush=True,
        )


def _cpu_seconds() -> float:
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


def count_all() -> None:
    """Print what is counted in this process."""
    try:
        fake = importlib.import_module("fakecuda")
    except ImportError as error:
        raise UsageError(f"{error}: --inside runs under GPU_HOST_WRAPPER alone; leave the option out") from error
    import torch

    from search.objectives.torch_setup import prepare_torch

    prepare_torch("cuda:0")
    print(f"torch {torch.__version__}, {torch.cuda.get_device_name()}\n")
    print_nodes(fake)
    print_interval(fake)
    print_leavers()


def print_nodes(fake: Any) -> None:
    """Print the nodes of a step of each shape, and the formula for its memory beside what it takes."""
    import torch

    from search.objectives.language_model.cells import read_cell
    from search.objectives.language_model.memory_need import run_bytes
    from search.objectives.language_model.settings import LanguageModelSettings

    corpus = shakespeare()
    columns = "".join(f"{f'E={members}':>16}" for members in MEMBERS)
    print(f"nodes a step (products among them), and memory taken by what the formula says\n{'':34}{columns}")
    worst = 0.0
    for cell in CELLS:
        need = run_bytes(read_cell(cell, LanguageModelSettings(), corpus), corpus.vocab_size) or 0
        shown = ""
        for members in MEMBERS:
            with empty_device(), a_group([cell], members) as (group, evaluate):
                (stack,) = group.stacks
                stack.take_steps()
                fake.reset()
                stack.take_steps()  # is captured
                counts, steps = fake.counts(), stack._steps
                evaluate()
                taken = torch.cuda.max_memory_reserved() / (need * members)
                del stack
            worst = max(worst, counts["nodes"] / steps)
            shown += f"{counts['nodes'] / steps:>6.1f} ({counts['gemms'] / steps:.0f}) {taken:>4.1f}"
        print(f"{' '.join(str(value) for value in cell.values()):34}{shown}", flush=True)
    print(f"at most {worst:.1f} nodes\n")


def print_interval(fake: Any) -> None:
    """Print what happens between two evaluations of a group with a stack of each shape."""
    with empty_device(), a_group(CELLS, 2) as (group, evaluate):
        stacks = len(group.stacks)
        for _ in range(2):  # every kind of work is captured then
            group.advance(lambda: False)
        while not all(stack.is_due for stack in group.stacks):
            for stack in group.stacks:
                stack.take_steps()
        evaluate()
        fake.reset()
        began = time.process_time()
        while not all(stack.is_due for stack in group.stacks):
            for stack in group.stacks:
                stack.take_steps()
        took, steps = time.process_time() - began, fake.counts()
        fake.reset()
        began = time.process_time()
        evaluate()
        evaluation, counts = time.process_time() - began, fake.counts()
    print(f"{stacks} stacks between two evaluations: {_text(steps)}; {took * 1e3:.0f} ms of the host")
    print(f"their evaluation: {_text(counts)}; {evaluation * 1e3:.0f} ms of the host\n")


def print_leavers() -> None:
    """Print the memory while trials leave, one after the other."""
    import torch

    cells = [
        {"model": "bigram_v2", "n_embd": 64, "block_size": 64, "pe_type": pe_type} for pe_type in ("randn", "rope")
    ]
    reserved: list[float] = []
    with empty_device(), a_group(cells, 64) as (group, _):
        for _ in range(LEAVERS):
            for stack in group.stacks:
                stack.take_steps()
                stack.take_steps()
            reserved.append(torch.cuda.memory_reserved() / 1e6)
            group.remove(group.runs[:1])
    at = [0, LEAVERS // 4, LEAVERS // 2, 3 * LEAVERS // 4, LEAVERS - 1]
    shown = ", ".join(f"{reserved[i]:.0f}" for i in at)
    print(f"reserved MB while {LEAVERS} of 128 trials leave: {shown}; at most {max(reserved):.0f}\n", flush=True)


@contextmanager
def empty_device() -> Iterator[None]:
    """Count memory from nothing on."""
    import torch

    torch.cuda.empty_cache()
    torch.cuda.reset_peak_memory_stats()
    yield


@contextmanager
def a_group(cells: Sequence[Mapping[str, Any]], members: int) -> Iterator[tuple[Any, Callable[[], Any]]]:
    """A group of `members` runs of each cell, after its first evaluation, and how it makes another."""
    from search.objectives.language_model.accelerated_group import AcceleratedGroup
    from search.objectives.language_model.objective import start
    from search.objectives.language_model.settings import LanguageModelSettings

    corpus, settings = shakespeare(), LanguageModelSettings()
    runs = [start(cell, seed, settings, corpus, "cuda:0") for cell in cells for seed in range(members)]
    group = AcceleratedGroup(runs)
    group._evaluate_due()

    def evaluate() -> None:
        for stack in group.stacks:
            stack.begin_evaluation()
        for stack in group.stacks:
            stack.end_evaluation()

    yield group, evaluate
    group.remove(group.runs)


@functools.cache
def shakespeare() -> Any:
    """The corpus, loaded once: all groups share its texts on the device."""
    from search.objectives.corpus import load_corpus

    return load_corpus()


def _text(counts: Mapping[str, int]) -> str:
    names = {"replays": "replays", "launches": "other launches", "syncs": "waits", "mallocs": "allocations"}
    return ", ".join(f"{counts[name]} {shown}" for name, shown in names.items())


app = new_program(measure, HostOptions, [("without the whole runs", "--no-runs")])

if __name__ == "__main__":
    app()
