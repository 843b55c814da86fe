from __future__ import annotations

import json
import math
from collections.abc import Callable, Iterator
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from search.objectives.corpus import encode
from search.objectives.errors import CheckpointError
from search.objectives.language_model.evaluation import full_pass
from search.objectives.language_model.objective import start
from search.objectives.language_model.run import LanguageModelRun
from search.objectives.language_model.settings import LanguageModelSettings
from search.objectives.protocol import Evaluation, TrainingRun
from search.objectives.settings import TrainingSettings

CORPUS = encode("rhyme", "the cat sat on the mat,\nthe rat sat on the hat.\n" * 12)
CELL = {"model": "bigram_v2", "pe_type": "rope", "n_embd": 8, "block_size": 6}
SHORT = TrainingSettings(batch_size=4, max_iters=11, eval_interval=4, eval_batches=3, sample_chars=20)
USERS_MODELS = """
from torch import nn

class WithDropout(nn.Module):
    def __init__(self, vocab_size, p=0.3):
        super().__init__()
        self.table = nn.Embedding(vocab_size, vocab_size)
        self.dropout = nn.Dropout(p)

    def forward(self, idx):
        return self.dropout(self.table(idx))

class Exploding(WithDropout):
    calls = 0

    def forward(self, idx):
        self.calls += self.training
        return super().forward(idx) * (float("inf") if self.calls > 6 else 1.0)
"""


def never() -> bool:
    return False


def stop_after(steps: int) -> Callable[[], bool]:
    asked = iter(range(steps - 1))
    return lambda: next(asked, None) is None


def begin(cell: dict[str, Any] = CELL, seed: int = 5, config: TrainingSettings = SHORT) -> LanguageModelRun:
    return start(cell, seed, config, CORPUS, "cpu")


def complete(run: TrainingRun) -> list[Evaluation]:
    while not run.finished:
        run.advance(never)
    return run.curve


def facts(run: LanguageModelRun) -> dict[str, Any]:
    return {key: value for key, value in run.describe().items() if key != "train_seconds"}


