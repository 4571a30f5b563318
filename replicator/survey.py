"""Scans of a group's tree, beside the replication of whatever is seen meanwhile.

Laws: what a scan finds is handed over piece by piece, and no faster than it is settled, so a tree of any size costs the
same memory; a barrier waits for the scans that were under way when it was dropped, since they may find what it covers.
"""

import asyncio
import itertools
import logging
from collections.abc import Awaitable, Callable, Coroutine, Iterator

from anycastle.clock import Clock
from anycastle.errors import AnycastleError
from anycastle.replicator.disk import Tree
from anycastle.replicator.ledger import Ledger
from anycastle.replicator.ledger_thread import RETRY_SECONDS
from anycastle.replicator.scan import count, scan
from anycastle.replicator.threads import Stopped, Threads

log = logging.getLogger("anycastle.replicator.survey")

PIECE_PATHS = 1000
TELL_SECONDS = 10.0
"""Between two lines in the log about one long scan."""


class Survey:
    """Scans one tree, each time from a folder down."""

    def __init__(
        self,
        group: str,
        tree: Tree,
        ledger: Ledger,
        *,
        threads: Threads,
        clock: Clock,
        found: Callable[[list[bytes]], Awaitable[None]],
    ) -> None:
        """`found` takes a piece of what differs, and returns when there is room for more."""
        self.looked = 0
        """Things looked at by the scan of the whole tree that is under way, or by the last one."""
        self.begun = 0
        """Scans so far, of all or of a part."""
        self._group = group
        self._tree = tree
        self._ledger = ledger
        self._threads = threads
        self._clock = clock
        self._found = found
        self._expected = 0
        """About so many will be looked at, if nobody added many while we were away."""
        self._began = 0.0
        self._told = 0.0
        self._whole = 0
        self._underway: set[asyncio.Future[None]] = set()

    def walk(self, below: bytes) -> Coroutine[None, None, None]:
        """Hand over everything that differs at and below a folder; the root is empty. Over when all is handed over.

        It counts as under way from this call on. What stands in the way (an unreadable ledger) is waited out.
        """
        done: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._underway.add(done)
        self.begun += 1
        return self._walk_until_done(below, done)

    async def _walk_until_done(self, below: bytes, done: asyncio.Future[None]) -> None:
        try:
            while True:
                try:
                    return await self._walk(below)
                except Stopped:
                    raise
                except AnycastleError as error:
                    log.warning("group=%s event=scan-failed reason=%r", self._group, str(error))
                    await asyncio.sleep(RETRY_SECONDS)
        finally:
            self._underway.discard(done)
            done.set_result(None)

    async def _walk(self, below: bytes) -> None:
        if not below:
            self._expected = await self._threads.do(self._expect)
            self.looked, self._began = 0, self._clock.now()
            self._told = self._began
        self._whole += not below
        try:
            progress = None if below else self._progress
            found = scan(self._tree, self._ledger, self._group, below=below, progress=progress)
            while piece := await self._threads.do(self._piece, found):
                await self._found(piece)
        finally:
            self._whole -= not below

    def _expect(self) -> int:
        """What the ledger knows; of a tree that it knows nothing of, the names are counted."""
        known = self._ledger.count_locals(self._group)
        return known or count(self._tree, lambda: not self._threads.stopping)

    def _piece(self, found: Iterator[bytes]) -> list[bytes]:
        unhurried = itertools.takewhile(lambda _: not self._threads.stopping, found)
        return list(itertools.islice(unhurried, PIECE_PATHS))

    @property
    def underway(self) -> bool:
        return bool(self._underway)

    async def those_underway(self) -> None:
        """Wait for every scan that has begun by now."""
        if self._underway:
            await asyncio.wait(tuple(self._underway))

    def _progress(self, looked: int) -> None:
        """From the scanning thread."""
        self.looked = looked
        if self._clock.now() - self._told >= TELL_SECONDS:
            self._told = self._clock.now()
            log.info("group=%s event=scanning %s", self._group, self.told())

    def told(self) -> str:
        """How far the scan of the whole tree is, for people; the empty string when none is under way."""
        if not self._whole:
            return ""
        seconds = self._clock.now() - self._began
        rate = self.looked / seconds if seconds > 0 else 0.0
        words = f"{self.looked} of about {max(self._expected, self.looked)} files, {rate:.0f}/s"
        left = self._expected - self.looked
        return f"{words}, {left / rate:.0f} s left" if left > 0 and rate > 0 else words
