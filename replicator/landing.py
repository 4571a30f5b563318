"""From a recorded entry to content in place: one group's landings at this site.

Laws: only the newest entry of a path is landed, only over what the ledger says is there (a local edit that nobody
announced is journaled first, so that it becomes a conflict and not a casualty), never half; the loser of two versions
with no common line is kept below `.anycastle/conflicts/` before it is replaced. What fails stays known, with its
cause, and is tried again for ever. What is excluded here counts as landed, as absent: nobody waits for it.
"""

import asyncio
import logging
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

import msgspec

from anycastle.clock import Clock
from anycastle.errors import AnycastleError
from anycastle.replicator.disk import DigestMismatch, LandError, LocalEdit, NotEmpty, Staged, Tree, TreeError
from anycastle.replicator.entry import Entry, Kind
from anycastle.replicator.landing_queue import JOBS_MAX, RETRY_SECONDS_MAX, Job, Queue
from anycastle.replicator.ledger import Ledger
from anycastle.replicator.ledger_thread import RETRY_SECONDS, LedgerThread
from anycastle.replicator.observation import Conflict, Fingerprint, Local
from anycastle.replicator.pull import NobodyHasIt, Puller, Source
from anycastle.replicator.threads import Stopped, Threads

log = logging.getLogger("anycastle.replicator.landing")

NEAR_WORKERS = 8
"""Land what needs nobody else; so many, because each waits for the disk most of the time."""
FAR_WORKERS = 4
"""Land what is pulled; one of them only what a request waits for."""
REVIVE_SECONDS = 0.05
SOON_SECONDS = 0.02


class _Superseded(AnycastleError):
    """There is a newer entry of the path, or it landed already."""


class _Loses(AnycastleError):
    """What is here was made without knowing of the entry, and has to be kept."""

    def __init__(self, local: Local) -> None:
        super().__init__("a conflict")
        self.local = local


class _Far(AnycastleError):
    """The content has to be pulled."""


