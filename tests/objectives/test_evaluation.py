from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from search.models.registry import build_model
from search.objectives.language_model import evaluation
from search.objectives.language_model.batches import BatchSampler, windows_of
from search.objectives.language_model.evaluation import full_pass, sampled
from search.objectives.language_model.interface import logits_of

V = 7


def tokens_of(length: int, seed: int = 0) -> Tensor:
    return torch.randint(V, (length,), generator=torch.Generator().manual_seed(seed))


def attention(block_size: int) -> torch.nn.Module:
    return build_model("bigram_v2", {"vocab_size": V, "n_embd": 4, "block_size": block_size, "pe_type": "rope"}, 1)


@given(length=st.integers(2, 60), block_size=st.integers(1, 9), rows=st.integers(1, 4))
@settings(max_examples=40)
def test_a_full_pass_counts_every_character_once(length: int, block_size: int, rows: int) -> None:
    model, tokens = attention(block_size), tokens_of(length)
    by_position: list[list[float]] = [[] for _ in range(block_size)]
    everything: list[float] = []
    with pytest.MonkeyPatch.context() as patch, torch.no_grad():
        patch.setattr(evaluation, "TOKENS_PER_FORWARD", rows * block_size)
        found = full_pass(model, tokens, block_size)
        for start in range(0, length - 1, block_size):
            x, y = tokens[start : start + block_size], tokens[start + 1 : start + block_size + 1]
            losses = F.cross_entropy(model(x[: len(y)].unsqueeze(0))[0], y, reduction="none").tolist()
            everything += losses
            if len(losses) == block_size:
                for position, loss in enumerate(losses):
                    by_position[position].append(loss)
    assert len(everything) == length - 1
    assert found.loss == pytest.approx(sum(everything) / len(everything), rel=1e-5)
    if by_position[0]:
        assert found.by_position == pytest.approx([sum(each) / len(each) for each in by_position], rel=1e-5)


def test_evaluating_leaves_the_mode_of_the_model() -> None:
    model = attention(4)
    full_pass(model, tokens_of(30), 4)
    assert model.training
    model.eval()
    full_pass(model, tokens_of(30), 4)
    assert not model.training


def test_batches_are_windows_and_their_successors() -> None:
    tokens = torch.arange(50)
    x, y = BatchSampler(tokens, 5, 200, torch.Generator().manual_seed(0)).next()
    assert x.shape == y.shape == (200, 5)
    assert torch.equal(y, x + 1)
    assert torch.equal(x, x[:, :1] + torch.arange(5))
    assert set(x[:, 0].tolist()) == set(range(45)), "every start with a successor, and no other"


def test_windows_copy_nothing() -> None:
    tokens = tokens_of(100)
    assert windows_of(tokens, 8).data_ptr() == tokens.data_ptr()
    assert windows_of(tokens, 8).shape == (92, 9)


def test_a_sampler_goes_on_from_its_state() -> None:
    sampler = BatchSampler(tokens_of(100), 4, 3, torch.Generator().manual_seed(0))
    sampler.next()
    state = sampler.state()
    expected = sampler.next()[0]
    sampler.next()
    sampler.restore(state)
    assert torch.equal(sampler.next()[0], expected)


def test_the_sampled_estimate_is_the_mean_of_its_batches() -> None:
    model, tokens = attention(6), tokens_of(200)
    found = sampled(model, tokens, 6, 5, 20, torch.Generator().manual_seed(9))
    sampler = BatchSampler(tokens, 6, 5, torch.Generator().manual_seed(9))
    losses = []
    for _ in range(20):
        x, y = sampler.next()
        losses.append(F.cross_entropy(model(x).flatten(0, 1), y.flatten()).item())
    assert found == pytest.approx(sum(losses) / 20, rel=1e-6)


@pytest.mark.parametrize(("vocab_size", "largest"), [(1, 40), (V, 40), (1 << 22, 4)])
def test_a_large_vocabulary_is_predicted_in_smaller_batches(vocab_size: int, largest: int) -> None:
    model, seen = attention(4), []
    model.register_forward_pre_hook(lambda _, inputs: seen.append(inputs[0].numel()))
    tokens = tokens_of(41)
    assert full_pass(model, tokens, 4, vocab_size).loss == pytest.approx(full_pass(model, tokens, 4).loss)
    assert seen[0] == max(seen[:-1]) == largest


class Told(torch.nn.Module):
    """A model that counts the uses of its `constant_weights`, and requires that each prediction is inside of one."""

    def __init__(self) -> None:
        super().__init__()
        self.inside = self.times = 0

    @contextmanager
    def constant_weights(self) -> Iterator[None]:
        self.inside += 1
        self.times += 1
        yield
        self.inside -= 1

    def forward(self, idx: Tensor) -> Tensor:
        assert self.inside == 1
        return torch.zeros(*idx.shape, V)


class ToldWithLoss(Told):
    def forward(self, idx: Tensor, targets: Tensor) -> tuple[Tensor, None]:  # type: ignore[override]
        return super().forward(idx), None


@pytest.mark.parametrize("model", [Told(), ToldWithLoss()], ids=["logits", "logits and loss"])
def test_evaluations_tell_a_model_that_its_weights_are_constant(model: Told) -> None:
    predictor = logits_of(model)
    full_pass(predictor, tokens_of(40), 4)
    sampled(predictor, tokens_of(40), 4, 2, 3, torch.Generator().manual_seed(1))
    assert (model.times, model.inside) == (2, 0)


def test_a_models_attribute_of_that_name_is_its_own() -> None:
    model = attention(4)
    model.constant_weights = True  # type: ignore[assignment]
    full_pass(model, tokens_of(40), 4)
