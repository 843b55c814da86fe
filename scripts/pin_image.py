"""Write constraints.txt: every package of the container image at one version, with the hashes of its wheels.

    python scripts/pin_image.py --torch 2.13.0

Run it with the Python of the image (3.11): pip uses the running interpreter to decide which packages are needed. The
script then looks up their wheels for each Python and processor of the image, since a hash identifies one file. torch
is pinned by version only, because its wheels differ between indexes; packages that only CUDA wheels need are omitted.
"""

from __future__ import annotations

import argparse
import json
import re
import subprocess
import sys
import tomllib
from collections import defaultdict
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
EXTRAS = ("postgres", "s3")
PYTHONS = ("3.11", "3.12", "3.13", "3.14")
MACHINES = ("x86_64", "aarch64")
# Newest first, as pip prefers them; the official slim images are Debian 12 (glibc 2.36) and 13 (2.41).
PLATFORMS = (*(f"manylinux_2_{minor}" for minor in range(41, 4, -1)), "manylinux2014", "manylinux2010", "manylinux1")
CUDA = re.compile(r"(nvidia|cuda|triton|pytorch-triton)(-|$)")

HEADER = """\
# Every package of the container image, with its version. Written by scripts/pin_image.py.
# torch has no hash: its wheels differ between indexes. pip refuses a file that mixes lines with and without hashes,
# so the Dockerfile installs all other lines first and torch after them.
"""


def normalized(name: str) -> str:
    """Return the normalized name of a package (PEP 503)."""
    return re.sub(r"[-_.]+", "-", name).lower()


def requirements(pyproject: Path) -> list[str]:
    """Return the requirements of the project, of the image's extras and of the build, from pyproject.toml."""
    file = tomllib.loads(pyproject.read_text())
    extras = file["project"]["optional-dependencies"]
    required = [*file["project"]["dependencies"], *file["build-system"]["requires"]]
    return [*required, *(line for extra in EXTRAS for line in extras[extra])]


def ask_pip(arguments: list[str]) -> dict[str, tuple[str, str]]:
    """Ask pip what it would install for the arguments, without installing anything.

    Returns:
        Version and SHA-256 by name.

    Raises:
        subprocess.CalledProcessError: pip found no solution and printed a message on stderr.
    """
    command = [sys.executable, "-m", "pip", "install", "--dry-run", "--ignore-installed", "--quiet"]
    command += ["--only-binary", ":all:", "--report", "-", *arguments]
    report = json.loads(subprocess.run(command, check=True, stdout=subprocess.PIPE).stdout)
    return {
        normalized(item["metadata"]["name"]): (
            item["metadata"]["version"],
            item["download_info"]["archive_info"]["hashes"]["sha256"],
        )
        for item in report["install"]
    }


def wheel_hashes(pins: list[str]) -> dict[str, set[str]]:
    """Return the hashes of the wheels that pip chooses for the pins on each Python and processor of the image."""
    hashes: dict[str, set[str]] = defaultdict(set)
    for python in PYTHONS:
        for machine in MACHINES:
            platforms = [f"--platform={platform}_{machine}" for platform in PLATFORMS]
            # pip requires a target folder with --platform; a dry run does not write to it.
            found = ask_pip(["--no-deps", "--target=unused", f"--python-version={python}", *platforms, *pins])
            for name, (_, digest) in found.items():
                hashes[name].add(digest)
    return hashes


def rendered(versions: dict[str, str], hashes: dict[str, set[str]]) -> str:
    """Return the file's text: one package per line, sorted by name, with its hashes below."""
    lines = []
    for name, version in sorted(versions.items()):
        digests = [f"    --hash=sha256:{digest}" for digest in sorted(hashes.get(name, ()))]
        lines.append(" \\\n".join([f"{name}=={version}", *digests]))
    return HEADER + "\n".join(lines) + "\n"


def main() -> None:
    parser = argparse.ArgumentParser(description="Write constraints.txt for the container image.")
    parser.add_argument("--torch", help="version of torch; default: the newest that pyproject.toml allows")
    parser.add_argument("--output", type=Path, default=ROOT / "constraints.txt", help="default: constraints.txt")
    arguments = parser.parse_args()
    torch = [f"torch=={arguments.torch}"] if arguments.torch else []
    found = ask_pip([*requirements(ROOT / "pyproject.toml"), *torch])
    versions = {name: version.partition("+")[0] for name, (version, _) in found.items() if not CUDA.match(name)}
    hashes = wheel_hashes([f"{name}=={version}" for name, version in versions.items() if name != "torch"])
    arguments.output.write_text(rendered(versions, hashes))


if __name__ == "__main__":
    main()
