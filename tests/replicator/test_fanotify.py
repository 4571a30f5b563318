"""fanotify on the real kernel: on the disk and on a tmpfs of its own."""

import asyncio
import contextlib
import ctypes
import os
import random
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from anycastle.replicator.disk import Tree
from anycastle.replicator.fanotify import REPORT_FLAGS
from anycastle.replicator.watch import Cookie, Renamed, Touched, WatchError
from anycastle.replicator.watched_root import COOKIES_MAX
from tests.replicator.shuffle import folders_below, shuffle
from tests.replicator.tree_values import file_entry, put
from tests.replicator.watching import (
    exchange,
    in_child,
    limit,
    link_open_file,
    mentioned,
    needs_root,
    open_fanotify,
    reading,
    tmpfs,
)

pytestmark = needs_root


@pytest.fixture(params=["disk", "tmpfs"])
def root(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Path]:
    if request.param == "disk":
        (tmp_path / "root").mkdir()
        yield tmp_path / "root"
        return
    with tmpfs(tmp_path / "mount") as point:
        (point / "root").mkdir()
        yield point / "root"


async def test_an_upload_is_one_event(root: Path) -> None:
    async with reading(open_fanotify(root)) as reader:
        (root / "photo.jpg").write_bytes(b"x" * 100_000)
        assert await reader.settled() == [Touched(b"photo.jpg", False)]


async def test_a_file_still_open_is_being_written_until_it_is_closed(root: Path) -> None:
    async with reading(open_fanotify(root)) as reader:
        file = os.open(root / "new", os.O_CREAT | os.O_WRONLY)
        assert await reader.settled() == [Touched(b"new", True)]
        os.write(file, b"x")
        assert await reader.settled() == [Touched(b"new", True)]
        os.close(file)
        assert await reader.settled() == [Touched(b"new", False)]


async def test_what_is_created_whole_is_not_being_written(root: Path) -> None:
    (root / "file").touch()
    async with reading(open_fanotify(root)) as reader:
        (root / "folder").mkdir()
        (root / "symlink").symlink_to("file")
        os.link(root / "file", root / "twin")
        told = await reader.settled()
        # The link count of `file` changed: told by inode, under whichever of its names the kernel finds.
        assert {Touched(b"folder"), Touched(b"symlink"), Touched(b"twin")} <= set(told)
        assert mentioned(told) <= {b"folder", b"symlink", b"twin", b"file"}


async def test_of_our_own_landing_only_the_rename_is_told(tmp_path: Path) -> None:
    """From Linux 6.0 on, the others are not even read. On a filesystem where nobody else makes events."""
    with tmpfs(tmp_path / "mount") as root, contextlib.closing(Tree(root)) as tree:
        watcher = open_fanotify(root)
        async with reading(watcher) as reader:
            counts = []
            for number in range(2):
                before = watcher.heard
                if number:
                    put(tree, file_entry(b"landed", b"x" * 10_000), b"x" * 10_000)
                assert await reader.settled() == [Touched(b"landed", False)] * number
                counts.append(watcher.heard - before)
        assert counts[1] == counts[0] + 1


async def test_renames_are_seen_as_such(root: Path) -> None:
    (root / "a/deep").mkdir(parents=True)
    (root / "file").touch()
    async with reading(open_fanotify(root)) as reader:
        (root / "file").rename(root / "a/file")
        assert await reader.settled() == [Renamed(b"file", b"a/file", False)]
        (root / "a").rename(root / "b")
        (root / "b/deep/x").write_bytes(b"x")
        assert await reader.settled() == [Renamed(b"a", b"b", True), Touched(b"b/deep/x", False)]
        exchange(root / "b/deep", root / "b/file")
        assert await reader.settled() == [
            Renamed(b"b/deep", b"b/file", True),
            Renamed(b"b/file", b"b/deep", False),
        ]


