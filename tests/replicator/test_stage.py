"""Temp files: content that was not announced never leaves them."""

import os
from pathlib import Path

import pytest

from anycastle.replicator.disk import Tree, Unreadable
from anycastle.replicator.stage import DigestMismatch, LandError
from tests.replicator.tree_values import file_entry, file_size_limit, temps


@pytest.mark.parametrize("content", [b"", b"y", b"xx", b"x" * 1000], ids=len)
def test_content_that_was_not_announced_is_refused(tree: Tree, root: Path, content: bytes) -> None:
    staged = tree.stage(file_entry(b"a", b"x"))

    def take() -> None:
        staged.write(content)
        staged.finish()

    with pytest.raises(DigestMismatch):
        take()
    assert temps(root) == []
    staged.abort()


def test_a_full_disk_is_told_by_name_and_leaves_nothing(tree: Tree, root: Path) -> None:
    content = b"x" * 100_000
    staged = tree.stage(file_entry(b"a", content))
    with file_size_limit(50_000), pytest.raises(LandError) as error:
        staged.write(content)
    assert error.value.cause == "EFBIG"
    assert temps(root) == []
    (root / "b").write_bytes(content)
    with file_size_limit(50_000), pytest.raises(LandError):
        tree.stage_copy(file_entry(b"a", content), b"b")
    assert temps(root) == []
    assert not (root / "a").exists()


def test_copies_come_from_the_local_disk_and_are_checked(tree: Tree, root: Path) -> None:
    content = os.urandom(3_000_000)
    (root / "a").write_bytes(content)
    entry = file_entry(b"b", content)
    staged = tree.stage_copy(entry, b"a")
    tree.land(entry, staged, None)
    assert (root / "b").read_bytes() == content
    with pytest.raises(DigestMismatch):
        tree.stage_copy(file_entry(b"c", b"other"), b"a")
    with pytest.raises(Unreadable):
        tree.stage_copy(entry, b"missing")
    assert temps(root) == []
