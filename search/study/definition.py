"""Study definitions: the TOML file that sets what a study varies, how it trains and how it prunes."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from pydantic import (
    BaseModel,
    Field,
    ModelWrapValidatorHandler,
    PrivateAttr,
    ValidationError,
    field_validator,
    model_validator,
)

from search.errors import UsageError
from search.objectives.registry import DEFAULT_OBJECTIVE
from search.objectives.settings import TrainingSettings
from search.storage.values import canonical
from search.study.claims import STRICT, Cell, Claim, Published, Scalar, check_claims
from search.study.formatting import count_text
from search.study.metrics import DEFAULT_NAME, Direction, Metric, named_metrics
from search.study.names import check_axis_name, name_fault
from search.study.overrides import Setting, setting_name, with_setting
from search.study.pruner_settings import PrunerSettings, SharedSettings
from search.study.references import full_reference
from search.study.search_space import (
    GRID,
    RacingSettings,
    Range,
    SamplerSettings,
    axis_order,
    check_values,
    normalize_axes,
)
from search.study.study_file import read_study_file
from search.study.user_modules import MOVED, module_folder
from search.study.validation_messages import explain
from search.study.worker_settings import WorkerSettings

MAX_SEED = 2**31 - 1
# Larger numbers are typing errors.
MAX_SEEDS = 1000
MAX_TRIALS = 100_000
NO_AXES = "grid is missing: give it at least one axis, or trials = N for an objective that suggests its parameters"


class StudyDefinition(BaseModel):
    """What a study file holds."""

    model_config = STRICT

    name: str
    description: str = ""
    # What a trial measures: a name of search/objectives/registry.py, or a user's "module:name".
    objective: str = Field(default=DEFAULT_OBJECTIVE, pattern=r"^\w+$|^[\w.]+:\w+$")
    # The text that trials train on; in a study file the path is relative to the file's folder.
    corpus: str | None = None
    # The axes that are lists; the last one varies fastest, and the cells of the grid are in that order.
    grid: dict[str, list[Scalar]] = {}
    # The axes that are ranges; only a sampler can choose from them.
    axes: dict[str, Range] = {}
    # "grid" trains every cell of the grid; any other sampler chooses `trials` cells.
    sampler: SamplerSettings = SamplerSettings()
    trials: int | None = Field(default=None, ge=1)
    # The number that trials are ranked by, or several for a Pareto front; by default the objective names it.
    metric: str | None = Field(default=None, min_length=1)
    direction: Direction | None = None
    metrics: list[str] = []
    directions: list[Direction] = []
    # What a user's objective takes as its settings, besides [training].
    settings: dict[str, Any] = {}
    # Cells outside the grid; they live in the sibling study "<name>-baselines".
    baselines: list[Cell] = []
    # Every cell is trained with `seeds` seeds: first_seed, first_seed + 1, …
    seeds: int = Field(default=1, ge=1, le=MAX_SEEDS)
    first_seed: int = Field(default=1337, ge=0, le=MAX_SEED - MAX_SEEDS)
    # With seeds = "adaptive": further seeds for the cells that may still be the best.
    racing: RacingSettings | None = None
    training: TrainingSettings = TrainingSettings()
    pruner: PrunerSettings = PrunerSettings()
    workers: WorkerSettings = WorkerSettings()
    published: list[Published] = []
    claims: list[Claim] = []

    @model_validator(mode="before")
    @classmethod
    def _sort_out(cls, raw: Any) -> Any:
        return normalize_axes(raw)

    _axis_order: tuple[str, ...] = PrivateAttr(default=())

    @model_validator(mode="wrap")
    @classmethod
    def _keep_order(cls, raw: Any, validate: ModelWrapValidatorHandler[StudyDefinition]) -> StudyDefinition:
        made = validate(raw)
        made._axis_order = axis_order(raw) if isinstance(raw, Mapping) else ()
        return made

    @property
    def axis_order(self) -> tuple[str, ...]:
        """The axes in the order of the study file, lists and ranges alike."""
        return self._axis_order or (*self.grid, *self.axes)

    @field_validator("name")
    @classmethod
    def _check_name(cls, name: str) -> str:
        fault = name_fault(name)
        if fault:
            raise ValueError(f"{fault} (a file without name = … is named after its file name)")
        return name

    @field_validator("grid", mode="before")
    @classmethod
    def _list_fixed_values(cls, grid: Any) -> Any:
        if not isinstance(grid, Mapping):
            return grid
        return {axis: [value] if isinstance(value, (bool, int, float, str)) else value for axis, value in grid.items()}

    @field_validator("grid")
    @classmethod
    def _check_axes(cls, grid: dict[str, list[Scalar]]) -> dict[str, list[Scalar]]:
        for axis, values in grid.items():
            check_axis_name(axis)
            if not values:
                raise ValueError(f"the axis {axis} is empty; give it at least one value")
            check_values(axis, values)
        return grid

    @model_validator(mode="after")
    def _check_sampler(self) -> StudyDefinition:
        for axis in self.axes:
            check_axis_name(axis)
        if not self.grid and not self.axes and not self.is_sampled:
            raise ValueError(NO_AXES)
        if self.is_sampled and self.trials is None:
            raise ValueError(f"sampler = {self.sampler.name!r} needs trials = N, the number of cells that it chooses")
        if self.is_sampled and self.racing is not None:
            raise ValueError(
                f'seeds = "adaptive" works only with the grid, not with sampler = {self.sampler.name!r}; give a number'
            )
        if not self.is_sampled and self.axes:
            axis = next(iter(self.axes))
            raise ValueError(f'the axis {axis} is a range, and the grid needs lists; set a sampler, such as "tpe"')
        if not self.is_sampled and (self.trials is not None or self.sampler.arguments):
            raise ValueError(
                "the grid trains every cell and takes neither trials = N nor arguments; remove them, or set a "
                'sampler, such as "tpe"'
            )
        return self

    @model_validator(mode="after")
    def _check_size(self) -> StudyDefinition:
        check_size(self)
        return self

    @model_validator(mode="after")
    def _check_metrics(self) -> StudyDefinition:
        for one, several in (("metric", self.metrics), ("direction", self.directions)):
            if getattr(self, one) is not None and several:
                raise ValueError(f"{one} and {one}s exclude each other; remove one of them")
        names, directions = self._metric_names, self._metric_directions
        if names and directions and len(names) != len(directions):
            raise ValueError(f"metrics = {names} needs as many directions, not {directions}")
        if len(set(names)) < len(names):
            raise ValueError(f"metrics = {names} has a name twice")
        return self

    @property
    def _metric_names(self) -> list[str]:
        return self.metrics or ([] if self.metric is None else [self.metric])

    @property
    def _metric_directions(self) -> list[Direction]:
        return self.directions or ([] if self.direction is None else [self.direction])

    def ranked_metrics(self, default: str = DEFAULT_NAME) -> tuple[Metric, ...]:
        """The metrics that trials are ranked by.

        Args:
            default: What the objective calls its value.
        """
        return named_metrics(self._metric_names, self._metric_directions, default)

    @property
    def suggests_parameters(self) -> bool:
        """Whether the objective has to choose its parameters itself, since the file has no axes."""
        return not self.grid and not self.axes

    @property
    def is_sampled(self) -> bool:
        """Whether a sampler chooses the cells."""
        return self.sampler.name != GRID

    @model_validator(mode="after")
    def _check_baselines(self) -> StudyDefinition:
        for index, cell in enumerate(self.baselines):
            if not cell:
                raise ValueError(f"baselines.{index} is empty; give it the keys of a cell")
            for axis in cell:
                check_axis_name(axis)
            if canonical(cell) in map(canonical, self.baselines[:index]):
                raise ValueError(f"baselines.{index} = {cell} occurs twice; remove one")
        return self


def check_size(definition: StudyDefinition) -> None:
    """Check the number of trials before they are made.

    Raises:
        ValueError: There are more than `MAX_TRIALS`.
    """
    lengths = {axis: len(values) for axis, values in definition.grid.items() if len(values) > 1}
    cells = definition.trials if definition.is_sampled else math.prod(lengths.values())
    total = (cells or 0) * definition.seeds
    if total > MAX_TRIALS:
        product = " x ".join(f"{length} {axis}" for axis, length in lengths.items())
        of = f"trials = {cells}" if definition.is_sampled else f"the grid has {cells} cells ({product}), which"
        raise ValueError(
            f"{of} with {count_text(definition.seeds, 'seed')} each is {total} trials; at most {MAX_TRIALS} are "
            "allowed: give fewer values or seeds" + ("" if definition.is_sampled else ", or a sampler with trials = N")
        )


def load_definition(study: str, settings: Sequence[Setting] = ()) -> StudyDefinition:
    """Read a built-in study or a study file, with `--set` settings applied.

    Args:
        study: The name of a built-in study, or the path of a TOML file, whose stem names the study.
        settings: "key=value" or "key=value,value", or a key and a Python value; the key is an axis, first_seed, or a
            training, pruner or worker setting.

    Raises:
        UsageError: There is no such study, or the file or a setting is wrong; the message has the key, the value and
            the choices.
    """
    source, raw = read_study_file(study)
    raw.setdefault("name", Path(source).stem)
    if isinstance(raw.get("corpus"), str):
        raw["corpus"] = str(Path(source).parent / raw["corpus"])
    folders = (module_folder(study), Path.cwd())
    definition = _with_full_references(_validated(raw, source), folders)
    # Before --set: a claim about a value that a setting removes is not an error of the file.
    check_claims(definition.claims, definition.grid, definition.baselines, source)
    for setting in settings:
        raw = with_setting(raw, setting, {name: SECTIONS[name] for name in ("training", "racing", "pruner", "workers")})
        definition = _with_full_references(_validated(raw, setting_name(setting)), folders)
    return definition


def _with_full_references(definition: StudyDefinition, folders: Sequence[Path | None]) -> StudyDefinition:
    def full(cell: Mapping[str, Any]) -> dict[str, Any]:
        return {key: full_reference(value, folders) if key == "model" else value for key, value in cell.items()}

    grid = dict(definition.grid)
    if "model" in grid:
        grid["model"] = [full_reference(value, folders) for value in grid["model"]]
    return definition.model_copy(
        update={
            # `resolve_objective` reports the new name of an objective that was renamed.
            "objective": definition.objective
            if definition.objective in MOVED
            else full_reference(definition.objective, folders),
            "grid": grid,
            "baselines": [full(cell) for cell in definition.baselines],
        }
    )


def _validated(raw: Mapping[str, Any], source: str) -> StudyDefinition:
    try:
        return StudyDefinition.model_validate(raw)
    except ValidationError as error:
        raise UsageError(f"{source}: {explain(error, StudyDefinition, SECTIONS)}") from error


SECTIONS: dict[str, type[BaseModel]] = {
    "training": TrainingSettings,
    "pruner": SharedSettings,
    "workers": WorkerSettings,
    "racing": RacingSettings,
    "published": Published,
    "claims": Claim,
    "axes": Range,
}


def sections(definition: StudyDefinition) -> Mapping[str, Any]:
    """The sections that may change between two starts: of pruning, of workers and of racing."""
    racing = {} if definition.racing is None else {"racing": definition.racing.model_dump()}
    return {"pruner": definition.pruner.model_dump(), "workers": definition.workers.model_dump(), **racing}
