"""Each training setting, against a plain loop in torch with the same random draws."""

from __future__ import annotations

import math
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import nn
from torch.optim import Optimizer

from search.models.registry import build_model
from search.objectives.corpus import encode
from search.objectives.errors import ObjectiveError
from search.objectives.language_model.evaluation import full_pass
from search.objectives.language_model.objective import LanguageModelObjective, start
from search.objectives.language_model.rng import generator_for
from search.objectives.language_model.run import LanguageModelRun
from search.objectives.language_model.schedule import rate_factor
from search.objectives.language_model.settings import LanguageModelSettings
from search.objectives.language_model.stacked_runs import RunGroup
from search.objectives.settings import read_settings

CORPUS = encode("rhyme", "the cat sat on the mat,\nthe rat sat on the hat.\n" * 12)
CELL = {"model": "bigram_v2", "pe_type": "rope", "n_embd": 8, "block_size": 6}
STEPS, BATCH, SEED = 12, 4, 5
BASE: dict[str, Any] = {"batch_size": BATCH, "max_iters": STEPS, "eval_interval": 4, "sample_chars": 10}
# By name: what differs from the defaults. Small numbers of steps, in which each setting has an effect.
SETTINGS: dict[str, dict[str, Any]] = {
    "betas": {"beta1": 0.5, "beta2": 0.8},
    "decay": {"weight_decay": 0.7},
    "epsilon": {"optimizer_args": {"eps": 0.1}},
    "sgd": {"optimizer": "sgd", "weight_decay": 0.1},
    "nesterov": {"optimizer": "sgd", "momentum": 0.9, "optimizer_args": {"nesterov": True}},
    "module:Class": {"optimizer": "torch.optim:RMSprop", "momentum": 0.5},
    "warm-up": {"warmup_iters": 5},
    "cosine": {"schedule": "cosine", "min_lr_ratio": 0.1},
    "linear after a warm-up": {"schedule": "linear", "warmup_iters": 3},
    "wsd": {"schedule": "wsd", "warmup_iters": 2, "decay_share": 0.5, "min_lr_ratio": 0.2},
    "clip": {"grad_clip": 0.3},
    "smoothing": {"label_smoothing": 0.2},
    "accumulation": {"gradient_accumulation_steps": 3},
    "bfloat16": {"dtype": "bfloat16"},
    "all": {
        "optimizer": "sgd",
        "momentum": 0.8,
        "schedule": "cosine",
        "warmup_iters": 3,
        "grad_clip": 0.5,
        "label_smoothing": 0.1,
        "gradient_accumulation_steps": 2,
        "dtype": "bfloat16",
    },
}
ALONE = ("module:Class", "accumulation", "bfloat16", "all")  # what a stack does not take
USERS_MODELS = '''
from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F
from torch import nn

class Net(nn.Module):
    def __init__(self, vocab_size, n_embd=8):
        super().__init__()
        self.table = nn.Embedding(vocab_size, n_embd)
        self.head = nn.Linear(n_embd, vocab_size)

    def forward(self, idx):
        return self.head(self.table(idx))

@dataclass
class LikeNanoGPTConfig:
    vocab_size: int = 50304
    n_embd: int = 8
    block_size: int = 1024

class LikeNanoGPT(Net):
    """The logits of the last position only, unless it gets targets."""

    def __init__(self, config):
        super().__init__(config.vocab_size, config.n_embd)
        self.block_size = config.block_size

    def forward(self, idx, targets=None):
        if targets is None:
            return super().forward(idx[:, [-1]]), None
        logits = super().forward(idx)
        return logits, F.cross_entropy(logits.flatten(0, 1), targets.view(-1), ignore_index=-1)

    def configure_optimizers(self, weight_decay, learning_rate, betas, device_type):
        decayed = [p for p in self.parameters() if p.dim() > 1]
        others = [p for p in self.parameters() if p.dim() < 2]
        groups = [{"params": decayed, "weight_decay": weight_decay}, {"params": others, "weight_decay": 0.0}]
        return torch.optim.AdamW(groups, lr=learning_rate, betas=betas)

class OneSetting(Net):
    def configure_optimizers(self, train_config):
        return torch.optim.Adagrad(self.parameters(), lr=train_config.learning_rate)

class OwnLoss(Net):
    def loss(self, logits, targets):
        return F.multi_margin_loss(logits.flatten(0, 1), targets.view(-1))

def even_starts(tokens, block_size, batch_size, generator):
    assert tokens.dtype == np.int64 and tokens.max() < 30
    return 2 * torch.randint((len(tokens) - block_size) // 2, (batch_size,), generator=generator)

def too_few(tokens, block_size, batch_size, generator):
    return torch.zeros(batch_size - 1, dtype=torch.int64)

def too_far(tokens, block_size, batch_size, generator):
    return torch.full((batch_size,), len(tokens) - block_size)

def a_list(tokens, block_size, batch_size, generator):
    return [0] * batch_size

class Whole(Net):
    def forward(self, idx):
        return super().forward(idx).long()

class VectorLoss(Net):
    def loss(self, logits, targets):
        return F.cross_entropy(logits.flatten(0, 1), targets.view(-1), reduction="none")

class DetachedLoss(Net):
    def loss(self, logits, targets):
        return F.cross_entropy(logits.flatten(0, 1), targets.view(-1)).detach()

class NoLoss(LikeNanoGPT):
    def forward(self, idx, targets=None):
        return super().forward(idx, targets)[0], None

class FailingLoss(Net):
    def loss(self, logits, targets):
        return logits.no_such_thing

class NoOptimizer(Net):
    def configure_optimizers(self, settings):
        return [torch.optim.SGD(self.parameters(), lr=0.1)], []

class Curious(Net):
    def configure_optimizers(self, settings, moon):
        return None

class Failing(Net):
    def configure_optimizers(self, settings):
        raise KeyError("no groups")
'''


