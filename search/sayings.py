"""What people said about the cells of a study: losses that were published, and claims that it is to check."""

from __future__ import annotations

from typing import Annotated

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

# Not NaN: it differs from itself, so that no cell with it could be found again.
Scalar = StrictBool | StrictInt | Annotated[StrictFloat, AllowInfNan(False)] | StrictStr
Cell = dict[str, Scalar]

STRICT = ConfigDict(frozen=True, extra="forbid", strict=True, allow_inf_nan=False)


class Published(BaseModel):
    """A loss that somebody published for a cell, to compare with."""

    model_config = STRICT

    cell: Cell
    val_loss: float
    train_loss: float | None = None


class Claim(BaseModel):
    """Something that the study is to confirm or refute; one of `order`, `not_always` and `cells`."""

    model_config = STRICT

    # The claim in words; left out, they are made of its values.
    text: str = ""
    # An axis of the grid, with `order` or `not_always`.
    factor: str | None = None
    # Values of the factor, the best first: each has a lower loss than the next.
    order: list[Scalar] = []
    # Values of the factor in the order that somebody might expect; that it does not hold in every cell is the claim.
    not_always: list[Scalar] = []
    # Two cells, the better one first; baselines count too.
    cells: list[Cell] = []

    @model_validator(mode="after")
    def _check_kind(self) -> Claim:
        given = [kind for kind in ("order", "not_always", "cells") if getattr(self, kind)]
        if len(given) != 1:
            raise ValueError(f"a claim has {' and '.join(given) or 'nothing'}; give one of order, not_always and cells")
        [kind] = given
        if (self.factor is None) != (kind == "cells"):
            raise ValueError(f"a claim with {kind} {'takes no' if kind == 'cells' else 'needs a'} factor")
        values = getattr(self, kind)
        if len(values) < 2 or (kind == "cells" and len(values) > 2):
            raise ValueError(f"a claim has {kind} = {values}; give {'two' if kind == 'cells' else 'two or more'}")
        return self
