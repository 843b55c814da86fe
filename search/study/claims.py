"""Published results that a study is compared with: losses of cells, and claims that the study tests."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Annotated, Literal

from pydantic import (
    AllowInfNan,
    BaseModel,
    ConfigDict,
    StrictBool,
    StrictFloat,
    StrictInt,
    StrictStr,
    model_validator,
)

from search.errors import UsageError
from search.storage.values import canonical
from search.study.formatting import values_text

# NaN is excluded: it does not equal itself, so a cell with it could never be found again.
Scalar = StrictBool | StrictInt | Annotated[StrictFloat, AllowInfNan(False)] | StrictStr
Cell = dict[str, Scalar]

STRICT = ConfigDict(frozen=True, extra="forbid", strict=True, allow_inf_nan=False)


class Published(BaseModel):
    """A published loss of a cell, to compare with."""

    model_config = STRICT

    cell: Cell
    val_loss: float
    train_loss: float | None = None


class Claim(BaseModel):
    """A statement that the study tests; exactly one of `order`, `not_always` and `cells` is set."""

    model_config = STRICT

    # The claim in words; by default a sentence made from its values.
    text: str = ""
    # An axis of the grid; required with `order` and `not_always`.
    factor: str | None = None
    # Values of the factor, the best first: each has a lower loss than the next.
    order: list[Scalar] = []
    # Values of the factor in the expected order; the claim is that this order does not hold in every cell.
    not_always: list[Scalar] = []
    # With an order of two values: the gain of the first over the second changes along this axis, and how.
    along: str | None = None
    change: Literal["grows", "shrinks"] | None = None
    # Two cells, the better one first; a baseline may be one of them.
    cells: list[Cell] = []

    @model_validator(mode="after")
    def _check_kind(self) -> Claim:
        given = [kind for kind in ("order", "not_always", "cells") if getattr(self, kind)]
        if len(given) != 1:
            raise ValueError(
                f"a claim has {' and '.join(given) or 'nothing'}; give exactly one of order, not_always and cells"
            )
        [kind] = given
        if (self.factor is None) != (kind == "cells"):
            raise ValueError(f"a claim with {kind} {'takes no' if kind == 'cells' else 'needs a'} factor")
        values = getattr(self, kind)
        self._check_trend(kind)
        if len(values) < 2 or (kind == "cells" and len(values) > 2):
            number = "two cells" if kind == "cells" else "two or more values"
            raise ValueError(f"a claim has {kind} = {values}; give {number}")
        if len({canonical(value) for value in values}) < len(values):
            raise ValueError(f"a claim has {kind} = {values}; give each value once")
        return self

    def _check_trend(self, kind: str) -> None:
        if (self.along is None) != (self.change is None):
            lacks = "along, the axis" if self.along is None else 'change, "grows" or "shrinks"'
            raise ValueError(f"a claim about a changing gain lacks {lacks}")
        if self.along is not None and (kind != "order" or len(self.order) != 2):
            raise ValueError("a claim with along needs order = [better, worse]: whose gain over which changes")
        if self.along is not None and self.along == self.factor:
            raise ValueError(f"a claim has along = {self.along!r}, which is its factor; name another axis")


def check_claims(
    claims: Sequence[Claim],
    grid: Mapping[str, Sequence[Scalar]],
    baselines: Sequence[Cell],
    source: str,
    cells: Sequence[Cell] = (),
) -> None:
    """Check that claims name factors, values and cells of the study.

    Args:
        cells: Cells of the study that lack an axis, or have a value that no list has.
        source: The study file's name, for the message.

    Raises:
        UsageError: An unknown factor, value or cell, with the choices.
    """
    known = {canonical(cell) for cell in (*baselines, *cells)} if any(claim.cells for claim in claims) else set()
    for index, claim in enumerate(claims):
        at = f"{source}: claims.{index}"
        if claim.factor is not None:
            if claim.factor not in grid:
                raise UsageError(f"{at}.factor = {claim.factor!r} is not an axis; choices: {', '.join(grid)}")
            _check_values(claim.factor, claim.order or claim.not_always, grid, at)
        if claim.along is not None and claim.along not in grid:
            raise UsageError(f"{at}.along = {claim.along!r} is not an axis; choices: {', '.join(grid)}")
        for cell in claim.cells:
            if canonical(cell) in known:
                continue
            if cell.keys() != grid.keys():
                raise UsageError(
                    f"{at}.cells: {cell} is neither a cell of the grid, which has the keys {', '.join(grid)}, nor a "
                    f"baseline; baselines: {'; '.join(map(str, baselines)) or 'none'}"
                )
            for axis, value in cell.items():
                _check_values(axis, [value], grid, at)


def _check_values(axis: str, values: Sequence[Scalar], grid: Mapping[str, Sequence[Scalar]], at: str) -> None:
    choices = set(map(canonical, grid[axis]))
    for value in values:
        if canonical(value) not in choices:
            raise UsageError(f"{at}: {value!r} is not a value of {axis}; choices: {values_text(grid[axis])}")
