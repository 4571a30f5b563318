"""Watches a tree by walking it again and again: for filesystems that others change behind this kernel's back (NFS).

Laws: the first walk tells of everything, later ones of what differs; a walk that failed anywhere tells nothing at all,
so a server that is away does not look like a deletion. Honestly: a cookie costs a complete walk that begins after it
was dropped, so a fence takes as long as the tree is big; and a rename looks like a deletion and a creation.
"""

import asyncio
import logging
import os
import secrets
from collections.abc import AsyncIterator

from anycastle.replicator.watch_event import Cookie, Touched, WatchedTree, WatchError, WatchEvent, join
from anycastle.replicator.watched_root import WatchedRoot

BATCH_EVENTS_MAX = 4096
INTERVAL_SECONDS = 10.0

_log = logging.getLogger("anycastle.replicator.poll_watch")

Stamp = tuple[int, int, int, int, int]
"""Inode, ctime, mtime (nanoseconds), size, mode."""


class ScanWatcher:
    """Remembers a stamp of every path: about 250 bytes each."""

    kind = "scan"

    def __init__(
        self, tree: WatchedTree, *, reason: str = "as asked for", interval_seconds: float = INTERVAL_SECONDS
    ) -> None:
        """Raises WatchError when the root is no folder."""
        self.reason = reason
        self._interval_seconds = interval_seconds
        self._root = WatchedRoot(tree)
        self._seen: dict[bytes, Stamp] = {}
        self._cookies: list[str] = []
        self._wanted = asyncio.Event()
        self.scans_failed = 0
        self.heard = 0

    async def batches(self) -> AsyncIterator[tuple[WatchEvent, ...]]:
        """See `Watcher.batches`."""
        while True:
            self._wanted.clear()
            cookies, self._cookies = self._cookies, []
            try:
                now = await asyncio.to_thread(_scan, self._root)
            except OSError as error:
                self._count_failure(error)
                self._cookies = cookies + self._cookies
                await asyncio.sleep(self._interval_seconds)
                continue
            if reason := self._root.moved():  # a deleted folder lists as an empty one
                raise WatchError(reason)
            changed, self._seen = _difference(self._seen, now), now
            self.heard += len(changed)
            for start in range(0, len(changed), BATCH_EVENTS_MAX):
                yield tuple(Touched(path) for path in changed[start : start + BATCH_EVENTS_MAX])
            if cookies:
                yield tuple(Cookie(name) for name in cookies)
            await self._pause()

    def drop_cookie(self) -> str:
        name = secrets.token_hex(8)
        self._cookies.append(name)
        self._wanted.set()
        return name

    def close(self) -> None:
        self._root.close()

    def _count_failure(self, error: OSError) -> None:
        self.scans_failed += 1
        if self.scans_failed == 1:
            _log.warning("cannot scan %s, trying again: %s", self._root.shown, error)

    async def _pause(self) -> None:
        try:
            await asyncio.wait_for(self._wanted.wait(), self._interval_seconds)
        except TimeoutError:
            return


def _difference(before: dict[bytes, Stamp], after: dict[bytes, Stamp]) -> list[bytes]:
    changed = [path for path, stamp in after.items() if before.get(path) != stamp]
    return changed + [path for path in before if path not in after]


def _scan(root: WatchedRoot) -> dict[bytes, Stamp]:
    """Everything shown below the root, folders before what is in them. Raises OSError unless it was complete."""
    found: dict[bytes, Stamp] = {}
    waiting = [b""]
    while waiting:
        folder = waiting.pop()
        try:
            entries = os.scandir(b"/proc/self/fd/%d/%s" % (root.fd, folder))
        except (FileNotFoundError, NotADirectoryError):
            continue
        with entries:
            for entry in entries:
                path = join(folder, entry.name)
                if root.hidden(path):
                    continue
                try:
                    it = entry.stat(follow_symlinks=False)
                except FileNotFoundError:
                    continue
                found[path] = (it.st_ino, it.st_ctime_ns, it.st_mtime_ns, it.st_size, it.st_mode)
                if entry.is_dir(follow_symlinks=False):
                    waiting.append(path)
    return found
