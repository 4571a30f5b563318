"""Temp files: content that was not announced never leaves them."""

import mmap
import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from anycastle.replicator import stage
from anycastle.replicator.disk import Tree, Unreadable
from anycastle.replicator.stage import DigestMismatch, LandError
from tests.replicator.disks import ext4
from tests.replicator.tree_values import file_entry, file_size_limit, temps

PIECE = 256 * 1024


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


@pytest.fixture
def on_ext4(tmp_path: Path) -> Iterator[Tree]:
    with ext4(tmp_path / "disk") as disk:
        tree = Tree(disk.point, ())
        yield tree
        tree.close()


def whole_pages(content: bytes) -> Iterator[memoryview]:
    """In pieces, as large bodies come: each in whole pages of memory."""
    buffer = memoryview(mmap.mmap(-1, PIECE))
    for start in range(0, len(content), PIECE):
        piece = content[start : start + PIECE]
        buffer[: len(piece)] = piece
        yield buffer[: len(piece)]


def is_cached(path: Path) -> bool:
    """Whether its first block can be had without asking the disk."""
    with path.open("rb") as file:
        try:
            return os.preadv(file.fileno(), [bytearray(4096)], 0, os.RWF_NOWAIT) > 0
        except BlockingIOError:
            return False


@pytest.mark.parametrize("least", [PIECE, 10 * PIECE], ids=["large", "small"])
def test_large_content_goes_past_the_page_cache(on_ext4: Tree, monkeypatch: pytest.MonkeyPatch, least: int) -> None:
    monkeypatch.setattr(stage, "DIRECT_BYTES_MIN", least)
    content = os.urandom(4 * PIECE + 1234)
    entry = file_entry(b"a", content)
    staged = on_ext4.stage(entry)
    for piece in whole_pages(content):
        staged.write(piece)
    staged.finish()
    on_ext4.land(entry, staged, None)
    assert is_cached(on_ext4.root / "a") == (least > len(content))
    assert (on_ext4.root / "a").read_bytes() == content


def test_large_content_in_odd_pieces_is_whole(on_ext4: Tree, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(stage, "DIRECT_BYTES_MIN", PIECE)
    content = os.urandom(3 * PIECE)
    entry = file_entry(b"a", content)
    staged = on_ext4.stage(entry)
    pieces = whole_pages(content)
    staged.write(next(pieces))
    for start in range(PIECE, len(content), 1001):
        staged.write(content[start : start + 1001])
    staged.finish()
    on_ext4.land(entry, staged, None)
    assert (on_ext4.root / "a").read_bytes() == content
    copied = file_entry(b"b", content)
    on_ext4.land(copied, on_ext4.stage_copy(copied, b"a"), None)
    assert (on_ext4.root / "b").read_bytes() == content


def test_a_disk_that_fills_up_is_told_by_name_past_the_page_cache_too(
    on_ext4: Tree, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(stage, "DIRECT_BYTES_MIN", PIECE)
    content = bytes(100 * 1024 * 1024)
    staged = on_ext4.stage(file_entry(b"a", content))

    def take() -> None:
        for piece in whole_pages(content):
            staged.write(piece)

    with pytest.raises(LandError) as error:
        take()
    assert error.value.cause == "ENOSPC"
    assert temps(on_ext4.root) == []
