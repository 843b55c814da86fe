"""The text that a study trains on: chosen on the command line, in the study file, or the default."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from search.errors import UsageError
from search.objectives.corpus import BUILTIN, Corpus, load_corpus
from search.objectives.held_out import held_out_text, reserve
from search.study.definition import load_definition
from search.study.names import is_study_file
from search.study.stored import StoredDefinition, StoredStudy
from search.study.study_file import builtin_studies
from search.study.user_modules import takes_corpus


def read_corpus(objective: str, given: Path | None, of_file: str | None) -> Corpus | None:
    """The text of a study; None if its objective takes none.

    Args:
        objective: A registered name, or "module:function".
        given: The text on the command line.
        of_file: The text in the study file. Without `given` and `of_file` it is tiny shakespeare.

    Raises:
        UsageError, ObjectiveError: The objective or the text does not exist, or the objective takes no text.
    """
    chosen = Path(of_file) if given is None and of_file is not None else given
    if takes_corpus(objective):
        return load_corpus(chosen)
    if chosen is not None:
        raise UsageError(
            f"the corpus {chosen} has no effect: objective {objective} takes none; remove it, or give the function "
            f"a parameter corpus"
        )
    return None


def corpus_as_planned(definition: StoredDefinition, corpus: Corpus | None) -> Corpus | None:
    """The text as a planned study uses it: without its reserved stretch, and evaluated on held-out text.

    Args:
        corpus: The text that `read_corpus` gave; `corpus_difference` has found none.

    Raises:
        UsageError: The held-out text is not that of the study.
        CorpusError: It cannot be read.
    """
    if corpus is None:
        return None
    text = reserve(corpus) if definition.is_reserved else corpus
    planned = None if definition.confirmation is None else definition.confirmation.sha256
    if planned is None:
        return text
    held_out = held_out_text(text)
    if held_out is None or held_out.sha256 != planned:
        found = "none" if held_out is None else f"SHA-256 {held_out.sha256[:12]}…"
        raise UsageError(
            f"the held-out text was planned with SHA-256 {planned[:12]}…, and here it is another one ({found}); use "
            "the version of lm-search that planned the confirmation, or another --name"
        )
    return replace(text, held_out=held_out)


def corpus_of_file(study: str) -> str | None:
    """The text that a study file or a built-in study names; None if it names none, or if `study` is neither.

    Raises:
        UsageError: The file cannot be read.
    """
    return load_definition(study).corpus if is_study_file(study) or study in builtin_studies() else None


def builtin_corpus(stored: StoredStudy) -> str | None:
    """The built-in text that a study was planned with; None if it trains on another one, or on none."""
    return stored.corpus if stored.corpus in BUILTIN else None


def corpus_difference(stored: StoredStudy, corpus: Corpus | None) -> str | None:
    """The end of a message if `corpus` is not the text that a study was planned with; None if it is."""
    planned = stored.definition.corpus_sha256
    if (None if corpus is None else corpus.sha256) == planned:
        return None
    known = "no corpus" if planned is None else f"{stored.corpus} (SHA-256 {planned[:12]}…)"
    found = "its objective takes none" if corpus is None else f"{corpus.name} has {corpus.sha256[:12]}…"
    return f"trains on {known}, but {found}"