def never() -> bool:
    return False


def begin(settings: dict[str, Any], cell: dict[str, Any] = CELL, seed: int = SEED) -> LanguageModelRun:
    return start(cell, seed, LanguageModelSettings(**BASE | settings), CORPUS, "cpu")


def complete(run: LanguageModelRun) -> LanguageModelRun:
    while not run.finished:
        run.advance(never)
    return run


def losses(run: LanguageModelRun) -> list[tuple[float, float]]:
    return [(point.metrics["train_loss"], point.value) for point in run.curve]


@pytest.fixture(scope="module")
def nets(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    folder = tmp_path_factory.mktemp("nets")
    (folder / "hooked_nets.py").write_text(USERS_MODELS)
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(folder)
        yield "hooked_nets"


def plain_rate(step: int, s: LanguageModelSettings) -> float:
    """The learning rate of a step, by the formulas of nanoGPT and of the papers."""
    if step < s.warmup_iters:
        return s.learning_rate * (step + 1) / (s.warmup_iters + 1)
    lowest = s.min_lr_ratio * s.learning_rate
    if s.schedule == "constant":
        return s.learning_rate
    if s.schedule == "wsd":
        first = round(s.max_iters * (1 - s.decay_share))
        share = max(0.0, (step - first) / (s.max_iters - first))
        return lowest + (1 - share) * (s.learning_rate - lowest)
    share = (step - s.warmup_iters) / (s.max_iters - s.warmup_iters)
    weight = 0.5 * (1.0 + math.cos(math.pi * share)) if s.schedule == "cosine" else 1 - share
    return lowest + weight * (s.learning_rate - lowest)


def plain_optimizer(model: nn.Module, s: LanguageModelSettings) -> Optimizer:
    weights = list(model.parameters())
    if s.optimizer == "torch.optim:RMSprop":
        return torch.optim.RMSprop(weights, lr=s.learning_rate, weight_decay=s.weight_decay, momentum=s.momentum)
    more: dict[str, Any] = dict(s.optimizer_args)
    if s.optimizer == "sgd":
        return torch.optim.SGD(weights, lr=1.0, weight_decay=s.weight_decay, momentum=s.momentum, fused=True, **more)
    return torch.optim.AdamW(weights, lr=1.0, betas=(s.beta1, s.beta2), weight_decay=s.weight_decay, fused=True, **more)


def plain_loop(s: LanguageModelSettings) -> float:
    """The validation loss at the end of a hand-written training."""
    arguments = {"vocab_size": CORPUS.vocab_size, **{key: CELL[key] for key in ("pe_type", "n_embd", "block_size")}}
    model = build_model("bigram_v2", arguments, SEED)
    optimizer = plain_optimizer(model, s)
    text, draws = torch.tensor(CORPUS.train), generator_for(SEED, "batches")
    block = CELL["block_size"]
    assert isinstance(block, int)
    autocast = torch.autocast("cpu", torch.bfloat16, enabled=s.dtype == "bfloat16")
    for step in range(s.max_iters):
        for group in optimizer.param_groups:
            group["lr"] = plain_rate(step, s)
        optimizer.zero_grad()
        for _ in range(s.gradient_accumulation_steps):
            starts = torch.randint(len(text) - block, (s.batch_size,), generator=draws)
            x = torch.stack([text[i : i + block] for i in starts])
            y = torch.stack([text[i + 1 : i + block + 1] for i in starts])
            with autocast:
                logits = model(x)
                loss = F.cross_entropy(logits.flatten(0, 1), y.flatten(), label_smoothing=s.label_smoothing)
            (loss / s.gradient_accumulation_steps).backward()  # type: ignore[no-untyped-call]
        if s.grad_clip:
            torch.nn.utils.clip_grad_norm_(model.parameters(), s.grad_clip)
        optimizer.step()
    with autocast:
        return full_pass(model, torch.tensor(CORPUS.selection), block).loss


@pytest.mark.parametrize("name", SETTINGS)
def test_a_setting_trains_as_a_plain_loop_does(name: str) -> None:
    settings = LanguageModelSettings(**BASE | SETTINGS[name])
    got = complete(begin(SETTINGS[name])).curve[-1].value
    assert got == pytest.approx(plain_loop(settings), rel=1e-6)
    assert got != complete(begin({})).curve[-1].value  # the setting has an effect


def test_tf32_is_float32_on_a_cpu() -> None:
    assert losses(complete(begin({"dtype": "tf32"}))) == losses(complete(begin({})))


@pytest.mark.parametrize("name", SETTINGS)
def test_a_run_that_was_interrupted_ends_with_the_same_losses_to_the_last_bit(name: str) -> None:
    whole = complete(begin(SETTINGS[name]))
    for steps in (1, 5, 10):
        left = begin(SETTINGS[name])
        taken = iter(range(steps))
        while left.step < steps:
            left.advance(lambda taken=taken: next(taken, None) is None)  # type: ignore[misc]
        again = begin(SETTINGS[name])
        again.restore(left.save())
        assert losses(complete(again)) == losses(whole)
        assert again.describe()["tokens"] == whole.describe()["tokens"]


@pytest.mark.parametrize("name", [name for name in SETTINGS if name not in ALONE])
def test_a_setting_trains_in_a_stack_as_it_does_alone(name: str) -> None:
    """One that has left the stack at the second evaluation goes on alone, and another comes from a checkpoint."""
    runs = [begin(SETTINGS[name], seed=seed) for seed in range(4)]
    while runs[3].step < 7:
        runs[3].advance(lambda: runs[3].step >= 7)
    group = RunGroup(runs)
    assert [len(stack.runs) for stack in group.stacks] == [4]
    while group.runs:
        leavers = [run for run, at in group.advance(never) if run.finished or (run is runs[1] and at.step == 4)]
        group.remove(leavers)
    complete(runs[1])
    for seed, run in enumerate(runs):
        for got, expected in zip(losses(run), losses(complete(begin(SETTINGS[name], seed=seed))), strict=True):
            assert got == pytest.approx(expected, abs=1e-5)


def test_a_stack_has_runs_of_different_rates_decays_schedules_and_clips() -> None:
    kinds: list[dict[str, Any]] = [
        {"learning_rate": 3e-3},
        {"schedule": "cosine", "warmup_iters": 2},
        {"schedule": "wsd", "weight_decay": 0.5},
        {"grad_clip": 0.2, "beta2": 0.95},
        {},
        {},
    ]
    runs = [begin(kind, seed=seed) for seed, kind in enumerate(kinds)]
    group = RunGroup(runs)
    assert [len(stack.runs) for stack in group.stacks] == [6]
    while group.runs:
        group.remove([run for run, _ in group.advance(never) if run.finished])
    for seed, kind in enumerate(kinds):
        assert losses(runs[seed])[-1] == pytest.approx(losses(complete(begin(kind, seed=seed)))[-1], abs=1e-5)


@pytest.mark.parametrize("name", ALONE)
def test_other_settings_train_alone_in_a_group_to_the_last_bit(name: str) -> None:
    runs = [begin(SETTINGS[name], seed=seed) for seed in range(2)]
    group = RunGroup(runs)
    assert group.stacks == []
    while group.runs:
        group.remove([run for run, _ in group.advance(never) if run.finished])
    assert [losses(run) for run in runs] == [losses(complete(begin(SETTINGS[name], seed=seed))) for seed in range(2)]


def test_runs_of_other_optimizers_and_smoothings_are_not_stacked_together() -> None:
    kinds: list[dict[str, Any]] = [{}, {"optimizer": "sgd"}, {"label_smoothing": 0.1}]
    group = RunGroup([begin(kind) for kind in kinds for _ in range(2)])
    assert sorted(len(stack.runs) for stack in group.stacks) == [2, 2, 2]


@pytest.mark.parametrize("schedule", ["constant", "cosine", "linear", "wsd"])
def test_a_schedule_rises_stays_and_falls_where_it_says(schedule: Any) -> None:
    s = LanguageModelSettings(max_iters=100, warmup_iters=10, schedule=schedule, min_lr_ratio=0.1, decay_share=0.3)
    rates = [rate_factor(step, s) for step in range(100)]
    assert rates[:10] == [(step + 1) / 11 for step in range(10)]
    assert max(rates) == rates[10] == 1.0
    expected = {"constant": 1.0, "wsd": 1.0, "cosine": 0.55, "linear": 0.55}[schedule]
    assert rates[55] == pytest.approx(expected, abs=0.01)
    if schedule != "constant":
        assert rates[10:] == sorted(rates[10:], reverse=True)
        assert 0.1 < rates[-1] < 0.14
    assert rates == [pytest.approx(plain_rate(step, s) / s.learning_rate) for step in range(100)]


def test_patience_ends_a_run_after_evaluations_without_a_new_best() -> None:
    kind = {"learning_rate": 3.0, "max_iters": 200, "eval_interval": 2}  # too large a rate: it soon gets worse
    endless = [point.value for point in complete(begin(kind)).curve]
    for patience in (1, 3):
        run = complete(begin(kind | {"patience": patience}))
        values = [point.value for point in run.curve]
        assert values == endless[: len(values)]
        assert len(values) - 1 - values.index(min(values)) == patience < len(endless) - 1
        assert run.describe()["sample"]
        again = begin(kind | {"patience": patience})
        again.restore(run.save())
        assert again.finished


@pytest.mark.soak  # torch compiles for a quarter of a minute
@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_a_compiled_model_trains_to_the_same_loss() -> None:
    cell = {"model": "bigram", "block_size": 6}
    run = complete(begin({"compile": True}, cell))
    assert run.curve[-1].value == pytest.approx(complete(begin({}, cell)).curve[-1].value, rel=1e-5)
    assert not RunGroup([begin({"compile": True}, cell) for _ in range(2)]).stacks


@pytest.mark.soak
def test_without_a_compiler_the_message_says_what_to_install(tmp_path: Path) -> None:
    code = (
        "from search.objectives.corpus import encode\n"
        "from search.objectives.language_model.objective import start\n"
        "from search.objectives.settings import LanguageModelSettings\n"
        "settings = LanguageModelSettings(batch_size=2, max_iters=3, compile=True)\n"
        "run = start({'model': 'bigram', 'block_size': 4}, 1, settings, encode('text', 'to be or not ' * 9), 'cpu')\n"
        "run.take_step()\n"
    )
    environment = {**os.environ, "CXX": "no-such-compiler", "TORCHINDUCTOR_CACHE_DIR": str(tmp_path)}
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, env=environment)
    last = done.stderr.strip().splitlines()[-1]
    assert last.startswith("search.objectives.errors.ObjectiveError: torch.compile failed: ")
    assert last.endswith("install what it needs (on a CPU a C++ compiler), or set compile = false")


