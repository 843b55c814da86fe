"""Reads the study that options describe and plans it in the database."""

from __future__ import annotations

import logging
import shlex
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from tempfile import TemporaryFile
from typing import Any

from search.errors import UsageError
from search.hints import command_of
from search.objectives.corpus import Corpus
from search.objectives.counted_runs import MakesCountedRuns
from search.objectives.held_out import reserve, reserved_share
from search.objectives.language_model.settings import UNTRAINED
from search.options import PlanningOptions
from search.storage.artifact_store import artifact_store
from search.storage.connect import open_database
from search.storage.database import Database
from search.storage.errors import NoStudyYet
from search.storage.hosts import note_host
from search.storage.optuna_studies import optuna_study_names, planned_names
from search.storage.queries import counts, has_cell, study_attrs
from search.storage.schema import DEFINITION
from search.storage.spending import settle_budget
from search.storage.texts import printable
from search.storage.url import display_url
from search.storage.values import canonical, compact_json
from search.strategies.auto_seeds import make_seed_planner
from search.strategies.pruners import check_pruner, read_pruner
from search.study.budget import parse_budget
from search.study.cell_checks import check_cells, check_confirm, check_judged_metric, check_seeds
from search.study.code_versions import trials_by_code
from search.study.corpus import read_corpus
from search.study.definition import MAX_SEEDS, StudyDefinition, load_definition
from search.study.definition_checks import check_size
from search.study.distributions import axis_distributions, unreached_ends
from search.study.formatting import count_text
from search.study.lookup import refusal_of_optunas, with_siblings
from search.study.names import name_fault
from search.study.planner import Study, ensure_planned, stored_definitions, study_plans
from search.study.search_space import AUTO, AutoSeedsSettings
from search.study.stored import RESERVED, read_stored_study
from search.study.study_file import sweep_notes
from search.study.user_modules import extend_sys_path, module_folder, resolve_objective, user_sources
from search.workers.group_size import check_fuse
from search.workers.provenance import code_digest

log = logging.getLogger("search")


def load_study(options: PlanningOptions, modules: Path | None = None) -> Study:
    """Load the study that `options` describe, without writing anything.

    Args:
        modules: The folder with the study's own modules; None is that of the study file.

    Raises:
        UsageError, ObjectiveError: The study, a setting, the pruner, the objective or the corpus is wrong.
    """
    check_fuse(options.fuse)
    artifact_store(options.artifacts, options.out)
    definition = load_definition(options.study, options.settings, options.enqueue)
    if notes := sweep_notes(options.study):
        log.warning("%s: %s", options.study, "; ".join(notes))
    budget = None if options.budget is None else parse_budget(options.budget)
    changes: dict[str, object] = {}
    if options.name is not None and (fault := name_fault(options.name)):
        raise UsageError(f"--name {options.name!r}: {fault}")
    if options.seeds is not None:
        changes |= _seeds(options.seeds, definition)
    modules = modules or module_folder(options.study)
    extend_sys_path(modules)
    if options.confirm is not None:
        if options.confirm > MAX_SEEDS:
            raise UsageError(f"--confirm {options.confirm}: give a number from 0 to {MAX_SEEDS}")
        changes["confirm"] = options.confirm
    if options.pruner is not None:
        changes["pruner"] = read_pruner(options.pruner, definition.pruner)
    else:
        check_pruner(definition.pruner)
    definition = definition.model_copy(update=changes)
    try:
        check_size(definition)
    except ValueError as error:
        raise UsageError(f"--seeds {options.seeds}: {error}") from error
    objective = resolve_objective(definition.objective)
    check_judged_metric(definition, objective)
    check_confirm(definition, objective)
    check_seeds(definition, objective)
    if budget is not None and budget.unit == "flops" and not isinstance(objective, MakesCountedRuns):
        raise UsageError(
            f"--budget {printable(options.budget)}: the objective {definition.objective} does not count floating-point "
            "operations; give a time, such as 8h"
        )
    corpus = read_corpus(definition.objective, options.corpus, definition.corpus)
    left_out = _why_not_comparable(options, definition, corpus) if definition.published else ""
    if left_out:
        definition = definition.model_copy(update={"published": []})
    return Study(
        definition=definition,
        name=options.name or definition.name,
        corpus=corpus,
        with_baselines=options.baselines,
        modules=modules,
        target=options.target,
        budget=budget,
        published_left_out=left_out,
        metric=objective.metric,
        arguments=_arguments(options),
    )


