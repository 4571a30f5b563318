"""Chooses how a tree is watched: fanotify, else inotify, else by scanning; and says which and why.

Law: a way that cannot see every change is never chosen silently (design section 4, "Detect").
The words of what is told are in `watch_event`; they are named here too, because this is the door.
"""

import os
from collections.abc import Callable

from anycastle.replicator.fanotify import FanotifyWatcher
from anycastle.replicator.inotify import InotifyWatcher
from anycastle.replicator.mounts import filesystem_of, is_remote, mounted
from anycastle.replicator.poll_watch import ScanWatcher
from anycastle.replicator.watch_event import (
    Cookie,
    Overflow,
    Renamed,
    Touched,
    WatchedTree,
    Watcher,
    WatchError,
    WatchEvent,
)

__all__ = [
    "Cookie",
    "Overflow",
    "Renamed",
    "Touched",
    "WatchError",
    "WatchEvent",
    "WatchedTree",
    "Watcher",
    "open_watcher",
]

_KINDS = ("fanotify", "inotify", "scan")


def open_watcher(tree: WatchedTree, *, prefer: str = "auto") -> Watcher:
    """Watch `tree` from now on. Call it before the first scan, in a thread where the tree is big (inotify walks it).

    `prefer` starts at that kind and still falls back to the next; `auto` is the best one that sees everything.
    Raises WatchError when the root cannot be watched at all.
    """
    if prefer != "auto" and prefer not in _KINDS:
        raise WatchError(f"watcher {prefer!r}: expected auto, {', '.join(_KINDS)}")
    refusals: list[str] = []
    if prefer == "auto":
        filesystem = filesystem_of(mounted(), os.path.realpath(os.fsencode(tree.root)))
        if is_remote(filesystem):
            return ScanWatcher(tree, reason=f"others may change a {filesystem} filesystem unseen by this kernel")
        prefer = "fanotify"
    for kind in _KINDS[_KINDS.index(prefer) :]:
        try:
            return _open(kind, tree, "; ".join(refusals) or "as asked for")
        except WatchError as error:
            refusals.append(str(error))
    raise WatchError("; ".join(dict.fromkeys(refusals)))


def _open(kind: str, tree: WatchedTree, reason: str) -> Watcher:
    kinds: dict[str, Callable[[], Watcher]] = {
        "fanotify": lambda: FanotifyWatcher(tree),
        "inotify": lambda: InotifyWatcher(tree, reason=reason),
        "scan": lambda: ScanWatcher(tree, reason=reason),
    }
    return kinds[kind]()
