"""From "look here" to a durable entry in the journal: one group's local changes.

Laws: an event only means "look", so a path is compared with the ledger and announced only when it differs; a path that
is being landed by us is left alone until the landing is in the ledger; a barrier is answered with a journal position
only when every path that changed before it has been journaled or found unchanged.

How a barrier knows: epochs. A path that is to be looked at bears the epoch in which it was first touched, each barrier
begins a new epoch, and is done when nothing of its own epoch or an older one is left.
"""

import asyncio
import contextlib
import itertools
import logging
from collections.abc import Callable, Coroutine, Iterable
from dataclasses import dataclass

from anycastle.clock import Clock
from anycastle.errors import AnycastleError
from anycastle.replicator.disk import Tree
from anycastle.replicator.entry import PRIVATE_FOLDER, Entry
from anycastle.replicator.fault_point import Point, reach
from anycastle.replicator.ledger import Ledger
from anycastle.replicator.ledger_thread import RETRY_SECONDS, LedgerThread
from anycastle.replicator.look import Look, Seen
from anycastle.replicator.observation import Change
from anycastle.replicator.sight import Sight
from anycastle.replicator.survey import Survey
from anycastle.replicator.threads import Stopped, Threads
from anycastle.replicator.watch_event import Cookie, Overflow, Renamed, Touched, WatchError, WatchEvent

log = logging.getLogger("anycastle.replicator.settle")

ROUND_PATHS_MAX = 1000
"""Paths observed and journaled together: one commit for all of them."""
DIRTY_PATHS_MAX = 8000
"""Known to be worth a look, beyond which a scan waits: it is what takes memory, not the tree."""
SLICE_PATHS = 64
"""Observed by one thread in one go."""
REST_SECONDS = 2.0
"""A file that is written without being closed is looked at when nothing happened to it for this long."""
CHANGING_RETRY_SECONDS = 0.05
UNREADABLE_SECONDS = 10.0


@dataclass(frozen=True, slots=True)
class _Barrier:
    epoch: int
    done: asyncio.Future[None]


@dataclass(slots=True)
class _Written:
    """A file that somebody writes."""

    since: float
    last: float = 0.0


