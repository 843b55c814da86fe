"""Launchers by name, and a person's own."""

from __future__ import annotations

from pathlib import Path

import pytest

from search.errors import UsageError
from search.launchers.local import LocalLauncher
from search.launchers.protocol import Places
from search.launchers.registry import make_launcher

OWN = """
class Mine:
    def __init__(self, places):
        self.places, self.running = places, 0

    def start(self, n, job): ...
    def tend(self): ...
    def stop(self): ...


class Half:
    def __init__(self, places): ...


class Other:
    pass
"""


def test_the_local_one() -> None:
    assert isinstance(make_launcher("local", Places("cpu", "2")), LocalLauncher)


def test_a_persons_own_beside_the_study_file(tmp_path: Path) -> None:
    (tmp_path / "own_launchers_here.py").write_text(OWN, encoding="utf-8")
    study = str(tmp_path / "study.toml")
    made = make_launcher("own_launchers_here:Mine", Places("cpu", "3"), study)
    assert made.places.workers == "3"  # type: ignore[attr-defined]
    with pytest.raises(UsageError, match=r"--launcher own_launchers_here:Half is no launcher: it must have running"):
        make_launcher("own_launchers_here:Half", Places(), study)
    with pytest.raises(UsageError, match=r"--launcher own_launchers_here:Other: calling it with Places"):
        make_launcher("own_launchers_here:Other", Places(), study)
    with pytest.raises(UsageError, match=r"the module 'own_launchers_here' has no 'Gone'"):
        make_launcher("own_launchers_here:Gone", Places(), study)


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("moab", r"--launcher moab: choices are .*, or your own as module:Class"),
        ("locale", r"choices are .*, or your own as module:Class \(did you mean 'local'\?\)"),
        ("no_such_module:Mine", r"--launcher no_such_module:Mine: no module 'no_such_module' on the Python path"),
    ],
)
def test_wrong_names(name: str, message: str) -> None:
    with pytest.raises(UsageError, match=message):
        make_launcher(name, Places())


def test_wrong_places_are_found_before_anything_is_written() -> None:
    with pytest.raises(UsageError, match=r"--workers x: give a number from 1 up"):
        make_launcher("local", Places("cpu", "x"))
