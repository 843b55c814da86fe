"""How a run is trained and evaluated: the part of its definition that is not the model. No torch here."""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Mapping, Sequence
from typing import Annotated, Any, ClassVar, Literal, TypeVar

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from search.objectives.errors import ObjectiveError

Count = Annotated[int, Field(gt=0)]
Settings = TypeVar("Settings", bound="TrainingSettings")


class TrainingSettings(BaseModel):
    """Settings of one training run; the defaults are those of the published runs, except for the full evaluation.

    An objective can have a subclass with further ones.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True, allow_inf_nan=False)

    batch_size: Count = 64  # windows per step
    learning_rate: Annotated[float, Field(gt=0)] = 1e-2  # of AdamW; with a schedule, the highest
    weight_decay: Annotated[float, Field(ge=0)] = 0.01  # AdamW: per step and unit of learning rate
    max_iters: Count = 5000  # training steps in total
    eval_interval: Count = 500  # training steps between two evaluations
    # "full": one pass over all validation characters; "sampled": the published mean over random batches
    evaluation: Literal["full", "sampled"] = "full"
    eval_batches: Count = 200  # random batches of each split; "sampled" only
    sample_chars: Annotated[int, Field(ge=0)] = 500  # characters of the text sample of a finished run

    # The section of a study file that its further settings are in.
    section: ClassVar[Literal["training", "settings"]] = "training"

    def as_dict(self) -> dict[str, Any]:
        """The settings of every objective, and of the further ones those that are not the default.

        So what a version adds later changes nothing that is stored or compared, unless it is used.
        """
        changed = self.model_dump(exclude_defaults=True)
        return {**self.model_dump(include=set(TrainingSettings.model_fields)), **changed}


def set_values(settings: TrainingSettings, names: Sequence[str] | None) -> dict[str, Any]:
    """The settings that a study file sets.

    Args:
        names: Their names; None if they are not known, which gives those that differ from the defaults.
    """
    if names is None:
        return settings.model_dump(exclude_defaults=True)
    return settings.model_dump(include=set(names))


def read_settings(kind: type[Settings], values: Mapping[str, Any]) -> Settings:
    """Validate training settings for an objective.

    Args:
        kind: `search.objectives.protocol.Objective.settings_class`.
        values: By name.

    Raises:
        ObjectiveError: A name is not a setting, or a value is out of range.
    """
    try:
        return kind.model_validate(values)
    except ValidationError as error:
        own = [name for name in kind.model_fields if name not in TrainingSettings.model_fields]
        if kind.section == "training":
            own = []
        faults = "; ".join(_fault_text(fault, own or kind.model_fields) for fault in error.errors())
        choices = ", ".join(own or kind.model_fields)
        raise ObjectiveError(f"{'' if own else 'training '}settings: {faults} (settings are {choices})") from error


def _fault_text(fault: Mapping[str, Any], names: Iterable[str]) -> str:
    name = ".".join(map(str, fault["loc"]))
    if fault["type"] == "missing":
        return f"{name} is missing"
    if fault["type"] == "extra_forbidden":
        close = difflib.get_close_matches(name, list(names), n=1)
        return f"unknown setting {name!r}" + (f" (did you mean {close[0]!r}?)" if close else "")
    message = str(fault["msg"]).removeprefix("Value error, ")
    return f"{name}={fault['input']!r}: {message}" if name else message