@dataclass(slots=True)
class _Turns:
    """One landing at a time within a line of folders: making a folder and putting something in it must not race."""

    _now: set[bytes] = field(default_factory=set)
    _free: asyncio.Event = field(default_factory=asyncio.Event)

    async def take(self, path: bytes) -> None:
        while any(path.startswith(other + b"/") or other.startswith(path + b"/") for other in self._now):
            self._free.clear()
            await self._free.wait()
        self._now.add(path)

    def give_back(self, path: bytes) -> None:
        self._now.discard(path)
        self._free.set()


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
        disk: Threads,
        ledger_thread: LedgerThread,
        look: Callable[[tuple[bytes, ...]], None],
        landed: Callable[[], None],
    ) -> None:
        self.group = group
        self.failed: dict[bytes, str] = {}
        """Paths that could not be landed yet, and why."""
        self.landed_count = 0
        self.bad_bodies = 0
        """Contents that came with an announcement and were not what was announced."""
        self.pulls = Puller(tree, source, disk)
        self._tree = tree
        self._ledger = ledger
        self._clock = clock
        self._disk = disk
        self._ledger_thread = ledger_thread
        self._look = look
        self._landed = landed
        self._near = Queue()
        self._far = Queue()
        self._left_over = True
        """The ledger holds jobs that are not in the queues."""
        self._turns = _Turns()
        self._copied: list[bytes] = []
        """Sources of the copies under way."""
        self._busy: set[bytes] = set()
        self._done: list[tuple[Entry, Fingerprint | None]] = []
        self._done_filled = asyncio.Event()
        self._told: set[str] = set()

    async def run(self) -> None:
        """Take up what was left over, then land until cancelled."""
        async with asyncio.TaskGroup() as tasks:
            for _ in range(NEAR_WORKERS):
                tasks.create_task(self._work(self._near))
            for number in range(FAR_WORKERS):
                tasks.create_task(self._work(self._far, wanted_only=number == 0))
            tasks.create_task(self._flush())
            tasks.create_task(self._revive())

    def add(self, entries: tuple[Entry, ...], bodies: Mapping[bytes, bytes]) -> None:
        """Entries that are now the newest of their paths and not landed here."""
        for entry in entries:
            self._put(Job(entry, bodies.get(entry.digest)))

    def want(self, path: bytes) -> None:
        """A request waits for this path: land it before the others."""
        self._near.want(path)
        self._far.want(path)

    def landing(self, path: bytes) -> bool:
        """This path is being landed, and the ledger does not know yet: its events are our own doing."""
        return path in self._busy

    # The queues

    def _put(self, job: Job) -> None:
        if len(self._near) + len(self._far) >= JOBS_MAX:
            self._left_over = True
        else:
            self._near.put(job)

    async def _revive(self) -> None:
        """What is due, and what is only in the ledger, gets its turn."""
        while True:
            for queue in (self._near, self._far):
                queue.revive(now=self._clock.now())
            if self._left_over and not self._near.ready:
                await self._take_up()
            await asyncio.sleep(REVIVE_SECONDS)

    async def _take_up(self) -> None:
        self._left_over = False
        try:
            entries = await self._disk.do(self._read_unlanded, JOBS_MAX)
        except AnycastleError as error:
            self._tell("ledger", b"", str(error))
            self._left_over = True
            return
        for entry in entries:
            path = entry.path
            queued = any(path in queue.ready or path in queue.later for queue in (self._near, self._far))
            if not queued and path not in self._busy:
                self._put(Job(entry))

    def _read_unlanded(self, limit: int) -> list[Entry]:
        entries = []
        for entry in self._ledger.unlanded(self.group):
            entries.append(entry)
            if len(entries) == limit or self._disk.stopping:
                break
        return entries

    async def _work(self, queue: Queue, *, wanted_only: bool = False) -> None:
        while True:
            job = await queue.next(wanted_only=wanted_only)
            path = job.entry.path
            if path in self._busy or path in self._copied:
                queue.put_back(job, self._clock.now() + SOON_SECONDS)
                continue
            self._busy.add(path)
            try:
                done = await self._land(job, pull=queue is self._far)
            except (_Superseded, _Far) as error:
                self._busy.discard(path)
                if isinstance(error, _Far):
                    self._far.put(job)
                else:
                    self._forget_failure(path)
            except (AnycastleError, OSError) as error:
                self._busy.discard(path)
                self._note_failure(job, error)
                queue.put_back(job, self._clock.now() + job.retry_seconds)
                job.retry_seconds = min(job.retry_seconds * 2, RETRY_SECONDS_MAX)
            else:
                self._forget_failure(path)
                self._done.append(done)
                self._done_filled.set()

    def _note_failure(self, job: Job, error: Exception) -> None:
        path = job.entry.path
        if isinstance(error, LocalEdit):
            self._look((path,))
        cause = str(error) or type(error).__name__
        if not isinstance(error, LocalEdit | NotEmpty | NobodyHasIt | Stopped):
            self._tell(error.cause if isinstance(error, LandError) else type(error).__name__, path, cause)
        self.failed[path] = cause

    def _forget_failure(self, path: bytes) -> None:
        if self.failed.pop(path, None) is not None and not self.failed:
            self._told.clear()

    def _tell(self, kind: str, path: bytes, cause: str) -> None:
        """Once per kind, until nothing fails any more: a full disk fails for every file."""
        if kind not in self._told:
            self._told.add(kind)
            log.warning("group=%s path=%r event=landing-failed reason=%r", self.group, path, cause)

    # One landing

    async def _land(self, job: Job, *, pull: bool) -> tuple[Entry, Fingerprint | None]:
        """What landed, as the ledger is to be told."""
        entry = job.entry
        if self._tree.excluded(entry.path):
            return msgspec.structs.replace(entry, kind=Kind.ABSENT, digest=b""), None
        content = await self._content(job, pull=pull) if entry.kind is Kind.FILE else None
        try:
            await self._turns.take(entry.path)
            try:
                while True:
                    try:
                        return entry, await self._disk.do(self._land_in_thread, job, content)
                    except _Loses as loses:
                        await self._keep_loser(loses.local, entry)
                        job.kept = loses.local.version
            finally:
                self._turns.give_back(entry.path)
        except BaseException as error:
            if isinstance(content, Staged):
                content.abort()
            if isinstance(error, DigestMismatch) and entry.size:
                self.bad_bodies += 1
                job.body = None  # ask somebody else
            raise

    def _land_in_thread(self, job: Job, content: Staged | bytes | None) -> Fingerprint | None:
        """Everything that must be true at the last moment is looked up at the last moment."""
        entry = job.entry
        local = self._ledger.local(self.group, entry.path)
        if self._ledger.newest(self.group, entry.path) != entry or (local and local.version == entry.version):
            raise _Superseded
        if local is not None and job.kept != local.version and self._conflicts(local, entry):
            raise _Loses(local)
        expected = local.fingerprint if local else None
        if not isinstance(content, bytes):
            return self._tree.land(entry, content, expected)
        staged = self._tree.stage(entry)
        try:
            staged.write(content)
            staged.finish()
            return self._tree.land(entry, staged, expected)
        except BaseException:
            staged.abort()
            raise

    def _conflicts(self, local: Local, entry: Entry) -> bool:
        """What is here holds bytes, and is neither what the entry replaced nor anything before that."""
        if local.kind in (Kind.ABSENT, Kind.FOLDER) or local.version == entry.parent:
            return False
        if local.kind is entry.kind and local.digest == entry.digest and local.kind is Kind.FILE:
            return False
        return not self._ledger.is_ancestor(self.group, local.version, entry)

    async def _keep_loser(self, local: Local, entry: Entry) -> None:
        kept = await self._disk.do(self._tree.keep_conflict, entry.path, local.version)
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

    async def _content(self, job: Job, *, pull: bool) -> Staged | bytes:
        """A file's content: bytes still to be checked, or a checked temp file. Raises _Far when it is nowhere near."""
        entry = job.entry
        if entry.size == 0 or job.body is not None:
            return job.body or b""
        have = self._ledger.path_with_digest(self.group, entry.digest)
        if have is not None:
            self._copied.append(have)
            try:
                return await self._disk.do(self._tree.stage_copy, entry, have)
            except LandError:
                raise
            except TreeError:
                pass  # It changed since: ask the others.
            finally:
                self._copied.remove(have)
        if not pull:
            raise _Far
        if self._ledger.newest(self.group, entry.path) != entry:
            raise _Superseded
        return await self.pulls.pull(entry)

    async def _flush(self) -> None:
        """Write what landed to the ledger, as many as gathered meanwhile in one commit."""
        while True:
            await self._done_filled.wait()
            self._done_filled.clear()
            done, self._done = self._done, []
            await self._write(done)
            self._busy.difference_update(entry.path for entry, _ in done)
            self.landed_count += len(done)
            self._landed()

    async def _write(self, done: list[tuple[Entry, Fingerprint | None]]) -> None:
        while True:
            try:
                return await self._ledger_thread.do(self._ledger.landed, self.group, done)
            except AnycastleError as error:
                self._tell("ledger", done[0][0].path, str(error))
                await asyncio.sleep(RETRY_SECONDS)
