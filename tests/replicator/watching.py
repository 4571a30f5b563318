"""What the tests of the watchers share: a plain tree, collecting events up to a cookie, children with less power."""

import asyncio
import contextlib
import ctypes
import os
import subprocess
import tempfile
import traceback
from collections.abc import AsyncIterator, Callable, Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from anycastle.replicator.fanotify import FanotifyWatcher
from anycastle.replicator.watch import Cookie, Overflow, Renamed, Touched, Watcher, WatchEvent

NOBODY = 65534
DEADLINE_SECONDS = 20.0

needs_root = pytest.mark.skipif(os.geteuid() != 0, reason="needs root")

libc = ctypes.CDLL(None, use_errno=True)


@dataclass
class PlainTree:
    """A root, and names (of files or folders, at any depth) that are excluded."""

    root: Path
    names: frozenset[bytes] = field(default=frozenset({b"cache"}))

    def excluded(self, path: bytes) -> bool:
        return any(part in self.names for part in path.split(b"/"))


class Reader:
    """Takes the events of one watcher, in order."""

    def __init__(self, watcher: Watcher) -> None:
        self.watcher = watcher
        self._batches = watcher.batches()
        self._waiting: list[WatchEvent] = []

    async def until(self, wanted: Callable[[WatchEvent], bool]) -> list[WatchEvent]:
        """Everything before the first event that is wanted, which is taken too."""
        before: list[WatchEvent] = []
        async with asyncio.timeout(DEADLINE_SECONDS):
            while True:
                while self._waiting:
                    event = self._waiting.pop(0)
                    if wanted(event):
                        return before
                    before.append(event)
                self._waiting = list(await anext(self._batches))
                assert self._waiting, "a batch is never empty"

    async def settled(self) -> list[WatchEvent]:
        """Everything told of what happened before now; nothing may have been lost."""
        name = self.watcher.drop_cookie()
        told = await self.until(lambda event: event == Cookie(name))
        assert not [event for event in told if isinstance(event, Overflow)]
        return told

    async def overflow(self) -> str:
        found: list[str] = []
        await self.until(lambda event: isinstance(event, Overflow) and not found.append(event.reason))
        return found[0]


@contextlib.asynccontextmanager
async def reading(watcher: Watcher) -> AsyncIterator[Reader]:
    """A reader; the watcher is closed at the end."""
    reader = Reader(watcher)
    try:
        yield reader
    finally:
        await reader._batches.aclose()  # type: ignore[attr-defined]
        watcher.close()


def mentioned(events: Iterable[WatchEvent]) -> set[bytes]:
    """Every path that was told to be looked at."""
    paths: set[bytes] = set()
    for event in events:
        match event:
            case Touched(path):
                paths.add(path)
            case Renamed(old, new):
                paths |= {old, new}
    return paths


@contextlib.contextmanager
def tmpfs(point: Path) -> Iterator[Path]:
    """A small filesystem of its own; needs root."""
    point.mkdir(exist_ok=True)
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=64m", "anycastle-test", point], check=True)
    try:
        yield point
    finally:
        subprocess.run(["umount", point], check=True)


def limit(kind: str) -> int:
    """How many events a queue holds at most."""
    return int(Path(f"/proc/sys/fs/{kind}/max_queued_events").read_text())


def exchange(one: Path, other: Path) -> None:
    """renameat2 with RENAME_EXCHANGE."""
    assert libc.renameat2(-100, os.fsencode(one), -100, os.fsencode(other), 2) == 0, os.strerror(ctypes.get_errno())


def link_open_file(file: int, path: Path) -> None:
    """linkat of a file opened with O_TMPFILE (AT_FDCWD, AT_SYMLINK_FOLLOW)."""
    done = libc.linkat(-100, f"/proc/self/fd/{file}".encode(), -100, os.fsencode(path), 0x400)
    assert done == 0, os.strerror(ctypes.get_errno())


def open_fanotify(root: Path, *, flags: int | None = None) -> FanotifyWatcher:
    tree = PlainTree(root)
    return FanotifyWatcher(tree) if flags is None else FanotifyWatcher(tree, flags=flags)


@contextlib.contextmanager
def root_of_nobody() -> Iterator[Path]:
    """A folder that the user `nobody` can reach and owns."""
    with tempfile.TemporaryDirectory(dir="/tmp") as name:
        os.chown(name, NOBODY, NOBODY)
        yield Path(name)


def in_child(weaken: Callable[[], None], work: Callable[[], str]) -> str:
    """Run `work` in a forked child after `weaken`; returns what it returned, or its traceback."""
    reading_end, writing_end = os.pipe()
    child = os.fork()
    if child == 0:
        try:
            weaken()
            said = work()
        except BaseException:
            said = traceback.format_exc()
        os.write(writing_end, said.encode()[:60_000])
        os._exit(0)
    os.close(writing_end)
    with os.fdopen(reading_end, "rb") as answer:
        said = answer.read().decode()
    os.waitpid(child, 0)
    return said


def become_nobody() -> None:
    os.setgroups([])
    os.setresgid(NOBODY, NOBODY, NOBODY)
    os.setresuid(NOBODY, NOBODY, NOBODY)
