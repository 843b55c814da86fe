"""A study of token files from its plan to its replay: two workers, killed half way, resumed, and confirmed."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from gates import wait_until
from study_files import all_rows, program, sqlite

from search import run_study
from search.objectives.corpus import load_corpus
from search.objectives.language_model.objective import start
from search.objectives.settings import TrainingSettings

pytestmark = pytest.mark.usefixtures("forked_torch_workers")

STUDY = """
corpus = "ids"
seeds = 2
first_seed = 7

[grid]
model = ["gated:Counting"]
block_size = [8]

[training]
batch_size = 4
max_iters = 20
eval_interval = 5
sample_chars = 12

[pruner]
name = "none"

[workers]
checkpoint_s = 0
lease_s = 5
"""
# Each training step is a forward pass in training mode; at the twelfth the process waits at a gate.
GATED = """
import os, time
from pathlib import Path
import torch
from torch import nn

steps = 0

class Counting(nn.Module):
    def __init__(self, vocab_size):
        super().__init__()
        self.table = nn.Embedding(vocab_size, vocab_size)

    def forward(self, idx):
        global steps
        if torch.is_grad_enabled():
            steps += 1
            gate = Path(__file__).parent / "gate"
            if steps == 12 and gate.exists():
                (gate / f"reached-{os.getpid()}").touch()
                while not (gate / "open").exists():
                    time.sleep(0.01)
        return self.table(idx)

def text_of(ids):
    return "".join(chr(97 + each) for each in ids)
"""
SETTINGS = TrainingSettings(batch_size=4, max_iters=20, eval_interval=5, sample_chars=12)


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    (tmp_path / "tokens.toml").write_text(STUDY)
    (tmp_path / "gated.py").write_text(GATED)
    (tmp_path / "ids").mkdir()
    ids = np.random.default_rng(0).integers(0, 12, 2000).astype("<u2")
    ids[:1500].tofile(tmp_path / "ids/train.bin")
    ids[1500:].tofile(tmp_path / "ids/val.bin")
    (tmp_path / "ids/meta.json").write_text('{"vocab_size": 12, "decoder": "gated:text_of"}')
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_run_replay_difference_and_confirmation(folder: Path) -> None:
    result = run_study("tokens.toml", storage=sqlite(folder), workers=1, confirm=1, quiet=True)
    assert (result.exit_code, result.counts["complete"]) == (0, 3)  # one of them confirms
    best = result.best
    assert best is not None
    assert best.bits == pytest.approx(best.value / np.log(2))  # a byte a token
    assert result.confirmation is not None
    assert result.confirmation.text == "the second half of the validation text of ids"
    options = ["--study", "tokens.toml", "--storage", sqlite(folder)]
    replayed = program("replay", *options, "--trial", "0", cwd=folder, has_torch=True)
    assert replayed.returncode == 0, replayed.stderr
    assert "match (exact)" in replayed.stdout
    difference = program("status", *options, "--diff", "0", "1", cwd=folder)
    assert difference.returncode == 0, difference.stderr
    page = result.report("html")
    assert "the text ids" in page
    assert "position, tokens" in page
    sample = re.search(r'<pre class="text"[^>]*>([a-l]+)</pre>', page)
    assert sample is not None
    assert len(sample[1]) == 12
    # Other tokens are not the text of the study.
    (folder / "ids/val.bin").write_bytes((folder / "ids/val.bin").read_bytes()[:-2])
    refused = program("replay", *options, "--trial", "0", cwd=folder, has_torch=True)
    assert refused.returncode == 2
    assert "the corpus differs: tokens trains on ids (SHA-256" in refused.stderr
    assert len(refused.stderr.splitlines()) == 1


@pytest.mark.soak
def test_two_workers_are_killed_half_way_and_resumed(folder: Path) -> None:
    gate = folder / "gate"
    gate.mkdir()
    command = [sys.executable, "-m", "search.run", "--study", "tokens.toml", "--workers", "2", "--devices", "cpu"]
    command += ["--storage", sqlite(folder)]
    run = subprocess.Popen(command, cwd=folder, stderr=subprocess.DEVNULL, stdout=subprocess.DEVNULL)
    try:
        wait_until(lambda: len(list(gate.glob("reached-*"))) == 2, "both workers at step 12")
        workers = [int(path.name.removeprefix("reached-")) for path in gate.iterdir()]
        run.kill()
        run.wait(60)
        for pid in workers:
            os.kill(pid, signal.SIGKILL)
    finally:
        run.kill()
    (gate / "open").touch()
    again = subprocess.run(command, cwd=folder, capture_output=True, text=True, timeout=120)
    assert again.returncode == 0, again.stderr
    corpus: Any = load_corpus(folder / "ids")
    logs = "".join(path.read_text() for path in folder.glob("search-out/tokens/logs/*"))
    assert "resume" in logs
    for row in all_rows(sqlite(folder)):
        cell = {name: value for name, value in row["cell"].items() if name != "seed"}
        sys.path.insert(0, str(folder))
        alone = start(cell, row["cell"]["seed"], SETTINGS, corpus, "cpu")
        while not alone.finished:
            alone.advance(lambda: False)
        assert row["value"] == alone.curve[-1].value
    assert json.loads((folder / "ids/meta.json").read_text())["vocab_size"] == 12
