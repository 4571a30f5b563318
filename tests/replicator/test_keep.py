"""Copies of what lost a conflict."""

import os
from pathlib import Path

import pytest

from anycastle.replicator.disk import LocalEdit, Tree
from anycastle.replicator.entry import Version
from tests.replicator.tree_values import kept, temps
from tests.replicator.watching import exchange

LOSER = Version(7, "ams")


def test_the_loser_is_kept_once(tree: Tree, root: Path) -> None:
    (root / "d").mkdir()
    (root / "d/a").write_bytes(b"loser")
    known = tree.fingerprint(b"d/a")
    assert tree.keep_conflict(b"d/a", LOSER, known) == b"7@ams/d/a"
    assert tree.keep_conflict(b"d/a", LOSER, known) == b"7@ams/d/a"
    assert tree.fingerprint(b"d/a") == known  # so the landing that follows still finds what it expects
    (root / "d/a").write_bytes(b"edited since")
    assert tree.keep_conflict(b"d/a", LOSER, tree.fingerprint(b"d/a")) == b"7@ams.2/d/a"
    assert kept(root) == {"7@ams/d/a": b"loser", "7@ams.2/d/a": b"edited since"}


def test_symlinks_are_kept(tree: Tree, root: Path) -> None:
    os.symlink("target", root / "l")
    name = tree.keep_conflict(b"l", LOSER, tree.fingerprint(b"l"))
    assert os.readlink(root / ".anycastle/conflicts" / os.fsdecode(name)) == "target"
    assert temps(root) == []


def test_nothing_but_the_loser_is_kept_as_the_loser(tree: Tree, root: Path) -> None:
    for folder in ("d", "other"):
        (root / folder).mkdir()
        (root / folder / "a").write_bytes(folder.encode())
    known = tree.fingerprint(b"d/a")
    exchange(root / "d", root / "other")
    with pytest.raises(LocalEdit):
        tree.keep_conflict(b"d/a", LOSER, known)
    (root / "d/a").unlink()
    with pytest.raises(LocalEdit):
        tree.keep_conflict(b"d/a", LOSER, known)
    for make in (Path.mkdir, os.mkfifo, lambda path: path.symlink_to("a"), lambda path: path.write_bytes(b"d")):
        make(root / "d/a")
        with pytest.raises(LocalEdit):
            tree.keep_conflict(b"d/a", LOSER, known)
        (root / "d/a").rename(root / f"away-{len(list(root.iterdir()))}")
    exchange(root / "d", root / "other")
    assert tree.keep_conflict(b"d/a", LOSER, known) == b"7@ams/d/a"
    assert kept(root) == {"7@ams/d/a": b"d"}
    assert temps(root) == []


def test_what_changes_while_it_is_copied_is_not_kept(tree: Tree, root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (root / "a").write_bytes(b"loser")
    known = tree.fingerprint(b"a")
    real = os.copy_file_range

    def copied(*given: int) -> int:
        (root / "a").write_bytes(b"edit!")
        return real(*given)

    monkeypatch.setattr(os, "copy_file_range", copied)
    with pytest.raises(LocalEdit):
        tree.keep_conflict(b"a", LOSER, known)
    assert (kept(root), temps(root)) == ({}, [])
