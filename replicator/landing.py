"""From a recorded entry to content in place: one group's landings at this site.

Laws: only the newest entry of a path is landed, only over what the ledger says is there (a local edit that nobody
announced is journaled first, so that it becomes a conflict and not a casualty), never half; the loser of two versions
with no common line is kept below `.anycastle/conflicts/` before it is replaced. What fails stays known, with its
cause, and is tried again for ever.
"""

import asyncio
import logging
from collections.abc import AsyncIterator, Callable, Mapping
from concurrent.futures import Executor
from dataclasses import dataclass, field
from typing import Protocol

from anycastle.clock import Clock
from anycastle.errors import AnycastleError
from anycastle.replicator.disk import LocalEdit, NotEmpty, Staged, Tree, TreeError
from anycastle.replicator.entry import Entry, Kind
from anycastle.replicator.ledger import Ledger
from anycastle.replicator.ledger_thread import LedgerThread
from anycastle.replicator.observation import Conflict, Fingerprint, Local

log = logging.getLogger("anycastle.replicator.landing")

WORKERS = 4
RETRY_SECONDS_MIN = 0.2
RETRY_SECONDS_MAX = 10.0


class Source(Protocol):
    """Where bodies come from: the links, in the product."""

    def holders(self, entry: Entry) -> tuple[str, ...]:
        """Connected members that can be asked for this content, best first."""
        ...

    def fetch(self, member: str, entry: Entry, offset: int) -> AsyncIterator[bytes]:
        """The content from `offset` on. Raises AnycastleError when the member cannot give it."""
        ...


class NobodyHasIt(AnycastleError):
    """No connected member holds this content at the moment."""


@dataclass(slots=True)
class _Job:
    entry: Entry
    body: bytes | None
    retry_seconds: float = RETRY_SECONDS_MIN


@dataclass(slots=True)
class _Queue:
    """Paths to land; what a request waits for goes first, then the rest in the order of arrival."""

    jobs: dict[bytes, _Job] = field(default_factory=dict)
    wanted: dict[bytes, None] = field(default_factory=dict)
    filled: asyncio.Event = field(default_factory=asyncio.Event)

    def put(self, job: _Job) -> None:
        self.jobs[job.entry.path] = job
        self.filled.set()

    async def take(self) -> _Job:
        while not self.jobs:
            self.filled.clear()
            await self.filled.wait()
        path = next((path for path in self.wanted if path in self.jobs), None) or next(iter(self.jobs))
        self.wanted.pop(path, None)
        return self.jobs.pop(path)


