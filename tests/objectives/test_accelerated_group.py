"""Groups as on an accelerator, trained on the CPU: each member learns what it learns alone, but for rounding."""

from __future__ import annotations

import gc
import math
import weakref
from collections.abc import Callable
from typing import Any

import pytest
import torch
from lone_runs import LoneRuns, losses, never, start_of_shakespeare, train_together
from torch import Tensor, nn

from search.models.registry import GPT_PE_TYPES, PE_TYPES
from search.objectives.language_model import accelerated_group
from search.objectives.language_model.accelerated_group import AcceleratedGroup
from search.objectives.language_model.accelerated_stack import AcceleratedStack
from search.objectives.language_model.cuda_graphs import MAX_STEPS, steps_of_replay
from search.objectives.language_model.lone_run import can_capture
from search.objectives.language_model.run import LanguageModelRun
from search.objectives.language_model.settings import LanguageModelSettings

# At the published learning rate of 1e-2 sums in another order grow to 1e-2 within 200 steps.
CALM = LanguageModelSettings(max_iters=100, eval_interval=50, learning_rate=1e-3, sample_chars=20, batch_size=32)
SHORT = CALM.model_copy(update={"max_iters": 30, "eval_interval": 15, "batch_size": 16})
EVERY_CELL: list[dict[str, Any]] = [
    {"model": "bigram", "block_size": 8},
    {"model": "bigram_mf", "block_size": 8, "n_embd": 32},
    *({"model": "bigram_v2", "block_size": 8, "n_embd": 32, "pe_type": pe_type} for pe_type in PE_TYPES),
    *(
        {"model": "gpt", "block_size": 8, "n_embd": 16, "n_layer": 1, "n_head": 2, "pe_type": pe_type}
        for pe_type in GPT_PE_TYPES
    ),
]
NAMES = [f"{cell['model']}-{cell.get('pe_type', '')}" for cell in EVERY_CELL]


@pytest.fixture(scope="module")
def lone() -> LoneRuns:
    return LoneRuns(start_of_shakespeare(20_000), CALM)


@pytest.fixture(scope="module")
def begin(lone: LoneRuns) -> Callable[..., LanguageModelRun]:
    return lone.begin


@pytest.fixture(scope="module")
def alone(lone: LoneRuns) -> Callable[..., LanguageModelRun]:
    return lone.alone


def assert_as_alone(run: LanguageModelRun, other: LanguageModelRun) -> None:
    assert [point.step for point in run.curve] == [point.step for point in other.curve][: len(run.curve)]
    assert losses(run) == pytest.approx(losses(other)[: len(losses(run))], abs=1e-4, rel=0)
    if run.finished:
        facts, others = run.describe(), other.describe()
        assert facts["tokens"] == others["tokens"]
        assert facts["sample"] == others["sample"]
        assert facts["val_loss_by_position"] == pytest.approx(others["val_loss_by_position"], abs=1e-4)


@pytest.mark.parametrize("cell", EVERY_CELL, ids=NAMES)
@pytest.mark.parametrize("members", [1, 5])
def test_a_member_learns_what_it_learns_alone(
    cell: dict[str, Any], members: int, begin: Callable[..., LanguageModelRun], alone: Callable[..., LanguageModelRun]
) -> None:
    runs = [begin(cell, seed) for seed in range(members)]
    group = AcceleratedGroup(runs)
    assert [len(stack.runs) for stack in group.stacks] == [members]
    train_together(
        group, {runs[1]: 50, runs[3]: 0, runs[4]: 0} if members == 5 else {}
    )  # the last two are stacked again
    for seed, run in enumerate(runs):
        assert_as_alone(run, alone(cell, seed))


@pytest.mark.parametrize("cell", EVERY_CELL, ids=NAMES)
def test_gradients_of_a_step_are_those_of_each_member(
    cell: dict[str, Any], begin: Callable[..., LanguageModelRun]
) -> None:
    published = LanguageModelSettings(max_iters=1, learning_rate=1e-2)
    for members in (1, 3):
        runs, others = ([begin(cell, seed, published) for seed in range(members)] for _ in range(2))
        (stack,) = AcceleratedGroup(runs).stacks
        batches = [run.batches.next() for run in others]
        x, y = (torch.stack(each) for each in zip(*batches, strict=True))
        (gradient,) = torch.autograd.grad(stack._model.losses(x, y).sum(), stack._model.weights)
        for slices, other, (inputs, targets) in zip(stack._model.slices_of(gradient), others, batches, strict=True):
            torch.nn.functional.cross_entropy(other.model(inputs).flatten(0, 1), targets.flatten()).backward()  # type: ignore[no-untyped-call]
            for name, parameter in other.model.named_parameters():
                assert parameter.grad is not None
                error = (slices[name] - parameter.grad).norm() / parameter.grad.norm()
                assert error <= 1e-6, f"{name}: {error}"


VARIATIONS: list[dict[str, Any]] = [
    {"learning_rate": 3e-3},
    {"weight_decay": 0.3, "beta1": 0.4, "beta2": 0.9},
    {"schedule": "cosine", "warmup_iters": 7, "min_lr_ratio": 0.1},
    {"grad_clip": 0.05},
    {"max_iters": 22},
]


