"""What a folder says of its tokens: meta.json, or meta.pkl as nanoGPT writes it. No torch here."""

from __future__ import annotations

import importlib
import json
import pickle
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NoReturn, cast

from search.objectives.errors import CorpusError
from search.objectives.text_file import readable
from search.objectives.token_files import ElementType
from search.objectives.vocabulary import UNKNOWN

JSON, PICKLE = "meta.json", "meta.pkl"
KEYS = ("vocab_size", "dtype", "decoder", "characters")
TYPES = ("uint16", "uint32")


@dataclass(frozen=True)
class Meta:
    """What is known of a folder's tokens.

    Attributes:
        vocab_size: The number of ids; None if it is not given.
        dtype: How wide a token of a .bin file is; None if it is not given.
        texts: The text of each id; empty if it is not given.
        decoder: "module:function" that turns ids into text; "" for none.
    """

    vocab_size: int | None = None
    dtype: ElementType | None = None
    texts: tuple[str, ...] = ()
    decoder: str = ""


def read_meta(folder: Path) -> Meta:
    """The meta file of a folder; meta.json goes first, and without one nothing is known.

    Raises:
        CorpusError: It cannot be read, or a value of it is wrong.
    """
    if (path := folder / JSON).exists():
        return _from_json(path)
    return _from_pickle(path) if (path := folder / PICKLE).exists() else Meta()


def import_decoder(reference: str, path: Path) -> Callable[[list[int]], str]:
    """The function that a meta file names.

    Args:
        reference: "module:function".
        path: The folder of the meta file, for messages.

    Raises:
        CorpusError: The module cannot be imported, or has no such function.
    """
    module, _, name = reference.partition(":")
    where = f"corpus {str(path)!r}: decoder {reference!r} of {JSON}"
    try:
        found = getattr(importlib.import_module(module), name, None)
    except (Exception, SystemExit) as error:  # a user's module can raise anything when it is imported
        raise CorpusError(
            f"{where} does not import ({type(error).__name__}: {error}); put {module}.py beside the study file, or "
            "remove the decoder"
        ) from error
    if not callable(found):
        raise CorpusError(f"{where}: the module {module!r} has no function {name!r}; name one that takes token ids")
    return cast(Callable[[list[int]], str], found)


def _from_json(path: Path) -> Meta:
    with readable(path):
        data = path.read_bytes()
    try:
        content = json.loads(data)
    except (ValueError, RecursionError) as error:
        raise CorpusError(f"corpus {str(path)!r} is not JSON ({error}): correct it or remove it") from error
    if not isinstance(content, dict):
        raise CorpusError(f"corpus {str(path)!r} is no JSON object: its keys are {', '.join(KEYS)}")
    if unknown := [key for key in content if key not in KEYS]:
        raise CorpusError(f"corpus {str(path)!r} has the key {unknown[0]!r}: keys are {', '.join(KEYS)}")
    dtype, decoder = content.get("dtype"), content.get("decoder")
    if dtype is not None and dtype not in TYPES:
        raise CorpusError(f"corpus {str(path)!r} has dtype {dtype!r}: choices are {', '.join(TYPES)}")
    module, colon, name = decoder.partition(":") if isinstance(decoder, str) else ("", "", "")
    if decoder is not None and not (colon and name.isidentifier() and all(map(str.isidentifier, module.split(".")))):
        raise CorpusError(f"corpus {str(path)!r} has decoder {decoder!r}: name a function as module:function")
    texts = _texts(path, content.get("characters"))
    return Meta(_vocab_size(path, content.get("vocab_size"), texts), dtype, texts, decoder or "")


def _from_pickle(path: Path) -> Meta:
    with readable(path), path.open("rb") as file:
        try:
            content = _PlainUnpickler(file).load()
        except OSError:
            raise
        except Exception as error:  # a file that is no pickle raises whatever its bytes lead to
            raise CorpusError(
                f"corpus {str(path)!r} cannot be read ({_line(error)}): only plain dictionaries, lists, texts and "
                f"numbers are; write {JSON} instead, with {', '.join(KEYS)}"
            ) from error
    if not isinstance(content, Mapping):
        raise CorpusError(
            f"corpus {str(path)!r} is a {type(content).__name__}, not a dictionary with vocab_size, itos and stoi as "
            f"nanoGPT writes it; remove it, or write {JSON}"
        )
    texts = _texts(path, content.get("itos"))
    return Meta(_vocab_size(path, content.get("vocab_size"), texts), None, texts)


class _PlainUnpickler(pickle.Unpickler):
    """Reads plain containers, texts and numbers; never imports anything, so no code runs."""

    def find_class(self, module: str, name: str, /) -> NoReturn:
        raise pickle.UnpicklingError(f"it names {module}.{name}")

    def persistent_load(self, pid: Any, /) -> NoReturn:
        raise pickle.UnpicklingError("it refers to another file")


def _texts(path: Path, value: Any) -> tuple[str, ...]:
    """The text of each id, from a text, a list of texts, or a dictionary from ids to texts."""
    if isinstance(value, Mapping):
        ids = [key for key in value if isinstance(key, int) and not isinstance(key, bool) and 0 <= key < 1 << 24]
        if len(ids) == len(value):
            value = [value.get(at, UNKNOWN) for at in range(max(ids, default=-1) + 1)]
    if value is None:
        return ()
    if not isinstance(value, (str, list, tuple)) or not all(isinstance(each, str) for each in value):
        raise CorpusError(
            f"corpus {str(path)!r} has texts of ids that are no texts: give the text of each id, in their order"
        )
    return tuple(value)


def _vocab_size(path: Path, value: Any, texts: tuple[str, ...]) -> int | None:
    if value is None:
        return len(texts) or None
    if isinstance(value, bool) or not isinstance(value, int) or value < max(1, len(texts)):
        least = f"{len(texts)}, the number of its texts" if texts else "1"
        raise CorpusError(f"corpus {str(path)!r} has vocab_size {value!r}: give a whole number of at least {least}")
    return value


def _line(error: Exception) -> str:
    return (str(error).splitlines() or [type(error).__name__])[0][:200]