async def test_an_event_is_told_where_its_folder_is_now(root: Path) -> None:
    """Nobody asked for the folder before it was renamed, so its old place is not known; the rename tells of both."""
    (root / "a").mkdir()
    async with reading(open_fanotify(root)) as reader:
        (root / "a/file").touch()
        (root / "a").rename(root / "b")
        assert await reader.settled() == [Touched(b"b/file", False), Renamed(b"a", b"b", True)]


async def test_a_remembered_folder_is_followed_through_renames(root: Path) -> None:
    (root / "a/deep").mkdir(parents=True)
    async with reading(open_fanotify(root)) as reader:
        (root / "a/deep/1").touch()
        await reader.settled()
        (root / "a").rename(root / "b")
        (root / "b/deep/2").touch()
        (root / "a/deep").mkdir(parents=True)
        (root / "a/deep/3").touch()
        assert {b"b/deep/2", b"a/deep/3"} <= mentioned(await reader.settled())


async def test_folders_that_come_in_and_go_out_change_sides(root: Path) -> None:
    outside = root.parent / "outside"
    outside.mkdir()
    async with reading(open_fanotify(root)) as reader:
        (outside / "unseen").touch()
        assert await reader.settled() == []
        outside.rename(root / "inside")
        (root / "inside/seen").touch()
        assert {b"inside", b"inside/seen"} == mentioned(await reader.settled())
        (root / "inside").rename(outside)
        (outside / "unseen again").touch()
        assert mentioned(await reader.settled()) == {b"inside"}


async def test_a_tree_that_came_and_went_before_anybody_looked(root: Path) -> None:
    async with reading(open_fanotify(root)) as reader:
        (root / "p/q").mkdir(parents=True)
        (root / "p/q/file").touch()
        (root / "p").rename(root / "pp")
        shutil.rmtree(root / "pp")
        assert {b"p", b"pp"} <= mentioned(await reader.settled())


async def test_a_nameless_file_written_after_it_was_linked(root: Path) -> None:
    """The kernel goes on calling it `#inode`; it may even have been opened outside of the root."""
    async with reading(open_fanotify(root)) as reader:
        file = os.open(root.parent, os.O_TMPFILE | os.O_WRONLY, 0o644)
        link_open_file(file, root / "linked")
        assert mentioned(await reader.settled()) == {b"linked"}
        os.write(file, b"late")
        assert await reader.settled() == [Touched(b"linked", True)]
        os.close(file)
        assert await reader.settled() == [Touched(b"linked", False)]


async def test_a_real_file_with_such_a_name(root: Path) -> None:
    async with reading(open_fanotify(root)) as reader:
        (root / "#123").write_bytes(b"x")
        assert await reader.settled() == [Touched(b"#123", False)]
        (root / "#123").unlink()
        assert await reader.settled() == [Touched(b"#123", False)]


async def test_writes_through_another_mount_are_seen(root: Path, tmp_path: Path) -> None:
    other = tmp_path / "other"
    other.mkdir()
    libc = ctypes.CDLL(None, use_errno=True)
    assert libc.mount(os.fsencode(root), os.fsencode(other), None, 4096, None) == 0  # MS_BIND
    try:
        async with reading(open_fanotify(root)) as reader:
            (other / "x").touch()
            assert mentioned(await reader.settled()) == {b"x"}
    finally:
        assert libc.umount2(os.fsencode(other), 0) == 0


async def test_the_rest_of_the_machine_is_noise(root: Path) -> None:
    watcher = open_fanotify(root)
    async with reading(watcher) as reader:
        for number in range(100):
            (root.parent / str(number)).touch()
        assert await reader.settled() == []
        assert watcher.noise >= 100


async def test_above_the_root_a_rename_ends_it(tmp_path: Path) -> None:
    root = tmp_path / "above/root"
    root.mkdir(parents=True)
    async with reading(open_fanotify(root)) as reader:
        (tmp_path / "above").rename(tmp_path / "beyond")
        with pytest.raises(WatchError, match=r"above/root is now .*beyond/root"):
            await reader.until(lambda _: False)


async def test_a_deleted_root_ends_it(root: Path) -> None:
    async with reading(open_fanotify(root)) as reader:
        shutil.rmtree(root)
        with pytest.raises(WatchError, match="was deleted"):
            await reader.until(lambda _: False)