@pytest.mark.parametrize(
    "shared",
    [
        {},
        {"optimizer_args": {"eps": 1e-5}, "label_smoothing": 0.1},
        {"optimizer": "sgd", "momentum": 0.9, "learning_rate": 0.1},
        {"optimizer": "sgd", "momentum": 0.9, "optimizer_args": {"nesterov": True}, "weight_decay": 0.1},
        {"optimizer": "sgd", "learning_rate": 0.3},
        {"evaluation": "sampled", "eval_batches": 3},
        {"eval_tokens": 50, "eval_interval": 7},
        {"sample_chars": 0, "eval_interval": 1000},
    ],
    ids=str,
)
def test_settings_of_members(
    shared: dict[str, Any], begin: Callable[..., LanguageModelRun], alone: Callable[..., LanguageModelRun]
) -> None:
    """Members of one stack differ in all that is a number of a step; other settings have stacks of their own."""
    cell = EVERY_CELL[2]
    varied = [
        LanguageModelSettings(**{**SHORT.model_dump(), **shared, **variation})
        for variation in ({}, *VARIATIONS)
        if shared.get("optimizer") != "sgd" or "beta1" not in variation
    ]
    runs = [begin(cell, 3, settings) for settings in varied]
    group = AcceleratedGroup(runs)
    assert [len(stack.runs) for stack in group.stacks] == [len(varied)]
    train_together(group)
    for run, settings in zip(runs, varied, strict=True):
        assert_as_alone(run, alone(cell, 3, settings))


def test_shapes_train_side_by_side(
    begin: Callable[..., LanguageModelRun], alone: Callable[..., LanguageModelRun]
) -> None:
    often = SHORT.model_copy(update={"eval_interval": 4})
    kinds = [(cell, SHORT) for cell in EVERY_CELL] + [(EVERY_CELL[0], often)]
    runs = [begin(cell, 1, settings) for cell, settings in kinds]
    group = AcceleratedGroup(runs)
    # randn and sinpe are one shape; so are the learned and no position, which share none with the others.
    assert sum(len(stack.runs) for stack in group.stacks) == len(runs)
    assert len(group.stacks) > 6
    train_together(group)
    for run, (cell, settings) in zip(runs, kinds, strict=True):
        assert_as_alone(run, alone(cell, 1, settings))


def test_a_stop_and_checkpoints_between_the_two_kinds_of_groups(
    begin: Callable[..., LanguageModelRun], alone: Callable[..., LanguageModelRun]
) -> None:
    cell = EVERY_CELL[-1]
    runs = [begin(cell, seed) for seed in range(3)]
    group = AcceleratedGroup(runs)
    group.advance(never)
    rounds = iter(range(100))
    assert group.advance(lambda: next(rounds) >= 2) == []  # stopped between two evaluations
    assert {run.step for run in runs} == {3 * MAX_STEPS}
    saved = [run.save() for run in runs]
    assert len(saved[0]) < 1.5 * len(begin(cell, 0).save()) + 200_000  # one member's weights, not the whole stack's
    later = [begin(cell, seed) for seed in range(3)]
    for run, payload in zip(later, saved, strict=True):
        run.restore(payload)
    while not later[0].finished:
        later[0].advance(never)
    ahead = begin(cell, 3)  # not equally far: the others wait for it, or it for them
    ahead.advance(never)
    train_together(AcceleratedGroup([*later[1:], ahead]))
    for seed, run in enumerate([*later, ahead]):
        assert_as_alone(run, alone(cell, seed))


def test_a_diverging_member_leaves_the_others_as_they_are(
    begin: Callable[..., LanguageModelRun], alone: Callable[..., LanguageModelRun]
) -> None:
    cell = EVERY_CELL[2]
    wild = SHORT.model_copy(update={"learning_rate": 1e30})
    runs = [begin(cell, 0, SHORT), begin(cell, 1, wild), begin(cell, 2, SHORT)]
    train_together(AcceleratedGroup(runs))
    assert math.isnan(runs[1].curve[-1].value)
    assert runs[1].finished
    for seed in (0, 2):
        assert_as_alone(runs[seed], alone(cell, seed, SHORT))


def test_leavers_keep_their_weights_and_stacks_are_made_anew_when_half_are_gone(
    begin: Callable[..., LanguageModelRun],
) -> None:
    cell = EVERY_CELL[1]
    runs = [begin(cell, seed, SHORT) for seed in range(8)]
    group = AcceleratedGroup(runs)
    made = []
    kept: dict[LanguageModelRun, dict[str, torch.Tensor]] = {}
    for run in runs[:7]:
        made.append(group.stacks[0])
        rounds = iter(range(100))
        group.advance(lambda rounds=rounds: next(rounds) >= 0)  # type: ignore[misc]
        kept[run] = {name: value.clone() for name, value in run.model.state_dict().items()}
        group.remove([run])
    assert [made.index(stack) for stack in made] == [0, 0, 0, 0, 4, 4, 6]
    assert group.runs == [runs[7]]
    for run, values in kept.items():
        for name, value in run.model.state_dict().items():
            assert torch.equal(value, values[name])


