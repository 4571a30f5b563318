"""inotify on the real kernel, and what its limits say."""

import asyncio
import ctypes
import os
import random
import shutil
import threading
from pathlib import Path

import pytest

from anycastle.replicator.inotify import InotifyWatcher
from anycastle.replicator.watch import Cookie, Renamed, Touched, WatchError, open_watcher
from tests.replicator.shuffle import folders_below, shuffle
from tests.replicator.watching import (
    PlainTree,
    become_nobody,
    exchange,
    in_child,
    limit,
    mentioned,
    needs_root,
    reading,
    root_of_nobody,
)


def open_inotify(root: Path) -> InotifyWatcher:
    return InotifyWatcher(PlainTree(root))


async def test_an_upload_is_one_event(tmp_path: Path) -> None:
    async with reading(open_inotify(tmp_path)) as reader:
        (tmp_path / "photo.jpg").write_bytes(b"x" * 100_000)
        assert await reader.settled() == [Touched(b"photo.jpg", False)]


async def test_a_file_still_open_is_being_written_until_it_is_closed(tmp_path: Path) -> None:
    async with reading(open_inotify(tmp_path)) as reader:
        file = os.open(tmp_path / "new", os.O_CREAT | os.O_WRONLY)
        assert await reader.settled() == [Touched(b"new", True)]
        os.write(file, b"x")
        assert await reader.settled() == [Touched(b"new", True)]
        os.close(file)
        assert await reader.settled() == [Touched(b"new", False)]


async def test_renames_are_seen_as_such(tmp_path: Path) -> None:
    (tmp_path / "a/deep").mkdir(parents=True)
    (tmp_path / "file").touch()
    async with reading(open_inotify(tmp_path)) as reader:
        (tmp_path / "file").rename(tmp_path / "a/file")
        (tmp_path / "a").rename(tmp_path / "b")
        (tmp_path / "b/deep/x").write_bytes(b"x")
        told = await reader.settled()
        assert told == [Renamed(b"file", b"a/file", False), Renamed(b"a", b"b", True), Touched(b"b/deep/x", False)]


async def test_two_exchanged_folders_keep_their_watches(tmp_path: Path) -> None:
    (tmp_path / "a/one").mkdir(parents=True)
    (tmp_path / "b/two").mkdir(parents=True)
    async with reading(open_inotify(tmp_path)) as reader:
        exchange(tmp_path / "a", tmp_path / "b")
        await reader.settled()
        (tmp_path / "a/two/x").touch()
        (tmp_path / "b/one/y").touch()
        assert mentioned(await reader.settled()) == {b"a/two/x", b"b/one/y"}


async def test_files_of_a_fresh_folder_are_found_though_they_were_there_first(tmp_path: Path) -> None:
    async with reading(open_inotify(tmp_path)) as reader:
        (tmp_path / "p/q/r").mkdir(parents=True)
        (tmp_path / "p/q/r/leaf").write_bytes(b"x")
        (tmp_path / "p").rename(tmp_path / "z")  # before anybody could watch it
        assert {b"p", b"z", b"z/q", b"z/q/r", b"z/q/r/leaf"} <= mentioned(await reader.settled())
        (tmp_path / "z/q/r/later").touch()
        assert mentioned(await reader.settled()) == {b"z/q/r/later"}


async def test_fresh_folders_made_while_events_are_read(tmp_path: Path) -> None:
    made: list[bytes] = []

    def make() -> None:
        for number in range(300):
            (tmp_path / f"{number}/inner").mkdir(parents=True)
            (tmp_path / f"{number}/inner/file").write_bytes(b"x")
            made.append(b"%d/inner/file" % number)

    async with reading(open_inotify(tmp_path)) as reader:
        making = threading.Thread(target=make)
        making.start()
        told: set[bytes] = set()
        while making.is_alive():
            before = set(made)
            told |= mentioned(await reader.settled())
            assert before <= told
        making.join()
        told |= mentioned(await reader.settled())
        assert set(made) <= told


