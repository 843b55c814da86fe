"""Corpora of bytes and tokens, and folders with a split of their own: what they hold, and what is refused."""

from __future__ import annotations

import json
import pickle
import struct
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest

from search.objectives.corpus import Corpus, check_length, load_corpus, source_in
from search.objectives.errors import CorpusError
from search.objectives.held_out import held_out_text, reserve
from search.objectives.language_model.bigram_baseline import bigram_baseline_loss
from search.objectives.vocabulary import Vocabulary

Ids = npt.NDArray[np.int64]
TRAIN, VAL, TEST = (np.random.default_rng(seed).integers(0, 300, size) for seed, size in enumerate((900, 200, 100)))


def raw(ids: Ids, kind: str = "<u2") -> bytes:
    return ids.astype(kind).tobytes()


def with_header(ids: Ids, version: int = 1, count: int | None = None) -> bytes:
    head = np.zeros(256, dtype="<i4")
    head[:3] = 20240520, version, len(ids) if count is None else count
    return head.tobytes() + raw(ids)


def folder_of(folder: Path, **files: Any) -> Path:
    """A folder with files; `train_bin` is train.bin."""
    folder.mkdir(exist_ok=True)
    for name, content in files.items():
        path = folder / name.replace("_", ".")
        if isinstance(content, np.ndarray):
            np.save(path, content)
        elif isinstance(content, bytes):
            path.write_bytes(content)
        elif path.suffix == ".pkl":
            path.write_bytes(pickle.dumps(content))
        else:
            path.write_text(content if isinstance(content, str) else json.dumps(content))
    return folder


def parts(corpus: Corpus) -> tuple[list[int], list[int]]:
    return corpus.train.tolist(), corpus.selection.tolist()


def test_bytes_of_any_file(tmp_path: Path) -> None:
    path = tmp_path / "any"
    path.write_bytes(bytes(range(256)) * 4)
    corpus = load_corpus(Path(f"bytes:{path}"))
    assert (corpus.name, corpus.vocab_size, corpus.unit, corpus.characters) == ("bytes:any", 256, "byte", ())
    assert bytes(corpus.train.tolist() + corpus.validation.tolist()) == path.read_bytes()
    assert corpus.n_train == int(0.9 * 1024)
    assert corpus.decode([72, 105, 255]) == "Hi\ufffd"
    assert corpus.is_mapped
    kept = reserve(corpus)
    assert kept.reserved is not None
    assert len(kept.reserved) == 102


def test_a_folder_of_texts_has_the_characters_of_all_of_them(tmp_path: Path) -> None:
    folder = folder_of(tmp_path / "mine", train_txt="abcabc", val_txt="éa", test_txt="zz")
    corpus = load_corpus(folder)
    assert corpus.characters == ("a", "b", "c", "z", "é")
    assert (corpus.decode(corpus.train), corpus.decode(corpus.validation)) == ("abcabc", "éa")
    assert corpus.tokens.dtype == np.int64
    held_out = held_out_text(corpus)
    assert held_out is not None
    assert (held_out.name, corpus.decode(held_out.tokens)) == ("the test text of mine", "zz")
    of_bytes = load_corpus(Path(f"bytes:{folder}"))
    assert (of_bytes.name, of_bytes.unit, parts(of_bytes)) == (
        "bytes:mine",
        "byte",
        (list(b"abcabc"), list("éa".encode())),
    )
    assert of_bytes.sha256 != corpus.sha256


@pytest.mark.parametrize(
    ("write", "suffix", "meta"),
    [
        (raw, "bin", None),
        (with_header, "bin", None),
        (lambda ids: raw(ids, "<u4"), "bin", {"dtype": "uint32"}),
        *((lambda ids, kind=kind: ids.astype(kind), "npy", None) for kind in ("u2", "i2", "i4", "u4", "i8", "u8")),
    ],
)
def test_tokens_of_every_kind_are_the_same_and_stay_on_disk(
    tmp_path: Path, write: Callable[[Ids], Any], suffix: str, meta: Any
) -> None:
    files = {f"train_{suffix}": write(TRAIN), f"val_{suffix}": write(VAL), f"test_{suffix}": write(TEST)}
    corpus = load_corpus(folder_of(tmp_path / "ids", **files, **({} if meta is None else {"meta_json": meta})))
    assert parts(corpus) == (TRAIN.tolist(), VAL.tolist())
    assert (corpus.vocab_size, corpus.unit) == (max(TRAIN.max(), VAL.max(), TEST.max()) + 1, "token")
    assert corpus.is_mapped
    assert not corpus.vocabulary.can_decode
    held_out = held_out_text(corpus)
    assert held_out is not None
    assert held_out.tokens.tolist() == TEST.tolist()
    assert not corpus.train.flags.writeable