class Settle:
    """Turns one group's changes on the disk into journal entries."""

    def __init__(
        self,
        group: str,
        tree: Tree,
        ledger: Ledger,
        *,
        clock: Clock,
        hashing: Threads,
        disk: Threads,
        ledger_thread: LedgerThread,
        landing: Callable[[bytes], bool],
        journaled: Callable[[tuple[Entry, ...]], None],
        moved: Callable[[], None],
        touched: Callable[[], None] = lambda: None,
    ) -> None:
        """`touched`: somebody changes something, and nobody knows yet what. Raises WatchError when the root cannot be
        watched.
        """
        self.group = group
        self.looks = Look(group, tree, ledger, landing=landing, now=clock.now)
        self._tree = tree
        self._ledger = ledger
        self._clock = clock
        self._hashing = hashing
        self._disk = disk
        self._ledger_thread = ledger_thread
        self._landing = landing
        self._journaled = journaled
        self._epoch = 0
        self._dirty: dict[bytes, int] = {}
        """Path -> epoch; as new paths come last, epochs ascend."""
        self._again: dict[bytes, int] = {}
        """Looked at in vain (it was changing), in any order of epochs."""
        self._looking: dict[bytes, int] = {}
        """Taken by the round under way; touched again meanwhile, a path is in `_dirty` too."""
        self._writing: dict[bytes, _Written] = {}
        self._insisted: set[bytes] = set()
        self._barriers: list[_Barrier] = []
        self._cookies: dict[str, asyncio.Future[None]] = {}
        self._wake = asyncio.Event()
        self._may_journal = asyncio.Event()
        self._tasks: asyncio.TaskGroup | None = None
        self._room = asyncio.Event()
        self.survey = Survey(group, tree, ledger, threads=disk, clock=clock, found=self._scanned)
        self.sight = Sight(group, tree, threads=disk, see=self._take, scan=self._scan_all, moved=self._sight_moved)
        self._moved = moved
        self._touched = touched

    async def run(self) -> None:
        """Watch, scan once, and settle until cancelled."""
        # What is done beside ends after those who begin it: events come to the last.
        async with asyncio.TaskGroup() as self._tasks, asyncio.TaskGroup() as tasks:
            tasks.create_task(self.sight.run())
            tasks.create_task(self._settle())
            tasks.create_task(self._rest())
            tasks.create_task(self._retry_unreadable())

    def allow_journal(self) -> None:
        """Our own journal is whole: from now on changes may be added to it."""
        self._may_journal.set()
        self._wake.set()

    def forbid_journal(self) -> None:
        """It may not be whole after all: nothing is added before `allow_journal`."""
        self._may_journal.clear()

    def close(self) -> None:
        self.sight.close()

    async def barrier(self) -> int:
        """Wait until every change made before this call is journaled; returns the head of our own journal.

        Raises WatchError when changes may have gone unseen.
        """
        name = self.sight.drop_cookie()
        passed: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._cookies[name] = passed
        try:
            await passed
        finally:
            self._cookies.pop(name, None)
        return self._ledger.head(self.group)

    def look(self, paths: Iterable[bytes]) -> None:
        """Compare these with the ledger soon."""
        for path in paths:
            self.looks.scanned.discard(path)  # what was found there may be something else by now
            self._look((path,), self._epoch)

    def look_through(self, folders: Iterable[bytes]) -> None:
        """Something else was at these than was known: what is in them may be news, too."""
        for folder in folders:
            self.looks.unscanned.add(folder)
            self.look((folder,))

    def insist(self, path: bytes) -> None:
        """What is there cannot give way to the newest entry: announce it anew, where the ledger agrees (`stays`)."""
        self._insisted.add(path)
        self.look((path,))

    def wake(self) -> None:
        """A landing ended: what was left alone for it can be looked at."""
        if self._again:
            self._wake.set()

    def unsettled(self, prefix: bytes, *, upto: int | None = None) -> bool:
        """Something below the folder prefix was touched, up to an epoch, and not compared with the ledger yet."""
        last = self._epoch if upto is None else upto
        return any(
            epoch <= last and path.startswith(prefix) for paths in self._unsettled() for path, epoch in paths.items()
        )

    def begin_epoch(self) -> int:
        """What is touched from now on bears another epoch than the one returned."""
        self._epoch += 1
        return self._epoch - 1

    def waiting_for(self) -> str:
        """What the oldest barrier waits for, for people; the empty string when there is none."""
        if self._cookies and not self._barriers:
            return "its changes have not all been seen yet"
        path = next((path for paths in self._unsettled() for path in paths), None)
        return f"{path!r} is not journaled yet" if self._barriers and path is not None else ""

    @property
    def still_written(self) -> tuple[bytes, ...]:
        """Files that somebody writes and has not closed, or that changed whenever we looked; the oldest first."""
        since = {path: it.since for path, it in self._writing.items()}
        for path, when in tuple(self.looks.changing.items()):
            since[path] = min(when, since.get(path, when))
        return tuple(sorted(since, key=since.__getitem__))

    def written_since(self, path: bytes) -> float | None:
        """Since when one of `still_written` has been (seconds of BOOTTIME)."""
        written = self._writing.get(path)
        times = (written.since if written is not None else None, self.looks.changing.get(path))
        return min((when for when in times if when is not None), default=None)

    # What is told to look at

    def _look(self, paths: Iterable[bytes], epoch: int) -> None:
        """`epoch` of an older barrier: what it waited for turned out to be more."""
        into = self._dirty if epoch == self._epoch else self._again
        for path in paths:
            if path and not self._tree.excluded(path):
                into.setdefault(path, epoch)
        self._wake.set()

    async def _take(self, event: WatchEvent) -> None:
        if not isinstance(event, Cookie):
            self._touched()
        match event:
            case Touched(path, writing=True):
                if path not in self._dirty:
                    now = self._clock.now()
                    self._writing.setdefault(path, _Written(now)).last = now
            case Touched(path):
                self._writing.pop(path, None)
                self.look((path,))
            case Renamed(old, new, folder):
                self._writing.pop(old, None)
                # The new names first: elsewhere, too, the content is then copied before the old ones go.
                if folder:
                    self._beside(self._look_after(self.survey.walk(new), old))
                else:
                    self.look((new, old))
            case Cookie(name) if self.survey.underway:
                self._beside(self._cookie_after_scans(name))
            case Cookie(name):
                self._cookie_came(name)
            case Overflow(reason):
                log.warning("group=%s event=overflow reason=%r action=scan", self.group, reason)
                self._beside(self.survey.walk(b""))

    def _beside(self, work: Coroutine[None, None, None]) -> None:
        """Events go on being taken meanwhile."""
        assert self._tasks is not None, "events come while it runs"
        self._tasks.create_task(_until_stopped(work))

    async def _look_after(self, scan: Coroutine[None, None, None], path: bytes) -> None:
        await scan
        self._look((path,), self._epoch)  # it may be what the scan found: that is `scanned` until its turn comes

    async def _scanned(self, paths: list[bytes]) -> None:
        """A scan found these: they will be looked at, and the scan goes on when there is room."""
        self.looks.scanned.update(paths)
        self._look(paths, self._epoch)
        while len(self._dirty) >= DIRTY_PATHS_MAX:
            self._room.clear()
            await self._room.wait()

    async def _scan_all(self) -> None:
        started = self._clock.now()
        await self.survey.walk(b"")
        done: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._add_barrier(done)
        await done
        seconds = self._clock.now() - started
        log.info("group=%s event=scanned paths=%d seconds=%.2f", self.group, self.survey.looked, seconds)

    async def rescan(self) -> None:
        """Compare the whole tree with the ledger; returns when all that differed is journaled."""
        await self._scan_all()

    async def _rest(self) -> None:
        """Writers that never close: look when the file came to rest."""
        while True:
            await asyncio.sleep(REST_SECONDS / 2)
            await self._heed_private_folder()
            now = self._clock.now()
            self._look_at_written([path for path, it in self._writing.items() if now - it.last >= REST_SECONDS])

    async def _heed_private_folder(self) -> None:
        """Somebody removed it: nothing can land, and no cookie be dropped, until it is there again."""
        with contextlib.suppress(Stopped):
            if not self.sight.reason and not await self._disk.do(self._tree.is_whole):
                self.sight.lose(f"{PRIVATE_FOLDER.decode()} was removed")

    async def _retry_unreadable(self) -> None:
        """A disk that can be read again tells nobody."""
        while True:
            await asyncio.sleep(UNREADABLE_SECONDS)
            for path in tuple(self.looks.failed):
                if await self._hashing.do(self.looks.readable, path):
                    self.look((path,))

    def _look_at_written(self, rested: list[bytes]) -> None:
        for path in rested:
            del self._writing[path]
        self.look(rested)

    # Barriers

    def _sight_moved(self) -> None:
        """Cookies of a watcher that is gone never come."""
        if self.sight.reason:
            for waiting in self._cookies.values():
                if not waiting.done():
                    waiting.set_exception(WatchError(self.sight.reason))
        self._moved()

    def _cookie_came(self, cookie: str) -> None:
        """Everything that changed before the cookie is in `_dirty` now, or in `_writing`.

        What somebody still holds open for writing is nobody's finished change. But truncate(2) and utimensat(2) look
        like writing and no close follows: what nobody holds open is looked at now.
        """
        waiting = self._cookies.get(cookie)
        if waiting is not None:
            self._look_at_written([path for path in self._writing if not self._tree.is_written(path)])
            self._add_barrier(waiting)

    async def _cookie_after_scans(self, cookie: str) -> None:
        await self.survey.those_underway()
        self._cookie_came(cookie)

    def _add_barrier(self, done: asyncio.Future[None]) -> None:
        self._barriers.append(_Barrier(self.begin_epoch(), done))
        self._release()

    def _release(self) -> None:
        """Answer the barriers that wait for nothing any more, forget those for which nobody waits."""
        if not self._barriers:
            return
        oldest = min(
            next(iter(self._dirty.values()), self._epoch),
            min(self._again.values(), default=self._epoch),
            min(self._looking.values(), default=self._epoch),
        )
        for barrier in self._barriers:
            if barrier.epoch < oldest and not barrier.done.done():
                barrier.done.set_result(None)
        self._barriers = [barrier for barrier in self._barriers if not barrier.done.done()]

    # Rounds

    def _unsettled(self) -> tuple[dict[bytes, int], ...]:
        return self._looking, self._again, self._dirty

    async def _settle(self) -> None:
        while True:
            await self._may_journal.wait()
            await self._wake.wait()
            self._wake.clear()
            while (self._again or self._dirty) and self._may_journal.is_set():
                fresh = bool(self._dirty)
                self._looking = self._next_round()
                scans, scanning = self.survey.begun, self.survey.underway
                seen = await self._observe(list(self._looking))
                journaled = await self._journal(seen.changes)
                if scanning or self.survey.begun != scans:
                    await self._look_once_more(seen)
                for path, found in seen.more.items():
                    self._look(found, self._looking[seen.under[path]])
                looking, self._looking = self._looking, {}
                self.looks.scanned.difference_update(looking)
                self._room.set()
                for path in seen.again if journaled else looking:
                    self._again.setdefault(path, looking[path])
                self._release()
                if not journaled:
                    await asyncio.sleep(RETRY_SECONDS)
                elif not fresh and not self._dirty:
                    await self._pause()

    def _next_round(self) -> dict[bytes, int]:
        """What is looked at again comes along each time: it is little, and barriers wait for it.

        What is being landed is left alone until that is over: our own work makes events, too.
        """
        due = dict(itertools.islice(self._again.items(), ROUND_PATHS_MAX))
        for path, epoch in itertools.islice(self._dirty.items(), ROUND_PATHS_MAX):
            due.setdefault(path, epoch)
        for path in due:
            self._again.pop(path, None)
            self._dirty.pop(path, None)
        for path in tuple(filter(self._landing, due)):
            self._again[path] = due.pop(path)
        return due

    async def _pause(self) -> None:
        """Only what was changing is left: until it may have come to rest, or a landing ended."""
        self._wake.clear()
        try:
            async with asyncio.timeout(CHANGING_RETRY_SECONDS):
                await self._wake.wait()
        except TimeoutError:
            self._wake.set()

    async def _observe(self, paths: list[bytes]) -> Seen:
        slices = [paths[start : start + SLICE_PATHS] for start in range(0, len(paths), SLICE_PATHS)]
        whole = Seen()
        for seen in await asyncio.gather(*(self._hashing.do(self.looks.observe, part) for part in slices)):
            whole.add(seen)
        # A landing may have begun while we looked: what we saw may be its work, not the application's.
        whole.leave_alone(self._landing)
        whole.keep_whole()
        return whole

    async def _look_once_more(self, seen: Seen) -> None:
        """A folder was moved away and back while a round had seen it gone: the scan that the way back caused found disk
        and ledger equal, and then the ledger was told that all of it is gone.
        """
        found = [(change.path, change.fingerprint) for change in seen.changes]
        for path in await self._hashing.do(self._tree.changed_since, found):
            self._look((path,), self._looking[seen.under[path]])

    async def _journal(self, changes: list[Change]) -> bool:
        """False when the ledger would not take them; then nothing is lost by looking again."""
        for start in range(0, len(changes), ROUND_PATHS_MAX):
            part = changes[start : start + ROUND_PATHS_MAX]
            reach(Point.OBSERVED)
            try:
                insisted = frozenset(change.path for change in part if change.path in self._insisted)
                entries = await self._ledger_thread.do(self._ledger.journal, self.group, part, insisted)
            except AnycastleError as error:
                log.warning("group=%s event=journal-failed reason=%r", self.group, str(error))
                return False
            self._insisted -= insisted
            self._journaled(entries)
        return True


async def _until_stopped(work: Coroutine[None, None, None]) -> None:
    with contextlib.suppress(Stopped):
        await work