def test_a_model_that_returns_logits_and_loss_and_makes_its_optimizer_is_understood(nets: str) -> None:
    settings = {"beta1": 0.7, "weight_decay": 0.4, "schedule": "cosine", "grad_clip": 0.5}
    cell = {"model": f"{nets}:LikeNanoGPT", "block_size": 6}
    objective = LanguageModelObjective()
    objective.check_cell(cell, LanguageModelSettings(**BASE | settings), CORPUS)
    run = complete(begin(settings, cell))
    assert run.model.block_size == 6
    assert run.model.get_parameter("table.weight").shape == (CORPUS.vocab_size, 8)
    facts = run.describe()
    assert len(facts["val_loss_by_position"]) == 6
    assert len(facts["sample"]) == 10
    assert [group["weight_decay"] for group in run.optimizer.param_groups] == [0.4, 0.0]
    assert {group["betas"] for group in run.optimizer.param_groups} == {(0.7, 0.999)}
    again = begin(settings, cell)
    again.advance(never)
    resumed = begin(settings, cell)
    resumed.restore(again.save())
    assert losses(complete(resumed)) == losses(run)
    assert not RunGroup([begin(settings, cell) for _ in range(2)]).stacks


def test_a_models_own_loss_trains_it_and_its_evaluations_stay_cross_entropies(nets: str) -> None:
    own = complete(begin({}, {"model": f"{nets}:OwnLoss", "block_size": 6}))
    plain = complete(begin({}, {"model": f"{nets}:Net", "block_size": 6}))
    assert own.curve[0] == plain.curve[0]
    assert own.curve[-1].value != plain.curve[-1].value
    one = complete(begin({}, {"model": f"{nets}:OneSetting", "block_size": 6}))
    assert type(one.optimizer) is torch.optim.Adagrad


