"""Sends a study to W&B: a run for each trial, in a group of the study's name; also offline."""

from __future__ import annotations

import json
import shutil
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any

from search.errors import UsageError
from search.trackers.locks import open_locked
from search.trackers.protocol import EndEvent, EvaluationEvent, TrialName
from search.trackers.runs import RunTracker, only, parameters, require, run_name

if TYPE_CHECKING:
    import wandb

# In the folder of a run that has everything of its trial.
MARKER = "lm-search.json"
# W&B refuses longer names of runs and groups.
LONGEST_NAME = 128
WAIT_S = 20.0


class WandbTracker(RunTracker):
    """Sends the events of studies to W&B; needs the extra `wandb`.

    Args:
        target: PROJECT or ENTITY/PROJECT. Everything else is set as W&B documents it, such as WANDB_API_KEY,
            WANDB_BASE_URL, WANDB_DIR, and WANDB_MODE=offline.

    Raises:
        UsageError: It is no such name, or W&B is not installed or not logged in.
    """

    def __init__(self, target: str) -> None:
        super().__init__()
        entity, _, project = target.rpartition("/")
        if not project or "/" in entity:
            raise UsageError("name a project, such as --track wandb:my-project or --track wandb:my-team/my-project")
        library = require("wandb", "W&B", "wandb")
        # Otherwise a login asks the server for the user's name.
        settings = library.setup(library.Settings(silent=True)).settings
        is_offline = settings.mode in ("offline", "dryrun")
        if not is_offline and not library.login(prompt=False, verify=False):
            raise UsageError(
                "you are not logged in to W&B: type wandb login, set WANDB_API_KEY, or keep everything here with "
                "WANDB_MODE=offline"
            )
        self._place = _Place(entity or None, project, Path(settings.wandb_dir), is_offline)
        self._locks: dict[str, IO[Any]] = {}

    def find_or_create(self, trial: TrialName) -> WandbRun:
        """The run of a trial.

        Raises:
            OSError: Another process tracks the study here.
        """
        if trial.uid not in self._locks:
            self._locks[trial.uid] = open_locked(self._place.folder / f"lm-search-{trial.uid}.lock")
        return WandbRun(self._place, trial)

    def close(self) -> None:
        """Close all runs; those of trials that have not ended can be resumed."""
        import wandb

        for run in self._runs.values():
            assert isinstance(run, WandbRun)
            run.pause()
        wandb.teardown()
        for lock in self._locks.values():
            lock.close()


@dataclass(frozen=True)
class _Place:
    """Where runs are: the entity and the project, and the folder of W&B's files."""

    entity: str | None
    project: str
    folder: Path
    is_offline: bool

    def folders(self, run: str) -> list[Path]:
        """The folders of a run: one for each time it was opened; W&B numbers those of one second."""
        return [each for kind in ("run", "offline-run") for each in self.folder.glob(f"{kind}-*-{run}*")]


class WandbRun:
    """The run of a trial, which is opened when the first event is sent.

    A resumed run gets what W&B lacks. Offline it cannot be resumed, so what is incomplete is written anew.

    Args:
        place: Where it is.
        trial: The trial.
    """

    def __init__(self, place: _Place, trial: TrialName) -> None:
        self._place, self._trial = place, trial
        self._id = f"{only('A-Za-z0-9_-', trial.study, 48)}-{trial.number}-{trial.uid}"
        self._run: wandb.Run | None = None
        ends = [end for folder in place.folders(self._id) if (end := _read_end(folder)) is not None]
        self.last_step, self.last_claim = max(ends, key=lambda end: end[1], default=(-1, 0))

    def log(self, event: EvaluationEvent) -> None:
        """Send an evaluation."""
        self._opened().log(dict(event.metrics), step=event.step)

    def end(self, event: EndEvent) -> None:
        """Send the end, and note it in the run's folder."""
        run = self._opened()
        further = {"outcome": event.outcome, "reason": event.reason, "sample": event.sample}
        run.summary.update({**event.metrics, **{name: text for name, text in further.items() if text is not None}})
        folder = Path(run.settings.sync_dir)
        run.finish(exit_code=0 if event.outcome in ("complete", "pruned") else 1)
        self._run = None
        _write_end(folder, self.last_step, event.claim)

    def pause(self) -> None:
        """Close the run of a trial that has not ended."""
        if self._run is not None:
            self._run.mark_preempting()
            self._run.finish(exit_code=1)
            self._run = None

    def _opened(self) -> wandb.Run:
        import wandb

        if self._run is None:
            if self._place.is_offline:
                for folder in self._place.folders(self._id):
                    if _read_end(folder) is None:
                        _remove(folder)
            self._run = wandb.init(
                entity=self._place.entity,
                project=self._place.project,
                id=self._id,
                name=run_name(self._trial)[:LONGEST_NAME],
                group=self._trial.study[:LONGEST_NAME],
                config=parameters(self._trial),
                resume="allow",
                reinit="create_new",
                settings=_settings(),
            )
        return self._run


def _settings() -> wandb.Settings:
    """Nothing of this process belongs to the trials: not its output, command line, folder or load."""
    import wandb

    return wandb.Settings(
        console="off",
        silent=True,
        disable_code=True,
        disable_git=True,
        label_disable=True,
        save_code=False,
        x_disable_meta=True,
        x_disable_machine_info=True,
        x_disable_stats=True,
        x_save_requirements=False,
        init_timeout=WAIT_S,
        finish_timeout=WAIT_S,
        finish_timeout_raises=True,
    )


def _read_end(folder: Path) -> tuple[int, int] | None:
    """The last step and the claim of a run that was sent completely; None of another one."""
    with suppress(OSError, ValueError, KeyError):
        end = json.loads((folder / MARKER).read_text())
        return int(end["step"]), int(end["claim"])
    return None


def _remove(folder: Path) -> None:
    # A service of W&B that a kill has left may still be writing there.
    shutil.rmtree(folder.rename(folder.with_name(f".removed-{folder.name}")), ignore_errors=True)


def _write_end(folder: Path, step: int, claim: int) -> None:
    part = folder / f"{MARKER}.part"
    part.write_text(json.dumps({"step": step, "claim": claim}))
    part.rename(folder / MARKER)
