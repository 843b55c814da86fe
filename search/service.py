"""Runs a study: plan, launch, watch, report; called by the command line and by notebooks."""

from __future__ import annotations

import logging
import os
import shlex
import signal
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, ExitStack, contextmanager, nullcontext
from functools import partial
from pathlib import Path
from textwrap import indent
from typing import Any

from search.errors import EXIT_FAILED_TRIALS, EXIT_INTERRUPTED, EXIT_STOPPED, USER_ERRORS, UsageError
from search.hints import command_of
from search.launchers.protocol import Detaches, Launcher, Places, Prepares, Previews
from search.launchers.registry import DEFAULT_LAUNCHER, make_launcher
from search.launchers.spare_worker import SpareWorker, spare_worker
from search.models.errors import ModelError
from search.objectives.errors import ObjectiveError
from search.option_fields import as_docstring, option_fields, python_signature
from search.options import RunStudyOptions
from search.planning import load_study, open_planned, warn_of_other_code
from search.reporting.study_result import StudyResult
from search.run_parts import RunParts, worker_job
from search.storage.database import Database
from search.storage.leases import new_owner_name
from search.storage.left_out import OVER_BUDGET
from search.storage.process_costs import NO_DEVICE
from search.storage.queries import counts, study_uids
from search.storage.queue import TrialQueue
from search.storage.spending import spent_on
from search.storage.url import display_url
from search.study.definition import StudyDefinition, load_definition
from search.study.formatting import count_text
from search.study.lookup import with_siblings
from search.study.planner import Study, study_plans
from search.study.stored import read_stored_study
from search.study.user_modules import refuse_while_importing
from search.workers.process_meter import ProcessMeter, metered
from search.workers.profile import summed_profiles
from search.workers.stop_signals import STOP_SIGNALS, set_by_stop_signals, stopped_exit_code

log = logging.getLogger("search")

# The keys of a study file, as they are written there.
STUDY_KEYS = frozenset(StudyDefinition.model_fields)


def run_study(study: Any = "bigram", **options: Any) -> StudyResult:
    """Plan a study, train its remaining trials in parallel workers, and return the results.

    `study` is also a dictionary with the keys of a study file, or an objective function; keys of a study file, such as
    `trials=50`, may follow as arguments. Paths may be strings; `settings` is a mapping, such as
    {"n_embd": [64, 128], "max_iters": 200}, or strings as for `--set`.

    Args:
        {arguments}

    Returns:
        The table, the counts, and the exit code that `search.run` would return.

    Raises:
        UsageError, ModelError, ObjectiveError, StorageError: An error that the user can fix.
        KeyboardInterrupt: Ctrl-C, or a kernel's interrupt, after the workers have released their trials.
    """
    try:
        return _run_study(study, options)
    except USER_ERRORS as error:
        # The message says what to change; frames of lm-search and causes inside it would hide the caller's line.
        raise error.with_traceback(None) from None


def _run_study(study: Any, options: dict[str, Any]) -> StudyResult:
    from search.python_study import study_file

    refuse_while_importing("run_study")
    keys = {}
    if not isinstance(study, (str, os.PathLike)):
        names = {each.name for each in option_fields(RunStudyOptions)}
        keys = {name: options.pop(name) for name in [*options] if name in STUDY_KEYS and name not in names}
        keys |= {"name": options["name"]} if options.get("name") is not None else {}
    out = options.get("out")
    file = study_file(study, keys, RunStudyOptions.out if out is None else Path(out))
    try:
        result = run_with_options(RunStudyOptions.from_keywords({"study": file.path, **options}), file.modules)
    except (UsageError, ModelError, ObjectiveError):
        file.remove()
        raise
    if result.exit_code == EXIT_INTERRUPTED:
        raise KeyboardInterrupt(f"{result.study} was stopped with trials left; run the same call again to resume it")
    return result