def _arguments(options: PlanningOptions) -> list[str]:
    """The arguments that plan the same study again; empty if some are values of Python."""
    given = [("--set", each) for each in options.settings] + [("--enqueue", each) for each in options.enqueue]
    if not all(isinstance(value, str) for _, value in given):
        return []
    named = [("--study", options.study), *([] if options.name is None else [("--name", options.name)])]
    corpus = [] if options.corpus is None else [("--corpus", str(options.corpus))]
    places = [] if options.out == PlanningOptions.out else [("--out", str(options.out))]
    places += [] if options.artifacts is None else [("--artifacts", options.artifacts)]
    flags = [] if options.baselines else ["--no-baselines"]
    return [*(str(each) for pair in [*named, *corpus, *places, *given] for each in pair), *flags]


def _seeds(wanted: str, definition: StudyDefinition) -> dict[str, object]:
    """What `--seeds` changes."""
    if wanted == AUTO:
        if definition.is_sampled:
            raise UsageError(
                f"--seeds auto works only with the grid, and {definition.name} has a sampler; give a number"
            )
        rules = definition.auto_seeds or AutoSeedsSettings()
        return {"seeds": rules.first, "auto_seeds": rules}
    if not wanted.isascii() or not wanted.isdigit() or not 1 <= int(wanted) <= MAX_SEEDS:
        raise UsageError(f"--seeds {printable(wanted)}: give a number from 1 to {MAX_SEEDS}, or auto")
    return {"seeds": int(wanted), "auto_seeds": None}


def _why_not_comparable(options: PlanningOptions, definition: StudyDefinition, corpus: Corpus | None) -> str:
    """What sets the trials apart from the published ones, which had the text and the training settings of the file."""
    if options.corpus is not None:
        of_file = read_corpus(definition.objective, None, definition.corpus)
        if corpus is None or of_file is None or corpus.sha256 != of_file.sha256:
            return "they are of another text"
    published = load_definition(options.study).training.model_dump(exclude=set(UNTRAINED))
    ours = definition.training.model_dump()
    changed = [f"{name} {value} (here {ours[name]})" for name, value in published.items() if ours[name] != value]
    return f"they are of trials with {', '.join(changed)}" if changed else ""


def warn_of_other_code(database: Database, study: Study) -> None:
    """Log a warning if trials of a study were made by another version of the code than a worker would run now."""
    made = trials_by_code(database, study.names)
    if not made or (stored := read_stored_study(database, study.name)) is None:
        return
    now = code_digest(*user_sources(stored.definition))
    if others := sum(count for code, count in made.items() if code != now):
        log.warning(
            "warning: %s made by other code of the objective %s, or of lm-search, and %s not trained again: start a "
            "new study with --name, or compare one with: %s --study %s --storage %s --trial N",
            count_text(others, "finished trial was", "finished trials were"),
            stored.definition.objective,
            "is" if others == 1 else "are",
            command_of("replay"),
            shlex.quote(study.name),
            shlex.quote(display_url(database.engine.url)),
        )