class Landing:
    """Lands one group's entries."""

    def __init__(
        self,
        group: str,
        tree: Tree,
        ledger: Ledger,
        source: Source,
        *,
        clock: Clock,
        disk: Executor,
        ledger_thread: LedgerThread,
        look: Callable[[tuple[bytes, ...]], None],
        landed: Callable[[], None],
    ) -> None:
        self.group = group
        self.failed: dict[bytes, str] = {}
        """Paths that could not be landed yet, and why."""
        self.landed_count = 0
        self.fetched_bytes = 0
        self._tree = tree
        self._ledger = ledger
        self._source = source
        self._clock = clock
        self._disk = disk
        self._ledger_thread = ledger_thread
        self._look = look
        self._landed = landed
        self._queue = _Queue()
        self._busy: set[bytes] = set()
        self._done: list[tuple[Entry, Fingerprint | None]] = []
        self._done_filled = asyncio.Event()

    async def run(self) -> None:
        """Take up what was left over, then land until cancelled."""
        for entry in self._ledger.unlanded(self.group):
            self._queue.put(_Job(entry, None))
        async with asyncio.TaskGroup() as tasks:
            for _ in range(WORKERS):
                tasks.create_task(self._work(tasks))
            tasks.create_task(self._flush())

    def add(self, entries: tuple[Entry, ...], bodies: Mapping[bytes, bytes]) -> None:
        """Entries that are now the newest of their paths and not landed here."""
        for entry in entries:
            self._queue.put(_Job(entry, bodies.get(entry.digest)))

    def want(self, path: bytes) -> None:
        """A request waits for this path: land it before the others."""
        self._queue.wanted[path] = None

    def landing(self, path: bytes) -> bool:
        """This path is being landed, and the ledger does not know yet: its events are our own doing."""
        return path in self._busy

    async def _work(self, tasks: asyncio.TaskGroup) -> None:
        while True:
            job = await self._queue.take()
            path = job.entry.path
            if path in self._busy:
                tasks.create_task(self._again(job, RETRY_SECONDS_MIN))
                continue
            if self._ledger.newest(self.group, path) != job.entry:
                continue
            self._busy.add(path)
            try:
                fingerprint = await self._land(job)
            except (AnycastleError, OSError) as error:
                self._busy.discard(path)
                self._note_failure(job, error)
                tasks.create_task(self._again(job, job.retry_seconds))
            else:
                self.failed.pop(path, None)
                self._done.append((job.entry, fingerprint))
                self._done_filled.set()

    def _note_failure(self, job: _Job, error: Exception) -> None:
        path = job.entry.path
        if isinstance(error, LocalEdit):
            self._look((path,))
        cause = str(error) or type(error).__name__
        if self.failed.get(path) != cause and not isinstance(error, LocalEdit | NotEmpty | NobodyHasIt):
            log.warning("group=%s path=%r event=landing-failed reason=%r", self.group, path, cause)
        self.failed[path] = cause

    async def _again(self, job: _Job, seconds: float) -> None:
        await asyncio.sleep(seconds)
        job.retry_seconds = min(job.retry_seconds * 2, RETRY_SECONDS_MAX)
        if job.entry.path not in self._queue.jobs:
            self._queue.put(job)

    async def _land(self, job: _Job) -> Fingerprint | None:
        entry = job.entry
        staged = await self._stage(job) if entry.kind is Kind.FILE else None
        local = self._ledger.local(self.group, entry.path)
        run = asyncio.get_running_loop().run_in_executor
        try:
            if local is not None and self._conflicts(local, entry):
                await self._keep_loser(local, entry)
            expected = local.fingerprint if local else None
            return await run(self._disk, self._tree.land, entry, staged, expected)
        except BaseException:
            if staged is not None:
                staged.abort()
            raise

    def _conflicts(self, local: Local, entry: Entry) -> bool:
        """What is here holds bytes, and is neither what the entry replaced nor anything before that."""
        if local.kind in (Kind.ABSENT, Kind.FOLDER) or local.version == entry.parent:
            return False
        if local.kind is entry.kind and local.digest == entry.digest:
            return False
        return not self._ledger.is_ancestor(self.group, local.version, entry)

    async def _keep_loser(self, local: Local, entry: Entry) -> None:
        run = asyncio.get_running_loop().run_in_executor
        kept = await run(self._disk, self._tree.keep_conflict, entry.path, local.version)
        conflict = Conflict(
            group=self.group,
            path=entry.path,
            winner=entry.version,
            loser=local.version,
            kept=kept,
            at=self._clock.wall(),
        )
        await self._ledger_thread.do(self._ledger.add_conflict, conflict)
        log.warning(
            "group=%s path=%r event=conflict winner=%s loser=%s", self.group, entry.path, entry.version, local.version
        )

    async def _stage(self, job: _Job) -> Staged:
        """The entry's content in a temp file, its digest checked."""
        entry = job.entry
        run = asyncio.get_running_loop().run_in_executor
        body = b"" if entry.size == 0 else job.body
        if body is not None:
            staged = self._tree.stage(entry)
            await run(self._disk, _fill, staged, body)
            return staged
        have = self._ledger.path_with_digest(self.group, entry.digest)
        if have is not None:
            try:
                return await run(self._disk, self._tree.stage_copy, entry, have)
            except TreeError:
                pass  # It changed since: ask the others.
        return await self._fetch(entry)

    async def _fetch(self, entry: Entry) -> Staged:
        """Pull from one holder after the other, each going on where the last one broke off."""
        staged = self._tree.stage(entry)
        run = asyncio.get_running_loop().run_in_executor
        got, problems = 0, []
        try:
            for member in self._source.holders(entry):
                try:
                    async for chunk in self._source.fetch(member, entry, got):
                        await run(self._disk, staged.write, chunk)
                        got += len(chunk)
                        self.fetched_bytes += len(chunk)
                except TreeError:
                    raise
                except AnycastleError as error:
                    problems.append(f"{member}: {error}")
                if got >= entry.size:
                    await run(self._disk, staged.finish)
                    return staged
            raise NobodyHasIt("; ".join(problems) or "no connected member holds this content")
        except BaseException:
            staged.abort()
            raise

    async def _flush(self) -> None:
        """Write what landed to the ledger, as many as gathered meanwhile in one commit."""
        while True:
            await self._done_filled.wait()
            self._done_filled.clear()
            done, self._done = self._done, []
            await self._ledger_thread.do(self._ledger.landed, self.group, done)
            self._busy.difference_update(entry.path for entry, _ in done)
            self.landed_count += len(done)
            self._landed()


def _fill(staged: Staged, body: bytes) -> None:
    staged.write(body)
    staged.finish()