# From the declarations of the options, for `help(run_study)` and for editors.
_ARGUMENTS = indent(as_docstring(RunStudyOptions), " " * 8).lstrip()
run_study.__doc__ = (run_study.__doc__ or "").replace("{arguments}", _ARGUMENTS)
run_study.__signature__ = python_signature(  # type: ignore[attr-defined]
    RunStudyOptions, StudyResult, study="bigram"
)


def run_with_options(
    options: RunStudyOptions,
    modules: Path | None = None,
    spare: SpareWorker | None = None,
    is_whole_process: bool = False,
) -> StudyResult:
    """Run a study; see `run_study`.

    Args:
        modules: The folder with the study's own modules; None is that of the study file.
        spare: A process for the first worker that has been started already.
        is_whole_process: Whether this process does nothing else, so that all of its time is a cost of the study.
    """
    started = time.monotonic()
    definition = load_definition(options.study, options.settings, options.enqueue)
    new_launcher = _launcher_of(options, definition, starts=not options.plan_only)
    launcher = new_launcher()  # errors in its options come before anything is written
    if options.detach and not isinstance(launcher, Detaches):
        raise UsageError("--detach: the workers of this launcher end with the run; leave --detach out")
    track = _tracking(options)
    with (
        _prepared(launcher, definition, options, spare),
        _opened(options, modules) as (database, planned),
        _stop_requests(database.interrupt) as received,
        track(database, planned),
        nullcontext() if options.plan_only else _metered(database, planned.name, is_whole_process),
    ):
        warn_of_other_code(database, planned)
        queue = TrialQueue(database, uids=study_uids(database, planned.names))
        if options.resume_stopped:
            queue.resume_stopped(planned.names)
        deadline = None if options.timeout_s is None else started + options.timeout_s
        with ExitStack() as around:
            parts = RunParts(database, planned, options, deadline, around)
            interrupted = parts.study(launcher)
            _check_not_deleted(queue, planned, options)
            has_ended = not interrupted and OVER_BUDGET not in counts(database, planned.names)
            confirming = None if not has_ended else _confirmed(database, planned, options.plan_only)
            if confirming is not None:
                interrupted = parts.confirmation(confirming, new_launcher())
        # Not before the workers have started: a run imports for long enough.
        from search.statistics.confirmation import read_confirmation
        from search.statistics.estimate import estimate
        from search.statistics.ranking import is_reached, ranked_rows

        found = counts(database, [*planned.names, *([] if confirming is None else [confirming])])
        rows = ranked_rows(database, planned.names)
        interrupted |= OVER_BUDGET in found and not is_reached(options.target, rows)
        # The trials are then another program's; a container that plans before its worker starts must not fail for them.
        is_handed_over = options.plan_only or (options.detach and interrupted and not received)
        exit_code = 0 if is_handed_over else _exit_code(found, interrupted, received)
        profile = summed_profiles(options.out) if options.profile else {}
        seconds = time.monotonic() - started
        stored = read_stored_study(database, planned.name)
        confirmation = None if stored is None else read_confirmation(database, stored, rows)
        spent = None if planned.budget is None else spent_on(database, with_siblings(database, planned.name))
        return StudyResult(
            planned.name, options.storage, rows, found, seconds, exit_code, profile, options.target, confirmation,
            planned.budget, spent, estimate(database, planned) if options.plan_only else None,
        )  # fmt: skip


@contextmanager
def _prepared(
    launcher: Launcher, definition: StudyDefinition, options: RunStudyOptions, spare: SpareWorker | None
) -> Iterator[None]:
    """Let a launcher begin while the study is planned."""
    if options.plan_only or not isinstance(launcher, Prepares):
        if spare is not None:
            spare.end()
        yield
        return
    with nullcontext(spare) if spare is not None else spare_worker(options.devices) as process:
        launcher.prepare(definition.objective, process)
        yield


@contextmanager
def _opened(options: RunStudyOptions, modules: Path | None) -> Iterator[tuple[Database, Study]]:
    database, planned = open_planned(options, modules)
    with database.closing():
        yield database, planned