def open_planned(options: PlanningOptions, modules: Path | None = None) -> tuple[Database, Study]:
    """Open the database and plan the study in it; errors in the study are raised before anything is written.

    Args:
        modules: As for `load_study`.

    Raises:
        UsageError, ModelError, ObjectiveError, StorageError: An error that the user can fix.
    """
    study = load_study(options, modules)
    before = _stored_definitions(options, study)
    study = _with_reserve(study, (before or {}).get(study.name))
    # A definition that has grown is checked like a new one.
    if before is None or canonical(before) != canonical(stored_definitions(study)):
        from search.strategies.samplers import check_sampler, make_sampler

        if study.definition.suggests_parameters:
            make_sampler(study.definition.sampler, 0)
        elif study.definition.is_sampled:
            grid, axes = study.definition.grid, study.definition.axes
            unlearned = check_sampler(
                study.definition.sampler,
                axis_distributions(grid, axes),
                study.definition.space,
                study.definition.ranked_metrics(study.metric),
            )
            for sentence in (*unreached_ends(axes), *unlearned):
                log.warning("%s", sentence)
        check_cells(study)
    _check_folder("--out", options.out)
    if options.artifacts not in (None, "none") and "://" not in str(options.artifacts):
        _check_folder("--artifacts", Path(str(options.artifacts)))
    # --from reads another study, so the database must exist.
    create = options.warm_start is None
    database = open_database(options.storage, create=create, outdated="upgrade", wait_s=options.storage_wait_s)
    try:
        plans = study_plans(study)
        if options.warm_start is not None:
            from search.strategies.warm_start import warm_started  # with the statistics

            plans[0] = warm_started(database, study, plans[0], options.warm_start)
        ensure_planned(database, study, plans)
        if fewer := _asks_for_fewer(database, study):
            log.warning("warning: %s: all of them stay and are trained; for fewer give another --name", fewer)
        # The last worker may have been killed after its last trial, before it planned more seeds.
        stored = read_stored_study(database, study.name)
        for name in study.names:
            note_host(database, name)
        is_spent = settle_budget(database, *with_siblings(database, study.name))
        plan_seeds = None if stored is None or is_spent else make_seed_planner(database, stored)
        # Where a trial of this run waits, the workers do it after the last one.
        if plan_seeds is not None and not counts(database, study.names)["waiting"]:
            plan_seeds()
    except BaseException:
        database.engine.dispose()
        raise
    return database, study


def _asks_for_fewer(database: Database, study: Study) -> str:
    """What the definition asks for, if the database has planned more; else ""."""
    definition = study.definition
    if definition.is_sampled:
        planned = sum(counts(database, [study.name]).values())
        more = planned > (definition.trials or 0) * definition.seeds
        seeds = "" if definition.seeds == 1 else f" with seeds = {definition.seeds}"
        return f"trials = {definition.trials}{seeds} is below the {planned} trials that are planned" if more else ""
    if definition.auto_seeds is not None:
        return ""
    next_seed = {**definition.cells[0], "seed": definition.first_seed + definition.seeds}
    more = has_cell(database, study.name, compact_json(next_seed))
    return f"seeds = {definition.seeds} is below the number of seeds that are planned" if more else ""


def _with_reserve(study: Study, before: Mapping[str, Any] | None) -> Study:
    """The study with a stretch of its text reserved if it is confirmed; once it is planned, that does not change.

    Args:
        before: Its definition in the database; None if it is not planned.
    """
    corpus, asked = study.corpus, study.definition.confirm > 0
    if corpus is None or corpus.has_own_held_out:
        return study
    if not (asked if before is None else before.get(RESERVED)):
        if asked:
            log.warning(
                "the fresh seeds of --confirm are evaluated on the validation text that the cells were selected on, "
                "because %s was planned without --confirm; with it from the start, under another --name, %s is kept "
                "for them",
                study.name, reserved_share(corpus),
            )  # fmt: skip
        return study
    study = replace(study, corpus=reserve(corpus))
    if not study.definition.published:
        return study
    left_out = f"they are of the whole text, and {reserved_share(corpus)} is kept for --confirm"
    return replace(study, definition=study.definition.model_copy(update={"published": []}), published_left_out=left_out)


def _stored_definitions(options: PlanningOptions, study: Study) -> dict[str, Any] | None:
    """The definitions in the database of a study and its baselines, by name; None if nothing is planned there."""
    try:
        with open_database(
            options.storage, create=False, wait_s=options.storage_wait_s, optuna_alone="read"
        ).closing() as database:
            if not planned_names(database):
                # A database of Optuna does not get our tables for a study that cannot be planned.
                if optunas := {*study.names} & {*optuna_study_names(database)}:
                    raise UsageError(refusal_of_optunas(min(optunas), options.storage))
                return None
            return {name: (study_attrs(database, name) or {}).get(DEFINITION) for name in study.names}
    except NoStudyYet:
        return None


def _check_folder(option: str, out: Path) -> None:
    try:
        nearest = next(folder for folder in (out, *out.absolute().parents) if folder.exists())
    except (OSError, ValueError) as error:  # a name that no file has
        raise UsageError(f"{option} {printable(out)}: {error}; choose another {option}") from error
    try:
        # Rights alone do not tell: a network file system or the kernel can refuse all the same.
        with TemporaryFile(dir=nearest):
            pass
    except OSError as error:
        raise UsageError(f"{option} {out}: {nearest} is not a writable folder; choose another {option}") from error
