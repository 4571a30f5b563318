"""From "look here" to a durable entry in the journal: one group's local changes.

Laws: an event only means "look", so a path is compared with the ledger and announced only when it differs; a path that
is being landed by us is left alone until the landing is in the ledger; a barrier is answered with a journal position
only when every path that changed before it has been journaled or found unchanged.
"""

import asyncio
import itertools
import logging
import os
from collections.abc import Callable, Iterable
from concurrent.futures import Executor
from dataclasses import dataclass, field

from anycastle.clock import Clock
from anycastle.errors import AnycastleError
from anycastle.replicator.disk import Skipped, StillChanging, Tree, TreeError
from anycastle.replicator.entry import Entry, Kind
from anycastle.replicator.ledger import Ledger
from anycastle.replicator.ledger_thread import LedgerThread
from anycastle.replicator.observation import Change, Local
from anycastle.replicator.scan import scan
from anycastle.replicator.watch_event import Cookie, Overflow, Renamed, Touched, Watcher, WatchEvent
from anycastle.replicator.writers import is_held_for_writing

log = logging.getLogger("anycastle.replicator.settle")

ROUND_PATHS_MAX = 1000
"""Paths observed and journaled together: one commit for all of them."""
REST_SECONDS = 2.0
"""A file that is written without being closed is looked at when nothing happened to it for this long."""
CHANGING_RETRY_SECONDS = 0.05


@dataclass(slots=True)
class _Barrier:
    """Answered when nothing in `paths` is left to look at."""

    done: asyncio.Future[None]
    paths: set[bytes] = field(default_factory=set)


