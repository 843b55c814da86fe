"""A folder with a split of its own: train and val, and maybe test. No torch here."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path

from search.objectives.errors import CorpusError
from search.objectives.text_file import read_text, sha256_of_file
from search.objectives.token_files import largest_token, map_bin, map_bytes, map_npy
from search.objectives.token_meta import Meta, import_decoder, read_meta
from search.objectives.vocabulary import BYTES, Tokens, Vocabulary

TRAIN, VAL, TEST = "train", "val", "test"
SUFFIXES = (".txt", ".bin", ".npy")


def find_parts(folder: Path, *, as_bytes: bool) -> dict[str, Path]:
    """The files of a folder by what they are for: train, val, and test if there is one.

    Args:
        as_bytes: Whether to train on the bytes of texts.

    Raises:
        CorpusError: One is missing, or there are several kinds.
    """
    suffixes = (".txt",) if as_bytes else SUFFIXES
    try:
        names = {path.name for path in folder.iterdir()}
    except OSError as error:
        raise CorpusError(f"corpus {str(folder)!r} cannot be read: {error.strerror or error}") from error
    kinds = [suffix for suffix in suffixes if {TRAIN + suffix, VAL + suffix} & names]
    mixed = {part + suffix for suffix in kinds for part in (TRAIN, VAL)}
    if len(kinds) > 1:
        raise CorpusError(
            f"corpus {str(folder)!r} has files of several kinds ({', '.join(sorted(mixed & names))}): keep "
            "one kind in a folder"
        )
    if not kinds:
        wanted = " or ".join(f"{TRAIN}{suffix} and {VAL}{suffix}" for suffix in suffixes)
        raise CorpusError(
            f"corpus {str(folder)!r} is a folder without a split: put {wanted} there, or name a file, which "
            "is split 90/10"
        )
    if missing := [part + kinds[0] for part in (TRAIN, VAL) if part + kinds[0] not in names]:
        raise CorpusError(
            f"corpus {str(folder)!r} has no {missing[0]}: put it there, or name a file, which is split 90/10"
        )
    found = {part: folder / f"{part}{kinds[0]}" for part in (TRAIN, VAL, TEST)}
    return {part: path for part, path in found.items() if path.name in names}


def read_texts(paths: Mapping[str, Path]) -> dict[str, str]:
    """The texts of a folder, by what they are for."""
    return {part: read_text(path) for part, path in paths.items()}


def map_parts(folder: Path, paths: Mapping[str, Path], *, as_bytes: bool) -> tuple[dict[str, Tokens], Vocabulary]:
    """The tokens of a folder, by what they are for, and what they stand for; every token is checked.

    Raises:
        CorpusError: A file or the meta file is wrong, or they contradict each other.
    """
    if as_bytes:
        return {part: map_bytes(path) for part, path in paths.items()}, Vocabulary(BYTES, "byte")
    meta = read_meta(folder)
    tokens = {part: _map(path, meta) for part, path in paths.items()}
    largest = max(largest_token(path, tokens[part], meta.vocab_size) for part, path in paths.items())
    return tokens, _vocabulary(folder, meta, largest + 1)


def digest_lines(paths: Mapping[str, Path]) -> Iterable[str]:
    """What identifies the files of a corpus."""
    return [f"{part} {path.suffix} {sha256_of_file(path)}" for part, path in paths.items()]


def _map(path: Path, meta: Meta) -> Tokens:
    return map_npy(path) if path.suffix == ".npy" else map_bin(path, meta.dtype)


def _vocabulary(folder: Path, meta: Meta, used: int) -> Vocabulary:
    size = meta.vocab_size or used
    if meta.decoder:
        made = Vocabulary(size, "token", (), import_decoder(meta.decoder, folder), meta.decoder)
        made.decode([0])  # what fails is said before anything is planned
        return made
    # Where each id is one character, as nanoGPT prepares characters, the loss is per character.
    is_characters = bool(meta.texts) and all(len(text) == 1 for text in meta.texts)
    return Vocabulary(size, "character" if is_characters else "token", meta.texts)
