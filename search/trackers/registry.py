"""The registry of trackers."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from search.errors import UsageError
from search.storage.texts import printable
from search.study.references import load_registered
from search.study.user_modules import extend_sys_path, module_folder
from search.trackers.protocol import Tracker

# Adding a tracker is one file and one line here. A user's own tracker needs no line: "module:Class" names it.
TRACKERS: dict[str, str] = {
    "jsonl": "search.trackers.jsonl:JsonLinesTracker",
    "mlflow": "search.trackers.mlflow:MlflowTracker",
    "tensorboard": "search.trackers.tensorboard:TensorBoardTracker",
    "wandb": "search.trackers.wandb:WandbTracker",
    "webhook": "search.trackers.webhook:WebhookTracker",
}
# Their libraries change the process that they are used in; see `search.trackers.isolated`.
ISOLATED = ("mlflow", "wandb")


def make_trackers(texts: Sequence[str], study: str = "", storage: str = "") -> Mapping[str, Tracker]:
    """Make the trackers that `--track` names, without writing anything.

    Args:
        texts: "NAME:TARGET" with a key of `TRACKERS`; "module:Class" or "module:Class:TARGET" for a user's own.
        study: The value of `--study`; the folder of a study file is searched for the user's module.
        storage: The URL of the study's database, which is no target.

    Returns:
        The trackers, by their text.

    Raises:
        UsageError: There is no such tracker, or it refuses its target.
    """
    return {text: make_tracker("--track", text, study, storage) for text in texts}


def shown(text: str) -> str:
    """The text of a tracker for messages: of a URL, which may be a secret, only the host."""
    name, colon, target = text.partition(":")
    if "://" not in target or target.startswith("sqlite:"):
        return text
    scheme, _, rest = target.partition("://")
    host = rest.partition("/")[0].rpartition("@")[2]
    return f"{name}{colon}{scheme}://{printable(host)}/…"


def make_tracker(option: str, text: str, study: str = "", storage: str = "") -> Tracker:
    """Make one tracker; see `make_trackers`.

    Args:
        option: The option with the text, for messages.
    """
    extend_sys_path(module_folder(study))
    named = f"{option} {shown(text)}"
    name, _, target = text.partition(":")
    if storage and target == storage:
        raise UsageError(f"{named} is the study's own database; name another one")
    if name not in TRACKERS:
        kind, _, target = target.partition(":")
        name = f"{name}:{kind}" if kind else name
    make = load_registered(named, name, TRACKERS)
    try:
        made = _isolated(TRACKERS[name], target) if name in ISOLATED else make(target)
    except UsageError as error:
        raise UsageError(f"{named}: {error}") from error
    except TypeError as error:
        raise UsageError(f"{named}: calling it with its target failed: {error}") from error
    if not isinstance(made, Tracker):
        raise UsageError(f"{named} is no tracker: it must have track and close (docs/extending.md)")
    return made


def _isolated(reference: str, target: str) -> Tracker:
    from search.trackers.isolated import IsolatedTracker  # not for programs that only look a name up

    return IsolatedTracker(reference, target)
