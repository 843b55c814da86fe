"""Makes a worker of a planned study."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from dataclasses import replace
from functools import partial
from pathlib import Path
from tempfile import TemporaryFile
from typing import Any

from search.errors import UsageError
from search.imports import importing
from search.objectives.command.output import LOG
from search.objectives.corpus import Corpus
from search.objectives.protocol import Objective, ObjectiveCall, TrainingRun
from search.objectives.registry import COMMAND
from search.objectives.settings import read_settings
from search.storage.artifact_quota import ArtifactQuota
from search.storage.artifact_store import ArtifactStore, artifact_store
from search.storage.checkpoint_store import CheckpointStore, checkpoint_store
from search.storage.database import Database
from search.storage.hosts import check_host
from search.storage.leases import Lease, new_owner_name
from search.storage.optuna_storage import SearchStorage
from search.storage.private_files import make_private_folder
from search.storage.queue import TrialQueue
from search.strategies.auto_seeds import make_seed_planner, needed_cells
from search.strategies.pruning_judge import PruningJudge
from search.strategies.slot_sampling import make_sampling
from search.study.cells import CONFIRMATION, objective_values
from search.study.corpus import builtin_corpus, corpus_as_planned, corpus_difference, corpus_of_file, read_corpus
from search.study.lookup import open_studies
from search.study.stored import RESERVED, StoredStudy, read_stored_study
from search.study.user_modules import (
    extend_sys_path,
    import_user_module,
    module_folder,
    resolve_objective,
    user_modules,
    user_sources,
)
from search.workers.artifact_writer import ArtifactWriter
from search.workers.devices import check_device
from search.workers.group_size import GroupSizes, check_fuse
from search.workers.leased_trial import TimeLimits, WorkerContext, WorkerStudy
from search.workers.provenance import environment
from search.workers.user_trial import UserTrials
from search.workers.worker_loop import Worker


def open_worker(
    study: str,
    storage: str,
    device: str,
    *,
    name: str | None = None,
    owner: str | None = None,
    baselines: bool = True,
    corpus: Path | None = None,
    out: Path,
    artifacts: str | None = None,
    storage_wait_s: float = 60.0,
    fuse: str = "off",
    modules: Path | None = None,
) -> Worker:
    """Make a worker for a planned study.

    Args:
        study: The study's name in the database, or its study file.
        storage: The storage URL.
        device: As torch names it.
        name: The study's name in the database, if it differs from that of the study file.
        owner: A unique name of the worker; None makes one.
        baselines: Whether to train the sibling study with the baselines too.
        corpus: A text file; None is that of the study file, else tiny shakespeare.
        out: Folder of checkpoints and logs.
        artifacts: See `search.storage.artifact_store.artifact_store`.
        storage_wait_s: How long to wait for a database that is starting, in seconds.
        fuse: "auto", "off", or how many trials of one shape to train as one model.
        modules: Folder of the study's own modules; None is that of the study file.

    Raises:
        UsageError, ModelError, ObjectiveError, StorageError: An error that the user can fix.
    """
    check_device(device)
    check_fuse(fuse)
    sizes = GroupSizes(fuse, device)
    store = artifact_store(artifacts, out)
    extend_sys_path(modules or module_folder(study))
    database, [first, *siblings] = open_studies(
        name or study, storage, storage_wait_s, baselines=baselines, confirmation=True, outdated="upgrade"
    )
    try:
        planned = [stored for each in [first, *siblings] if (stored := read_stored_study(database, each)) is not None]
        for each in planned:
            check_host(database, each.name)
            # Without one of them each trial would fail for good, so the worker must not start.
            for module in user_modules(each.definition):
                import_user_module(module, f"the study {each.name!r}")
        backend = SearchStorage(database)
        # A study and its siblings share an objective and a corpus.
        named = corpus_of_file(study) or builtin_corpus(planned[0])
        text = read_corpus(planned[0].definition.objective, corpus, named)
        prepare_process(resolve_objective(planned[0].definition.objective), device)
        settings = planned[0].settings.workers
        uids = {each.name: each.planning for each in planned}
        queue = TrialQueue(database, settings.lease_s, settings.max_attempts, uids)
        limits = TimeLimits(settings.trial_timeout_s, settings.stall_timeout_s)
        checkpoints = checkpoint_store(out, artifacts, store)
        context = WorkerContext(queue, checkpoints, device, settings.retry_delay_s, limits)
        studies = {each.name: _worker_study(backend, context, each, text, sizes, store) for each in planned}
        for each in planned:
            if each.definition.objective == COMMAND:
                _check_folder(out / each.name)
            checkpoints.mark_folder(each.name, each.planning)
        return Worker(context, studies, owner or new_owner_name(device))
    except BaseException:
        database.engine.dispose()
        raise


def _check_folder(folder: Path) -> None:
    """Check that programs get a folder on this machine: else each trial that its worker claims would fail for good.

    Raises:
        UsageError: None can be made.
    """
    try:
        make_private_folder(folder)
        with TemporaryFile(dir=folder):
            pass
    except OSError as error:
        raise UsageError(f"cannot write to {folder} ({error.strerror}); give another --out") from error


def prepare_process(objective: Objective, device: str) -> None:
    """Import what an objective trains with, and set up torch for a device if it is part of that; call it before any
    training."""
    with importing():
        objective.prepare()
    if "torch" in sys.modules:
        from search.objectives.torch_setup import prepare_torch

        prepare_torch(device)


class NamedValues:
    """The values of a study that have a name in its cells."""

    def __init__(self, database: Database, stored: StoredStudy) -> None:
        self._database, self._study, self._definition = database, stored.name, stored.definition

    def values_of(self, cell: Mapping[str, Any]) -> dict[str, Any]:
        """A cell as the objective gets it."""
        lists = self._definition.grid
        if lists and any(isinstance(value, str) and value not in lists.get(axis, ()) for axis, value in cell.items()):
            # A value that was added since: only the new definition says whether it is the name of another one.
            stored = read_stored_study(self._database, self._study)
            self._definition = self._definition if stored is None else stored.definition
        return objective_values(cell, self._definition.named)


def _worker_study(
    backend: SearchStorage,
    context: WorkerContext,
    stored: StoredStudy,
    corpus: Corpus | None,
    sizes: GroupSizes,
    store: ArtifactStore | None,
) -> WorkerStudy:
    definition, settings = stored.definition, stored.settings
    if difference := corpus_difference(stored, corpus):
        raise UsageError(
            f"the study {stored.name!r} {difference}; give the right file with --corpus, or another --name"
        )
    corpus = corpus_as_planned(definition, corpus)
    objective = resolve_objective(definition.objective)
    training = read_settings(objective.settings_class, definition.objective_settings)

    values_of = NamedValues(backend.database, stored).values_of

    def start(cell: Mapping[str, Any], seed: int) -> TrainingRun | ObjectiveCall:
        return objective.start(values_of(cell), seed, training, corpus, sizes.device)

    def group_size(cell: Mapping[str, Any], shape_key: str) -> int:
        shape = f"{shape_key} batch_size {training.batch_size}"
        return sizes.of(shape, lambda: objective.group_size(values_of(cell), training, corpus, sizes.device))

    def memory_share(cell: Mapping[str, Any]) -> float | None:
        return objective.memory_share(values_of(cell), training, corpus, sizes.device)

    stack_runs = objective.stack_runs if objective.can_stack else None
    judge = PruningJudge(backend, stored.name, settings.pruner, definition.metrics, is_needed=needed_cells(stored))
    facts = {
        "objective": definition.objective,
        "training": training.as_dict(),
        "corpus_sha256": definition.corpus_sha256,
        "corpus": stored.corpus,
        "study_uid": stored.uid,
        **({"named": definition.named} if definition.named else {}),
        **{key: definition.as_stored[key] for key in (RESERVED, CONFIRMATION) if key in definition.as_stored},
    }
    writer = ArtifactWriter(store, facts, environment(sizes.device, *user_sources(definition)), definition.metric.name)
    worker_study = WorkerStudy(start, stored.uid, judge, settings.workers.checkpoint_s, writer, stack_runs, group_size)
    if sizes.packs:
        worker_study = replace(worker_study, memory_share=memory_share)
    sampling, plan_seeds = make_sampling(backend.database, stored), make_seed_planner(backend.database, stored)
    if settings.workers.keep_artifacts is not None and store is not None:
        quota = ArtifactQuota(stored.name, stored.planning, settings.workers.keep_artifacts, store)
        worker_study = replace(worker_study, trim_artifacts=lambda: quota.apply(backend.database))
    user_trials = UserTrials(
        backend, stored, context.queue, partial(_work_folder, context.checkpoints, stored.uid), training,
        partial(_must_stop, context),
    )  # fmt: skip
    worker_study = replace(
        worker_study,
        plan_seeds=plan_seeds,
        metrics=definition.metrics,
        user_trials=user_trials,
        suggests_parameters=definition.suggests_parameters,
    )
    if definition.objective == COMMAND:
        folder_of = partial(_work_folder, context.checkpoints, stored.uid)
        worker_study = replace(worker_study, program_log=lambda lease: folder_of(lease) / LOG)
    return worker_study if sampling is None else replace(worker_study, fill=sampling.fill)


def _must_stop(context: WorkerContext) -> bool:
    context.user_code.show_life()
    return context.queue.database.interrupt.is_set()


def _work_folder(checkpoints: CheckpointStore, uid: str, lease: Lease) -> Path:
    return checkpoints.work_folder(lease.study, lease.number, f"{uid} {lease.number}")
