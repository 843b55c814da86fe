"""Splits a cell of the grid into the values of the model and those of the training."""

from __future__ import annotations

import contextlib
import io
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from search.models.registry import build_model, check_arguments, model_arguments
from search.objectives.corpus import Corpus, check_length
from search.objectives.errors import ObjectiveError, UnknownAxesError
from search.objectives.language_model.settings import UNIFORM, LanguageModelSettings
from search.objectives.settings import TrainingSettings, read_settings


@dataclass(frozen=True)
class ReadCell:
    """A cell, checked and split into its parts.

    Attributes:
        model: Name of the model.
        arguments: Keyword arguments of its constructor, vocab_size included where it takes one.
        block_size: Characters T of a window, whether or not the model takes it.
        settings: The training settings, with the values of the cell.
    """

    model: str
    arguments: dict[str, Any]
    block_size: int
    settings: LanguageModelSettings


def read_cell(cell: Mapping[str, Any], settings: TrainingSettings, corpus: Corpus) -> ReadCell:
    """Split the values of a cell into model arguments and training settings, by their names.

    Args:
        cell: "model", "block_size", the model's arguments, and any training settings that are an axis.
        settings: What applies where the cell has no value.
        corpus: Defines vocab_size.

    Returns:
        The parts of the cell.

    Raises:
        ObjectiveError: The model or the block size is missing, a value belongs neither to the model nor to the
            training, or a setting is out of range.
        CorpusError: The corpus is too short for the block size.
        ModelError: The model is unknown or an argument of it is missing.
    """
    name, block_size = _require(cell, "model", str), _require(cell, "block_size", int)
    if block_size < 1:
        raise ObjectiveError(f"block_size={block_size} is below 1: give a whole number of at least 1")
    if "vocab_size" in cell:
        raise ObjectiveError(f"vocab_size={cell['vocab_size']!r} cannot be set: it comes from the corpus")
    taken = set().union(*model_arguments(name))
    fields = set(LanguageModelSettings.model_fields)
    unknown = sorted(set(cell) - taken - fields - {"model", "block_size"})
    if unknown:
        raise UnknownAxesError(
            f"neither model {name!r} nor its training takes {', '.join(unknown)}: the model takes "
            f"{', '.join(sorted(taken - {'vocab_size'})) or 'nothing'}; settings are {', '.join(sorted(fields))}",
            unknown,
        )
    arguments = {key: value for key, value in cell.items() if key in taken and key != "model"}
    if "vocab_size" in taken:
        arguments["vocab_size"] = corpus.vocab_size
    check_arguments(name, arguments)
    check_length(corpus, block_size)
    overrides = {key: value for key, value in cell.items() if key in fields}
    own = read_settings(LanguageModelSettings, {**settings.model_dump(), **overrides})
    return ReadCell(name, arguments, block_size, own)


def check_cell(cell: Mapping[str, Any], settings: TrainingSettings, corpus: Corpus) -> None:
    """Check before any training whether a cell can be trained; builds its model and its optimizer once.

    Args:
        cell: As for `read_cell`.
        settings: As for `read_cell`.
        corpus: As for `read_cell`.

    Raises:
        ObjectiveError: As for `read_cell`, or the model does not return logits of shape (B, T, V).
        CorpusError: As for `read_cell`.
        ModelError: As for `read_cell`, or the model refuses a value.
    """
    read = read_cell(cell, settings, corpus)
    with contextlib.redirect_stdout(io.StringIO()):  # many models print their size
        model = build_model(read.model, read.arguments, seed=0)
        check_logits(model, read, corpus.vocab_size)
        check_training(model, read, corpus)


