"""The words in which watchers tell what happened to a tree, whatever told them of it.

Laws: an event only means "look": events merge in the kernel and lose their order, so nobody may conclude from one
what is on disk now. What a batch holds is in order of the queue, but for equal paths, which are told once; nothing
ever moves across a `Cookie`, a `Renamed` or an `Overflow`. Paths are bytes, relative to the root, never empty.
"""

from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from anycastle.errors import AnycastleError


class WatchError(AnycastleError):
    """A tree cannot be watched (any more) in this way."""


class CookieRefused(WatchError):
    """The disk takes no file at the moment. Changes are still seen, but not how far they have been seen."""


@dataclass(frozen=True, slots=True)
class Touched:
    """Look at this path: its content, its attributes or its very existence may have changed.

    It may be a folder: one that is gone (moved out of the root, or into an excluded folder) takes everything known
    below it along, and one that is not known as it is must be scanned.
    """

    path: bytes
    writing: bool = False
    """Somebody was writing and had not closed it yet, so wait a little for another event of it. Only a hint:
    truncate(2), and utimensat(2) of the modification time alone, look like writing and no close ever follows, so a
    path that has been quiet for a while must be looked at all the same. Of all but files it means nothing."""


@dataclass(frozen=True, slots=True)
class Renamed:
    """Within the root. Look at both: an exchange is two of these, and merged renames may come in the wrong order.

    Of a folder nothing below it is told by itself: everything known below `old` has to be looked for below `new`. A
    folder that came from outside the root has `new` for `old`: scan it even if it is known, for it may have been
    outside for a moment only, and what changed in it then was told by nothing.
    """

    old: bytes
    new: bytes
    folder: bool


@dataclass(frozen=True, slots=True)
class Cookie:
    """The cookie of `drop_cookie`: every change made before it was dropped has been told already."""

    name: str


@dataclass(frozen=True, slots=True)
class Overflow:
    """Events were lost, or may have been: scan the tree, and do it before the next event is taken.

    For the cookies dropped so far follow at once: their own events may be lost, but a scan that begins now sees
    everything they stand for.
    """

    reason: str


WatchEvent = Touched | Renamed | Cookie | Overflow


class WatchedTree(Protocol):
    """What a watcher asks of a tree (`disk.Tree` is one)."""

    @property
    def root(self) -> Path: ...

    def excluded(self, path: bytes) -> bool: ...


class Watcher(Protocol):
    """Tells of every change below a root from the moment it was opened; events wait until somebody takes them."""

    @property
    def kind(self) -> str:
        """`fanotify`, `inotify` or `scan`."""
        ...

    @property
    def reason(self) -> str:
        """Why this kind, for people."""
        ...

    @property
    def heard(self) -> int:
        """Events that the kernel told so far, or changes that a scan found."""
        ...

    def batches(self) -> AsyncIterator[tuple[WatchEvent, ...]]:
        """Events as they come, never an empty tuple; one consumer at a time.

        Raises WatchError when it is at its end: the root was moved or deleted, or a limit was reached. Events may be
        lost with it, so whoever watches anew scans, and nobody takes an absent root for deleted files.
        """
        ...

    def drop_cookie(self) -> str:
        """Drop a barrier; `Cookie` with the name returned comes after every change made before this call."""
        ...

    def close(self) -> None: ...


class Gathering:
    """Collects one batch: equal paths are told once, at their first place, with what was heard last of writing."""

    def __init__(self) -> None:
        self._done: list[WatchEvent] = []
        self._touched: dict[bytes, bool] = {}

    def touch(self, path: bytes, writing: bool | None) -> None:
        """`writing` None: this change says nothing of it (attributes only)."""
        if writing is None:
            writing = self._touched.get(path, False)
        self._touched[path] = writing

    def add(self, event: Renamed | Cookie | Overflow) -> None:
        self._settle()
        self._done.append(event)

    def take(self) -> tuple[WatchEvent, ...]:
        """Everything gathered since the last call."""
        self._settle()
        events, self._done = tuple(self._done), []
        return events

    def _settle(self) -> None:
        self._done.extend(Touched(path, writing) for path, writing in self._touched.items())
        self._touched.clear()


def join(folder: bytes, name: bytes) -> bytes:
    """A path below the root; the root itself is the empty folder."""
    return folder + b"/" + name if folder else name


def is_below(path: bytes, folder: bytes) -> bool:
    """`path` is `folder` or is in it; everything is in the empty folder."""
    return not folder or path == folder or path.startswith(folder + b"/")
