from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from search.models.bigram_v2 import BigramV2
from search.models.errors import ModelError
from search.models.positional import positional_encoding
from search.models.registry import MODELS, PE_TYPES, build_model, count_parameters, model_arguments, model_class

V2: dict[str, Any] = {"vocab_size": 7, "n_embd": 4, "block_size": 5, "pe_type": "randn"}


@pytest.mark.parametrize("name", MODELS)
def test_every_registered_model_is_found(name: str) -> None:
    assert issubclass(model_class(name), nn.Module)


def test_arguments_are_read_off_the_constructor() -> None:
    assert model_arguments("bigram") == ({"vocab_size"}, set())
    assert model_arguments("bigram_v2") == ({"vocab_size", "n_embd", "block_size"}, {"pe_type"})
    assert model_arguments("gpt") == (
        {"vocab_size", "block_size"},
        {"n_layer", "n_head", "n_embd", "dropout", "pe_type", "bias", "tie_weights"},
    )


CONFIGURED = """
from __future__ import annotations
from dataclasses import dataclass
from torch import nn

@dataclass
class ByNameConfig:
    vocab_size: int
    width: int = 3

class ByName(nn.Module):
    def __init__(self, config):
        super().__init__()
        self.table = nn.Embedding(config.vocab_size, config.width)

class Typed(ByName):
    def __init__(self, config: ByNameConfig) -> None:
        super().__init__(config)

class Unknown(nn.Module):
    def __init__(self, config: SomethingElse) -> None:
        super().__init__()
        self.size = config

class Several(nn.Module):
    def __init__(self, config, width=3):
        super().__init__()
"""


def test_a_constructor_that_takes_a_config_has_its_fields_as_arguments(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "configured_nets.py").write_text(CONFIGURED)
    monkeypatch.syspath_prepend(tmp_path)
    for name in ("configured_nets:ByName", "configured_nets:Typed"):
        assert model_arguments(name) == ({"vocab_size"}, {"width"})
        assert build_model(name, {"vocab_size": 5, "width": 2}, 1).get_parameter("table.weight").shape == (5, 2)
        with pytest.raises(ModelError, match="does not take depth: it takes vocab_size, width"):
            build_model(name, {"vocab_size": 5, "depth": 2}, 1)
        with pytest.raises(ModelError, match="needs vocab_size"):
            build_model(name, {}, 1)
    assert model_arguments("configured_nets:Unknown") == ({"config"}, set())
    assert build_model("configured_nets:Unknown", {"config": 4}, 1).size == 4
    assert model_arguments("configured_nets:Several") == ({"config"}, {"width"})


@pytest.mark.parametrize("pe_type", PE_TYPES)
def test_every_listed_encoding_builds(pe_type: str) -> None:
    assert positional_encoding(pe_type, 4, 3)(torch.zeros(2, 3, 4), torch.arange(3)).shape == (2, 3, 4)


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("trigram", "unknown model 'trigram': choose one of bigram, bigram_mf, bigram_v2, gpt"),
        ("no_such_module:Net", "module 'no_such_module' does not import"),
        ("search.models.bigram:Trigram", "has no class 'Trigram'; it has .*Bigram"),
        ("search.models.errors:ModelError", r"is not a torch\.nn\.Module"),
    ],
)
def test_a_wrong_name_says_what_to_do(name: str, message: str) -> None:
    with pytest.raises(ModelError, match=message):
        model_class(name)


@pytest.mark.parametrize(
    ("name", "change", "message"),
    [
        ("bigram_v2", {"width": 3}, "does not take width: it takes block_size, n_embd, pe_type, vocab_size"),
        ("bigram_v2", {"pe_type": "alibi"}, "unknown pe_type 'alibi': choose one of randn, sinpe, rope"),
        ("bigram_v2", {"n_embd": 0}, "n_embd=0 is not a size"),
        ("bigram_v2", {"n_embd": 4.0}, r"n_embd=4\.0 is not a size"),
        ("bigram_v2", {"n_embd": True}, "n_embd=True is not a size"),
        ("bigram_v2", {"block_size": "8"}, "block_size='8' is not a size"),
        ("bigram_v2", {"vocab_size": -1}, "vocab_size=-1 is not a size"),
        ("bigram_v2", {"pe_type": "rope", "n_embd": 5}, "n_embd=5 is odd"),
        ("bigram_v2", {"pe_type": "sinpe", "n_embd": 5}, "n_embd=5 is odd"),
    ],
)
def test_a_wrong_argument_is_named(name: str, change: dict[str, Any], message: str) -> None:
    with pytest.raises(ModelError, match=message):
        build_model(name, V2 | change, seed=0)


def test_a_missing_argument_is_named() -> None:
    with pytest.raises(ModelError, match="'bigram_mf' needs n_embd"):
        build_model("bigram_mf", {"vocab_size": 7}, seed=0)


def test_what_a_users_model_raises_becomes_a_model_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    source = (
        "from torch import nn\nclass Net(nn.Module):\n    def __init__(self, depth):\n        raise ValueError('deep')"
    )
    (tmp_path / "users_refusing_net.py").write_text(source)
    monkeypatch.syspath_prepend(tmp_path)
    with pytest.raises(ModelError, match="cannot be built with depth=3: deep"):
        build_model("users_refusing_net:Net", {"depth": 3}, seed=0)


def test_a_users_module_with_a_syntax_error_becomes_a_model_error(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "users_broken_net.py").write_text("class Net(")
    monkeypatch.syspath_prepend(tmp_path)
    with pytest.raises(ModelError, match=r"does not import.*SyntaxError"):
        model_class("users_broken_net:Net")


@pytest.mark.parametrize("name", MODELS)
def test_the_seed_alone_decides_the_weights(name: str) -> None:
    required, optional = model_arguments(name)
    arguments = {key: value for key, value in V2.items() if key in required | optional}
    if name == "gpt":
        arguments["pe_type"] = "learned"
    first = build_model(name, arguments, seed=3).state_dict()
    torch.rand(5)
    again = build_model(name, arguments, seed=3).state_dict()
    other = build_model(name, arguments, seed=4).state_dict()
    assert all(torch.equal(first[key], again[key]) for key in first)
    assert not torch.equal(first["token_embedding_table.weight"], other["token_embedding_table.weight"])


def test_the_weights_are_those_of_torch_seeded_by_hand() -> None:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(1337)
        by_hand = BigramV2(**V2).state_dict()
    built = build_model("bigram_v2", V2, seed=1337).state_dict()
    assert all(torch.equal(built[key], by_hand[key]) for key in by_hand)


def test_building_leaves_the_global_generator_alone() -> None:
    before = torch.get_rng_state()
    build_model("bigram_v2", V2, seed=3)
    assert torch.equal(torch.get_rng_state(), before)


def test_parameters_are_counted_without_buffers() -> None:
    assert count_parameters(build_model("bigram", {"vocab_size": 65}, seed=0)) == 65 * 65
    # embedding 7x4, qkv 4x12 + 12, head 4x7 + 7; the noise table is not trained
    assert count_parameters(build_model("bigram_v2", V2, seed=0)) == 28 + 60 + 35


def test_the_registry_imports_without_torch() -> None:
    code = "import sys, search.models.registry, search.models.errors; sys.exit('torch' in sys.modules)"
    subprocess.run([sys.executable, "-c", code], check=True, cwd=Path(__file__).parents[2])
