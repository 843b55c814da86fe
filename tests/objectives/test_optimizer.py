from __future__ import annotations

import itertools
import subprocess
import sys
from typing import Any

import torch
from torch import Tensor, nn

from search.objectives.language_model.optimizer import eager


def steps_with(kind: Any, *, fused: bool) -> tuple[list[Tensor], object]:
    """Train, resume from a saved state, train on; return the weights and the optimizer's state."""
    torch.manual_seed(5)
    model = nn.Sequential(nn.Linear(6, 7), nn.Tanh(), nn.Linear(7, 3))
    first, last = list(model[0].parameters()), list(model[2].parameters())
    groups: list[dict[str, Any]] = [{"params": first, "lr": 0.02, "weight_decay": 0.3}, {"params": last}]
    optimizer = kind(groups, lr=0.05, weight_decay=0.01, fused=fused)
    for step in range(12):
        if step == 6:
            saved = optimizer.state_dict()
            optimizer = kind(groups, lr=1.0, weight_decay=0.9, fused=fused)
            optimizer.load_state_dict(saved)
        optimizer.zero_grad(set_to_none=True)
        model(torch.randn(4, 6)).square().sum().backward()
        optimizer.step()
    return [weight.detach() for weight in model.parameters()], optimizer.state_dict()


def test_eager_steps_equal_those_of_torch_to_the_last_bit() -> None:
    for kind, fused in itertools.product((torch.optim.AdamW, torch.optim.SGD), (True, False)):
        weights, state = steps_with(eager(kind), fused=fused)
        expected, expected_state = steps_with(kind, fused=fused)
        assert all(torch.equal(one, other) for one, other in zip(weights, expected, strict=True))
        assert str(state) == str(expected_state)


def test_training_imports_neither_the_compiler_of_torch_nor_boto3() -> None:
    code = (
        "import sys\n"
        "from search.objectives.corpus import encode\n"
        "from search.objectives.language_model.objective import LanguageModelObjective\n"
        "from search.objectives.settings import TrainingSettings\n"
        "from search.workers.setup import prepare_process\n"
        "objective = LanguageModelObjective()\n"
        "prepare_process(objective, 'cpu')\n"
        "settings = TrainingSettings(batch_size=2, max_iters=3, eval_interval=1, eval_batches=1, sample_chars=4)\n"
        "cell = {'model': 'bigram_v2', 'n_embd': 8, 'block_size': 4}\n"
        "run = objective.start(cell, 1, settings, encode('text', 'to be or not to be ' * 9), 'cpu')\n"
        "while not run.finished:\n"
        "    run.advance(lambda: False)\n"
        "run.restore(run.save())\n"
        "print(*{'torch._dynamo', 'torch._inductor', 'sympy', 'boto3'} & set(sys.modules))\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert (done.returncode, done.stdout) == (0, "\n"), done.stdout + done.stderr