class Settle:
    """Turns one group's watcher into journal entries."""

    def __init__(
        self,
        group: str,
        tree: Tree,
        watcher: Watcher,
        ledger: Ledger,
        *,
        clock: Clock,
        hashing: Executor,
        ledger_thread: LedgerThread,
        landing: Callable[[bytes], bool],
        journaled: Callable[[tuple[Entry, ...]], None],
    ) -> None:
        self.group = group
        self.scanned = False
        """The first scan is over: from now on a change that nobody announced is one that just happened."""
        self.scanned_paths = 0
        self.skipped = 0
        self.failed: dict[bytes, str] = {}
        """Paths that cannot be read, and why; tried again at their next event and at each scan."""
        self._tree = tree
        self._watcher = watcher
        self._ledger = ledger
        self._clock = clock
        self._hashing = hashing
        self._ledger_thread = ledger_thread
        self._landing = landing
        self._journaled = journaled
        self._dirty: dict[bytes, None] = {}
        self._looking: set[bytes] = set()
        """Taken from `_dirty` by the round under way; touched again meanwhile, a path is in both."""
        self._writing: dict[bytes, float] = {}
        self._barriers: list[_Barrier] = []
        self._cookies: dict[str, asyncio.Future[None]] = {}
        self._wake = asyncio.Event()

    async def run(self) -> None:
        """Watch, scan once, and settle until cancelled."""
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(self._watch())
            tasks.create_task(self._first_scan())
            tasks.create_task(self._settle())
            tasks.create_task(self._rest())

    async def barrier(self) -> int:
        """Wait until every change made before this call is journaled; returns the head of our own journal."""
        name = self._watcher.drop_cookie()
        seen: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._cookies[name] = seen
        try:
            await seen
        finally:
            self._cookies.pop(name, None)
        return self._ledger.head(self.group)

    def look(self, paths: Iterable[bytes]) -> None:
        """Compare these with the ledger soon."""
        for path in paths:
            if path and not self._tree.excluded(path):
                self._dirty[path] = None
        self._wake.set()

    def unsettled(self, prefix: bytes) -> bool:
        """Something below the folder prefix was touched and has not been compared with the ledger yet."""
        return any(path.startswith(prefix) for paths in (self._dirty, self._looking) for path in paths)

    @property
    def still_written(self) -> tuple[bytes, ...]:
        """Files that somebody writes and has not closed."""
        return tuple(self._writing)

    async def _watch(self) -> None:
        async for batch in self._watcher.batches():
            for event in batch:
                await self._take(event)

    async def _take(self, event: WatchEvent) -> None:
        match event:
            case Touched(path, writing=True):
                if path not in self._dirty:
                    self._writing[path] = self._clock.now()
            case Touched(path):
                self._writing.pop(path, None)
                self.look(await self._with_subtree(path))
            case Renamed(old, new, folder):
                self._writing.pop(old, None)
                self.look((old, new))
                if folder:
                    self.look((*self._known_below(old), *self._known_below(new), *(await self._scan(new))))
            case Cookie(name):
                self._arrived(name)
            case Overflow(reason):
                log.warning("group=%s event=overflow reason=%r action=scan", self.group, reason)
                self.look(await self._scan(b""))

    async def _with_subtree(self, path: bytes) -> tuple[bytes, ...]:
        """The path, and all below it where a folder came or went with its content in one event."""
        local = self._ledger.local(self.group, path)
        known_folder = local is not None and local.kind is Kind.FOLDER
        is_folder = self._tree.is_folder(path)
        if known_folder and not is_folder:
            return (path, *self._known_below(path))
        if is_folder and not known_folder:
            return (path, *(await self._scan(path)))
        return (path,)

    def _known_below(self, path: bytes) -> tuple[bytes, ...]:
        return tuple(known for known, _ in self._ledger.locals_below(self.group, path + b"/"))

    async def _scan(self, below: bytes) -> tuple[bytes, ...]:
        loop = asyncio.get_running_loop()
        return await loop.run_in_executor(
            self._hashing,
            lambda: tuple(scan(self._tree, self._ledger, self.group, below=below, progress=self._progress)),
        )

    def _progress(self, paths: int) -> None:
        self.scanned_paths = paths

    async def _first_scan(self) -> None:
        started = self._clock.now()
        self.look(await self._scan(b""))
        barrier = self._new_barrier()
        await barrier.done
        self.scanned = True
        self._journaled(())
        log.info(
            "group=%s event=scanned paths=%d seconds=%.2f", self.group, self.scanned_paths, self._clock.now() - started
        )

    def _arrived(self, cookie: str) -> None:
        """Everything that changed before the cookie is in `_dirty` now, or in `_writing`.

        What somebody still holds open for writing is nobody's finished change. But truncate(2) and utimensat(2) look
        like writing and no close follows: what nobody holds open is looked at now.
        """
        waiting = self._cookies.get(cookie)
        if waiting is None:
            return
        rested = [path for path in self._writing if not self._is_written(path)]
        for path in rested:
            del self._writing[path]
        self.look(rested)
        barrier = self._new_barrier()
        barrier.done.add_done_callback(lambda _: _answer(waiting))

    def _is_written(self, path: bytes) -> bool:
        try:
            descriptor = self._tree.open_body(path)
        except AnycastleError:
            return False  # Gone, or no file any more: worth a look.
        try:
            return is_held_for_writing(descriptor)
        finally:
            os.close(descriptor)

    def _new_barrier(self) -> _Barrier:
        barrier = _Barrier(asyncio.get_running_loop().create_future(), self._looking.union(self._dirty))
        self._barriers.append(barrier)
        self._release()
        return barrier

    def _release(self) -> None:
        """Answer the barriers that wait for nothing any more."""
        for barrier in self._barriers:
            barrier.paths = {path for path in barrier.paths if path in self._dirty or path in self._looking}
            if not barrier.paths and not barrier.done.done():
                barrier.done.set_result(None)
        self._barriers = [barrier for barrier in self._barriers if not barrier.done.done()]

    async def _settle(self) -> None:
        while True:
            await self._wake.wait()
            self._wake.clear()
            while paths := self._next_round():
                self._looking = set(paths)
                again = await self._round(paths)
                self._dirty.update(dict.fromkeys(again))
                self._looking.clear()
                self._release()
                if len(again) == len(paths):
                    await asyncio.sleep(CHANGING_RETRY_SECONDS)

    def _next_round(self) -> list[bytes]:
        paths = list(itertools.islice(self._dirty, ROUND_PATHS_MAX))
        for path in paths:
            del self._dirty[path]
        return paths

    async def _round(self, paths: list[bytes]) -> list[bytes]:
        """Observe and journal these; returns those that must be looked at again."""
        ready = [path for path in paths if not self._landing(path)]
        again = [path for path in paths if self._landing(path)]
        known = {path: self._ledger.local(self.group, path) for path in ready}
        loop = asyncio.get_running_loop()
        seen = await asyncio.gather(
            *(loop.run_in_executor(self._hashing, self._observe, path, known[path]) for path in ready)
        )
        changes = []
        for path, change in zip(ready, seen, strict=True):
            # A landing may have begun while we looked: what we saw may be its work, not the application's.
            if change is _AGAIN or (change is not None and self._landing(path)):
                again.append(path)
            elif isinstance(change, Change):
                changes.append(change)
        if changes:
            self._journaled(await self._ledger_thread.do(self._ledger.journal, self.group, changes))
        return again

    def _observe(self, path: bytes, known: Local | None) -> "Change | _Again | None":
        try:
            change = self._tree.observe(path, known)
        except StillChanging:
            return _AGAIN
        except Skipped:
            self.skipped += 1
            return None
        except TreeError as error:
            if path not in self.failed:
                log.warning("group=%s path=%r event=unreadable reason=%s", self.group, path, error)
            self.failed[path] = str(error)
            return None
        self.failed.pop(path, None)
        return change

    async def _rest(self) -> None:
        """Writers that never close: look when the file came to rest."""
        while True:
            await asyncio.sleep(REST_SECONDS / 2)
            now = self._clock.now()
            rested = [path for path, since in self._writing.items() if now - since >= REST_SECONDS]
            for path in rested:
                del self._writing[path]
            if rested:
                self.look(rested)


def _answer(waiting: asyncio.Future[None]) -> None:
    if not waiting.done():
        waiting.set_result(None)


class _Again:
    """The path was changing while we looked."""


_AGAIN = _Again()
