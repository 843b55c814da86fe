"""Study definitions: the TOML file that sets what a study varies, how it trains and how it prunes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from pydantic import (
    BaseModel,
    Field,
    PrivateAttr,
    ValidationError,
    field_validator,
    model_validator,
)
from pydantic.functional_validators import ModelWrapValidatorHandler  # `pydantic` has it since 2.11 only

from search.errors import UsageError
from search.objectives.corpus import source_in
from search.objectives.language_model.settings import LanguageModelSettings
from search.objectives.registry import DEFAULT_OBJECTIVE
from search.study.analyses import SECTIONS as OF_ANALYSES
from search.study.analyses import Analysis, check_analyses
from search.study.axis_tables import axis_order, normalize_axes
from search.study.claims import STRICT, Cell, Claim, Published, Scalar, check_claims
from search.study.command import normalize_command
from search.study.cost_settings import CostSettings
from search.study.definition_checks import check_definition
from search.study.metrics import DEFAULT_NAME, Direction, Metric, named_metrics
from search.study.names import check_axis_name, name_fault
from search.study.overrides import Setting, setting_name, with_enqueued, with_setting
from search.study.pruner_settings import PrunerSettings, SharedSettings
from search.study.references import full_cell, full_reference
from search.study.search_space import (
    GRID,
    AutoSeedsSettings,
    Range,
    SamplerSettings,
    check_values,
    normalize_seeds,
)
from search.study.space import Space, check_values_exist
from search.study.study_file import read_study_file
from search.study.user_modules import MOVED, module_folder
from search.study.validation_messages import explain
from search.study.worker_settings import WorkerSettings

MAX_SEED = 2**31 - 1
# Larger numbers are typing errors.
MAX_SEEDS = 1000


class StudyDefinition(BaseModel):
    """What a study file holds."""

    model_config = STRICT

    name: str
    description: str = ""
    # What a trial measures: a name of search/objectives/registry.py, or a user's "module:name".
    objective: str = Field(default=DEFAULT_OBJECTIVE, pattern=r"^\w+$|^[\w.]+:\w+$")
    # Or a program; its settings are in [settings] (search/objectives/command/settings.py).
    command: str | list[str] | None = None
    # The text that trials train on (search/objectives/corpus.py); its path is relative to the study file's folder.
    corpus: str | None = None
    # The axes that are lists; the last one varies fastest, and the cells of the grid are in that order.
    grid: dict[str, list[Scalar]] = {}
    # The axes that are ranges; only a sampler can choose from them.
    axes: dict[str, Range] = {}
    # Conditions of axes: a cell has such an axis only where the other axes have one of the values.
    when: dict[str, dict[str, list[Scalar]]] = {}
    # Axis → name → value: values that are no choice for Optuna; `grid` lists their names.
    named: dict[str, dict[str, Any]] = {}
    # Cells that are not trained: those with one of the values on each axis of an entry.
    exclude: list[dict[str, list[Scalar]]] = []
    # Cells that are trained first: besides those of the grid, or as some of those that a sampler chooses.
    enqueue: list[Cell] = []
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
    # With seeds = "auto": further seeds where they decide something.
    auto_seeds: AutoSeedsSettings | None = None
    # When all trials have ended, the best cell and the runner-up are trained with so many fresh seeds.
    confirm: int = Field(default=0, ge=0, le=MAX_SEEDS)
    training: LanguageModelSettings = LanguageModelSettings()
    pruner: PrunerSettings = PrunerSettings()
    workers: WorkerSettings = WorkerSettings()
    cost: CostSettings = CostSettings()
    # What starts the workers (`name`), and its settings; belongs to a site, so it is not stored.
    launcher: dict[str, Any] = {}
    published: list[Published] = []
    claims: list[Claim] = []
    # Questions of other kinds, such as "transfer" and "scaling".
    analyses: list[Analysis] = []
    # A difference of the metric that is too small to matter: claims can be answered with "no clear difference".
    equivalence_margin: float | None = Field(default=None, gt=0, allow_inf_nan=False)

    @model_validator(mode="before")
    @classmethod
    def _sort_out(cls, raw: Any) -> Any:
        return normalize_axes(normalize_seeds(normalize_command(raw)))

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

    @field_validator("grid")
    @classmethod
    def _check_axes(cls, grid: dict[str, list[Scalar]]) -> dict[str, list[Scalar]]:
        for axis, values in grid.items():
            check_axis_name(axis)
            if not values:
                raise ValueError(f"the axis {axis} is empty; give it at least one value")
            check_values(axis, values)
        return grid

    @property
    def space(self) -> Space:
        """The search space."""
        return Space(self.grid, self.axes, self.when, self.exclude)

    @property
    def enqueued(self) -> list[Cell]:
        """The cells of `enqueue`, with the values of the axes that have only one."""
        return [self.space.completed(cell) for cell in self.enqueue]

    @property
    def fixed(self) -> list[Cell]:
        """The cells of `enqueue` for an objective that suggests its parameters, and may suggest further ones."""
        return self.enqueue if self.suggests_parameters else []

    @property
    def cells(self) -> list[Cell]:
        """The cells of the grid, then those that are enqueued besides them; without the latter if a sampler chooses."""
        return [] if self.is_sampled else self.space.cells_and(self.enqueued)

    @property
    def metric_names(self) -> list[str]:
        """The names of the metrics; empty if the objective names its value."""
        return self.metrics or ([] if self.metric is None else [self.metric])

    @property
    def metric_directions(self) -> list[Direction]:
        """The directions of the metrics; empty for the default."""
        return self.directions or ([] if self.direction is None else [self.direction])

    def ranked_metrics(self, default: str = DEFAULT_NAME) -> tuple[Metric, ...]:
        """The metrics that trials are ranked by.

        Args:
            default: What the objective calls its value.
        """
        return named_metrics(self.metric_names, self.metric_directions, default)

    @property
    def objective_settings(self) -> dict[str, Any]:
        """What the objective's settings are made from: [training] and [settings]."""
        return {**self.training.as_dict(), **self.settings}

    @property
    def suggests_parameters(self) -> bool:
        """Whether the objective has to choose its parameters itself, since the file has no axes."""
        return not self.grid and not self.axes

    @property
    def is_sampled(self) -> bool:
        """Whether a sampler chooses the cells."""
        return self.sampler.name != GRID

    @model_validator(mode="after")
    def _check(self) -> StudyDefinition:
        check_definition(self)
        return self


