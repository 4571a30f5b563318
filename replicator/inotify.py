"""Watches a tree with inotify, a watch for each folder: for those without CAP_SYS_ADMIN (inotify(7)).

Laws: the queue is one and ordered, so cookies are as sound as with fanotify. A folder is watched first and listed
then, so nothing made in a fresh folder is missed. What is watched follows the disk, not the story the events tell:
after the last event about a folder it is watched under its last name, whatever was thought in between.
"""

import asyncio
import errno
import os
from collections.abc import AsyncIterator
from pathlib import Path

from asyncinotify import Event, Inotify, Mask, Watch

from anycastle.replicator.beneath import O_LOOK, NotBeneath, open_beneath
from anycastle.replicator.entry import PRIVATE_FOLDER
from anycastle.replicator.watch_event import (
    Cookie,
    Gathering,
    Overflow,
    Renamed,
    WatchedTree,
    WatchError,
    WatchEvent,
    is_below,
    join,
)
from anycastle.replicator.watched_root import COOKIES_FOLDER, WatchedRoot, readable

_CHANGES = Mask.MODIFY | Mask.ATTRIB | Mask.CLOSE_WRITE | Mask.CREATE | Mask.DELETE | Mask.MOVE | Mask.MOVE_SELF
MASK = _CHANGES | Mask.ONLYDIR | Mask.DONT_FOLLOW | Mask.EXCL_UNLINK
EVENTS_CACHED = 256
BATCH_EVENTS_MAX = 4096
"""A few tens of milliseconds of the loop."""
PAIR_SECONDS = 0.002
"""The two halves of a rename are queued by one system call; a half alone after this is a move out of the root."""

_CREATE, _DELETE, _IGNORED = int(Mask.CREATE), int(Mask.DELETE), int(Mask.IGNORED)
_CLOSE_WRITE, _MODIFY, _ISDIR = int(Mask.CLOSE_WRITE), int(Mask.MODIFY), int(Mask.ISDIR)
_MOVED_FROM, _MOVED_TO, _MOVE_SELF = int(Mask.MOVED_FROM), int(Mask.MOVED_TO), int(Mask.MOVE_SELF)
_Q_OVERFLOW = int(Mask.Q_OVERFLOW)


