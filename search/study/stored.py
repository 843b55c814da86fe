"""Studies and trials as the database stores them, typed: only here and in `stored_settings` are the stored keys read.

A study is read once and passed on as a `StoredStudy`. `search.study.planner.study_plans` writes these keys.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import TYPE_CHECKING, Any, TypeVar

from pydantic import BaseModel, ValidationError

from search.errors import UsageError
from search.objectives.language_model.settings import LanguageModelSettings
from search.objectives.protocol import HELD_OUT_LOSS, VAL_LOSS
from search.objectives.registry import COMMAND, DEFAULT_OBJECTIVE, OBJECTIVES
from search.objectives.settings import set_values
from search.storage import queries
from search.storage.database import Database
from search.storage.schema import DEFINITION, UID
from search.storage.spending import BUDGET, Budget
from search.study.analyses import Analysis, parse_analyses
from search.study.cells import CONFIRMATION, objective_values, with_further_values
from search.study.claims import Cell, Claim, Published, Scalar
from search.study.confirmed_text import Confirmation, parse_confirmation
from search.study.metrics import Metric, parse_metrics
from search.study.search_space import GRID, Range, SamplerSettings
from search.study.space import Condition, Space
from search.study.stored_settings import StoredSettings, parse_settings
from search.study.text_unit import CHARACTERS, TEXT_UNIT, TextUnit, parse_text_unit
from search.study.warm_starts import WARM_START, WarmStart, parse_warm_start

if TYPE_CHECKING:
    from search.storage.planning import StudyPlan

Model = TypeVar("Model", bound=BaseModel)

SET_TRAINING = "set_training"
# The key of a definition of which a stretch of the text is reserved.
RESERVED = "reserved"
AXIS_ORDER, START_POINTS, ARGUMENTS = "axis_order", "start_points", "arguments"
# User attributes of a study with automatic seeds: what it has not answered yet, and the trials that each question got.
OPEN_QUESTIONS, SEEDS_GIVEN = "open_questions", "seeds_given"
# The user attribute of a copy of a study that Optuna alone made.
MADE_BY_OPTUNA = "made_by_optuna"


@dataclass(frozen=True)
class StoredDefinition:
    """The part of a study that changes only when the study grows.

    Attributes:
        objective: A registered name, or "module:function".
        corpus_sha256: SHA-256 of the text that its trials train on; None if the objective takes none.
        grid: The axes that are lists; empty for the sibling study with the baselines.
        axes: The axes that are ranges.
        sampler: The sampler that chooses the cells; None for a grid.
        when, named, exclude, enqueue: As in `StudyDefinition`.
        baselines: The cells of the sibling study; empty for the study itself.
        metrics: What trials are ranked by; several for a Pareto front.
        user_settings: What the study file has under [settings].
        is_reserved: Whether a stretch of its text is kept for a confirmation.
        confirmation: None unless the study confirms another one.
        as_stored: The whole definition as JSON.
    """

    objective: str
    training: LanguageModelSettings
    corpus_sha256: str | None
    grid: Mapping[str, Sequence[Scalar]]
    axes: Mapping[str, Range]
    sampler: SamplerSettings | None
    baselines: Sequence[Cell]
    metrics: Sequence[Metric]
    user_settings: Mapping[str, Any]
    as_stored: Mapping[str, Any] = field(repr=False)
    when: Mapping[str, Condition] = field(default_factory=dict)
    named: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    exclude: Sequence[Condition] = ()
    enqueue: Sequence[Cell] = ()
    is_reserved: bool = False
    confirmation: Confirmation | None = None

    @property
    def is_ours(self) -> bool:
        """Whether the objective is our own, whose settings are those of [training]."""
        return self.objective in OBJECTIVES and self.objective != COMMAND

    @property
    def metric(self) -> Metric:
        """What ranks trials: the first metric."""
        return self.metrics[0]

    @property
    def objective_settings(self) -> dict[str, Any]:
        """What the objective's settings are made from: [training] and [settings]."""
        return {**self.training.as_dict(), **self.user_settings}

    @property
    def suggests_parameters(self) -> bool:
        """Whether the objective chooses its parameters itself."""
        return self.sampler is not None and not self.grid and not self.axes

    @property
    def models(self) -> list[Scalar]:
        """The values of the axis "model", in the grid and in the baselines."""
        cells = [{"model": value} for value in self.grid.get("model", ())]
        cells += [cell for cell in (*self.enqueue, *self.baselines) if "model" in cell]
        return [objective_values(cell, self.named)["model"] for cell in cells]

    @cached_property
    def shared_grid(self) -> Mapping[str, Sequence[Scalar]]:
        """The axes that are lists and that every cell has, with the values of enqueued cells in their place."""
        return {
            axis: with_further_values(values, [cell[axis] for cell in self.enqueue if axis in cell])
            for axis, values in self.grid.items()
            if axis not in self.when
        }

    @property
    def space(self) -> Space:
        """The search space."""
        return Space(self.grid, self.axes, self.when, self.exclude)

    @property
    def cells(self) -> list[Cell]:
        """The cells of the grid, then those that are enqueued besides them; empty if a sampler chooses."""
        return [] if self.sampler is not None else self.space.cells_and(self.enqueue)