def test_digests_tell_corpora_apart(tmp_path: Path) -> None:
    files = {"train_bin": raw(TRAIN), "val_bin": raw(VAL)}
    kinds: list[dict[str, Any]] = [
        files,
        {**files, "meta_json": {"vocab_size": 512}},
        {**files, "test_bin": raw(TEST)},
        {"train_bin": with_header(TRAIN), "val_bin": with_header(VAL)},
        {"train_bin": raw(VAL), "val_bin": raw(TRAIN)},
        {"train_npy": TRAIN, "val_npy": VAL},
    ]
    found = [load_corpus(folder_of(tmp_path / f"{at}", **each)).sha256 for at, each in enumerate(kinds)]
    assert len(set(found)) == len(kinds)
    assert load_corpus(folder_of(tmp_path / "other name", **files)).sha256 == found[0]


def test_half_of_the_validation_text_is_reserved_unless_there_is_a_test_text(tmp_path: Path) -> None:
    corpus = load_corpus(folder_of(tmp_path / "ids", train_bin=raw(TRAIN), val_bin=raw(VAL)))
    assert held_out_text(corpus) is None
    assert not corpus.has_own_held_out
    kept = reserve(corpus)
    held_out = held_out_text(kept)
    assert held_out is not None
    assert [kept.train.tolist(), kept.selection.tolist(), held_out.tokens.tolist()] == [
        TRAIN.tolist(), VAL[:100].tolist(), VAL[100:].tolist(),
    ]  # fmt: skip
    assert held_out.name == "the second half of the validation text of ids"
    with pytest.raises(CorpusError, match=r"reserve half of its validation text .* 100 tokens of at least 101"):
        check_length(kept, 100)


def test_meta_of_nanogpt_decodes(tmp_path: Path) -> None:
    letters = "\n abé"
    ids = np.arange(50) % 5
    meta = {
        "vocab_size": 5, "itos": dict(enumerate(letters)), "stoi": {each: at for at, each in enumerate(letters)},
    }  # fmt: skip
    corpus = load_corpus(folder_of(tmp_path / "chars", train_bin=raw(ids), val_bin=raw(ids), meta_pkl=meta))
    assert (corpus.unit, corpus.vocab_size, corpus.vocabulary.start) == ("character", 5, 0)
    assert corpus.decode([2, 4, 0]) == "aé\n"
    assert corpus.vocabulary.count_bytes(corpus.validation) == 60
    pieces = {"characters": ["the ", "cat", "\n"], "vocab_size": 4}
    corpus = load_corpus(folder_of(tmp_path / "pieces", train_bin=raw(ids % 4), val_bin=raw(ids % 4), meta_json=pieces))
    assert (corpus.unit, corpus.vocabulary.start, corpus.decode([0, 1, 3])) == ("token", 2, "the cat\ufffd")
    assert corpus.vocabulary.count_bytes(np.array([0, 1, 2, 3])) == 4 + 3 + 1 + 3


