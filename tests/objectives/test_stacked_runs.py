from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import pytest
import torch
from lone_runs import LoneRuns, losses, never, start_of_shakespeare, train_together
from torch import Tensor, nn

from search.models.registry import PE_TYPES
from search.models.stacked import can_stack
from search.objectives.language_model.run import LanguageModelRun
from search.objectives.language_model.stacked_runs import RunGroup
from search.objectives.settings import TrainingSettings

SHORT = TrainingSettings(max_iters=60, eval_interval=30, sample_chars=20)
EVERY_CELL = [
    {"model": "bigram", "block_size": 8},
    {"model": "bigram_mf", "block_size": 8, "n_embd": 32},
    *({"model": "bigram_v2", "block_size": 8, "n_embd": 64, "pe_type": pe_type} for pe_type in PE_TYPES),
]


@pytest.fixture(scope="module")
def lone() -> LoneRuns:
    return LoneRuns(start_of_shakespeare(20_000), SHORT)


@pytest.fixture(scope="module")
def begin(lone: LoneRuns) -> Callable[..., LanguageModelRun]:
    return lone.begin


@pytest.fixture(scope="module")
def alone(lone: LoneRuns) -> Callable[..., LanguageModelRun]:
    return lone.alone


@pytest.mark.parametrize(
    ("cell", "members"),
    [
        *((cell, members) for cell in EVERY_CELL for members in (1, 5)),
        *(pytest.param(cell, 2, marks=pytest.mark.soak) for cell in EVERY_CELL),
        (EVERY_CELL[-1], 15),
    ],
    ids=lambda value: f"{value['model']}-{value.get('pe_type', '')}" if isinstance(value, dict) else None,
)
def test_a_member_of_a_group_learns_what_it_learns_alone(
    cell: dict[str, Any], members: int, begin: Callable[..., LanguageModelRun], alone: Callable[..., LanguageModelRun]
) -> None:
    runs = [begin(cell, seed) for seed in range(members)]
    pruned = {runs[1]: 30, runs[-2]: 0} if members >= 5 else {}
    group = RunGroup(runs)
    assert len(group.stacks) == (members > 1)
    train_together(group, pruned)
    for seed, run in enumerate(runs):
        expected = losses(alone(cell, seed))[: len(losses(run))]
        assert len(losses(run)) == {30: 4, 0: 2}.get(pruned.get(run, 60), 6)
        if members == 1:
            assert losses(run) == expected
        assert losses(run) == pytest.approx(expected, abs=1e-4, rel=0)


def test_members_of_several_encodings_and_settings_train_together(
    begin: Callable[..., LanguageModelRun], alone: Callable[..., LanguageModelRun]
) -> None:
    kinds = [
        ({"model": "bigram_v2", "block_size": 8, "n_embd": 16, "pe_type": pe_type}, settings)
        for pe_type in PE_TYPES
        for settings in (SHORT, TrainingSettings(max_iters=50, eval_interval=20, learning_rate=3e-3))
    ]
    group = RunGroup([begin(cell, 3, settings) for cell, settings in kinds])
    assert sorted(len(stack.runs) for stack in group.stacks) == [2, 4]  # rope, and what adds a table
    runs = group.runs
    train_together(group)
    by_curve = sorted(losses(run) for run in runs)
    for curve, expected in zip(
        by_curve, sorted(losses(alone(cell, 3, settings)) for cell, settings in kinds), strict=True
    ):
        assert curve == pytest.approx(expected, abs=1e-4, rel=0)


def test_a_member_goes_on_from_its_checkpoint_alone_and_the_other_way_round(
    begin: Callable[..., LanguageModelRun], alone: Callable[..., LanguageModelRun]
) -> None:
    cell = EVERY_CELL[-1]
    runs = [begin(cell, seed) for seed in range(3)]
    group = RunGroup(runs)
    group.advance(never)
    steps = iter(range(1000))
    assert group.advance(lambda: next(steps) >= 20) == []  # stopped between two evaluations
    saved = [run.save() for run in runs]
    assert len(saved[0]) < 1.5 * len(begin(cell, 0).save()) + 200_000  # one member's weights, not the whole stack's
    later = [begin(cell, seed) for seed in range(3)]
    for run, payload in zip(later, saved, strict=True):
        run.restore(payload)
    later[0].advance(never)
    train_together(RunGroup(later[1:]))
    assert losses(later[0]) == pytest.approx(losses(alone(cell, 0))[:4], abs=1e-4)
    for seed in (1, 2):
        assert losses(later[seed]) == pytest.approx(losses(alone(cell, seed)), abs=1e-4)