def test_a_function_draws_the_batches(nets: str) -> None:
    """Whole, interrupted, and in a stack."""
    settings = {"batches": f"{nets}:even_starts"}
    runs = [begin(settings, seed=seed) for seed in range(2)]
    assert all(int(start) % 2 == 0 for _ in range(5) for start in begin(settings).batches.draw())
    group = RunGroup(runs)
    assert len(group.stacks) == 1
    while group.runs:
        group.remove([run for run, _ in group.advance(never) if run.finished])
    left = begin(settings, seed=0)
    left.advance(never)
    left.advance(never)
    again = begin(settings, seed=0)
    again.restore(left.save())
    alone = losses(complete(begin(settings, seed=0)))
    assert losses(complete(again)) == alone != losses(complete(begin({}, seed=0)))
    assert losses(runs[0])[-1] == pytest.approx(alone[-1], abs=1e-5)


@pytest.mark.parametrize(
    ("name", "message"),
    [
        (
            "too_few",
            r"too_few' returned a tensor of shape \(3,\), torch.int64 from 0 to 0: let it return 4 int64 numbers",
        ),
        ("too_far", r"too_far' returned a tensor of shape \(4,\), torch.int64 from \d+ to \d+: let it return 4 int64"),
        ("a_list", "a_list' returned list: let it return 4 int64 numbers from 0 to"),
    ],
)
def test_batches_that_do_not_fit_fail_the_trial_with_what_is_wrong(nets: str, name: str, message: str) -> None:
    with pytest.raises(ObjectiveError, match=message):
        complete(begin({"batches": f"{nets}:{name}"}))


