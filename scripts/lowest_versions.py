"""Run tests with the lowest version of every direct dependency, in a fresh virtual environment.

    python scripts/lowest_versions.py --dry-run                       # print the pins
    python scripts/lowest_versions.py --torch 2.13.0 tests/storage    # another torch, other tests

This checks the lower bounds of pyproject.toml. pip chooses the versions of indirect dependencies. Many indexes have an
older torch only as a CUDA build of several GB: choose another version with --torch.
"""

from __future__ import annotations

import argparse
import shlex
import subprocess
import sys
import tempfile
import tomllib
import venv
from pathlib import Path
from typing import Any

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

ROOT = Path(__file__).resolve().parent.parent
# An old typer uses names that a new click warns of.
TESTS = ("tests", "-m", "not soak", "-W", "ignore:'click:DeprecationWarning")


def direct_requirements(project: dict[str, Any], extras: list[str]) -> list[Requirement]:
    """Return the dependencies of the project and of extras, which may name other extras: "lm-search[postgres,s3]".

    Raises:
        SystemExit: The project has no such extra.
    """
    optional = project.get("optional-dependencies", {})
    found = [Requirement(line) for line in project["dependencies"]]
    waiting, seen = list(extras), set[str]()
    while waiting:
        extra = waiting.pop(0)
        if extra in seen:
            continue
        if extra not in optional:
            raise SystemExit(f"no extra {extra!r} in pyproject.toml; choices are {', '.join(sorted(optional))}")
        seen.add(extra)
        for requirement in map(Requirement, optional[extra]):
            if canonicalize_name(requirement.name) == canonicalize_name(project["name"]):
                waiting.extend(sorted(requirement.extras))
            else:
                found.append(requirement)
    return [requirement for requirement in found if requirement.marker is None or requirement.marker.evaluate()]


def lowest(requirement: Requirement) -> str:
    """Return the lowest version that a requirement allows: that of its `>=`, `~=` or `==`.

    Raises:
        SystemExit: The requirement has no lower bound.
    """
    for specifier in requirement.specifier:
        if specifier.operator in (">=", "~=", "=="):
            return specifier.version
    raise SystemExit(f"{requirement} has no lower bound; add >= to it in pyproject.toml")


def lowest_pins(project: dict[str, Any], extras: list[str], torch: str | None = None) -> list[str]:
    """Return a sorted `name==version` for each direct dependency; `torch` overrides the version of torch."""
    pins: dict[str, str] = {canonicalize_name(each.name): lowest(each) for each in direct_requirements(project, extras)}
    if torch is not None:
        pins["torch"] = torch
    return [f"{name}=={version}" for name, version in sorted(pins.items())]


def run_tests(pins: list[str], extras: list[str], tests: list[str], folder: Path) -> int:
    """Install the project with the pins in a new environment below `folder`, run the tests, return pytest's exit code.

    Raises:
        SystemExit: pip cannot install the pins together; its own message says which bound is too low.
    """
    venv.create(folder / "venv", with_pip=True)
    python = folder / "venv" / "bin" / "python"
    constraints = folder / "lowest.txt"
    constraints.write_text("\n".join(pins) + "\n")
    install = [str(python), "-m", "pip", "install", "-c", str(constraints)]
    install += ["-e", f"{ROOT}[{','.join(extras)}]"]
    installed = subprocess.run(install, cwd=ROOT, text=True, stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
    if installed.returncode != 0:
        print(installed.stdout, file=sys.stderr)
        raise SystemExit("cannot install the lowest versions together; raise a bound that pip names above")
    return subprocess.run([str(python.with_name("pytest")), *tests], cwd=ROOT).returncode


def main() -> int:
    parser = argparse.ArgumentParser(
        description="Run tests with the lowest version of every direct dependency.",
        epilog=f"All other arguments go to pytest; default: {shlex.join(TESTS)}",
        allow_abbrev=False,
    )
    parser.add_argument("--extra", action="append", metavar="NAME", help="an extra; default: postgres and test")
    parser.add_argument("--torch", metavar="VERSION", help="install this torch instead of the lowest")
    parser.add_argument("--dry-run", action="store_true", help="print the pins and stop")
    arguments, tests = parser.parse_known_args()
    extras = arguments.extra or ["postgres", "test"]
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    pins = lowest_pins(project, extras, arguments.torch)
    if arguments.dry_run:
        print("\n".join(pins))
        return 0
    with tempfile.TemporaryDirectory(prefix="lowest-versions-") as folder:
        return run_tests(pins, extras, tests or list(TESTS), Path(folder))


if __name__ == "__main__":
    sys.exit(main())
