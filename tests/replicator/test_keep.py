"""Copies of what lost a conflict."""

import os
from pathlib import Path

from anycastle.replicator.disk import Tree
from anycastle.replicator.entry import Version
from tests.replicator.tree_values import kept, temps


def test_the_loser_is_kept_once(tree: Tree, root: Path) -> None:
    (root / "d").mkdir()
    (root / "d/a").write_bytes(b"loser")
    before = tree.fingerprint(b"d/a")
    assert tree.keep_conflict(b"d/a", Version(7, "ams")) == b"7@ams/d/a"
    assert tree.keep_conflict(b"d/a", Version(7, "ams")) == b"7@ams/d/a"
    assert tree.fingerprint(b"d/a") == before  # so the landing that follows still finds what it expects
    (root / "d/a").write_bytes(b"edited since")
    assert tree.keep_conflict(b"d/a", Version(7, "ams")) == b"7@ams.2/d/a"
    assert kept(root) == {"7@ams/d/a": b"loser", "7@ams.2/d/a": b"edited since"}


def test_symlinks_are_kept_and_folders_have_no_bytes(tree: Tree, root: Path) -> None:
    (root / "d").mkdir()
    os.symlink("target", root / "l")
    assert tree.keep_conflict(b"d", Version(1, "ams")) == b""
    assert tree.keep_conflict(b"none", Version(1, "ams")) == b""
    name = tree.keep_conflict(b"l", Version(1, "ams"))
    assert os.readlink(root / ".anycastle/conflicts" / os.fsdecode(name)) == "target"
    assert temps(root) == []
