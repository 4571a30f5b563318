"""For all tests: in CI nothing may be skipped, because a skipped test hides a missing piece."""

import os

import pytest


@pytest.hookimpl(trylast=True)
def pytest_sessionfinish(session: pytest.Session) -> None:
    reporter = session.config.pluginmanager.get_plugin("terminalreporter")
    skipped = reporter.stats.get("skipped", []) if reporter else []
    if os.environ.get("CI") and skipped:
        reporter.write_line(f"{len(skipped)} tests were skipped; in CI nothing may be", red=True)
        session.exitstatus = pytest.ExitCode.TESTS_FAILED
