"""Questions of a study file that are more than a comparison: `[[analyses]]`, each of a kind.

A kind is a class here, with its settings and their check, and a function in `search.statistics.analysis_kinds`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Annotated, Any, Literal

from pydantic import BaseModel, Field, StringConstraints

from search.errors import UsageError
from search.study.claims import STRICT, Scalar
from search.study.search_space import Range
from search.study.validation_messages import did_you_mean

MIN_VALUES = 3  # of an axis that has an optimum between others
Name = Annotated[str, StringConstraints(min_length=1)]
Axes = Mapping[str, "Sequence[Scalar] | Range"]


class Transfer(BaseModel):
    """Whether the best value of one axis is the same for all values of another one."""

    model_config = STRICT

    kind: Literal["transfer"] = "transfer"
    # The question in words.
    text: str = ""
    # The axis that has an optimum, such as learning_rate, and the one along which it may drift, such as n_embd.
    axis: Name
    along: Name
    # Optima within this factor count as the same.
    within: float = Field(default=1.4, gt=1)

    def check(self, axes: Axes, at: str) -> None:
        """Check its axes.

        Raises:
            UsageError: One is not an axis of numbers above 0, or has too few values.
        """
        if self.axis == self.along:
            raise UsageError(f"{at}.along = {self.along!r} is its axis, too; name another axis")
        check_positive(self.axis, axes, f"{at}.axis", MIN_VALUES)
        check_positive(self.along, axes, f"{at}.along", 2)


class Prediction(BaseModel):
    """A size that was not trained."""

    model_config = STRICT

    parameters: float | None = Field(default=None, gt=0)
    tokens: float | None = Field(default=None, gt=0)


class SpeedUp(BaseModel):
    """Two values of an axis: how much less compute the first needs than the second for the same loss."""

    model_config = STRICT

    axis: Name
    of: Scalar
    over: Scalar


class Scaling(BaseModel):
    """How the metric falls with parameters, tokens and compute."""

    model_config = STRICT

    kind: Literal["scaling"] = "scaling"
    text: str = ""
    # The axis of which the best value counts, at each size: a learning rate.
    tune: Name | None = None
    # What counts as parameters, tokens and floating-point operations: an axis or a metric of the study; by default what
    # trials record, and 6 x parameters x tokens.
    parameters: Name | None = None
    tokens: Name | None = None
    flops: Name | None = None
    predict: list[Prediction] = []
    speed_up: SpeedUp | None = None

    def check(self, axes: Axes, at: str) -> None:
        """Check its axes.

        Raises:
            UsageError: One is not an axis of numbers above 0, or a value is none of its axis.
        """
        if self.tune is not None:
            check_positive(self.tune, axes, f"{at}.tune", 2)
        for key in ("parameters", "tokens", "flops"):
            name = getattr(self, key)
            if name in axes:  # else a metric
                check_positive(name, axes, f"{at}.{key}", 1)
        for index, each in enumerate(self.predict):
            if each.parameters is None and each.tokens is None:
                raise UsageError(f"{at}.predict.{index} is empty; give it parameters, tokens or both")
        if self.speed_up is not None:
            _check_speed_up(self.speed_up, axes, f"{at}.speed_up")


# Adding a kind is one class above, one line here, and one function in search/statistics/analysis_kinds.py.
Analysis = Annotated[Transfer | Scaling, Field(discriminator="kind")]
KINDS: dict[str, type[Transfer] | type[Scaling]] = {"transfer": Transfer, "scaling": Scaling}


# The tables of a study file, by their place, for messages.
SECTIONS: dict[str, type[BaseModel]] = {
    **{f"analyses.{kind}": each for kind, each in KINDS.items()},
    "analyses.scaling.predict": Prediction,
    "analyses.scaling.speed_up": SpeedUp,
}


def parse_analyses(stored: Sequence[Any] | None) -> list[Transfer | Scaling]:
    """The analyses of a stored study."""
    return [KINDS[each["kind"]].model_validate(each) for each in stored or ()]


def analysis_table(analysis: Transfer | Scaling) -> dict[str, Any]:
    """An analysis as the table of a study file."""
    return {key: value for key, value in analysis.model_dump(exclude_none=True).items() if value not in ("", [])}


def check_analyses(analyses: Sequence[Transfer | Scaling], axes: Axes, source: str) -> None:
    """Check that analyses name axes and values of the study.

    Args:
        axes: The lists and ranges of the study.
        source: The study file's name, for the message.

    Raises:
        UsageError: An unknown axis, or one of the wrong kind, with the choices.
    """
    for index, each in enumerate(analyses):
        each.check(axes, f"{source}: analyses.{index}")


def check_positive(axis: str, axes: Axes, at: str, least: int) -> None:
    """Check that an axis has numbers above 0, at least so many.

    Args:
        at: The key, for the message.

    Raises:
        UsageError: It is unknown, has other values, or too few.
    """
    values = _values(axis, axes, at)
    if isinstance(values, Range):
        if values.low <= 0:
            raise UsageError(f"{at} = {axis!r} begins at {values.low}; its logarithm is used: let it begin above 0")
        return
    wrong = [each for each in values if isinstance(each, (bool, str)) or each <= 0]
    if wrong:
        raise UsageError(
            f"{at} = {axis!r} has the value {wrong[0]!r}; its logarithm is used: name an axis of numbers above 0"
        )
    if len(values) < least:
        raise UsageError(
            f"{at} = {axis!r} has {len(values)} of the {least} values that are needed; add values to the axis"
        )


def _values(axis: str, axes: Axes, at: str) -> Any:
    if axis not in axes:
        raise UsageError(f"{at} = {axis!r} is not an axis{did_you_mean(axis, axes)}; choices: {', '.join(axes)}")
    return axes[axis]


def _check_speed_up(asked: SpeedUp, axes: Axes, at: str) -> None:
    values = _values(asked.axis, axes, f"{at}.axis")
    if isinstance(values, Range):
        raise UsageError(f"{at}.axis = {asked.axis!r} is a range; name an axis that is a list")
    for key in ("of", "over"):
        if getattr(asked, key) not in values:
            choices = ", ".join(map(str, values))
            raise UsageError(f"{at}.{key} = {getattr(asked, key)!r} is not a value of {asked.axis}; choices: {choices}")
    if asked.of == asked.over:
        raise UsageError(f"{at} compares {asked.axis} = {asked.of!r} with itself; name two values")