def test_members_that_are_not_equally_far_train_together(
    begin: Callable[..., LanguageModelRun], alone: Callable[..., LanguageModelRun]
) -> None:
    cell = EVERY_CELL[2]
    ahead, behind = begin(cell, 0), begin(cell, 1)
    for _ in range(2):
        ahead.advance(never)
    train_together(RunGroup([ahead, behind]))
    for seed, run in enumerate((ahead, behind)):
        assert losses(run) == pytest.approx(losses(alone(cell, seed)), abs=1e-4)


def test_a_diverging_member_leaves_the_others_as_they_are(
    begin: Callable[..., LanguageModelRun], alone: Callable[..., LanguageModelRun]
) -> None:
    cell = EVERY_CELL[2]
    wild = TrainingSettings(max_iters=60, eval_interval=30, learning_rate=1e30)
    runs = [begin(cell, 0), begin(cell, 1, wild), begin(cell, 2)]
    train_together(RunGroup(runs))
    assert math.isnan(runs[1].curve[-1].value)
    assert losses(runs[1])[:2] == losses(alone(cell, 1))[:2]
    assert runs[1].curve[-1].step == alone(cell, 1, wild).curve[-1].step
    for seed in (0, 2):
        assert losses(runs[seed]) == pytest.approx(losses(alone(cell, seed)), abs=1e-4)


class Plain(nn.Module):
    """A user's model, which knows nothing of stacks."""

    def __init__(self, vocab_size: int, inside: nn.Module) -> None:
        super().__init__()
        self.table = nn.Embedding(vocab_size, vocab_size)
        self.inside = inside

    def forward(self, idx: Tensor) -> Tensor:
        logits: Tensor = self.inside(self.table(idx))
        return logits


class Statistics(nn.Module):
    def __init__(self, vocab_size: int) -> None:
        super().__init__()
        self.norm = nn.BatchNorm1d(vocab_size)

    def forward(self, x: Tensor) -> Tensor:
        normed: Tensor = self.norm(x.transpose(1, 2)).transpose(1, 2)
        return normed


class Branches(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return x * 2 if x.sum() > 0 else x


class Attribute(nn.Module):
    """Computes with something that is no tensor and differs between members."""

    def __init__(self, factor: float) -> None:
        super().__init__()
        self.factor = factor

    def forward(self, x: Tensor) -> Tensor:
        return x * self.factor


@pytest.mark.parametrize(
    ("inside", "stacks"),
    [
        ([nn.LayerNorm(5), nn.LayerNorm(5)], True),
        ([nn.TransformerEncoderLayer(5, 1, 8, dropout=0.0, batch_first=True) for _ in range(2)], True),
        ([nn.Dropout(0.5), nn.Dropout(0.5)], False),
        ([Statistics(5), Statistics(5)], False),
        ([Branches(), Branches()], False),
        ([Attribute(1.0), Attribute(3.0)], False),
    ],
    ids=["norm", "transformer", "dropout", "statistics", "branches", "attribute"],
)
def test_a_model_that_cannot_be_stacked_is_found_out(inside: list[nn.Module], stacks: bool) -> None:
    models = [Plain(5, each) for each in inside]
    before = [{name: value.clone() for name, value in model.state_dict().items()} for model in models]
    text = torch.randint(5, (4, 7), generator=torch.Generator().manual_seed(1))
    drawn = torch.get_rng_state()
    assert can_stack(models, text[:, :-1], text[:, 1:]) is stacks
    assert torch.equal(torch.get_rng_state(), drawn)
    for model, values in zip(models, before, strict=True):
        for name, value in model.state_dict().items():
            assert torch.equal(value, values[name])
