"""From a recorded entry to content in place: one group's landings at this site.

Laws: only the newest entry of a path is landed, only over what the ledger says is there (a local edit that nobody
announced is journaled first, so that it becomes a conflict and not a casualty), never half; the loser of two versions
with no common line is kept below `.anycastle/conflicts/` before it is replaced. What fails stays known, with its
cause, and is tried again for ever. What is excluded here counts as landed, as absent: nobody waits for it.
"""

import asyncio
import contextlib
import logging
from collections.abc import Callable, Iterator, Mapping

import msgspec

from anycastle.clock import Clock
from anycastle.errors import AnycastleError
from anycastle.replicator.disk import (
    DigestMismatch,
    LandError,
    LocalEdit,
    NotBeneath,
    NotEmpty,
    Staged,
    Tree,
    TreeError,
)
from anycastle.replicator.entry import Entry, Kind
from anycastle.replicator.fault_point import Point, reach
from anycastle.replicator.landing_batch import Content, Landed, Lander, Loses, Outcome, Superseded
from anycastle.replicator.landing_queue import JOBS_MAX, RETRY_SECONDS_MAX, Job, Queue
from anycastle.replicator.landing_turns import Turns
from anycastle.replicator.ledger import Ledger
from anycastle.replicator.ledger_thread import RETRY_SECONDS, LedgerThread
from anycastle.replicator.observation import Conflict, Fingerprint, Local
from anycastle.replicator.pull import NobodyHasIt, Puller, Source
from anycastle.replicator.threads import Stopped, Threads

log = logging.getLogger("anycastle.replicator.landing")

NEAR_WORKERS = 3
"""Land what needs nobody else, in batches: one works while another syncs. One takes only what a request waits for."""
FAR_WORKERS = 4
"""Land what is pulled; one of them only what a request waits for."""
COPIES_TRIED_MAX = 4
"""Files here that should have the content that is to land; each that changed since is read in vain."""
REVIVE_SECONDS = 0.05
SOON_SECONDS = 0.02


