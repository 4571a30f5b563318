"""What every watcher promises, and how one is chosen."""

import asyncio
import mmap
import os
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from anycastle.replicator.fanotify import FanotifyWatcher
from anycastle.replicator.inotify import InotifyWatcher
from anycastle.replicator.poll_watch import ScanWatcher
from anycastle.replicator.watch import Cookie, Watcher, WatchError, open_watcher
from tests.replicator.watching import (
    PlainTree,
    become_nobody,
    exchange,
    in_child,
    link_open_file,
    mentioned,
    needs_root,
    reading,
    root_of_nobody,
    tmpfs,
)

KINDS: dict[str, Callable[[PlainTree], Watcher]] = {
    "fanotify": FanotifyWatcher,
    "inotify": InotifyWatcher,
    "scan": lambda tree: ScanWatcher(tree, interval_seconds=60.0),
}
every_kind = pytest.mark.parametrize("kind", [pytest.param("fanotify", marks=needs_root), "inotify", "scan"])


def mapped_store(root: Path) -> None:
    """The file descriptor is closed before the store: only munmap tells of it."""
    file = os.open(root / "file", os.O_RDWR)
    view = mmap.mmap(file, 0)
    os.close(file)
    view[0:1] = b"M"
    view.close()


def nameless_then_linked(root: Path) -> None:
    file = os.open(root, os.O_TMPFILE | os.O_WRONLY, 0o644)
    os.write(file, b"content")
    link_open_file(file, root / "folder/linked")
    os.close(file)


def written_and_gone(root: Path) -> None:
    (root / "short").write_bytes(b"x")
    (root / "short").unlink()


CHANGES: dict[str, tuple[Callable[[Path], object], set[bytes]]] = {
    "create": (lambda root: (root / "new").write_bytes(b"x"), {b"new"}),
    "create, empty": (lambda root: (root / "new").touch(), {b"new"}),
    "modify": (lambda root: (root / "file").write_bytes(b"another"), {b"file"}),
    "append in a folder": (lambda root: (root / "folder/inner").write_bytes(b"longer than before"), {b"folder/inner"}),
    "truncate": (lambda root: os.truncate(root / "file", 2), {b"file"}),
    "mapped store": (mapped_store, {b"file"}),
    "chmod": (lambda root: (root / "file").chmod(0o600), {b"file"}),
    "chmod of a folder": (lambda root: (root / "folder").chmod(0o700), {b"folder"}),
    "time": (lambda root: os.utime(root / "file", (1, 2)), {b"file"}),
    "delete": (lambda root: (root / "file").unlink(), {b"file"}),
    "mkdir": (lambda root: (root / "made").mkdir(), {b"made"}),
    "rmdir": (lambda root: (root / "empty").rmdir(), {b"empty"}),
    "symlink": (lambda root: (root / "link").symlink_to("file"), {b"link"}),
    "hard link": (lambda root: os.link(root / "file", root / "folder/twin"), {b"folder/twin"}),
    "nameless, then linked": (nameless_then_linked, {b"folder/linked"}),
    "rename": (lambda root: (root / "file").rename(root / "folder/moved"), {b"file", b"folder/moved"}),
    "rename over": (lambda root: (root / "file").rename(root / "folder/inner"), {b"file", b"folder/inner"}),
    "rename of a folder": (lambda root: (root / "folder").rename(root / "other"), {b"folder", b"other"}),
    "exchange": (lambda root: exchange(root / "file", root / "folder/inner"), {b"file", b"folder/inner"}),
    "exchange of a folder and a file": (lambda root: exchange(root / "file", root / "folder"), {b"file", b"folder"}),
    "rmtree": (lambda root: shutil.rmtree(root / "folder"), {b"folder"}),
    "bytes that are no text": (lambda root: Path(os.fsdecode(bytes(root) + b"/\xff\n")).touch(), {b"\xff\n"}),
    "a tree at once": (
        lambda root: [(root / "p/q/r").mkdir(parents=True), (root / "p/q/r/leaf").write_bytes(b"x")],
        {b"p", b"p/q", b"p/q/r", b"p/q/r/leaf"},
    ),
    "moved in": (lambda root: (root.parent / "outside").rename(root / "in"), {b"in"}),
    "moved out": (lambda root: (root / "folder").rename(root.parent / "out"), {b"folder"}),
}


def plant(root: Path) -> Path:
    """A file, a folder with a file and an empty folder; beside it a folder outside."""
    (root / "folder").mkdir(parents=True)
    (root / "empty").mkdir()
    (root / "file").write_bytes(b"content")
    (root / "folder/inner").write_bytes(b"inner")
    (root.parent / "outside").mkdir()
    (root.parent / "outside/deep").write_bytes(b"deep")
    return root


@every_kind
@pytest.mark.parametrize("change", CHANGES)
async def test_every_change_is_told_before_the_cookie(kind: str, change: str, tmp_path: Path) -> None:
    root = plant(tmp_path / "root")
    act, expected = CHANGES[change]
    async with reading(KINDS[kind](PlainTree(root))) as reader:
        await reader.settled()
        act(root)
        told = mentioned(await reader.settled())
        assert expected <= told
        # Nothing else but what is around it: the folders that hold it, what moved along, another name of it.
        near = {b"file", b"folder", b"folder/inner", b"in/deep", b"other/inner", b"file/inner"}
        assert told <= expected | near | {path.rpartition(b"/")[0] for path in expected}


