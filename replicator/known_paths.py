"""What the ledger said of paths that are asked for, kept until it is written to: so a verdict costs no query.

Law: what is given stood in the ledger when the last commit was told of, which is before anything follows from it.
A reader that began before a commit and ends after it keeps nothing. Any thread may ask and forget.
"""

import threading
from collections.abc import Callable, Iterable

from anycastle.replicator.entry import Entry
from anycastle.replicator.observation import Local

PATHS_MAX = 50_000
"""About 50 MB. When there are more all are forgotten: what is asked for comes back at once, one query each."""

Known = tuple[Entry | None, Local | None]


class KnownPaths:
    """(group, path) -> newest entry, and what landed here. Paths that nobody ever announced are not kept."""

    def __init__(self) -> None:
        self._kept: dict[tuple[str, bytes], Known] = {}
        self._lock = threading.Lock()
        self._commits = 0

    def get(self, group: str, path: bytes) -> Known | None:
        return self._kept.get((group, path))

    def put(self, group: str, path: bytes, read: Callable[[], Known]) -> Known:
        """What `read` gives, kept if nothing was committed meanwhile."""
        before = self._commits
        known = read()
        if known[0] is not None:
            with self._lock:
                if self._commits == before:
                    if len(self._kept) >= PATHS_MAX:
                        self._kept.clear()
                    self._kept[group, path] = known
        return known

    def forget(self, group: str, paths: Iterable[bytes]) -> None:
        """A commit changed what is known of these."""
        with self._lock:
            self._commits += 1
            for path in paths:
                self._kept.pop((group, path), None)