@pytest.fixture(scope="module")
def users_models(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    folder = tmp_path_factory.mktemp("users")
    (folder / "users_nets.py").write_text(USERS_MODELS)
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(folder)
        yield "users_nets"


@pytest.fixture(scope="module")
def payload() -> bytes:
    return begin().save()


def test_evaluations_come_at_the_start_each_interval_and_the_end() -> None:
    assert [point.step for point in complete(begin())] == [0, 4, 8, 11]
    exact = SHORT.model_copy(update={"max_iters": 8})
    assert [point.step for point in complete(begin(config=exact))] == [0, 4, 8]


def test_the_default_settings_give_eleven_evaluations() -> None:
    defaults = TrainingSettings()
    assert defaults.max_iters // defaults.eval_interval + 1 == 11


def test_training_learns() -> None:
    curve = complete(begin(config=SHORT.model_copy(update={"max_iters": 150, "eval_interval": 150})))
    assert curve[0].value == pytest.approx(math.log(CORPUS.vocab_size), abs=0.7)
    assert curve[-1].value < curve[0].value - 1


@pytest.mark.parametrize("evaluation", ["full", "sampled"])
def test_the_same_seed_gives_the_same_run_to_the_bit(evaluation: str) -> None:
    config = SHORT.model_copy(update={"evaluation": evaluation})
    first = begin(config=config)
    complete(first)
    torch.rand(3)  # what the process drew before must not matter
    second = begin(config=config)
    assert complete(second) == first.curve
    assert facts(second) == facts(first)
    assert complete(begin(config=config, seed=6)) != first.curve


def test_a_run_leaves_the_global_generator_alone() -> None:
    before = torch.get_rng_state()
    run = begin()
    complete(run)
    run.describe()
    assert torch.equal(torch.get_rng_state(), before)


def test_evaluating_more_often_changes_no_loss() -> None:
    for evaluation in ("full", "sampled"):
        config = SHORT.model_copy(update={"evaluation": evaluation, "max_iters": 8})
        often = config.model_copy(update={"eval_interval": 2})
        rare = {point.step: point for point in complete(begin(config=config))}
        assert rare == {point.step: point for point in complete(begin(config=often)) if point.step in rare}


@pytest.mark.parametrize("evaluation", ["full", "sampled"])
@given(stop=st.integers(1, 11))
@settings(max_examples=11)
def test_a_restored_run_continues_to_the_bit(evaluation: str, stop: int) -> None:
    config = SHORT.model_copy(update={"evaluation": evaluation})
    whole = begin(config=config)
    complete(whole)
    paused = begin(config=config)
    stopping = stop_after(stop)
    while not paused.finished and paused.advance(stopping) is not None:
        pass
    restored = begin(config=config)
    restored.restore(paused.save())
    assert restored.curve == paused.curve
    assert complete(restored) == whole.curve
    assert facts(restored) == facts(whole)


def test_a_pause_comes_after_exactly_the_step_asked_for() -> None:
    run = begin()
    assert run.advance(never) is not None
    assert run.advance(stop_after(2)) is None
    assert run.describe()["tokens"] == 2 * 4 * 6
    resumed = run.advance(never)
    assert resumed is not None
    assert resumed.step == 4


def test_a_run_that_is_always_told_to_stop_still_gets_on() -> None:
    run = begin()
    for _ in range(20):
        if not run.finished:
            run.advance(lambda: True)
    assert run.curve == complete(begin())


def test_a_models_own_draws_survive_a_restore(users_models: str) -> None:
    cell = {"model": f"{users_models}:WithDropout", "block_size": 6}
    whole = complete(begin(cell))
    run = begin(cell)
    run.advance(never)
    run.advance(stop_after(2))
    torch.rand(7)
    restored = begin(cell)
    restored.restore(run.save())
    assert complete(restored) == whole


def test_a_checkpoint_of_another_run_is_refused(payload: bytes) -> None:
    same = begin()
    same.restore(payload)
    others = [
        begin(seed=6),
        begin(CELL | {"pe_type": "sinpe"}),
        begin(config=SHORT.model_copy(update={"learning_rate": 0.5})),
        start(CELL, 5, SHORT, encode("rhyme", CORPUS.decode(CORPUS.tokens.tolist()) + "."), "cpu"),
    ]
    for other in others:
        with pytest.raises(CheckpointError, match="belongs to another run"):
            other.restore(payload)


@given(cut=st.integers(0, 4000), flip=st.integers(0, 4000))
@settings(max_examples=25)
def test_a_damaged_checkpoint_is_refused(payload: bytes, cut: int, flip: int) -> None:
    torn = payload[: min(cut, len(payload) - 1)]
    flipped = bytearray(payload)
    flipped[flip % len(payload)] ^= 1
    for damaged in (torn, bytes(flipped)):
        with pytest.raises(CheckpointError, match="is damaged: delete it"):
            begin().restore(damaged)


def test_a_finished_run_describes_itself_in_json() -> None:
    run = begin()
    assert set(run.describe()) == {"n_params", "tokens", "train_seconds", "flops"}
    complete(run)
    described = json.loads(json.dumps(run.describe()))
    assert described["tokens"] == 11 * 4 * 6
    assert len(described["sample"]) == 20
    assert set(described["sample"]) <= set(CORPUS.characters)
    assert len(described["val_loss_by_position"]) == 6
    assert run.describe() == described, "described twice, computed once"


def test_losses_by_position_average_to_the_validation_loss() -> None:
    corpus = encode("even", "abcd" * 1000 + "a" * 30)
    assert (len(corpus.validation) - 1) % 6 == 0, "a shorter window at the end would count in one of the two only"
    run = start(CELL, 5, SHORT, corpus, "cpu")
    complete(run)
    mean = sum(run.describe()["val_loss_by_position"]) / 6
    assert mean == pytest.approx(run.curve[-1].value, rel=1e-9)


def test_divergence_ends_a_run_at_once(users_models: str) -> None:
    run = begin({"model": f"{users_models}:Exploding", "block_size": 6})
    curve = complete(run)
    assert [point.step for point in curve] == [0, 4, 7]
    assert curve[-1].diverged
    assert math.isnan(curve[-1].value)
    assert set(run.describe()) == {"n_params", "tokens", "train_seconds", "flops"}
    restored = begin({"model": f"{users_models}:Exploding", "block_size": 6})
    restored.restore(run.save())
    assert restored.finished


def test_an_axis_may_be_a_training_setting() -> None:
    run = begin(CELL | {"learning_rate": 0.5, "max_iters": 2})
    assert [point.step for point in complete(run)] == [0, 2]
    assert run.curve != complete(begin(CELL | {"max_iters": 2}))


def test_a_model_without_block_size_still_has_windows() -> None:
    run = begin({"model": "bigram", "block_size": 8})
    complete(run)
    assert run.describe()["tokens"] == 11 * 4 * 8


def test_eval_tokens_bounds_each_full_pass() -> None:
    few = LanguageModelSettings(**SHORT.model_dump(), eval_tokens=7)
    run = begin(config=few)
    first = run.advance(never)
    assert first is not None
    model = start(CELL, 5, few, CORPUS, "cpu").model
    train, validation = (torch.tensor(text[:8]) for text in (CORPUS.train, CORPUS.validation))
    assert (first.train_loss, first.value) == tuple(full_pass(model, text, 6).loss for text in (train, validation))
    curve = complete(run)
    # The details of a finished run are of the same characters, whatever the evaluation.
    by_position = full_pass(run.model, validation, 6).by_position
    assert run.describe()["val_loss_by_position"] == by_position
    sampled = begin(config=few.model_copy(update={"evaluation": "sampled"}))
    complete(sampled)
    assert sampled.describe()["val_loss_by_position"] == by_position
    assert len(curve) == 4