def test_a_decoder_beside_the_study(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(tmp_path)
    (tmp_path / "pairs_of.py").write_text(
        "def text(ids):\n    return ''.join(chr(97 + i % 26) * 2 for i in ids)\n"
        "def broken(ids):\n    raise KeyError(max(ids))\n"
        "def number(ids):\n    return 3\n"
        "def later(ids):\n    return 'abc'[max(ids)]\n"
    )
    files = {"train_bin": raw(TRAIN), "val_bin": raw(VAL)}

    def corpus_with(decoder: str) -> Corpus:
        return load_corpus(folder_of(tmp_path / "ids", **files, meta_json={"decoder": decoder, "vocab_size": 400}))

    corpus = corpus_with("pairs_of:text")
    assert (corpus.decode([0, 1]), corpus.vocab_size) == ("aabb", 400)
    assert corpus.vocabulary.count_bytes(corpus.validation) == 2 * len(VAL)
    for name, message in (("broken", r"fails on the ids \[0\]: KeyError"), ("number", "returns int for the ids")):
        with pytest.raises(CorpusError, match=rf"decoder 'pairs_of:{name}' {message}"):
            corpus_with(f"pairs_of:{name}")
    later = corpus_with("pairs_of:later")
    with pytest.raises(CorpusError, match=r"decoder 'pairs_of:later' fails on the ids \[.*, …\]: IndexError"):
        later.vocabulary.count_bytes(later.validation)
    for decoder, message in (
        ("absent_module:text", r"does not import \(ModuleNotFoundError.* put absent_module\.py beside the study file"),
        ("pairs_of:absent", "the module 'pairs_of' has no function 'absent'"),
        ("pairs_of", "name a function as module:function"),
    ):
        with pytest.raises(CorpusError, match=message):
            corpus_with(decoder)


class Malicious:
    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> Any:
        return Path.touch, (self.path,)


U2 = {"train_bin": raw(TRAIN), "val_bin": raw(VAL)}


@pytest.mark.parametrize(
    ("files", "message"),
    [
        ({}, r"is a folder without a split: put train\.txt and val\.txt or .* or name a file, which is split 90/10"),
        ({"train_bin": b"ab"}, r"has no val\.bin: put it there"),
        ({"val_npy": VAL}, r"has no train\.npy"),
        ({**U2, "train_txt": "a"}, r"files of several kinds \(train\.bin, train\.txt, val\.bin\): keep one kind"),
        ({**U2, "train_bin": b"abc"}, "has 3 bytes, which is no whole number of uint16 tokens: it is cut off"),
        ({**U2, "train_bin": b"abcdef", "meta_json": {"dtype": "uint32"}}, "6 bytes, .* of uint32 tokens"),
        ({**U2, "train_bin": raw(TRAIN, "<u4")}, r'every other one is 0 .* uint32 tokens; say so .*"dtype": "uint32"'),
        ({**U2, "val_bin": raw(VAL * 400, "<u4")}, r"val\.bin.* so it holds uint32 tokens"),
        ({**U2, "meta_json": {"dtype": "uint32"}}, r'uint32 values .* uint16 tokens; say so .*"dtype": "uint16"'),
        ({"train_bin": raw(TRAIN % 65), "val_bin": raw(VAL % 65), "meta_json": {"dtype": "uint32"}}, "uint16 tokens"),
        ({"train_npy": TRAIN + (1 << 24), "val_npy": VAL}, "which no vocabulary has: it may be of another type"),
        ({**U2, "train_bin": b""}, "is empty: name a file with tokens"),
        ({**U2, "train_bin": with_header(TRAIN, 7)}, "a header of version 7: only version 1"),
        ({**U2, "train_bin": with_header(TRAIN, count=901)}, "its header says 901 tokens, .* it is cut off"),
        ({**U2, "train_bin": with_header(TRAIN), "meta_json": {"dtype": "uint32"}}, "correct meta"),
        ({**U2, "meta_json": {"vocab_size": 100}}, r"has the token \d+ at position \d+, but vocab_size is 100"),
        ({**U2, "meta_json": {"vocab_size": 0}}, "vocab_size 0: give a whole number of at least 1"),
        ({**U2, "meta_json": {"vocab_size": 2, "characters": "abc"}}, "of at least 3, the number of its texts"),
        ({**U2, "meta_json": {"characters": 3}}, "give the text of each id"),
        ({**U2, "meta_json": {"dtype": "int8"}}, "dtype 'int8': choices are uint16, uint32"),
        ({**U2, "meta_json": {"vocab": 3}}, "the key 'vocab': keys are vocab_size, dtype, decoder, characters"),
        ({**U2, "meta_json": [3]}, "is no JSON object"),
        ({**U2, "meta_json": "{"}, "is not JSON"),
        ({**U2, "meta_pkl": b"no pickle"}, "cannot be read .* only plain dictionaries, lists, texts and numbers"),
        ({**U2, "meta_pkl": b""}, "cannot be read"),
        ({**U2, "meta_pkl": [1]}, "is a list, not a dictionary with vocab_size, itos and stoi"),
        ({**U2, "meta_pkl": {"itos": np.int64(3)}}, r"cannot be read \(it names numpy"),
        ({"train_npy": TRAIN / 2, "val_npy": VAL}, "holds float64: tokens are integers"),
        ({"train_npy": TRAIN > 3, "val_npy": VAL}, "holds bool: tokens are integers"),
        ({"train_npy": TRAIN.reshape(2, -1), "val_npy": VAL}, r"has shape \(2, 450\): tokens need one axis"),
        ({"train_npy": np.array(3), "val_npy": VAL}, r"has shape \(\)"),
        ({"train_npy": TRAIN - 5, "val_npy": VAL}, r"has the token -\d at position \d+: ids are 0 or more"),
        ({"train_npy": TRAIN.astype(">u2"), "val_npy": VAL}, "byte order of another machine"),
        ({"train_npy": b"\x93NUMPY nothing", "val_npy": VAL}, r"is no \.npy file of numbers"),
        ({"train_npy": TRAIN[:0], "val_npy": VAL}, "is empty|no .npy file of numbers"),
        ({"train_npy": TRAIN.astype(object), "val_npy": VAL}, r"is no \.npy file of numbers"),
        ({"train_txt": "", "val_txt": "a"}, r"train\.txt' is empty"),
        ({"train_txt": b"\xff", "val_txt": "a"}, r"is not UTF-8 \(byte 0\): .* train on its bytes with bytes:"),
    ],
)
def test_what_is_refused(tmp_path: Path, files: dict[str, Any], message: str) -> None:
    folder = folder_of(tmp_path / "wrong", **files)
    with pytest.raises(CorpusError, match=message) as raised:
        load_corpus(folder)
    assert "\n" not in str(raised.value)
    assert str(folder) in str(raised.value)


def test_a_pickle_runs_no_code(tmp_path: Path) -> None:
    folder = folder_of(tmp_path / "evil", **U2, meta_pkl={"vocab_size": Malicious(tmp_path / "ran")})
    with pytest.raises(CorpusError, match=r"cannot be read \(it names "):
        load_corpus(folder)
    assert not (tmp_path / "ran").exists()


def test_sources_that_name_nothing(tmp_path: Path) -> None:
    with pytest.raises(CorpusError, match="has no path: name a file or folder, as in bytes:my_text"):
        load_corpus(Path("bytes:"))
    with pytest.raises(CorpusError, match="does not exist"):
        load_corpus(Path(f"bytes:{tmp_path / 'absent'}"))
    empty = tmp_path / "empty"
    empty.write_bytes(b"")
    with pytest.raises(CorpusError, match="is empty"):
        load_corpus(Path(f"bytes:{empty}"))
    with pytest.raises(CorpusError, match="a folder without a split: put train"):
        load_corpus(Path(f"bytes:{folder_of(tmp_path / 'ids', **U2)}"))


def test_a_source_in_a_folder() -> None:
    assert source_in(Path("/studies"), "text.txt") == "/studies/text.txt"
    assert source_in(Path("/studies"), "bytes:ids") == "bytes:/studies/ids"
    assert source_in(Path("/studies"), "bytes:/data/ids") == "bytes:/data/ids"


def test_an_id_without_a_text_is_no_error() -> None:
    assert Vocabulary(9, "token", ("a",)).decode([0, 8]) == "a\ufffd"


def test_the_bigram_baseline_of_tokens_counts_in_chunks(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    text = "to be or not to be, that is the question" * 40
    path = tmp_path / "text.txt"
    path.write_text(text)
    whole = bigram_baseline_loss(load_corpus(Path(f"bytes:{path}")))
    monkeypatch.setattr(sys.modules[bigram_baseline_loss.__module__], "IDS_PER_CHUNK", 7)
    assert bigram_baseline_loss(load_corpus(Path(f"bytes:{path}"))) == pytest.approx(whole)
    ids = np.arange(5000)
    assert bigram_baseline_loss(load_corpus(folder_of(tmp_path / "many", train_npy=ids, val_npy=ids))) is None


def test_the_header_is_little_endian() -> None:
    assert with_header(TRAIN)[:8] == struct.pack("<ii", 20240520, 1)
