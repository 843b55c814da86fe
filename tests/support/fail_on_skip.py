"""`pytest --fail-on-skip`: a test that is skipped for lack of an installable package fails the run."""

from __future__ import annotations

import re
from typing import Any

import pytest

# Reasons that no installation removes: missing hardware, container engine, permissions or cores.
ALLOWED = (
    r"no CUDA GPU",
    r"no Docker engine",
    r"needs the right to mount",
    r"workers at this pace need .* cores",
)


def pytest_addoption(parser: pytest.Parser) -> None:
    """Add the option."""
    text = "fail if a test is skipped for lack of an installable package"
    parser.addoption("--fail-on-skip", action="store_true", help=text)


def pytest_configure(config: pytest.Config) -> None:
    """Watch the reports, with pytest-xdist only in the process that prints them."""
    if config.getoption("--fail-on-skip") and not hasattr(config, "workerinput"):
        config.pluginmanager.register(_SkipWatch(), "fail-on-skip-watch")


class _SkipWatch:
    def __init__(self) -> None:
        self.refused: dict[str, str] = {}

    def _note(self, report: pytest.TestReport | pytest.CollectReport) -> None:
        if report.skipped and not hasattr(report, "wasxfail"):
            reason = report.longrepr[2] if isinstance(report.longrepr, tuple) else str(report.longrepr)
            if not any(re.search(allowed, reason) for allowed in ALLOWED):
                self.refused[report.nodeid] = reason.removeprefix("Skipped: ")

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        self._note(report)

    def pytest_collectreport(self, report: pytest.CollectReport) -> None:
        self._note(report)

    @pytest.hookimpl(tryfirst=True)
    def pytest_sessionfinish(self, session: pytest.Session) -> None:
        if self.refused and session.exitstatus == pytest.ExitCode.OK:
            session.exitstatus = pytest.ExitCode.TESTS_FAILED

    def pytest_terminal_summary(self, terminalreporter: Any) -> None:
        if self.refused:
            terminalreporter.section("skipped tests that --fail-on-skip refuses")
            for test, reason in sorted(self.refused.items()):
                terminalreporter.line(f"{test}: {reason}")
