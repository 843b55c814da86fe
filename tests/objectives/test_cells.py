from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from search.models.errors import ModelError
from search.objectives.corpus import encode
from search.objectives.errors import CorpusError, ObjectiveError
from search.objectives.language_model.cells import check_cell
from search.objectives.language_model.objective import start
from search.objectives.settings import TrainingSettings

CORPUS = encode("rhyme", "the cat sat on the mat,\nthe rat sat on the hat.\n" * 12)
CELL = {"model": "bigram_v2", "pe_type": "rope", "n_embd": 8, "block_size": 6}
SHORT = TrainingSettings(batch_size=4, max_iters=11, eval_interval=4)
RETURNS_LOSS = """
from torch import nn

class Net(nn.Embedding):
    def __init__(self, vocab_size):
        super().__init__(vocab_size, vocab_size)

    def forward(self, idx):
        return super().forward(idx), None
"""


@pytest.mark.parametrize(
    ("cell", "error", "message"),
    [
        ({"model": "bigram"}, ObjectiveError, "has no block_size, which the objective language_model needs"),
        ({"block_size": 8}, ObjectiveError, r"has no model, which .* such as model = \["),
        (CELL | {"block_size": 0}, ObjectiveError, "block_size=0 is below 1"),
        (CELL | {"block_size": True}, ObjectiveError, "block_size=True"),
        (
            CELL | {"depth": 2},
            ObjectiveError,
            "neither model 'bigram_v2' nor its training takes depth: the model takes block_size, n_embd, pe_type",
        ),
        (CELL | {"vocab_size": 9}, ObjectiveError, "comes from the corpus"),
        (CELL | {"learning_rate": -1.0}, ObjectiveError, r"learning_rate=-1\.0: Input should be greater than 0"),
        (CELL | {"batch_size": 2.5}, ObjectiveError, r"batch_size=2\.5: Input should be a valid integer"),
        (CELL | {"block_size": 60}, CorpusError, "too short for block_size=60"),
        (CELL | {"n_embd": 7}, ModelError, "n_embd=7 is odd"),
        ({"model": "bigram_mf", "block_size": 8}, ModelError, "needs n_embd"),
        (CELL | {"model": "trigram"}, ModelError, "unknown model 'trigram'"),
    ],
)
def test_a_cell_that_cannot_be_trained_is_refused(cell: dict[str, Any], error: type[Exception], message: str) -> None:
    for refuse in (check_cell, lambda *parts: start(parts[0], 5, parts[1], parts[2], "cpu")):
        with pytest.raises(error, match=message):
            refuse(cell, SHORT, CORPUS)


def test_a_model_that_returns_its_loss_too_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "users_lossy_net.py").write_text(RETURNS_LOSS)
    monkeypatch.syspath_prepend(tmp_path)
    with pytest.raises(ObjectiveError, match=r"returns tuple for one window: its forward must return only the logits"):
        check_cell({"model": "users_lossy_net:Net", "block_size": 6}, SHORT, CORPUS)


def test_a_good_cell_passes() -> None:
    check_cell(CELL, SHORT, CORPUS)