class _Far(AnycastleError):
    """The content has to be pulled."""


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
        look_through: Callable[[list[bytes]], None],
        insist: Callable[[bytes], None],
        landed: Callable[[], None],
    ) -> None:
        self.group = group
        self.failed: dict[bytes, str] = {}
        """Paths that could not be landed yet, and why."""
        self.causes: dict[bytes, str] = {}
        """Those of them that the system refuses -> its name for the reason (`ENOSPC`)."""
        self.look_first = False
        """What stands where nothing landed yet is looked at before its content is fetched: it may be that already."""
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
        self._look_through = look_through
        self._insist = insist
        self._landed = landed
        self._near = Queue()
        self._far = Queue(smallest_first=True)
        self._left_over = True
        """The ledger holds jobs that are not in the queues."""
        self._turns = Turns()
        self._lander = Lander(group, tree, ledger)
        self._copied: list[bytes] = []
        """Sources of the copies under way."""
        self._busy: set[bytes] = set()
        self._done: list[tuple[Entry, Fingerprint | None]] = []
        self._done_filled = asyncio.Event()
        self._written: list[tuple[Entry, Fingerprint | None]] = []
        """In the ledger, and to be compared with the disk once more."""
        self._written_filled = asyncio.Event()
        self._told: set[str] = set()

    async def run(self) -> None:
        """Take up what was left over, then land until cancelled."""
        async with asyncio.TaskGroup() as tasks:
            for number in range(NEAR_WORKERS):
                tasks.create_task(self._work(self._near, wanted_only=number == 0))
            for number in range(FAR_WORKERS):
                tasks.create_task(self._work(self._far, wanted_only=number == 0))
            tasks.create_task(self._flush())
            tasks.create_task(self._compare())
            tasks.create_task(self._revive())

    def add(self, entries: tuple[Entry, ...], bodies: Mapping[bytes, bytes]) -> None:
        """Entries that are now the newest of their paths and not landed here."""
        for entry in entries:
            self._put(Job(entry, bodies.get(entry.digest)))

    def want(self, path: bytes) -> None:
        """A request waits for this path: land it before the others."""
        self._near.want(path)
        self._far.want(path)

    def take_up(self) -> None:
        """The ledger holds more to land, or what was in the way is not any more."""
        self._left_over = True
        self.try_again()

    def try_again(self) -> None:
        """What failed may do better now: somebody else can be asked for contents."""
        for queue in (self._near, self._far):
            queue.hasten_all()

    def landing(self, path: bytes) -> bool:
        """This path is being landed, and the ledger does not know yet: its events are our own doing."""
        return path in self._busy

    @contextlib.contextmanager
    def holding(self, path: bytes) -> Iterator[bool]:
        """Keep a path to oneself as a landing does, its events being our own doing; False while one is under way."""
        ours = path not in self._busy
        self._busy.add(path)
        try:
            yield ours
        finally:
            if ours:
                self._busy.discard(path)

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
            jobs = [job] if wanted_only else [job, *self._more(job, queue)]
            jobs = [each for each in jobs if not self._put_back_if_busy(queue, each)]
            self._busy.update(each.entry.path for each in jobs)
            if len(jobs) > 1 and queue is self._far:
                await self._pull_and_land(jobs)
            elif jobs:
                await self._land(jobs, queue)

    def _more(self, job: Job, queue: Queue) -> list[Job]:
        """What goes along with a job."""
        if queue is self._near:
            return queue.take_more(lambda each: each.light) if job.light else []
        return queue.take_more(lambda each: each.small) if job.small else []

    async def _pull_and_land(self, jobs: list[Job]) -> None:
        """Small ones, pulled in one round trip; what did not come is pulled one by one."""
        found = await self.pulls.pull_small([job.entry for job in jobs])
        come: list[Job] = []
        missing: list[Job] = []
        for job in jobs:
            job.alone = True
            job.body = found.get(job.entry.digest)
            (missing if job.body is None else come).append(job)
        await self._land(come, self._far)
        for job in missing:
            await self._land([job], self._far)

    def _put_back_if_busy(self, queue: Queue, job: Job) -> bool:
        busy = job.entry.path in self._busy or job.entry.path in self._copied
        if busy:
            queue.put_back(job, self._clock.now() + SOON_SECONDS)
        return busy

    def _ended(self, job: Job, queue: Queue, outcome: Outcome) -> None:
        """One landing is over, well or not."""
        path = job.entry.path
        if isinstance(outcome, Landed):
            self._forget_failure(path)
            self._done.append((job.entry, outcome.fingerprint))
            self._done_filled.set()
            return
        self._busy.discard(path)
        if isinstance(outcome, _Far):
            self._far.put(job)
        elif isinstance(outcome, Superseded):
            self._forget_failure(path)
        else:
            if isinstance(outcome, DigestMismatch) and job.entry.size:
                self.bad_bodies += 1
                job.body = None  # ask somebody else
            self._note_failure(job, outcome)
            queue.put_back(job, self._clock.now() + job.retry_seconds)
            job.retry_seconds = min(job.retry_seconds * 2, RETRY_SECONDS_MAX)

    def _note_failure(self, job: Job, error: Exception) -> None:
        path = job.entry.path
        if isinstance(error, LocalEdit):
            self._look((path,))
        elif isinstance(error, NotEmpty) or self._is_lost(job.entry, error):
            self._insist(path)
        elif isinstance(error, NotBeneath) or (isinstance(error, LandError) and error.cause == "ENOTDIR"):
            self._look(tuple(_folders_of(path)))  # no folder: perhaps a change that nobody told us of
        cause = str(error) or type(error).__name__
        if not isinstance(error, LocalEdit | NotEmpty | NobodyHasIt | Stopped):
            self._tell(error.cause if isinstance(error, LandError) else type(error).__name__, path, cause)
        self.failed[path] = cause
        self.causes.pop(path, None)
        if isinstance(error, LandError):
            self.causes[path] = error.cause

    def _is_lost(self, entry: Entry, error: Exception) -> bool:
        """We announced it, lost our ledger, and nobody fetched it before: what we have is later than that."""
        return isinstance(error, NobodyHasIt) and entry.origin == self._ledger.member

    def _forget_failure(self, path: bytes) -> None:
        self.causes.pop(path, None)
        if self.failed.pop(path, None) is not None and not self.failed:
            self._told.clear()

    def _tell(self, kind: str, path: bytes, cause: str) -> None:
        """Once per kind, until nothing fails any more: a full disk fails for every file."""
        if kind not in self._told:
            self._told.add(kind)
            log.warning("group=%s path=%r event=landing-failed reason=%r", self.group, path, cause)

    # A few landings, or one

    async def _land(self, jobs: list[Job], queue: Queue) -> None:
        items: list[tuple[Job, Content]] = []
        for job in jobs:
            if self._tree.excluded(job.entry.path):
                self._leave_out(job)
                continue
            try:
                items.append((job, await self._content(job, pull=queue is self._far)))
            except (AnycastleError, OSError) as error:
                self._ended(job, queue, error)
        paths = [job.entry.path for job, _ in items]
        try:
            await self._turns.take(paths)
            try:
                while items:
                    outcomes = await self._disk.do(self._lander.land, items)
                    items = await self._sort(items, outcomes, queue)
            finally:
                self._turns.give_back(paths)
        except BaseException:
            for _, content in items:
                _abort(content)
            raise

    def _leave_out(self, job: Job) -> None:
        absent = msgspec.structs.replace(job.entry, kind=Kind.ABSENT, digest=b"")
        self._forget_failure(job.entry.path)
        self._done.append((absent, None))
        self._done_filled.set()

    async def _sort(
        self, items: list[tuple[Job, Content]], outcomes: list[Outcome], queue: Queue
    ) -> list[tuple[Job, Content]]:
        """Returns those to be landed now that what they replace was kept."""
        again = []
        for (job, content), outcome in zip(items, outcomes, strict=True):
            if not isinstance(outcome, Loses):
                self._ended(job, queue, outcome)
                continue
            try:
                await self._keep_loser(outcome.local, job.entry)
            except (AnycastleError, OSError) as error:
                _abort(content)
                self._ended(job, queue, error)
            else:
                job.kept = outcome.local.version
                again.append((job, content))
        return again

    async def _keep_loser(self, local: Local, entry: Entry) -> None:
        kept = await self._disk.do(self._tree.keep_conflict, entry.path, local.version, local.fingerprint)
        conflict = Conflict(
            group=self.group,
            path=entry.path,
            winner=entry.version,
            loser=local.version,
            kept=kept,
            at=self._clock.wall(),
        )
        reach(Point.KEPT)
        await self._ledger_thread.do(self._ledger.add_conflict, conflict)
        log.warning(
            "group=%s path=%r event=conflict winner=%s loser=%s", self.group, entry.path, entry.version, local.version
        )

    async def _content(self, job: Job, *, pull: bool) -> Content:
        """A file's content: bytes still to be checked, or a checked temp file. Raises _Far when it is nowhere near."""
        entry = job.entry
        if self.look_first and entry.kind is Kind.FILE and await self._disk.do(self._stands_uncompared, entry.path):
            raise LocalEdit(f"{entry.path[:200]!r} was here before and is not compared yet")
        if job.light:
            return job.body or b""
        for path, _ in self._ledger.with_digest(self.group, entry.digest, COPIES_TRIED_MAX):
            self._copied.append(path)
            try:
                return await self._disk.do(self._tree.stage_copy, entry, path)
            except LandError:
                raise
            except TreeError:
                pass  # It changed since: another one, or the others are asked.
            finally:
                self._copied.remove(path)
        if not pull:
            raise _Far
        if self._ledger.newest(self.group, entry.path) != entry:
            raise Superseded
        return await self.pulls.pull(entry)

    def _stands_uncompared(self, path: bytes) -> bool:
        return self._ledger.local(self.group, path) is None and self._tree.fingerprint(path) is not None

    async def _flush(self) -> None:
        """Write what landed to the ledger, as many as gathered meanwhile in one commit."""
        while True:
            await self._done_filled.wait()
            self._done_filled.clear()
            done, self._done = self._done, []
            reach(Point.LANDED)
            await self._write(done)
            self._busy.difference_update(entry.path for entry, _ in done)
            self._look_through(self._tree.found())
            for entry, _ in done:  # a folder that is to go waits for what is in it
                self._near.hasten(entry.path.rpartition(b"/")[0])
            self.landed_count += len(done)
            self._landed()
            self._written += done
            self._written_filled.set()

    async def _compare(self) -> None:
        """A folder that was moved, or removed and made again, after something landed in it and before the ledger knew
        of that: nobody who looked at the folder could miss it there.
        """
        while True:
            await self._written_filled.wait()
            self._written_filled.clear()
            written, self._written = self._written, []
            with contextlib.suppress(Stopped):
                found = [(entry.path, fingerprint) for entry, fingerprint in written]
                self._look(tuple(await self._disk.do(self._tree.changed_since, found)))

    async def _write(self, done: list[tuple[Entry, Fingerprint | None]]) -> None:
        while True:
            try:
                return await self._ledger_thread.do(self._ledger.landed, self.group, done)
            except AnycastleError as error:
                self._tell("ledger", done[0][0].path, str(error))
                await asyncio.sleep(RETRY_SECONDS)


def _folders_of(path: bytes) -> Iterator[bytes]:
    while path := path.rpartition(b"/")[0]:
        yield path


def _abort(content: Content) -> None:
    if isinstance(content, Staged):
        content.abort()