def test_a_stack_is_freed_without_the_garbage_collector(begin: Callable[..., LanguageModelRun]) -> None:
    """Its memory must not wait for a collection, which may never come."""
    group = AcceleratedGroup([begin(EVERY_CELL[0], seed, SHORT) for seed in range(2)])
    group.advance(never)
    freed = weakref.ref(group.stacks[0])
    gc.disable()
    try:
        group.remove(group.runs)
        assert freed() is None
    finally:
        gc.enable()


def test_seconds_are_shared_by_all_that_train_at_the_same_time(begin: Callable[..., LanguageModelRun]) -> None:
    runs = [begin(cell, 0, SHORT) for cell in (*EVERY_CELL[:2], EVERY_CELL[0])]
    train_together(AcceleratedGroup(runs))
    seconds = [run.describe()["train_seconds"] for run in runs]
    assert min(seconds) > 0
    assert max(seconds) == pytest.approx(min(seconds), rel=1e-6)


def test_operations_are_counted_while_the_device_is_busy(
    begin: Callable[..., LanguageModelRun], alone: Callable[..., LanguageModelRun], monkeypatch: pytest.MonkeyPatch
) -> None:
    counted: list[object] = []
    monkeypatch.setattr(AcceleratedStack, "is_captured", True)
    monkeypatch.setattr(accelerated_group, "flops_of", lambda run: counted.append(run.read.arguments))
    runs = {(at, seed): begin(cell, seed) for at, cell in enumerate(EVERY_CELL[:3]) for seed in range(2)}
    train_together(AcceleratedGroup(list(runs.values())))
    assert len(counted) == 3  # once a cell
    for (at, seed), run in runs.items():
        assert_as_alone(run, alone(EVERY_CELL[at], seed))


def test_what_cannot_be_stacked_trains_alone(
    begin: Callable[..., LanguageModelRun], alone: Callable[..., LanguageModelRun]
) -> None:
    dropout = {**EVERY_CELL[-1], "dropout": 0.1}
    amsgrad = LanguageModelSettings(**{**SHORT.model_dump(), "optimizer_args": {"amsgrad": True}})
    several = {"gradient_accumulation_steps": 3, "schedule": "cosine", "warmup_iters": 5, "grad_clip": 0.5}
    others = [LanguageModelSettings(**{**SHORT.model_dump(), **more}) for more in (several, {"dtype": "bfloat16"})]
    kinds = [(dropout, SHORT), (EVERY_CELL[0], amsgrad), (EVERY_CELL[0], SHORT)]
    kinds += [(EVERY_CELL[-1], settings) for settings in others]
    runs = [begin(cell, 0, settings) for cell, settings in kinds]
    group = AcceleratedGroup(runs)
    assert [stack.runs for stack in group.stacks] == [[runs[2]]]
    train_together(group)
    for run, (cell, settings) in zip(runs, kinds, strict=True):
        assert_as_alone(run, alone(cell, 0, settings))


class Plain(nn.Module):
    """A user's model."""

    def __init__(self, vocab_size: int) -> None:
        super().__init__()
        self.table = nn.Embedding(vocab_size, vocab_size)

    def forward(self, idx: Tensor) -> Tensor:
        logits: Tensor = self.table(idx)
        return logits


class WithOptimizer(Plain):
    """One that makes its optimizer, whose steps nothing says can be captured."""

    def configure_optimizers(self, learning_rate: float) -> torch.optim.Optimizer:
        return torch.optim.Adagrad(self.parameters(), lr=learning_rate)


@pytest.mark.filterwarnings("ignore:.*torch.jit:DeprecationWarning")  # of torch's compiler
def test_which_steps_are_always_alike(begin: Callable[..., LanguageModelRun]) -> None:
    ours = EVERY_CELL[-1]
    theirs, with_optimizer = (
        {"model": f"{__name__}:{kind.__name__}", "block_size": 8} for kind in (Plain, WithOptimizer)
    )
    for cell, changed, expected in (
        (ours, {}, True),
        (ours, {"dtype": "bfloat16"}, True),
        (ours, {"compile": True}, False),
        (ours, {"optimizer": "torch.optim:Adagrad"}, False),
        (theirs, {}, False),
        (theirs, {"cuda_graph": True}, True),
        (with_optimizer, {"cuda_graph": True}, False),
    ):
        settings = LanguageModelSettings(**{**SHORT.model_dump(), **changed})
        assert can_capture(begin(cell, 0, settings)) is expected, (cell, changed)


@pytest.mark.parametrize("steps", range(1, 60))
def test_few_steps_of_a_replay_are_left_over(steps: int) -> None:
    each = steps_of_replay(steps)
    assert 1 <= each <= MAX_STEPS
    replays = math.ceil(steps / each)
    assert replays * each - steps < replays
    assert steps % MAX_STEPS or each == MAX_STEPS