@pytest.mark.parametrize(
    ("model", "settings", "message"),
    [
        ("NoOptimizer", {}, "configure_optimizers of the model returned tuple: let it return a torch.optim.Optimizer"),
        ("Curious", {}, "configure_optimizers of the model has the parameters moon; it gets settings, or some of"),
        ("Failing", {}, "configure_optimizers of the model failed: KeyError: 'no groups'"),
        ("OwnLoss", {"label_smoothing": 0.1}, "label_smoothing=0.1 has no effect, because the model computes its"),
        (
            "Net",
            {"optimizer": "torch.optim:Nadal"},
            "optimizer 'torch.optim:Nadal' does not exist: choose one of adamw",
        ),
        ("Net", {"optimizer": "torch:zeros"}, "optimizer 'torch:zeros' is not a torch.optim.Optimizer: choose one of"),
        ("Net", {"optimizer": "nowhere.at.all:A"}, "module 'nowhere.at.all' does not import"),
        ("Net", {"batches": "nowhere.at.all:a"}, "batches 'nowhere.at.all:a': module 'nowhere.at.all' does not import"),
        ("Net", {"batches": "{nets}:too_few"}, "too_few' returned a tensor of shape .* let it return 4 int64 numbers"),
        ("Net", {"batches": "{nets}:Net"}, "batches '.*:Net' failed: TypeError: "),
        ("Whole", {}, "returns logits of type torch.int64: return floating-point numbers"),
        ("VectorLoss", {}, r"the loss of model .* is \(6,\), torch.float32: return one floating-point number"),
        ("DetachedLoss", {}, r"is \(\), torch.float32, without a gradient: return one floating-point number"),
        ("NoLoss", {}, "the loss of model .* is NoneType: return one floating-point number"),
        ("FailingLoss", {}, "the loss of model .* failed: AttributeError: "),
        ("Net", {"batches": "torch:no_starts"}, "batches 'torch:no_starts' does not exist: name a function of tokens"),
        ("Net", {"optimizer_args": {"speed": 3}}, r"'adamw' cannot be made with optimizer_args speed=3: "),
        ("Net", {"optimizer": "sgd", "optimizer_args": {"nesterov": True}}, "Nesterov momentum requires"),
    ],
)
def test_what_a_model_or_an_optimizer_refuses_is_said_before_anything_is_planned(
    nets: str, model: str, settings: dict[str, Any], message: str
) -> None:
    cell = {"model": f"{nets}:{model}", "block_size": 6}
    named = {key: str(value).format(nets=nets) if key == "batches" else value for key, value in settings.items()}
    with pytest.raises(ObjectiveError, match=message):
        LanguageModelObjective().check_cell(cell, LanguageModelSettings(**BASE | named), CORPUS)