def load_definition(
    study: str, settings: Sequence[Setting] = (), enqueue: Sequence[str | Mapping[str, Any]] = ()
) -> StudyDefinition:
    """Read a built-in study or a study file, with `--set` settings applied.

    Args:
        study: The name of a built-in study, or the path of a TOML file, whose stem names the study.
        settings: "key=value" or "key=value,value", or a key and a Python value; the key is an axis, first_seed, or a
            training, pruner or worker setting.
        enqueue: Further cells to train first, as for `with_enqueued`.

    Raises:
        UsageError: There is no such study, or the file or a setting is wrong; the message has the key, the value and
            the choices.
    """
    source, raw = read_study_file(study)
    raw.setdefault("name", Path(source).stem)
    if isinstance(raw.get("corpus"), str):
        raw["corpus"] = source_in(Path(source).parent, raw["corpus"])
    folders = (module_folder(study), Path.cwd())
    definition = _with_full_references(_validated(raw, source), folders)
    # Before --set: a claim or a condition about a value that a setting removes is not an error of the file.
    try:
        check_values_exist(definition.space)
    except ValueError as error:
        raise UsageError(f"{source}: {error}") from error
    uneven = definition.cells if definition.when else definition.enqueued
    check_claims(definition.claims, definition.grid, definition.baselines, source, uneven)
    check_analyses(definition.analyses, {**definition.grid, **definition.axes}, source)
    for setting in settings:
        raw = with_setting(
            raw, setting, {name: SECTIONS[name] for name in ("training", "auto_seeds", "pruner", "workers", "cost")}
        )
        definition = _with_full_references(_validated(raw, setting_name(setting)), folders)
    if enqueue:
        definition = _with_full_references(_validated(with_enqueued(raw, enqueue), "--enqueue"), folders)
    return definition


def _with_full_references(definition: StudyDefinition, folders: Sequence[Path | None]) -> StudyDefinition:
    named = dict(definition.named)
    if "model" in named:
        named["model"] = {name: full_reference(value, folders) for name, value in named["model"].items()}
    return definition.model_copy(
        update={
            # `resolve_objective` reports the new name of an objective that was renamed.
            "objective": definition.objective
            if definition.objective in MOVED
            else full_reference(definition.objective, folders),
            "grid": full_cell(definition.grid, folders),
            "when": {axis: full_cell(condition, folders) for axis, condition in definition.when.items()},
            "named": named,
            "exclude": [full_cell(condition, folders) for condition in definition.exclude],
            "enqueue": [full_cell(cell, folders) for cell in definition.enqueue],
            "baselines": [full_cell(cell, folders) for cell in definition.baselines],
        }
    )


def _validated(raw: Mapping[str, Any], source: str) -> StudyDefinition:
    try:
        return StudyDefinition.model_validate(raw)
    except ValidationError as error:
        raise UsageError(f"{source}: {explain(error, StudyDefinition, SECTIONS)}") from error


SECTIONS: dict[str, type[BaseModel]] = {
    "training": LanguageModelSettings,
    "pruner": SharedSettings,
    "workers": WorkerSettings,
    "cost": CostSettings,
    "auto_seeds": AutoSeedsSettings,
    "published": Published,
    "claims": Claim,
    "axes": Range,
    **OF_ANALYSES,
}


def sections(definition: StudyDefinition) -> Mapping[str, Any]:
    """The sections that may change between two starts: of pruning, of workers, of seeds and of costs."""
    further = {} if definition.auto_seeds is None else {"auto_seeds": definition.auto_seeds.model_dump()}
    further |= {"cost": cost} if (cost := definition.cost.given()) else {}
    return {"pruner": definition.pruner.model_dump(), "workers": definition.workers.model_dump(), **further}