def check_training(model: Any, read: ReadCell, corpus: Corpus) -> None:
    """Draw a batch, and make the optimizer and the loss of a model, to reject what fails before training.

    Args:
        model: The model, a `torch.nn.Module`; on the CPU.
        read: The cell that it was built for.
        corpus: The text.

    Raises:
        ObjectiveError: As for `starts_of`, `make_optimizer` and `training_loss`; or the loss is no number that can be
            trained.
    """
    import torch

    from search.objectives.language_model.batches import starts_of
    from search.objectives.language_model.interface import has_own_loss, training_loss
    from search.objectives.language_model.optimizer import make_optimizer
    from search.objectives.language_model.token_tensors import as_tensor

    settings = read.settings
    if settings.batches != UNIFORM:
        tokens = as_tensor(corpus.train, torch.device("cpu"))
        _checked_call(
            f"batches {settings.batches!r}",
            lambda: starts_of(settings.batches)(tokens, read.block_size, settings.batch_size, torch.Generator()),
        )
    make_optimizer(model, settings, torch.device("cpu"))
    if not has_own_loss(model):
        return
    window = torch.zeros(1, read.block_size, dtype=torch.int64)
    loss_of = training_loss(model, settings.model_copy(update={"compile": False}))
    with torch.random.fork_rng(devices=[]):  # for dropout
        loss = _checked_call(f"the loss of model {read.model!r}", lambda: loss_of(window, window))
    is_number = isinstance(loss, torch.Tensor) and loss.shape == () and loss.is_floating_point()
    if not is_number or not loss.requires_grad:
        got = f"{tuple(loss.shape)}, {loss.dtype}" if isinstance(loss, torch.Tensor) else type(loss).__name__
        if is_number:
            got += ", without a gradient"
        raise ObjectiveError(
            f"the loss of model {read.model!r} is {got}: return one floating-point number, a tensor of shape () that "
            "the weights have a gradient of"
        )


def _checked_call(what: str, call: Callable[[], Any]) -> Any:
    try:
        return call()
    except ObjectiveError:
        raise
    except Exception as error:  # a user's code can raise anything
        raise ObjectiveError(f"{what} failed: {type(error).__name__}: {error}") from error


def check_logits(model: Any, read: ReadCell, vocab_size: int) -> None:
    """Run a model on one window on the CPU, to reject a model with another interface before training.

    Args:
        model: The model, a `torch.nn.Module`.
        read: The cell that it was built for.
        vocab_size: Characters V of the corpus.

    Raises:
        ObjectiveError: The model fails, or returns anything but a tensor of shape (1, T, V).
    """
    import torch

    from search.objectives.language_model.interface import logits_of

    expected = (1, read.block_size, vocab_size)
    model.eval()  # a layer that draws random numbers in training mode must not draw any here
    try:
        with torch.inference_mode():
            logits = logits_of(model)(torch.zeros(1, read.block_size, dtype=torch.int64))
    except (RuntimeError, TypeError, ValueError, IndexError) as error:
        raise ObjectiveError(
            f"model {read.model!r} fails on an input of shape {expected[:2]}, int64: {error}; "
            f"its forward must take only the characters, or also targets of that shape"
        ) from error
    model.train()
    got = tuple(logits.shape) if isinstance(logits, torch.Tensor) else type(logits).__name__
    if got != expected:
        raise ObjectiveError(
            f"model {read.model!r} returns {got} for one window: its forward must return only the logits, {expected}, "
            "or (logits, loss) if it takes targets"
        )
    if not logits.is_floating_point():
        raise ObjectiveError(
            f"model {read.model!r} returns logits of type {logits.dtype}: return floating-point numbers"
        )


def _require(cell: Mapping[str, Any], key: str, kind: type[Any]) -> Any:
    value = cell.get(key)
    if value is None:
        example = '["bigram_v2"]' if key == "model" else "[8]"
        raise ObjectiveError(
            f"the cell {dict(cell)!r} has no {key}, which the objective language_model needs; add it to the study "
            f"file's [grid], such as {key} = {example}"
        )
    if isinstance(value, bool) or not isinstance(value, kind):
        raise ObjectiveError(f"the cell {dict(cell)!r} has {key}={value!r}: give a value of type {kind.__name__}")
    return value
