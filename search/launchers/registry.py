"""The registry of launchers."""

from __future__ import annotations

from search.errors import UsageError
from search.launchers.protocol import Launcher, Places
from search.study.references import load_registered
from search.study.user_modules import extend_sys_path, module_folder

# Adding a launcher is one file and one line here. A user's own launcher needs no line: "module:Class" names it.
LAUNCHERS: dict[str, str] = {
    "local": "search.launchers.local:LocalLauncher",
    "slurm": "search.launchers.slurm:SlurmLauncher",
    "kubernetes": "search.launchers.kubernetes:KubernetesLauncher",
    "ray": "search.launchers.ray:RayLauncher",
    "external": "search.launchers.external:ExternalLauncher",
}
DEFAULT_LAUNCHER = "local"


def make_launcher(name: str, places: Places, study: str = "") -> Launcher:
    """Make the launcher that `--launcher` names, without starting any worker.

    Args:
        name: A key of `LAUNCHERS`, or "module:Class" of a user's own launcher.
        places: The devices and workers that the run asks for.
        study: The value of `--study`; the folder of a study file is searched for the user's module.

    Raises:
        UsageError: There is no such launcher, or it does not support these devices and workers.
    """
    named = f"--launcher {name}"
    if ":" in name:
        extend_sys_path(module_folder(study))
    make = load_registered(named, name, LAUNCHERS)
    try:
        made = make(places)
    except TypeError as error:
        raise UsageError(f"{named}: calling it with Places(devices, workers) failed: {error}") from error
    if not isinstance(made, Launcher):
        raise UsageError(f"{named} is no launcher: it must have running, start, tend and stop (docs/extending.md)")
    return made
