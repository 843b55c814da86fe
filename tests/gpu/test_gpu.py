"""What only a CUDA GPU can show. Without one these tests are skipped, and nothing here has been shown."""

from __future__ import annotations

import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from lone_runs import losses, never, train_together
from torch import Tensor, nn

from search.objectives.corpus import Corpus, encode, load_corpus
from search.objectives.errors import CaptureFailed
from search.objectives.language_model.accelerated_group import AcceleratedGroup
from search.objectives.language_model.cuda_graphs import Lane
from search.objectives.language_model.objective import start
from search.objectives.language_model.run import LanguageModelRun
from search.objectives.language_model.settings import LanguageModelSettings
from search.objectives.torch_setup import prepare_torch

pytestmark = [
    pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA GPU that torch sees on this machine"),
    pytest.mark.timeout(120),  # a GPU that hangs must not hang the suite
]

GPU = "cuda:0"
# At the published learning rate of 1e-2 sums in another order grow to 1e-2 within 200 steps.
CALM = LanguageModelSettings(max_iters=200, eval_interval=100, learning_rate=1e-3, sample_chars=20)
CELLS: list[dict[str, Any]] = [
    {"model": "bigram", "block_size": 8},
    {"model": "bigram_mf", "block_size": 8, "n_embd": 32},
    *(
        {"model": "bigram_v2", "block_size": block_size, "n_embd": 64, "pe_type": pe_type}
        for pe_type in ("randn", "sinpe", "rope")
        for block_size in (8, 64)
    ),
    {"model": "gpt", "block_size": 16, "n_embd": 32, "n_layer": 2, "n_head": 2},
]


@pytest.fixture(scope="module", autouse=True)
def prepared() -> None:
    prepare_torch(GPU)


@pytest.fixture(scope="module")
def text() -> Corpus:
    corpus = load_corpus()
    return encode("shakespeare", corpus.decode(corpus.train[:50_000]))


@pytest.fixture(scope="module")
def begin(text: Corpus) -> Callable[..., LanguageModelRun]:
    def begin(
        cell: dict[str, Any], seed: int, settings: LanguageModelSettings = CALM, device: str = GPU
    ) -> LanguageModelRun:
        return start(cell, seed, settings, text, device)

    return begin


def assert_as_on_cpu(run: LanguageModelRun, cell: dict[str, Any], seed: int, begin: Any) -> None:
    alone = begin(cell, seed, run.settings, "cpu")
    while not alone.finished:
        alone.advance(never)
    assert losses(run) == pytest.approx(losses(alone)[: len(losses(run))], abs=1e-4, rel=0)


@pytest.mark.parametrize("cell", CELLS, ids=lambda cell: "-".join(str(value) for value in cell.values()))
def test_a_run_learns_what_it_learns_on_the_cpu(cell: dict[str, Any], begin: Callable[..., LanguageModelRun]) -> None:
    run = begin(cell, 0)
    train_together(AcceleratedGroup([run]))
    assert_as_on_cpu(run, cell, 0, begin)


def test_all_shapes_side_by_side(begin: Callable[..., LanguageModelRun]) -> None:
    runs = {(at, seed): begin(cell, seed) for at, cell in enumerate(CELLS) for seed in range(3)}
    group = AcceleratedGroup(list(runs.values()))
    train_together(group, {runs[at, 1]: 100 for at in range(len(CELLS))})  # pruned
    for (at, seed), run in runs.items():
        if seed < 2:
            assert_as_on_cpu(run, CELLS[at], seed, begin)


def test_the_same_group_gives_the_same_numbers(begin: Callable[..., LanguageModelRun]) -> None:
    curves = []
    for _ in range(2):
        runs = [begin(cell, seed) for cell in CELLS for seed in range(2)]
        train_together(AcceleratedGroup(runs))
        curves.append([losses(run) for run in runs])
    assert curves[0] == curves[1]


@pytest.mark.parametrize("is_stacked", [True, False])
def test_products_in_tf32_differ_a_little(begin: Callable[..., LanguageModelRun], is_stacked: bool) -> None:
    found = []
    for dtype in ("float32", "tf32"):
        run = begin(CELLS[-2], 0, CALM.model_copy(update={"dtype": dtype}))
        if is_stacked:
            train_together(AcceleratedGroup([run]))
        while not run.finished:
            run.advance(never)
        found.append(losses(run))
    assert found[0] != found[1]
    assert found[1] == pytest.approx(found[0], abs=0.05, rel=0)
    assert torch.get_float32_matmul_precision() == "highest"


