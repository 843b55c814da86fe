"""From options to an open database with a planned study in it, and to a worker of that study."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from objectives.contract import RunGroup, TrainingRun
from objectives.corpus import Corpus
from objectives.settings import TrainingSettings
from search.chosen_corpus import corpus_difference, corpus_of_file, read_corpus
from search.definition import (
    BASELINES_SUFFIX,
    MAX_SEEDS,
    WorkerSettings,
    load_definition,
    name_fault,
)
from search.devices import check_device
from search.errors import UsageError
from search.fusing import GroupSizes, check_fuse
from search.members import Desk, WorkedStudy
from search.options import ARTIFACTS_FOLDER, DEFAULT_FUSE, DEFAULT_OUT, DEFAULT_STORAGE, DEFAULT_STORAGE_WAIT_S
from search.own_code import import_own, look_in, module_folder, own_modules, resolve_objective
from search.planner import Study, check_cells, ensure_planned, study_plans
from search.record import Keeper, environment
from search.strategies.pruner_settings import PRUNERS, PrunerSettings
from search.strategies.pruning import PruningJudge
from search.strategies.racing import make_race
from search.strategies.sampling import make_sampling
from search.strategies.warmstart import warm_started
from search.training import Worker, owner_name
from storage.artifact_store import ArtifactStore, open_store
from storage.artifacts import ArtifactFolder
from storage.database import Database
from storage.errors import NoStudyYet
from storage.opening import open_database
from storage.optuna_storage import SearchStorage
from storage.queue import RunQueue
from storage.summaries import study_attrs, study_names
from storage.url import display_url


@dataclass(frozen=True)
class StudyOptions:
    """Which study, where, and what of its definition is overridden.

    Attributes:
        study: A built-in study or a study file.
        storage: The storage URL.
        name: The study's name in the database; None is that of the definition.
        seeds: Trials a cell; None is as the definition says.
        pruner: The pruner's name; None is as the definition says.
        settings: "key=value" overrides of axes and settings.
        corpus: A text file; None is that of the study file, else tiny shakespeare.
        out: Folder of checkpoints and logs.
        storage_wait_s: How long to wait for a database that is starting, in seconds.
        fuse: "auto", "off", or how many trials of one shape a worker trains together.
        artifacts: Where the files of finished trials are kept: a folder, s3://bucket/prefix, or "none"; None is the
            folder "artifacts" in `out`.
        modules: Another folder to look for the study's own modules in.
        warm_start: A study in the same database whose complete cells the sampler is shown; None is no study.
    """

    study: str = "bigram"
    storage: str = DEFAULT_STORAGE
    name: str | None = None
    seeds: int | None = None
    pruner: str | None = None
    settings: tuple[str, ...] = ()
    baselines: bool = True
    corpus: Path | None = None
    out: Path = DEFAULT_OUT
    storage_wait_s: float = DEFAULT_STORAGE_WAIT_S
    fuse: str = DEFAULT_FUSE
    artifacts: str | None = None
    modules: Path | None = None
    warm_start: str | None = None


def load_study(options: StudyOptions) -> Study:
    """The study that `options` ask for; nothing is written.

    Raises:
        UsageError, ObjectiveError: A wrong study, setting, pruner, objective or corpus.
    """
    check_fuse(options.fuse)
    artifact_store(options.artifacts, options.out)
    definition = load_definition(options.study, options.settings)
    changes: dict[str, object] = {}
    if options.name is not None and (fault := name_fault(options.name)):
        raise UsageError(f"--name {options.name!r}: {fault}")
    if options.seeds is not None:
        if not 1 <= options.seeds <= MAX_SEEDS:
            raise UsageError(f"--seeds {options.seeds}: give a number from 1 to {MAX_SEEDS}")
        changes |= {"seeds": options.seeds, "racing": None}
    if options.pruner is not None:
        if options.pruner not in PRUNERS:
            raise UsageError(f"--pruner {options.pruner}: choices are {', '.join(PRUNERS)}")
        changes["pruner"] = definition.pruner.model_copy(update={"name": options.pruner})
    definition = definition.model_copy(update=changes)
    modules = options.modules or module_folder(options.study)
    look_in(modules)
    corpus = read_corpus(definition.objective, options.corpus, definition.corpus)
    if options.corpus is not None and definition.published:
        of_file = read_corpus(definition.objective, None, definition.corpus)
        if corpus is None or of_file is None or corpus.sha256 != of_file.sha256:
            # Losses that somebody published for the study's own text mean nothing beside those of another.
            definition = definition.model_copy(update={"published": []})
    return Study(definition, options.name or definition.name, corpus, options.baselines, modules)


def artifact_store(artifacts: str | None, out: Path) -> ArtifactStore | None:
    """The store that `StudyOptions.artifacts` and `StudyOptions.out` name, None for "none"; nothing is written.

    Raises:
        StorageError: It names no store.
    """
    return None if artifacts == "none" else open_store(artifacts or str(out / ARTIFACTS_FOLDER))


def open_planned(options: StudyOptions) -> tuple[Database, Study]:
    """Open the database with the study planned in it; whatever is wrong is found before anything is written.

    Raises:
        UsageError, ModelError, ObjectiveError, StorageError: What the user can mend.
    """
    study = load_study(options)
    if not _is_planned(options, study):
        check_cells(study)
    _check_out(options.out)
    # With --from there is a study in it, or nothing shall be made.
    database = open_database(options.storage, create=options.warm_start is None, wait_s=options.storage_wait_s)
    try:
        plans = study_plans(study)
        if options.warm_start is not None:
            plans[0] = warm_started(database, study, plans[0], options.warm_start)
        ensure_planned(database, study, plans)
        # The last worker may have been killed between its last trial and the planning of further seeds.
        if (race := make_race(database, study.name, {"definition": plans[0].definition, **plans[0].attrs})) is not None:
            race()
    except BaseException:
        database.engine.dispose()
        raise
    return database, study


def _is_planned(options: StudyOptions, study: Study) -> bool:
    try:
        with open_database(options.storage, create=False, wait_s=options.storage_wait_s).closing() as database:
            return all(study_attrs(database, name) is not None for name in study.names)
    except NoStudyYet:
        return False


def _check_out(out: Path) -> None:
    nearest = next(folder for folder in (out, *out.absolute().parents) if folder.exists())
    if not nearest.is_dir() or not os.access(nearest, os.W_OK | os.X_OK):
        raise UsageError(f"--out {out}: {nearest} is not a folder that can be written; give another with --out")


def open_studies(study: str, storage: str, wait_s: float, *, baselines: bool) -> tuple[Database, list[str]]:
    """Open a study that exists, for reading.

    Args:
        study: Its name in the database, or the study file that names it.

    Returns:
        The database, and the names of the study and of its sibling with the baselines if that exists too.

    Raises:
        UsageError, StorageError: There is no such study; the message lists those that there are.
    """
    name = load_definition(study).name if study.endswith(".toml") else study
    database = open_database(storage, create=False, wait_s=wait_s)
    there = study_names(database)
    if name not in there:
        database.engine.dispose()
        raise UsageError(
            f"no study {name!r} in {display_url(storage)}; studies there: {', '.join(there) or 'none'}; "
            f"start one with: python -m search.run --study {study}"
        )
    siblings = [name + BASELINES_SUFFIX] if baselines and name + BASELINES_SUFFIX in there else []
    return database, [name, *siblings]


def open_worker(options: StudyOptions, device: str, owner: str | None) -> Worker:
    """A worker of a study, as the database knows it; a study that is not there yet is planned first.

    Args:
        device: As torch names it.
        owner: A name that no other worker has; None makes one.

    Raises:
        UsageError, ModelError, ObjectiveError, StorageError: What the user can mend.
    """
    check_device(device)
    check_fuse(options.fuse)
    sizes = GroupSizes(options.fuse, device, options.out)
    store = artifact_store(options.artifacts, options.out)
    look_in(options.modules or module_folder(options.study))
    database, name = _open_by_name(options)
    names = [name, name + BASELINES_SUFFIX] if options.baselines else [name]
    planned = {each: attrs for each in names if (attrs := study_attrs(database, each)) is not None}
    for each, attrs in planned.items():
        # A worker that lacks one must not begin: each of its trials would fail for good.
        for module in own_modules(attrs["definition"]):
            import_own(module, f"the study {each!r}")
    backend = SearchStorage(database)
    # A study and its baselines have one objective and one text.
    corpus = read_corpus(planned[name]["definition"]["objective"], options.corpus, corpus_of_file(options.study))
    if "torch" in sys.modules:  # only where the objective needs it
        from objectives.process import prepare_torch

        prepare_torch()
    worked = {each: _worked_study(backend, each, attrs, corpus, sizes, store) for each, attrs in planned.items()}
    held = WorkerSettings.model_validate(planned[name]["settings"]["workers"])
    queue = RunQueue(database, held.lease_s, held.max_attempts)
    desk = Desk(queue, ArtifactFolder(options.out), device, held.retry_delay_s)
    return Worker(desk, worked, owner or owner_name(device))


def _open_by_name(options: StudyOptions) -> tuple[Database, str]:
    name = options.name or options.study
    try:
        database = open_database(options.storage, create=False, wait_s=options.storage_wait_s)
        if study_attrs(database, name) is not None:
            return database, name
        database.engine.dispose()
    except NoStudyYet:
        pass
    database, study = open_planned(options)
    return database, study.name


def _worked_study(
    backend: SearchStorage,
    name: str,
    attrs: Mapping[str, Any],
    corpus: Corpus | None,
    sizes: GroupSizes,
    store: ArtifactStore | None,
) -> WorkedStudy:
    definition = attrs["definition"]
    if difference := corpus_difference(attrs, corpus):
        raise UsageError(f"the study {name!r} {difference}; give the right file with --corpus, or another --name")
    objective = resolve_objective(definition["objective"])
    module = sys.modules[objective.__module__]
    training = TrainingSettings.model_validate(definition["training"])

    def start(cell: Mapping[str, Any], seed: int) -> TrainingRun:
        run: TrainingRun = objective(cell, seed, training, corpus, sizes.device)
        return run

    def group_size(cell: Mapping[str, Any], shape_key: str) -> int:
        shape = f"{shape_key} batch_size {training.batch_size}"
        return sizes.of(shape, lambda: int(module.group_size(cell, training, corpus, sizes.device)))

    together: Callable[[Sequence[TrainingRun]], RunGroup] | None = getattr(module, "together", None)
    pruner = PrunerSettings.model_validate(attrs["settings"]["pruner"])
    held = WorkerSettings.model_validate(attrs["settings"]["workers"])
    judge = PruningJudge(backend, name, pruner)
    facts = {key: definition[key] for key in ("objective", "training", "corpus_sha256")}
    facts |= {"corpus": attrs["corpus"], "study_uid": attrs["uid"]}
    keeper = Keeper(store, facts, environment(sizes.device, definition))
    worked = WorkedStudy(start, attrs["uid"], judge, held.checkpoint_s, keeper, together, group_size)
    sampling, race = make_sampling(backend.database, attrs), make_race(backend.database, name, attrs)
    worked = replace(worked, race=race)
    return worked if sampling is None else replace(worked, fill=sampling.fill)