@pytest.mark.parametrize(
    ("values", "message"),
    [
        (
            {"optimizer": "adam"},
            "optimizer='adam': choose one of adamw, sgd, or name a torch optimizer as module:Class",
        ),
        ({"optimizer": "LION"}, "optimizer='LION': choose one of adamw, sgd"),
        ({"optimizer_args": {"lr": 3.0}}, "lr is set by learning_rate; remove it from optimizer_args"),
        ({"batches": "shuffled"}, "batches='shuffled': give 'uniform', or name a function as module:function"),
        ({"schedule": "cosin"}, "schedule='cosin': Input should be 'constant', 'cosine', 'linear' or 'wsd'"),
        ({"warmup_iters": 100, "max_iters": 100}, "warmup_iters=100 is not below max_iters=100"),
        ({"warmup_iters": -1}, "warmup_iters=-1"),
        ({"label_smoothing": 1.0}, "label_smoothing=1.0: Input should be less than 1"),
        ({"beta2": 1.0}, "beta2=1.0: Input should be less than 1"),
        ({"min_lr_ratio": 1.5}, "min_lr_ratio=1.5"),
        ({"grad_clip": -1.0}, "grad_clip=-1.0"),
        ({"dtype": "float16"}, "dtype='float16': Input should be 'float32', 'tf32' or 'bfloat16'"),
        ({"gradient_accumulation_steps": 0}, "gradient_accumulation_steps=0"),
        ({"patience": 1.5}, "patience=1.5"),
        ({"warm_up": 10}, r"unknown setting 'warm_up' \(did you mean 'warmup_iters'\?\)"),
        ({"compile": "yes"}, "compile='yes'"),
        ({"cuda_graph": True, "compile": True}, "cuda_graph has no effect with compile; leave out one of them"),
        ({"cuda_graph": True, "optimizer": "torch.optim:Adam"}, "no effect with optimizer = 'torch.optim:Adam'"),
    ],
)
def test_a_wrong_setting_is_named_with_its_value_and_the_choices(values: dict[str, Any], message: str) -> None:
    with pytest.raises(ObjectiveError, match=message):
        read_settings(LanguageModelSettings, values)


def test_checkpoints_of_versions_with_fewer_settings_still_fit() -> None:
    """The identity of a run names the settings that came later only if they are set."""
    plain, cosine = begin({}), begin({"schedule": "cosine"})
    assert "schedule" not in plain._fingerprint
    assert '"schedule":"cosine"' in cosine._fingerprint
    assert '"batch_size":4' in plain._fingerprint
