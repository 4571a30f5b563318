"""An empty root, and the tree over it, for the tests of what happens on the disk."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from anycastle.replicator.disk import Tree


@pytest.fixture
def root(tmp_path: Path) -> Path:
    path = tmp_path / "root"
    path.mkdir()
    return path


@pytest.fixture
def tree(root: Path) -> Iterator[Tree]:
    opened = Tree(root, ("*.tmp", "*/cache/"))
    yield opened
    opened.close()