async def test_a_full_queue_is_told(root: Path) -> None:
    watcher = open_fanotify(root, flags=REPORT_FLAGS)  # not unlimited
    async with reading(watcher) as reader:
        for number in range(limit("fanotify") + 100):
            (root / str(number)).symlink_to("x")
        lost = watcher.drop_cookie()
        assert "queue overflowed" in await reader.overflow()
        assert await reader.until(lambda event: event == Cookie(lost)) == []
        (root / "after").touch()
        assert mentioned(await reader.settled()) == {b"after"}


async def test_cookies_that_nobody_reads_are_refused_at_some_number(root: Path) -> None:
    watcher = open_fanotify(root)
    async with reading(watcher):
        for _ in range(COOKIES_MAX):
            watcher.drop_cookie()
        with pytest.raises(WatchError, match="never seen: events are not read"):
            watcher.drop_cookie()


def test_cookies_left_by_a_crash_are_cleared(root: Path) -> None:
    left = root / ".anycastle/cookies/left"
    left.parent.mkdir(parents=True)
    left.touch()
    open_fanotify(root).close()
    assert not left.exists()


def test_the_cookie_folder_is_never_a_symlink(root: Path) -> None:
    (root.parent / "precious").mkdir()
    (root.parent / "precious/file").touch()
    (root / ".anycastle").mkdir()
    (root / ".anycastle/cookies").symlink_to(root.parent / "precious")
    with pytest.raises(WatchError, match="expected a folder with room for cookies"):
        open_fanotify(root)
    assert (root.parent / "precious/file").exists()


def test_a_filesystem_without_marks_is_refused() -> None:
    with pytest.raises(WatchError, match="proc"):
        open_fanotify(Path("/proc/self"))


def test_overlayfs_is_refused(tmp_path: Path) -> None:
    with tmpfs(tmp_path / "mount") as point:
        for name in ("lower", "upper", "work", "merged"):
            (point / name).mkdir()
        libc = ctypes.CDLL(None, use_errno=True)
        options = f"lowerdir={point}/lower,upperdir={point}/upper,workdir={point}/work"
        merged = os.fsencode(point / "merged")
        if libc.mount(b"overlay", merged, b"overlay", 0, options.encode()) != 0:
            pytest.skip(f"this kernel has no overlayfs: {os.strerror(ctypes.get_errno())}")
        try:
            with pytest.raises(WatchError, match="overlay filesystem"):
                open_fanotify(point / "merged")
        finally:
            assert libc.umount2(merged, 0) == 0


@pytest.mark.parametrize("seed", range(5))
async def test_whatever_happens_to_folders_files_in_them_are_found(root: Path, seed: int) -> None:
    """Folders made, renamed, exchanged, moved out and in, deleted, while events are read; then one file in each."""
    watcher = open_fanotify(root)
    async with reading(watcher) as reader:
        shuffling = asyncio.to_thread(shuffle, root, random.Random(seed), 400)
        await asyncio.gather(shuffling, reader.settled())
        await reader.settled()
        expected = set()
        for folder in folders_below(root):
            (root / os.fsdecode(folder) / f"last{seed}").write_bytes(b"x")
            expected.add(folder + b"/last%d" % seed if folder else b"last%d" % seed)
        assert len(expected) > 3
        assert expected <= mentioned(await reader.settled())


def test_in_a_user_namespace_it_says_what_is_missing(tmp_path: Path) -> None:
    def into_namespace() -> None:
        libc = ctypes.CDLL(None, use_errno=True)
        if libc.unshare(0x10000000) != 0:  # CLONE_NEWUSER
            raise OSError(ctypes.get_errno(), "unshare")

    def work() -> str:
        try:
            open_fanotify(tmp_path).close()
        except WatchError as error:
            return str(error)
        return "opened"

    said = in_child(into_namespace, work)
    assert "CAP_SYS_ADMIN is missing" in said or "expected a folder with room for cookies" in said