LONE: dict[str, tuple[dict[str, Any], dict[str, Any], float]] = {
    "dropout": ({"dropout": 0.2}, {}, 1e-4),
    "accumulation": ({}, {"gradient_accumulation_steps": 3, "schedule": "cosine", "warmup_iters": 9}, 1e-4),
    "clipped sgd": ({"dropout": 0.1}, {"optimizer": "sgd", "momentum": 0.9, "grad_clip": 0.5}, 1e-4),
    "bfloat16": ({"pe_type": "rope"}, {"dtype": "bfloat16"}, 0.02),
}


@pytest.mark.parametrize("kind", LONE)
def test_captured_steps_of_a_lone_run_are_those_it_takes_uncaptured(
    kind: str, begin: Callable[..., LanguageModelRun]
) -> None:
    arguments, changed, tolerance = LONE[kind]
    cell, settings = {**CELLS[-1], **arguments}, LanguageModelSettings(**{**CALM.model_dump(), **changed})
    captured, plain = begin(cell, 0, settings), begin(cell, 0, settings)
    group = AcceleratedGroup([captured])
    assert not group.stacks
    train_together(group)
    while not plain.finished:
        plain.advance(never)
    assert losses(captured) == pytest.approx(losses(plain), abs=tolerance, rel=0)


class Drops(nn.Module):
    """A user's model that cannot be stacked, with attention."""

    def __init__(self, vocab_size: int) -> None:
        super().__init__()
        self.table, self.drop = nn.Embedding(vocab_size, 64), nn.Dropout(0.1)
        self.head = nn.Linear(64, vocab_size)

    def forward(self, idx: Tensor) -> Tensor:
        heads = self.table(idx).unflatten(-1, (4, 16)).transpose(1, 2)
        mixed = nn.functional.scaled_dot_product_attention(heads, heads, heads, is_causal=True)
        logits: Tensor = self.head(self.drop(mixed.transpose(1, 2).flatten(2)))
        return logits


def test_steps_of_a_users_model_are_captured_where_the_study_asks_for_it(
    begin: Callable[..., LanguageModelRun], caplog: pytest.LogCaptureFixture
) -> None:
    cell = {"model": f"{__name__}:Drops", "block_size": 16}
    runs = [begin(cell, 0, CALM.model_copy(update={"cuda_graph": asked})) for asked in (True, False)]
    for run in runs:
        train_together(AcceleratedGroup([run]))
    assert not caplog.records
    assert losses(runs[0]) == pytest.approx(losses(runs[1]), abs=1e-4, rel=0)


@pytest.mark.parametrize("kind", LONE)
def test_the_same_lone_run_gives_the_same_numbers(kind: str, begin: Callable[..., LanguageModelRun]) -> None:
    arguments, changed, _ = LONE[kind]
    curves = []
    for _ in range(2):
        run = begin({**CELLS[-1], **arguments}, 0, LanguageModelSettings(**{**CALM.model_dump(), **changed}))
        train_together(AcceleratedGroup([run]))
        curves.append(losses(run))
    assert curves[0] == curves[1]


def test_a_checkpoint_goes_on_where_it_was(begin: Callable[..., LanguageModelRun]) -> None:
    cell = CELLS[-2]
    runs = [begin(cell, seed) for seed in range(3)]
    group = AcceleratedGroup(runs)
    group.advance(never)
    rounds = iter(range(100))
    assert group.advance(lambda: next(rounds) >= 7) == []
    saved = [run.save() for run in runs]
    again = [begin(cell, seed) for seed in range(3)]
    for run, payload in zip(again, saved, strict=True):
        run.restore(payload)
    train_together(AcceleratedGroup(again))
    for seed, run in enumerate(again):
        assert_as_on_cpu(run, cell, seed, begin)


def test_a_diverging_member_leaves_the_others_as_they_are(begin: Callable[..., LanguageModelRun]) -> None:
    wild = CALM.model_copy(update={"learning_rate": 1e30})
    runs = [begin(CELLS[2], 0), begin(CELLS[2], 1, wild), begin(CELLS[2], 2)]
    train_together(AcceleratedGroup(runs))
    assert runs[1].curve[-1].diverged
    for seed in (0, 2):
        assert_as_on_cpu(runs[seed], CELLS[2], seed, begin)


def test_nothing_waits_between_two_evaluations(begin: Callable[..., LanguageModelRun]) -> None:
    group = AcceleratedGroup([begin(cell, seed) for cell in CELLS for seed in range(2)])
    group.advance(never)
    for stack in group.stacks:
        stack.take_steps()
        stack.take_steps()
    torch.cuda.set_sync_debug_mode("error")
    try:
        for _ in range(3):
            for stack in group.stacks:
                stack.take_steps()
    finally:
        torch.cuda.set_sync_debug_mode("default")


def test_memory_stays_as_it_is_while_runs_leave(begin: Callable[..., LanguageModelRun]) -> None:
    group = AcceleratedGroup([begin(CELLS[-2], seed) for seed in range(32)])
    group.advance(never)
    reserved = []
    while len(group.runs) > 1:
        for _ in range(2):
            group.stacks[0].take_steps()
        reserved.append(torch.cuda.memory_reserved())
        group.remove(group.runs[:1])
    assert max(reserved) <= 1.1 * reserved[0]


