"""The provenance of a trial's losses: versions, sources, processor, device and threads."""

from __future__ import annotations

import hashlib
import inspect
import logging
import platform
import sys
from collections.abc import Sequence
from functools import cache
from importlib import import_module
from importlib.metadata import PackageNotFoundError, version
from importlib.util import find_spec
from pathlib import Path
from typing import Any

log = logging.getLogger("search.worker")

PACKAGES = ("torch", "numpy", "optuna", "lm-search")
RESULT_PACKAGES = ("search.objectives", "search.models")  # the losses depend on their sources


def environment(device: str, modules: Sequence[str], files: Sequence[Path] = ()) -> dict[str, Any]:
    """Return what a trial's losses depend on besides the study's definition, by name: a flat, JSON-able mapping.

    Args:
        device: As torch names it.
        modules: The study's own modules.
        files: Its own other files, such as the script of a command.
    """
    facts: dict[str, Any] = {name: _version(name) for name in PACKAGES}
    facts |= {
        "code": _own_code(tuple(modules), tuple(files)),
        "python": platform.python_version(),
        "system": platform.system(),
    }
    facts |= {"machine": platform.machine(), "processor": processor_name(), "device": device.partition(":")[0]}
    torch = sys.modules.get("torch")  # imported only if the objective needs it
    if torch is not None:
        facts["threads"] = torch.get_num_threads()
        if device.startswith("cuda"):
            facts["gpu"] = torch.cuda.get_device_name(device)
    return facts


@cache
def _own_code(modules: tuple[str, ...], files: tuple[Path, ...]) -> str:
    """Return the digest of the code that this process runs: the files may change later."""
    return code_digest(modules, files)


def code_digest(modules: Sequence[str], files: Sequence[Path] = ()) -> str:
    """Return the first 16 hex digits of the SHA-256 of the sources that losses depend on: ours and the study's own."""
    digest = hashlib.sha256()
    paths = [path for package in RESULT_PACKAGES for path in sorted(_folder(package).rglob("*.py"))]
    for module in modules:
        source = _source(module)
        paths += [source] if source else []
    paths += files
    for path in paths:
        digest.update(path.name.encode() + b"\0" + path.read_bytes() + b"\0")
    return digest.hexdigest()[:16]


def _source(module: str) -> Path | None:
    """The source file of a module, which is not imported: that may take seconds."""
    if module in sys.modules:
        source = inspect.getsourcefile(sys.modules[module])
    else:
        try:
            spec = find_spec(module)
        except ImportError:  # a package that it belongs to
            spec = None
        source = spec.origin if spec is not None and str(spec.origin).endswith(".py") else None
    return Path(source) if source else None


def _folder(package: str) -> Path:
    return Path(inspect.getfile(import_module(package))).parent


def _version(package: str) -> str | None:
    try:
        return version(package)
    except PackageNotFoundError:
        return None  # lm-search itself, in a checkout that is not installed


@cache
def processor_name() -> str:
    """Return the processor's model name according to the operating system."""
    try:
        for line in Path("/proc/cpuinfo").read_text(encoding="utf-8", errors="replace").splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    except OSError:
        pass
    return platform.processor() or platform.machine()
