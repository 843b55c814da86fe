"""The project as a wheel, unpacked where a test can put it in front of everything else."""

from __future__ import annotations

import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

ROOT = Path(__file__).parents[2]


def build_wheel(folder: Path) -> Path:
    """Build the wheel from a copy of what it is made of: no symbolic links, nothing that an earlier build left.

    Args:
        folder: Gets the copy and the wheel.

    Returns:
        The wheel's file.
    """
    source = folder / "source"
    shutil.copytree(ROOT / "search", source / "search", ignore=shutil.ignore_patterns("__pycache__"))
    for name in ("pyproject.toml", "README.md", "LICENSE"):
        if (ROOT / name).exists():
            shutil.copy(ROOT / name, source)
    command = [sys.executable, "-m", "pip", "wheel", "--no-deps", "--no-build-isolation", "-q", "-w", str(folder), "."]
    subprocess.run(command, cwd=source, check=True, capture_output=True, text=True)
    [wheel] = folder.glob("*.whl")
    return wheel


def unpack_wheel(wheel: Path, folder: Path) -> Path:
    """Unpack a wheel as an installer would; the folder, to be put on the Python path."""
    with zipfile.ZipFile(wheel) as archive:
        archive.extractall(folder)
    return folder