class Waits(nn.Module):
    """Copies from the CPU in each step, which a capture does not survive."""

    def __init__(self, vocab_size: int) -> None:
        super().__init__()
        self.table = nn.Embedding(vocab_size, vocab_size)

    def forward(self, idx: Tensor) -> Tensor:
        logits: Tensor = self.table(idx) * torch.tensor([2.0]).to(idx.device)
        return logits


def test_a_model_that_waits_trains_uncaptured(
    begin: Callable[..., LanguageModelRun], caplog: pytest.LogCaptureFixture
) -> None:
    cell = {"model": f"{__name__}:Waits", "block_size": 8}
    run = begin(cell, 0)
    train_together(AcceleratedGroup([run]))
    assert "waits for the GPU" in caplog.text
    assert f"{Path(__file__).name}:" in caplog.text
    assert_as_on_cpu(run, cell, 0, begin)


# The rest of the process is unusable after these, so each has one of its own.
SPOILED = {
    "capture": (
        "lane = Lane(torch.device('cuda:0'))\n"
        "x = torch.zeros(3, device='cuda:0')\n"
        "lane.run('steps', lambda: None)\n"
        "try:\n"
        "    lane.run('steps', lambda: x.sum().item())\n"
        "except CaptureFailed as error:\n"
        "    print(is_spoiling(error))\n"
    ),
    "kernel": (
        "x = torch.zeros(3, device='cuda:0')\n"
        "try:\n"
        "    x[torch.tensor([5], device='cuda:0')]\n"
        "    torch.cuda.synchronize()\n"
        "except RuntimeError as error:\n"
        "    print(is_spoiling(error))\n"
    ),
}


@pytest.mark.parametrize("case", SPOILED)
def test_what_spoils_a_process_is_recognized(case: str) -> None:
    imports = (
        "import torch\n"
        f"from {CaptureFailed.__module__} import CaptureFailed\n"
        f"from {Lane.__module__} import Lane\n"
        "from search.workers.trial_errors import is_spoiling\n"
    )
    done = subprocess.run([sys.executable, "-c", imports + SPOILED[case]], capture_output=True, text=True)
    assert done.stdout.strip() == "True", done.stderr


def test_a_group_without_memory_is_halved(begin: Callable[..., LanguageModelRun]) -> None:
    total = torch.cuda.get_device_properties(0).total_memory
    torch.cuda.empty_cache()
    torch.cuda.set_per_process_memory_fraction(min(1.0, (torch.cuda.memory_reserved() + (200 << 20)) / total))
    try:
        with pytest.raises(torch.OutOfMemoryError):
            train_together(AcceleratedGroup([begin(CELLS[-2], seed) for seed in range(64)]))
        train_together(AcceleratedGroup([begin(CELLS[2], 0)]))  # the process goes on
    finally:
        torch.cuda.set_per_process_memory_fraction(1.0)


@pytest.mark.skipif(torch.cuda.device_count() < 2, reason="no CUDA GPU besides the first")
def test_a_worker_on_the_second_gpu_touches_no_other(tmp_path: Path) -> None:
    study = tmp_path / "s.toml"
    study.write_text('[grid]\nmodel = ["bigram"]\nblock_size = [8]\n[training]\nmax_iters = 20\neval_interval = 10\n')
    options = ["--study", str(study), "--storage", f"sqlite:///{tmp_path / 'gpu.db'}", "--out", str(tmp_path)]
    subprocess.run([sys.executable, "-m", "search.run", *options, "--plan-only"], check=True)
    code = (
        "import torch\nfrom pathlib import Path\nfrom search.workers.setup import open_worker\n"
        f"worker = open_worker({str(study)!r}, {options[3]!r}, 'cuda:1', out=Path({str(tmp_path)!r}), fuse='auto')\n"
        "assert worker.run()\nprint(torch.cuda.memory_reserved(0), torch.cuda.memory_reserved(1) > 0)\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.stdout.split() == ["0", "True"], done.stderr


@pytest.mark.soak
@pytest.mark.timeout(600)
@pytest.mark.parametrize(("seeds", "at_most_s"), [(1, 20), (10, 120)])
def test_the_study_is_quick(tmp_path: Path, seeds: int, at_most_s: float) -> None:
    began = time.monotonic()
    command = [sys.executable, "-m", "search.run", "--study", "bigram", "--pruner", "none", "--seeds", str(seeds)]
    subprocess.run([*command, "--storage", f"sqlite:///{tmp_path / 'gpu.db'}", "--out", str(tmp_path)], check=True)
    assert time.monotonic() - began <= at_most_s
