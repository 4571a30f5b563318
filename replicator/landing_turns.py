"""One landing at a time within a line of folders: making a folder and putting something in it must not race.

Law: whoever takes turns takes all of them at once, so nobody waits for somebody who waits.
"""

import asyncio
from collections import Counter
from collections.abc import Collection, Iterator


class Turns:
    """Paths that are being landed."""

    def __init__(self) -> None:
        self._now: set[bytes] = set()
        self._above: Counter[bytes] = Counter()
        """Folders above `_now`, and above how many of them."""
        self._free = asyncio.Event()

    async def take(self, paths: Collection[bytes]) -> None:
        """Wait until nobody else has a turn at these paths, above or below them. They may lie above each other."""
        while any(self._taken(path) for path in paths):
            self._free.clear()
            await self._free.wait()
        self._now.update(paths)
        for path in paths:
            self._above.update(_folders(path))

    def give_back(self, paths: Collection[bytes]) -> None:
        self._now.difference_update(paths)
        for path in paths:
            for folder in _folders(path):
                self._above[folder] -= 1
                if not self._above[folder]:
                    del self._above[folder]
        self._free.set()

    def _taken(self, path: bytes) -> bool:
        return path in self._now or path in self._above or any(folder in self._now for folder in _folders(path))


def _folders(path: bytes) -> Iterator[bytes]:
    """`a` and `a/b` of `a/b/c`."""
    end = path.find(b"/")
    while end >= 0:
        yield path[:end]
        end = path.find(b"/", end + 1)
