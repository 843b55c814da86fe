"""Fixtures of all tests: databases to test on, and a clean environment."""

from __future__ import annotations

import compileall
import gc
import itertools
import os
import signal
import sys
from collections.abc import Iterator
from importlib.util import module_from_spec, spec_from_file_location
from pathlib import Path

import pytest
from hypothesis import HealthCheck, settings
from optuna.storages._rdb.storage import _VersionManager
from postgres import PostgresServer
from sqlalchemy.engine import make_url

from search.storage.connect import open_database
from search.storage.database import Database

TESTS = Path(__file__).parent
ROOT = TESTS.parent

# Before anything imports them: asserts of these modules explain themselves as those of a test do.
pytest.register_assert_rewrite("scenario", "gates", "deaths")
pytest_plugins = ["program_fixtures", "fail_on_skip", "bucket"]

_names = itertools.count()
# Tests in tests/storage whose subject is no statement of ours: whole flows, and Optuna's own suite.
_FLOWS_OF_STORAGE = ("artifact_quota", "export_import", "optuna_suite", "top_cells")


def _import_benchmarks() -> None:
    """Make `benchmarks`, which is not installed, importable, without the repository's root on the path."""
    folder = ROOT / "benchmarks"
    spec = spec_from_file_location("benchmarks", folder / "__init__.py", submodule_search_locations=[str(folder)])
    assert spec is not None
    sys.modules["benchmarks"] = module_from_spec(spec)


_import_benchmarks()


def _remember_revision_of_optuna() -> None:
    """Let Optuna read the newest revision of its tables once, not whenever a test opens a database with it."""
    read = _VersionManager.get_head_version
    known: list[str] = []

    def get_head_version(manager: _VersionManager) -> str:
        known[:] = known or [read(manager)]
        return known[0]

    setattr(_VersionManager, "get_head_version", get_head_version)  # noqa: B010


_remember_revision_of_optuna()

# A busy machine may take its time.
settings.register_profile("patient", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("patient")


def pytest_configure(config: pytest.Config) -> None:
    """Let children start with the usual signals, and cache the bytecode of the package and of the tests."""
    if signal.getsignal(signal.SIGHUP) is signal.SIG_IGN:  # of `nohup pytest`; children do not inherit a handler
        signal.signal(signal.SIGHUP, lambda *_: None)
    sys.dont_write_bytecode = False
    if not hasattr(config, "workerinput"):
        compileall.compile_dir(ROOT / "search", quiet=2)
    gc.disable()  # until all is imported


def pytest_itemcollected(item: pytest.Item) -> None:
    """Mark what the quick suite leaves out: tests on PostgreSQL whose subject is more than a statement."""
    chosen = getattr(item, "callspec", None)
    if chosen is None or not any(isinstance(each, str) and each == "postgresql" for each in chosen.params.values()):
        return
    if item.path.parent.name != "storage" or item.path.stem.removeprefix("test_") in _FLOWS_OF_STORAGE:
        item.add_marker("postgresql")


def pytest_collection_finish() -> None:
    """Cache no bytecode of modules that tests write: a cache misses a change of the same length in the same second."""
    sys.dont_write_bytecode = True
    # What is there now stays: no collection looks at it again, and forks do not copy it.
    gc.freeze()
    gc.enable()


@pytest.fixture(autouse=True)
def environment(monkeypatch: pytest.MonkeyPatch) -> None:
    """Subprocesses find the fake objective; no setting of the caller reaches a test."""
    for name in [name for name in os.environ if name.startswith("SEARCH_")]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("PYTHONPATH", str(TESTS / "support"))
    monkeypatch.setenv("PYTHONDONTWRITEBYTECODE", "1")  # as `pytest_collection_finish`


@pytest.fixture(autouse=True)
def denormals() -> Iterator[None]:
    """Undo what training in this process does to the processor's floats: hypothesis checks them."""
    yield
    if "torch" in sys.modules:
        sys.modules["torch"].set_flush_denormal(False)


@pytest.fixture(scope="session")
def postgres() -> Iterator[PostgresServer]:
    """A PostgreSQL server for the whole session."""
    with PostgresServer() as server:
        yield server


@pytest.fixture(params=["sqlite", "postgresql"])
def storage_url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """An empty database: a file, then one of the server's."""
    if request.param == "sqlite":
        return f"sqlite:///{tmp_path / 'search.db'}"
    server: PostgresServer = request.getfixturevalue("postgres")
    return server.create_schema(f"test_{os.getpid()}_{next(_names)}")


@pytest.fixture
def database(storage_url: str) -> Iterator[Database]:
    """A database with our tables."""
    with open_database(storage_url, create=True).closing() as database:
        yield database


def masked(url: str) -> str:
    """The URL as messages may show it."""
    return make_url(url).render_as_string(hide_password=True)
