"""What waits to land at a site: the newest entry of each path, those that a request waits for first.

Laws: one job for each path, the newest put; what failed waits here until it is due, or until somebody wants it. Both
jobs and the bodies that came along with them are bounded: the ledger has the jobs, other members have the bodies.
"""

import asyncio
import heapq
import itertools
from collections import OrderedDict
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field

from anycastle.replicator.body import SMALL_BYTES_MAX, SMALL_MANY_MAX
from anycastle.replicator.entry import Entry, Kind, Version

RETRY_SECONDS_MIN = 0.2
RETRY_SECONDS_MAX = 10.0
JOBS_MAX = 50_000
BODIES_BYTES_MAX = 64 * 1024 * 1024
BATCH_JOBS_MAX = SMALL_MANY_MAX
"""Landed together; each holds a temp file open."""
BATCH_BYTES_MAX = 8 * 1024 * 1024
FAIR_TURNS = 4


@dataclass(slots=True)
class Job:
    """One entry to land."""

    entry: Entry
    body: bytes | None = None
    """Its content, where that came along with the announcement."""
    kept: Version | None = None
    """The loser of a conflict that was kept already."""
    retry_seconds: float = RETRY_SECONDS_MIN
    alone: bool = False
    """It was asked for together with others once: pull it by itself."""

    @property
    def light(self) -> bool:
        """All that it needs is here."""
        return self.body is not None or self.entry.kind is not Kind.FILE or not self.entry.size

    @property
    def small(self) -> bool:
        """Its content is to be pulled, and may be together with others'."""
        return not self.light and not self.alone and self.entry.size <= SMALL_BYTES_MAX


@dataclass(slots=True)
class Queue:
    """In the order of arrival, or the smallest first; but what is wanted comes before."""

    smallest_first: bool = False
    """So that a large file never makes small ones wait; every fourth turn is the oldest's, so that it comes at all."""
    ready: OrderedDict[bytes, Job] = field(default_factory=OrderedDict)
    """What is first in a plain dict is found by stepping over all that was first before it."""
    later: dict[bytes, tuple[float, Job]] = field(default_factory=dict)
    wanted: dict[bytes, None] = field(default_factory=dict)
    """Some of `ready`."""
    body_bytes: int = 0
    _due: list[tuple[float, int, bytes]] = field(default_factory=list)
    _numbers: Iterator[int] = field(default_factory=itertools.count)
    _filled: asyncio.Event = field(default_factory=asyncio.Event)
    _sizes: list[tuple[int, int, bytes]] = field(default_factory=list)
    _turns: int = 0

    def __len__(self) -> int:
        return len(self.ready) + len(self.later)

    def put(self, job: Job) -> None:
        """Now; in the stead of whatever waits for the path."""
        self._forget(job.entry.path)
        self._keep_body(job)
        self._add(job)

    def put_back(self, job: Job, due: float) -> None:
        """Not before `due`; dropped when something newer waits for the path."""
        path = job.entry.path
        if path in self.ready or path in self.later:
            return
        self._keep_body(job)
        self.later[path] = (due, job)
        heapq.heappush(self._due, (due, next(self._numbers), path))

    def revive(self, *, now: float) -> None:
        """What is due is ready again."""
        while self._due and self._due[0][0] <= now:
            _, _, path = heapq.heappop(self._due)
            if path in self.later and self.later[path][0] <= now:
                self._make_ready(path)

    def hasten(self, path: bytes) -> None:
        """What it failed for may be gone: it need not wait until it is due."""
        if path in self.later:
            self._make_ready(path)

    def hasten_all(self) -> None:
        """What they failed for may be gone: none need wait until it is due, and waits begin anew."""
        for path, (_, job) in tuple(self.later.items()):
            job.retry_seconds = RETRY_SECONDS_MIN
            self._make_ready(path)

    def want(self, path: bytes) -> None:
        """A request waits for it, if it waits to land at all."""
        if path in self.later:
            self._make_ready(path)
        if path in self.ready:
            self.wanted[path] = None
            self._filled.set()

    def take(self, *, wanted_only: bool = False) -> Job | None:
        """The next one, if there is one."""
        path = next(iter(self.wanted), None)
        if path is None and not wanted_only:
            self._turns += bool(self.ready)
            path = self._first() if self._turns % FAIR_TURNS else next(iter(self.ready), None)
        return None if path is None else self._pop(path)

    def take_more(self, like: Callable[[Job], bool]) -> list[Job]:
        """Those that follow, up to the next that is not `like` them, as many as one batch holds besides the first."""
        jobs: list[Job] = []
        left = BATCH_BYTES_MAX
        while len(jobs) < BATCH_JOBS_MAX - 1 and (path := next(iter(self.wanted), self._first())) is not None:
            job = self.ready[path]
            left -= job.entry.size
            if left < 0 or not like(job):
                break
            jobs.append(self._pop(path))
        return jobs

    async def next(self, *, wanted_only: bool = False) -> Job:
        """Waits for one."""
        while (job := self.take(wanted_only=wanted_only)) is None:
            self._filled.clear()
            await self._filled.wait()
        return job

    def _make_ready(self, path: bytes) -> None:
        _, job = self.later.pop(path)
        self._add(job)

    def _add(self, job: Job) -> None:
        self.ready[job.entry.path] = job
        if self.smallest_first:
            heapq.heappush(self._sizes, (job.entry.size, next(self._numbers), job.entry.path))
        self._filled.set()

    def _pop(self, path: bytes) -> Job:
        self.wanted.pop(path, None)
        job = self.ready.pop(path)
        self.body_bytes -= len(job.body or b"")
        return job

    def _first(self) -> bytes | None:
        """The smallest, or the oldest."""
        while self._sizes:
            size, _, path = self._sizes[0]
            if path in self.ready and self.ready[path].entry.size == size:
                return path
            heapq.heappop(self._sizes)
        return next(iter(self.ready), None)

    def _keep_body(self, job: Job) -> None:
        size = len(job.body or b"")
        if self.body_bytes + size > BODIES_BYTES_MAX:
            job.body, size = None, 0
        self.body_bytes += size

    def _forget(self, path: bytes) -> None:
        self.wanted.pop(path, None)
        job = self.ready.pop(path, None)
        if path in self.later:
            _, job = self.later.pop(path)
        if job is not None:
            self.body_bytes -= len(job.body or b"")