class InotifyWatcher:
    """Opening it walks the folders of the tree (in a thread, where the tree is big).

    Not told, unlike with fanotify: writes through another hard link's folder outside the root, and those to a file of
    O_TMPFILE after it was given its name.
    """

    kind = "inotify"

    def __init__(self, tree: WatchedTree, *, reason: str = "as asked for") -> None:
        """Raises WatchError, naming the limit that was reached."""
        self.reason = reason
        self.heard = 0
        self._gathering = Gathering()
        self._folders: dict[int, tuple[bytes, Watch]] = {}
        """Of each watch descriptor."""
        self._moving: dict[int, tuple[bytes, bool]] = {}
        """First halves of renames: cookie -> where from, whether a folder."""
        self._root = WatchedRoot(tree)
        try:
            self._inotify = _open()
        except BaseException:
            self._root.close()
            raise
        try:
            self._watch_all()
        except BaseException:
            self.close()
            raise

    async def batches(self) -> AsyncIterator[tuple[WatchEvent, ...]]:
        """See `Watcher.batches`."""
        drained = False
        while True:
            if drained:
                await readable(self._inotify.fd)
            else:
                await asyncio.sleep(0)  # the library holds events that it has read already
            drained = self._drain()
            if drained and self._moving:
                await asyncio.sleep(PAIR_SECONDS)
                drained = self._drain()
                self._settle_moves()
            if events := self._gathering.take():
                yield events

    def drop_cookie(self) -> str:
        return self._root.drop_cookie()

    def close(self) -> None:
        self._inotify.close()
        self._root.close()

    def _drain(self) -> bool:
        """Take what is there, bounded; False when more may be waiting."""
        for _ in range(BATCH_EVENTS_MAX):
            event = self._inotify.sync_get()
            if event is None:
                return True
            self.heard += 1
            self._take(event)
        return False

    def _take(self, event: Event) -> None:
        mask = int(event.mask)
        if mask & _Q_OVERFLOW:
            self._overflow("inotify: the kernel's queue overflowed (fs.inotify.max_queued_events)")
        elif event.watch is None or event.watch.wd not in self._folders:
            pass  # of a watch that was removed
        elif event.name is None:
            self._take_self(event.watch.wd, mask)
        else:
            folder, _ = self._folders[event.watch.wd]
            self._take_named(folder, os.fsencode(event.name), mask, event.cookie)

    def _take_self(self, wd: int, mask: int) -> None:
        """Of a watched folder itself: what matters below the root is told by its parent too."""
        folder, _ = self._folders[wd]
        if mask & _IGNORED:
            del self._folders[wd]
        if not folder and mask & (_IGNORED | _MOVE_SELF):
            raise WatchError(self._root.moved() or f"{self._root.shown} can no longer be watched")

    def _take_named(self, folder: bytes, name: bytes, mask: int, pair: int) -> None:
        path = join(folder, name)
        if mask & _CREATE and (cookie := self._root.claim(name)):
            self._settle_moves()
            self._gathering.add(Cookie(cookie))
        elif path == PRIVATE_FOLDER and mask & (_DELETE | _MOVED_FROM):
            # Comes first when the root is deleted; of that the kernel tells nothing while we hold the root open.
            raise WatchError(self._root.moved() or f"{os.fsdecode(path)} in {self._root.shown} was removed")
        elif mask & _MOVED_FROM:
            self._moving[pair] = (path, bool(mask & _ISDIR))
        elif mask & _MOVED_TO:
            self._take_moved_to(path, pair, bool(mask & _ISDIR))
        elif not self._root.hidden(path):
            self._gathering.touch(path, self._writing(path, mask))
            if mask & _CREATE and mask & _ISDIR:
                self._watch_below(path, fresh_only=True)

    def _writing(self, path: bytes, mask: int) -> bool | None:
        if mask & (_CLOSE_WRITE | _DELETE | _ISDIR):
            return False
        if mask & _CREATE:
            return self._root.may_be_open(path)
        return True if mask & _MODIFY else None

    def _take_moved_to(self, new: bytes, pair: int, folder: bool) -> None:
        old, _ = self._moving.pop(pair, (b"", folder))
        if self._root.hidden(old) or self._root.hidden(new):
            self._moved_out(old, folder)
            self._moved_in(new, folder)
            return
        self._gathering.add(Renamed(old, new, folder))
        if folder:
            self._relabel(old, new)
            self._watch_below(old)  # something else may be there already
            self._watch_below(new)

    def _moved_in(self, new: bytes, folder: bool) -> None:
        if not self._root.hidden(new):
            if folder:
                self._gathering.add(Renamed(new, new, folder))
                self._watch_below(new)
            else:
                self._gathering.touch(new, False)

    def _moved_out(self, old: bytes, folder: bool) -> None:
        if not self._root.hidden(old):
            self._gathering.touch(old, False)
            if folder:
                self._unwatch_below(old)
                self._watch_below(old)

    def _settle_moves(self) -> None:
        """Halves whose other half never came were moves out of the root."""
        moving, self._moving = self._moving, {}
        for old, folder in moving.values():
            self._moved_out(old, folder)

    def _relabel(self, old: bytes, new: bytes) -> None:
        """Walks all watches: renames of folders are rare."""
        for wd, (path, watch) in self._folders.items():
            if is_below(path, old):
                self._folders[wd] = (new + path[len(old) :], watch)

    def _unwatch_below(self, old: bytes) -> None:
        for wd, (path, watch) in tuple(self._folders.items()):
            if is_below(path, old):
                del self._folders[wd]
                try:
                    self._inotify.rm_watch(watch)
                except OSError as error:
                    if error.errno != errno.EINVAL:  # EINVAL: gone together with its folder
                        raise

    def _watch_all(self) -> None:
        cookies = self._watch(COOKIES_FOLDER)
        if cookies is None:
            raise WatchError("inotify: the cookie folder is gone")
        self._folders[cookies.wd] = (COOKIES_FOLDER, cookies)
        self._watch_below(b"", tell=False)

    def _watch_below(self, top: bytes, *, tell: bool = True, fresh_only: bool = False) -> None:
        """Watch every folder at and below `top` as it is on disk; `tell` of what is in those not watched before.

        `fresh_only` goes no further than those: what is made in a watched folder tells of itself. Or each level of
        `mkdir -p` would be walked once for every level above it.
        """
        waiting = [top]
        while waiting:
            folder = waiting.pop()
            watch = self._watch(folder)
            if watch is None:
                continue
            was, _ = self._folders.get(watch.wd, (None, watch))
            fresh = was is None
            self._folders[watch.wd] = (folder, watch)
            if fresh_only and was == folder:
                continue
            for name, is_folder in self._list(folder):
                path = join(folder, name)
                if self._root.hidden(path):
                    continue
                if tell and fresh:
                    self._gathering.touch(path, None)
                if is_folder:
                    waiting.append(path)

    def _list(self, folder: bytes) -> list[tuple[bytes, bool]]:
        try:
            with os.scandir(self._where(folder)) as entries:
                return [(entry.name, entry.is_dir(follow_symlinks=False)) for entry in entries]
        except (FileNotFoundError, NotADirectoryError):
            return []  # gone meanwhile; its parent tells
        except OSError as error:
            raise WatchError(f"inotify: cannot list {os.fsdecode(folder)!r}: {error.strerror}") from error

    def _watch(self, folder: bytes) -> Watch | None:
        """None when no folder is there (any more). One folder (inode) has one watch, whatever its names were."""
        try:
            os.close(open_beneath(self._root.fd, folder or b".", O_LOOK))
            return self._inotify.add_watch(self._where(folder), MASK)
        except NotBeneath:  # something else is mounted there, or a symlink is in the way
            return None
        except OSError as error:
            if error.errno in (errno.ENOENT, errno.ENOTDIR, errno.ELOOP):
                return None
            raise WatchError(f"inotify: cannot watch {os.fsdecode(folder)!r}: {_why(error)}") from error

    def _where(self, folder: bytes) -> bytes:
        """By the root's descriptor: right wherever the root is now."""
        return b"/proc/self/fd/%d/%s" % (self._root.fd, folder or b".")

    def _overflow(self, reason: str) -> None:
        """Watch again before telling, so that the scan that follows misses nothing."""
        self._moving.clear()
        self._watch_below(b"", tell=False)
        self._gathering.add(Overflow(reason))
        for name in self._root.claim_all():
            self._gathering.add(Cookie(name))


def _open() -> Inotify:
    try:
        return Inotify(cache_size=EVENTS_CACHED, sync_timeout=0)
    except OSError as error:
        raise WatchError(f"inotify: {_why(error)}") from error


def _why(error: OSError) -> str:
    match error.errno:
        case errno.ENOSPC:
            return f"all {_limit('max_user_watches')} watches are taken: raise fs.inotify.max_user_watches"
        case errno.EMFILE:
            return f"all {_limit('max_user_instances')} instances are taken: raise fs.inotify.max_user_instances"
        case _:
            return error.strerror or str(error)


def _limit(name: str) -> str:
    try:
        return Path("/proc/sys/fs/inotify", name).read_text().strip()
    except OSError:
        return "allowed"