async def test_a_folder_moved_out_is_no_longer_watched(tmp_path: Path) -> None:
    root, outside = tmp_path / "root", tmp_path / "outside"
    (root / "folder/deep").mkdir(parents=True)
    async with reading(open_inotify(root)) as reader:
        (root / "folder").rename(outside)
        assert mentioned(await reader.settled()) == {b"folder"}
        (outside / "deep/x").touch()
        assert await reader.settled() == []
        outside.rename(root / "again")
        (root / "again/deep/y").touch()
        assert {b"again", b"again/deep", b"again/deep/x", b"again/deep/y"} == mentioned(await reader.settled())


async def test_a_deleted_root_ends_it(tmp_path: Path) -> None:
    (tmp_path / "root").mkdir()
    async with reading(open_inotify(tmp_path / "root")) as reader:
        shutil.rmtree(tmp_path / "root")
        with pytest.raises(WatchError, match=r"was (deleted|removed)"):
            await reader.until(lambda _: False)


@pytest.mark.parametrize("seed", range(5))
async def test_whatever_happens_to_folders_files_in_them_are_found(tmp_path: Path, seed: int) -> None:
    """Folders made, renamed, exchanged, moved out and in, deleted, while events are read; then one file in each."""
    root = tmp_path / "root"
    root.mkdir()
    async with reading(open_inotify(root)) as reader:
        await asyncio.gather(asyncio.to_thread(shuffle, root, random.Random(seed), 400), reader.settled())
        await reader.settled()
        expected = set()
        for folder in folders_below(root):
            (root / os.fsdecode(folder) / "last").write_bytes(b"x")
            expected.add(folder + b"/last" if folder else b"last")
        assert len(expected) > 3
        assert expected <= mentioned(await reader.settled())


async def test_a_full_queue_is_told_and_what_was_missed_is_watched(tmp_path: Path) -> None:
    watcher = open_inotify(tmp_path)
    async with reading(watcher) as reader:
        for number in range(limit("inotify") + 100):
            (tmp_path / str(number)).symlink_to("x")
        (tmp_path / "missed/deep").mkdir(parents=True)
        lost = watcher.drop_cookie()
        assert "fs.inotify.max_queued_events" in await reader.overflow()
        assert await reader.until(lambda event: event == Cookie(lost)) == []
        (tmp_path / "missed/deep/after").touch()
        assert b"missed/deep/after" in mentioned(await reader.settled())


@needs_root
def test_too_few_watches_names_the_limit() -> None:
    """In a user namespace of its own, where five watches are allowed."""

    def into_namespace() -> None:
        libc = ctypes.CDLL(None, use_errno=True)
        if libc.unshare(0x10000000) != 0:  # CLONE_NEWUSER
            raise OSError(ctypes.get_errno(), "unshare")
        Path("/proc/sys/user/max_inotify_watches").write_text("5")

    def work(root: Path) -> str:
        try:
            open_inotify(root).close()
        except WatchError as error:
            return str(error) + "|" + open_watcher(PlainTree(root)).kind
        return "opened"

    with root_of_nobody() as root:
        for number in range(10):
            (root / str(number)).mkdir()
        for path in (root, *root.iterdir()):
            path.chmod(0o777)
        said = in_child(lambda: (become_nobody(), into_namespace())[-1], lambda: work(root))
    assert "raise fs.inotify.max_user_watches" in said
    assert said.endswith("|scan")


async def test_folders_made_in_one_go_are_listed_once_each(tmp_path: Path) -> None:
    """Not once for every level above them."""
    watcher = open_inotify(tmp_path)
    listed: list[bytes] = []
    honest = watcher._list

    def noting(folder: bytes) -> list[tuple[bytes, bool]]:
        listed.append(folder)
        return honest(folder)

    watcher._list = noting  # type: ignore[method-assign]
    async with reading(watcher) as reader:
        deep = tmp_path.joinpath(*(f"{level}" for level in range(50)))
        deep.mkdir(parents=True)
        (deep / "file").write_bytes(b"x")
        assert b"/".join(b"%d" % level for level in range(50)) + b"/file" in mentioned(await reader.settled())
    assert len(listed) == len(set(listed)) == 50
