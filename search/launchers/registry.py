"""The names of the launchers."""

from __future__ import annotations

from search.errors import UsageError
from search.launchers.protocol import Launcher, Places
from search.study.references import load_registered
from search.study.user_modules import extend_sys_path, module_folder

# Adding a launcher is one file and one line here. A person's own needs no line: "module:Class" names it.
LAUNCHERS: dict[str, str] = {
    "local": "search.launchers.local:LocalLauncher",
}
DEFAULT_LAUNCHER = "local"


def make_launcher(name: str, places: Places, study: str = "") -> Launcher:
    """Make the launcher that `--launcher` names; nothing is started.

    Args:
        name: A key of `LAUNCHERS`, or "module:Class" of a person's own.
        places: Which workers the run asks for.
        study: As `--study`: a study file's folder is where a person's own module is looked for.

    Raises:
        UsageError: There is no such launcher, or it cannot serve these devices and workers.
    """
    named = f"--launcher {name}"
    if ":" in name:
        extend_sys_path(module_folder(study))
    make = load_registered(named, name, LAUNCHERS)
    try:
        made = make(places)
    except TypeError as error:
        raise UsageError(f"{named}: it cannot be made of Places(devices, workers): {error}") from error
    if not isinstance(made, Launcher):
        raise UsageError(f"{named} is no launcher: it needs running, start, tend and stop (docs/extending.md)")
    return made