@every_kind
async def test_private_and_excluded_paths_are_not_told(kind: str, tmp_path: Path) -> None:
    (tmp_path / ".anycastle/tmp").mkdir(parents=True)
    async with reading(KINDS[kind](PlainTree(tmp_path))) as reader:
        await reader.settled()
        (tmp_path / "cache/deep").mkdir(parents=True)
        (tmp_path / "cache/deep/file").write_bytes(b"x")
        (tmp_path / ".anycastle/tmp/body").write_bytes(b"x")
        (tmp_path / ".anycastle/tmp/body").rename(tmp_path / "landed")
        (tmp_path / "cache/deep").rename(tmp_path / "shown")
        told = mentioned(await reader.settled())
        assert {b"landed", b"shown"} <= told <= {b"landed", b"shown", b"shown/file"}


@every_kind
async def test_cookies_come_in_order_and_once_each(kind: str, tmp_path: Path) -> None:
    watcher = KINDS[kind](PlainTree(tmp_path))
    async with reading(watcher) as reader:
        names = [watcher.drop_cookie() for _ in range(50)]
        assert len(set(names)) == 50
        told = await reader.until(lambda event: event == Cookie(names[-1]))
        assert [event.name for event in told if isinstance(event, Cookie)] == names[:-1]


@pytest.mark.parametrize("kind", [pytest.param("fanotify", marks=needs_root), "inotify"])
async def test_no_change_is_behind_the_cookie_that_followed_it(kind: str, tmp_path: Path) -> None:
    """2000 writes into folders old and fresh, 40 barriers among them, while the events are being read."""
    watcher = KINDS[kind](PlainTree(tmp_path))
    finished: list[bytes] = []

    def write(start: int) -> None:
        for number in range(start, start + 50):
            folder = f"f{number // 20}"
            (tmp_path / folder).mkdir(exist_ok=True)
            (tmp_path / folder / str(number)).write_bytes(b"x")
            finished.append(f"{folder}/{number}".encode())

    async with reading(watcher) as reader:
        told: set[bytes] = set()
        for start in range(0, 2000, 50):
            writing = asyncio.to_thread(write, start)
            _, early = await asyncio.gather(writing, reader.settled())
            told |= mentioned(early)
            before = set(finished)
            told |= mentioned(await reader.settled())
            assert before <= told
        assert len(finished) == 2000


@every_kind
async def test_a_root_that_is_gone_ends_it(kind: str, tmp_path: Path) -> None:
    """Else a missing root would look like the deletion of everything in it."""
    root = tmp_path / "root"
    root.mkdir()
    async with reading(KINDS[kind](PlainTree(root))) as reader:
        await reader.settled()
        root.rename(tmp_path / "elsewhere")
        with pytest.raises(WatchError, match=r"is now .*elsewhere"):
            await reader.settled() if kind == "scan" else await reader.until(lambda _: False)


@every_kind
def test_a_root_must_be_a_folder(kind: str, tmp_path: Path) -> None:
    with pytest.raises(WatchError, match="missing: expected a folder"):
        KINDS[kind](PlainTree(tmp_path / "missing"))


@needs_root
async def test_fanotify_is_chosen_where_it_works(tmp_path: Path) -> None:
    watcher = await asyncio.to_thread(open_watcher, PlainTree(tmp_path))
    async with reading(watcher) as reader:
        assert watcher.kind == "fanotify"
        assert "one mark covers the whole" in watcher.reason
        (tmp_path / "x").touch()
        assert b"x" in mentioned(await reader.settled())


@needs_root
@pytest.mark.parametrize("prefer", ["fanotify", "inotify"])
async def test_what_is_mounted_below_is_not_told_of(tmp_path: Path, prefer: str) -> None:
    with tmpfs(tmp_path / "inner"):
        watcher = open_watcher(PlainTree(tmp_path), prefer=prefer)
        async with reading(watcher) as reader:
            assert watcher.kind == prefer
            (tmp_path / "inner/x").touch()
            (tmp_path / "beside").touch()
            assert mentioned(await reader.settled()) == {b"beside"}


@needs_root
def test_inotify_is_chosen_without_privilege() -> None:
    with root_of_nobody() as root:

        async def work() -> str:
            watcher = open_watcher(PlainTree(root))
            async with reading(watcher) as reader:
                (root / "a/b").mkdir(parents=True)
                (root / "a/b/c").write_bytes(b"x")
                told = mentioned(await reader.settled())
                return f"{watcher.kind}: {watcher.reason}: {sorted(told)}"

        said = in_child(become_nobody, lambda: asyncio.run(work()))
    assert said == "inotify: fanotify: CAP_SYS_ADMIN is missing: [b'a', b'a/b', b'a/b/c']"


async def test_a_kind_can_be_preferred(tmp_path: Path) -> None:
    for kind in ("inotify", "scan"):
        watcher = open_watcher(PlainTree(tmp_path), prefer=kind)
        assert (watcher.kind, watcher.reason) == (kind, "as asked for")
        watcher.close()
    with pytest.raises(WatchError, match="expected auto, fanotify, inotify, scan"):
        open_watcher(PlainTree(tmp_path), prefer="dnotify")


def test_no_kind_can_watch_what_is_missing(tmp_path: Path) -> None:
    with pytest.raises(WatchError, match="missing: expected a folder"):
        open_watcher(PlainTree(tmp_path / "missing"))
