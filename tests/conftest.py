"""For all tests: in CI nothing may be skipped, because a skipped test hides a missing piece; timing decides nothing."""

import os

import pytest
from hypothesis import settings

settings.register_profile("anycastle", deadline=None, print_blob=True)
settings.load_profile("anycastle")


@pytest.hookimpl(trylast=True)
def pytest_sessionfinish(session: pytest.Session) -> None:
    reporter = session.config.pluginmanager.get_plugin("terminalreporter")
    skipped = reporter.stats.get("skipped", []) if reporter else []
    if os.environ.get("CI") and skipped:
        reporter.write_line(f"{len(skipped)} tests were skipped; in CI nothing may be", red=True)
        session.exitstatus = pytest.ExitCode.TESTS_FAILED