@dataclass(frozen=True)
class StoredStudy:
    """A planned study.

    Attributes:
        uid: A unique id, which differs from that of a deleted study of the same name and names its files; "" before it
            is planned.
        corpus: The name of its text; None if the objective takes none.
        bigram_baseline: The counted bigram's validation loss on that text, in nats per character; None if it was not
            computed.
        text_unit: What a prediction on that text is of.
        seeds: The number of seeds that a cell was planned with.
        trials: The number of cells that a sampler chooses; None for a grid.
        warm_start: The results of another study that its sampler starts with.
        planning: The uid of the queue: it differs from `uid` only for studies of older versions without one.
        axis_order: The axes in the order of the study file.
        target, budget: At which its last run stops, or stopped; None for none.
        published_left_out: Why its published losses cannot be compared with ours; "" if they can.
        has_start_points: Whether its sampler starts with points of a quasi-random sequence.
        confirm: With how many fresh seeds its best cells are confirmed; 0 for none.
        equivalence_margin: A difference of the metric below it does not matter; None if the study file names none.
        open_questions: What a study with `seeds = "auto"` had not answered when its seeds were last planned.
        seeds_given: How many further trials each question got.
        arguments: What `run` was given to plan it; empty for earlier versions, and from Python.
        set_training: The training settings that its study file sets; None if an earlier version planned it.
        is_made_by_optuna: Whether Optuna alone made it: it has no settings, no objective and no seeds.
    """

    name: str
    uid: str
    description: str
    corpus: str | None
    bigram_baseline: float | None
    first_seed: int
    seeds: int
    trials: int | None
    definition: StoredDefinition
    settings: StoredSettings
    published: Sequence[Published] = ()
    claims: Sequence[Claim] = ()
    analyses: Sequence[Analysis] = ()
    warm_start: WarmStart | None = None
    planning: str = ""
    axis_order: Sequence[str] = ()
    has_start_points: bool = False
    target: float | None = None
    budget: Budget | None = None
    published_left_out: str = ""
    is_made_by_optuna: bool = False
    set_training: Sequence[str] | None = None
    confirm: int = 0
    equivalence_margin: float | None = None
    open_questions: Sequence[str] = ()
    seeds_given: Mapping[str, int] = field(default_factory=dict)
    arguments: Sequence[str] = ()
    text_unit: TextUnit = CHARACTERS

    @property
    def loss_unit(self) -> TextUnit | None:
        """What its losses are per; None if its metric is not the loss of our own language model."""
        is_loss = self.definition.metric.name in (VAL_LOSS, HELD_OUT_LOSS)
        return self.text_unit if is_loss and self.definition.objective == DEFAULT_OBJECTIVE else None

    @property
    def is_drawn(self) -> bool:
        """Whether something draws each trial's parameters, so that trials with equal ones are chance."""
        return self.definition.suggests_parameters or self.is_made_by_optuna

    @property
    def used_training(self) -> Mapping[str, Any]:
        """The training settings that its trials use: all for our own objective, else those that the study file sets."""
        training = self.definition.training
        return training.as_dict() if self.definition.is_ours else set_values(training, self.set_training)