def _tracking(options: RunStudyOptions) -> Callable[[Database, Study], AbstractContextManager[object]]:
    """What sends the events of a study to trackers; a tracker that does not exist is an error now."""
    if not options.track:
        return lambda database, planned: nullcontext()
    from search.study.confirmation import confirmation_name
    from search.trackers.feed import tracking
    from search.trackers.registry import make_trackers

    trackers = make_trackers(options.track, options.study, options.storage)
    return lambda database, planned: tracking(database, [*planned.names, confirmation_name(planned.name)], trackers)


@contextmanager
def _metered(database: Database, study: str, is_whole_process: bool) -> Iterator[None]:
    """Record what this process takes; workers record what they take themselves."""
    meter = ProcessMeter(new_owner_name("run"), NO_DEVICE, with_children=False, from_start=is_whole_process)
    with metered(database, study_uids(database, [study])[study], meter):
        yield


def preview(options: RunStudyOptions) -> str:
    """What the launcher of a run would submit for all trials of its study; nothing is read from the database.

    Raises:
        UsageError, ModelError, ObjectiveError: An error that the user can fix.
    """
    definition = load_definition(options.study, options.settings, options.enqueue)
    launcher = _launcher_of(options, definition, starts=False)()
    if not isinstance(launcher, Previews):
        raise UsageError("--print: this launcher submits nothing; choose --launcher slurm or kubernetes")
    study = load_study(options)
    trials = sum(len(plan.trials) for plan in study_plans(study))
    return launcher.preview(trials, worker_job(options, study, on_death=lambda owner, failure=None: 0))


def _launcher_of(options: RunStudyOptions, definition: StudyDefinition, starts: bool) -> Callable[[], Launcher]:
    """What makes the launcher of a run."""
    settings = dict(definition.launcher)
    named = settings.pop("name", DEFAULT_LAUNCHER)
    places = Places(options.devices, options.workers, settings, options.storage, starts)
    return partial(make_launcher, options.launcher or str(named), places, options.study)


def _confirmed(database: Database, planned: Study, is_planning: bool) -> str | None:
    """Plan what `--confirm` asks for; returns the name of the study with it, or None if there is nothing to confirm."""
    if not planned.definition.confirm:
        return None
    from search.strategies.confirming import plan_confirmation

    name = plan_confirmation(database, planned.name, planned.corpus, planned.definition.confirm)
    if name is None and not is_planning:
        found = counts(database, [planned.name])
        left = found["waiting"] + found["running"]
        why = f"{count_text(left, 'trial')} of it waiting or running" if left else "no cell of it is complete"
        log.warning("--confirm: the best of %s is not confirmed: %s", planned.name, why)
    return name


def _check_not_deleted(queue: TrialQueue, study: Study, options: RunStudyOptions) -> None:
    if gone := queue.deleted(study.names):
        raise UsageError(
            f"the study {gone[0]!r} was deleted from {display_url(options.storage)} while it ran; plan it again with: "
            f"{command_of('run')} --study {shlex.quote(options.study)}"
        )


@contextmanager
def _stop_requests(stop: threading.Event) -> Iterator[list[int]]:
    """Make stop signals set the event; a second signal does what it did before.

    Yields:
        The signals that have arrived.
    """
    received: list[int] = []
    if threading.current_thread() is not threading.main_thread():
        yield received  # only the main thread receives signals
        return
    before = {number: signal.getsignal(number) for number in STOP_SIGNALS}

    def restore() -> None:
        for number, handler in before.items():
            if handler is not None:  # installed by a library, not from Python
                signal.signal(number, handler)

    def note(number: int) -> None:
        received.append(number)
        restore()

    with set_by_stop_signals(stop, note):
        try:
            yield received
        finally:
            restore()


def _exit_code(found: Mapping[str, int], interrupted: bool, received: Sequence[int]) -> int:
    if interrupted:
        return stopped_exit_code("run", received[0]) if received else EXIT_STOPPED
    return EXIT_FAILED_TRIALS if found["failed"] or found["diverged"] else 0
