"""Scanning: what it tells, and what it must never tell. (What it shares with the others is in test_watch.py.)"""

import errno
import os
from pathlib import Path

import pytest

from anycastle.replicator import poll_watch
from anycastle.replicator.poll_watch import BATCH_EVENTS_MAX, ScanWatcher
from anycastle.replicator.watch import Cookie, Touched
from tests.replicator.watching import PlainTree, mentioned, reading


async def test_the_first_walk_tells_of_everything_later_ones_of_what_differs(tmp_path: Path) -> None:
    (tmp_path / "folder").mkdir()
    (tmp_path / "folder/file").touch()
    async with reading(ScanWatcher(PlainTree(tmp_path), interval_seconds=60.0)) as reader:
        assert await reader.settled() == [Touched(b"folder"), Touched(b"folder/file")]
        assert await reader.settled() == []
        (tmp_path / "folder/file").write_bytes(b"x")
        assert await reader.settled() == [Touched(b"folder/file")]


async def test_it_walks_by_itself(tmp_path: Path) -> None:
    async with reading(ScanWatcher(PlainTree(tmp_path), interval_seconds=0.01)) as reader:
        await reader.settled()
        (tmp_path / "x").touch()
        assert await reader.until(lambda event: event == Touched(b"x")) == []


async def test_a_big_tree_comes_in_parts(tmp_path: Path) -> None:
    for number in range(BATCH_EVENTS_MAX + 1):
        (tmp_path / str(number)).touch()
    watcher = ScanWatcher(PlainTree(tmp_path), interval_seconds=60.0)
    name = watcher.drop_cookie()
    batches = watcher.batches()
    sizes = [len(await anext(batches)) for _ in range(2)]
    assert await anext(batches) == (Cookie(name),)
    assert sizes == [BATCH_EVENTS_MAX, 1]
    await batches.aclose()  # type: ignore[attr-defined]
    watcher.close()


async def test_a_walk_that_failed_tells_nothing_and_keeps_the_cookies(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A server that is away must not look like the deletion of everything."""
    for name in ("a", "b"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "file").touch()
    watcher = ScanWatcher(PlainTree(tmp_path), interval_seconds=0.01)
    really = os.scandir
    failures = 3

    def away(path: bytes) -> object:
        nonlocal failures
        if path.endswith(b"/b") and failures:
            failures -= 1
            raise OSError(errno.EIO, "server is away")
        return really(path)

    async with reading(watcher) as reader:
        await reader.settled()
        monkeypatch.setattr(poll_watch.os, "scandir", away)
        (tmp_path / "a/file").write_bytes(b"x")
        assert mentioned(await reader.settled()) == {b"a/file"}
        assert (failures, watcher.scans_failed) == (0, 3)
