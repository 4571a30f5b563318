"""A real router, for the tests that need one."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.bgp.router import Bird


@pytest.fixture
def bird(tmp_path: Path) -> Iterator[Bird]:
    router = Bird(tmp_path / "bird", "127.0.0.2")
    router.start()
    yield router
    router.stop()
