"""Sums that have the same order each time where the operations of a model can."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from search.objectives.language_model.repeatable_sums import RepeatableSums
from search.objectives.torch_setup import order_of_sums


def put() -> bool:
    """An operation that has no version with a fixed order, on any device."""
    torch.zeros(3).put_(torch.tensor([0, 1]), torch.tensor([1.0, 2.0]))
    return True


@pytest.mark.filterwarnings("ignore:put_ does not have a deterministic:UserWarning")
def test_work_that_cannot_repeat_is_done_and_named_once(caplog: pytest.LogCaptureFixture) -> None:
    sums, modes = RepeatableSums(nn.Linear(1, 1), torch.device("cpu")), list[int]()

    def work() -> bool:
        modes.append(torch.get_deterministic_debug_mode())
        return put()

    with order_of_sums("default"):
        assert sums.do(work)
        assert sums.do(work)
        assert torch.get_deterministic_debug_mode() == 0
    assert modes == [2, 1, 1]
    assert [each.getMessage() for each in caplog.records] == [
        "losses of this model differ in their last digits from run to run: "
        "put_ does not have a deterministic implementation"
    ]


def test_work_that_repeats_is_done_strictly_and_other_errors_pass() -> None:
    sums, modes = RepeatableSums(nn.Linear(1, 1), torch.device("cpu")), list[int]()

    def work() -> bool:
        modes.append(torch.get_deterministic_debug_mode())
        return False

    def fail() -> bool:
        raise RuntimeError("CUDA error: an illegal memory access was encountered")

    assert not sums.do(work)
    with pytest.raises(RuntimeError, match="illegal memory access"):
        sums.do(fail)
    assert not sums.do(work)
    assert modes == [2, 2]


def outputs_and_buffers(*, cannot_repeat: bool) -> list[torch.Tensor]:
    """What three works give that use random numbers and change buffers."""
    torch.manual_seed(1)
    model = nn.Sequential(nn.BatchNorm1d(3), nn.Dropout(0.5))
    sums = RepeatableSums(model, torch.device("cpu"))
    outputs: list[torch.Tensor] = []

    def work() -> bool:
        outputs.append(model(torch.arange(12.0).view(4, 3)))
        return put() if cannot_repeat else True

    assert all(sums.do(work) for _ in range(3))
    assert len(outputs) == 3 + cannot_repeat
    return [*outputs[-3:], *model.buffers()]


@pytest.mark.filterwarnings("ignore:put_ does not have a deterministic:UserWarning")
def test_work_that_is_begun_again_has_no_effect_of_its_first_half() -> None:
    again, once = outputs_and_buffers(cannot_repeat=True), outputs_and_buffers(cannot_repeat=False)
    assert all(torch.equal(one, other) for one, other in zip(again, once, strict=True))
