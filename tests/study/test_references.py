"""References to modules of ours that are typed as the repository's folders show them."""

from __future__ import annotations

from pathlib import Path

import pytest
from study_files import write_study

from search.study.definition import load_definition
from search.study.references import full_reference

ROOT = Path(__file__).parent.parent.parent


def module(folder: Path, name: str) -> None:
    path = folder.joinpath(*name.split(".")).with_suffix(".py")
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("", encoding="utf-8")


def test_a_module_of_ours_gets_its_full_name(tmp_path: Path) -> None:
    assert full_reference("models.bigram:Bigram", [tmp_path]) == "search.models.bigram:Bigram"
    assert full_reference("models.bigram:Bigram", [None, ROOT]) == "search.models.bigram:Bigram"
    assert full_reference("objectives.language_model:start", []) == "search.objectives.language_model:start"


def test_a_module_of_the_study_wins(tmp_path: Path) -> None:
    module(tmp_path, "models.bigram")
    assert full_reference("models.bigram:Bigram", [tmp_path]) == "models.bigram:Bigram"


def test_a_link_to_ours_is_ours(tmp_path: Path) -> None:
    (tmp_path / "models").symlink_to(ROOT / "search" / "models")
    assert full_reference("models.bigram:Bigram", [tmp_path]) == "search.models.bigram:Bigram"


@pytest.mark.parametrize("reference", ["bigram", "models.nothing:X", "models:X", "mine:X", "search.models.bigram:X", 8])
def test_everything_else_stays(reference: str, tmp_path: Path) -> None:
    assert full_reference(reference, [tmp_path]) == reference


def test_study_files_are_read_so(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    text = (
        '[grid]\nmodel = ["models.bigram:Bigram", "bigram"]\nblock_size = [8]\n'
        '[[baselines]]\nmodel = "models.bigram_mf:BigramMF"\nblock_size = 8\n'
    )
    monkeypatch.chdir(tmp_path)
    definition = load_definition(write_study(tmp_path, text))
    assert definition.grid["model"] == ["search.models.bigram:Bigram", "bigram"]
    assert definition.baselines == [{"model": "search.models.bigram_mf:BigramMF", "block_size": 8}]
    changed = load_definition(write_study(tmp_path, text), ["model=models.bigram_v2:BigramV2"])
    assert changed.grid["model"] == ["search.models.bigram_v2:BigramV2"]