def read_stored_study(database: Database, name: str) -> StoredStudy | None:
    """A study; None if none of this name was planned.

    Raises:
        UsageError: It has settings that this version does not support.
    """
    found = queries.planned_study(database, name)
    return None if found is None else replace(parse_study(name, found[1]), planning=found[0])


def planned_study(plan: StudyPlan) -> StoredStudy:
    """A planned study in the form in which the database will store it."""
    return parse_study(plan.study, {**plan.attrs, **plan.initial_attrs, DEFINITION: plan.definition})


def parse_study(name: str, attrs: Mapping[str, Any]) -> StoredStudy:
    """A study from its user attributes.

    Raises:
        UsageError: They have settings that this version does not support.
    """
    try:
        definition = parse_definition(attrs[DEFINITION])
        return StoredStudy(
            name=name,
            uid=attrs.get(UID, ""),
            description=attrs.get("description", ""),
            corpus=attrs.get("corpus"),
            # Schema 1 called it "floor"; programs that only read show such databases without migrating them.
            bigram_baseline=attrs.get("bigram_baseline", attrs.get("floor")),
            first_seed=attrs.get("first_seed", 0),
            seeds=attrs.get("seeds", 1),
            trials=attrs.get("trials"),
            definition=definition,
            settings=parse_settings(attrs.get("settings", {})),
            published=_models(Published, attrs.get("published")),
            claims=_models(Claim, attrs.get("claims")),
            analyses=parse_analyses(attrs.get("analyses")),
            warm_start=parse_warm_start(attrs.get(WARM_START)),
            axis_order=_axis_order(attrs.get(AXIS_ORDER), definition),
            has_start_points=bool(attrs.get(START_POINTS)),
            target=attrs.get("target"),
            budget=Budget.of(attrs.get(BUDGET)),
            published_left_out=attrs.get("published_left_out", ""),
            set_training=attrs.get(SET_TRAINING),
            confirm=attrs.get("confirm", 0),
            equivalence_margin=attrs.get("equivalence_margin"),
            text_unit=parse_text_unit(attrs.get(TEXT_UNIT)),
            open_questions=[each["text"] for each in attrs.get(OPEN_QUESTIONS, ())],
            seeds_given=attrs.get(SEEDS_GIVEN, {}),
            arguments=attrs.get(ARGUMENTS, ()),
            is_made_by_optuna=bool(attrs.get(MADE_BY_OPTUNA)),
        )
    except ValidationError as error:
        fault = error.errors()[0]
        at = ".".join(map(str, fault["loc"]))
        raise UsageError(
            f"the study {name!r} in the database has {at} = {fault['input']!r}, which this version of lm-search does "
            "not support; update with: pip install -U lm-search"
        ) from error


def _axis_order(stored: Sequence[str] | None, definition: StoredDefinition) -> Sequence[str]:
    axes = [*definition.grid, *definition.axes]
    return stored if stored is not None and sorted(stored) == sorted(axes) else axes


def parse_definition(stored: Mapping[str, Any]) -> StoredDefinition:
    """A study's definition from its JSON."""
    sampler = SamplerSettings.model_validate(stored.get("sampler", GRID))
    return StoredDefinition(
        objective=stored.get("objective", ""),
        training=LanguageModelSettings.model_validate(stored.get("training", {})),
        corpus_sha256=stored.get("corpus_sha256"),
        grid=stored.get("grid", {}),
        axes={name: Range.model_validate(axis) for name, axis in stored.get("axes", {}).items()},
        sampler=None if sampler.name == GRID else sampler,
        baselines=stored.get("baselines", []),
        metrics=parse_metrics(stored.get("metrics")),
        user_settings=stored.get("settings", {}),
        as_stored=stored,
        when=stored.get("when", {}),
        named=stored.get("named", {}),
        exclude=stored.get("exclude", ()),
        enqueue=stored.get("enqueue", ()),
        is_reserved=bool(stored.get(RESERVED)),
        confirmation=parse_confirmation(stored.get(CONFIRMATION)),
    )


def _models(kind: type[Model], stored: Sequence[Any] | None) -> list[Model]:
    return [kind.model_validate(each) for each in stored or ()]
