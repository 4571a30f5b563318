"""One member's replicator: the shell that lets watcher, ledger, controller, links and landing work as one.

    local change   watcher → settle → ledger (durable) → controller → links
    remote change  links → controller → ledger (durable) → ack; then landing → ledger → controller → links
    reader         edge → admit: ledger, one stat, controller → gate → serve, wait, forward or refuse
    writer         edge → application → fence: barrier → journaled → fenced, landed at `copies` sites → released

Law: the controller decides, this file only carries out; it holds no truth that the ledger or the controller has.
"""

import asyncio
import logging
from collections import deque
from collections.abc import AsyncIterator, Callable
from concurrent.futures import ThreadPoolExecutor
from typing import assert_never

from anycastle.clock import Clock, JumpDetector
from anycastle.replicator import event as e
from anycastle.replicator.content import Content
from anycastle.replicator.controller import Controller
from anycastle.replicator.entry import Entry, EntryError, check_path
from anycastle.replicator.gate import Forward, Refuse, Serve, Wait
from anycastle.replicator.ledger import Ledger
from anycastle.replicator.ledger_thread import LedgerThread
from anycastle.replicator.message import Entries, Gossip
from anycastle.replicator.peer import Links
from anycastle.replicator.schema import LedgerError
from anycastle.replicator.settings import GroupSettings, ReplicaSettings

log = logging.getLogger("anycastle.replicator.replica")

TICK_SECONDS = 0.05
SEND_ENTRIES_MAX = 500
SEND_BODY_BYTES_MAX = 1024 * 1024
"""Inline bodies in one announcement; the frame limit is four times that."""


class Replica:
    """Owns the ledger, the controller and every group's content at this member."""

    def __init__(
        self,
        settings: ReplicaSettings,
        ledger: Ledger,
        *,
        clock: Clock,
        on_change: Callable[[], None],
        on_gossip: Callable[[str, bytes], None],
    ) -> None:
        """`on_change`: something that the view shows has moved; called often, must only take a note."""
        self.settings = settings
        self.ledger = ledger
        self.hostile_frames = 0
        self._clock = clock
        self._on_change = on_change
        self._on_gossip = on_gossip
        self._ledger_thread = LedgerThread()
        self._disk_threads = ThreadPoolExecutor(settings.hash_threads + 2, "disk")
        rosters = [frozenset(settings.members)]
        if settings.members_previous:
            rosters.append(frozenset(settings.members_previous))
        self.controller = Controller(
            member=settings.member,
            rosters=tuple(rosters),
            lease=settings.lease,
            incarnation=ledger.incarnation,
            groups=settings.group_names,
            recorded=ledger.recorded(),
            detailed=ledger.detailed(),
            fenced=ledger.fenced(),
            now=clock.now(),
        )
        self.contents = {group.name: self._content(group) for group in settings.groups}
        self._links: Links | None = None
        self._records: asyncio.Queue[e.Record | e.RecordMark | e.StoreFenced] = asyncio.Queue()
        self._sends: dict[str, deque[e.SendEntries]] = {}
        self._send_wanted = asyncio.Event()
        self._moved = asyncio.Event()

    def _content(self, group: GroupSettings) -> Content:
        return Content(
            group,
            self.settings.sites,
            self.settings.member,
            self.ledger,
            self.controller,
            self,
            clock=self._clock,
            disk=self._disk_threads,
            ledger_thread=self._ledger_thread,
            feed=self.feed,
            moved=self._note,
        )

    # -- running --------------------------------------------------------------------------------------------------

    async def run(self, links: Links) -> None:
        """Replicate until cancelled; `links` is run by the caller and feeds `self.feed`."""
        self._links = links
        try:
            async with asyncio.TaskGroup() as tasks:
                for content in self.contents.values():
                    tasks.create_task(content.run())
                tasks.create_task(self._tick())
                tasks.create_task(self._record())
                tasks.create_task(self._send_entries())
        finally:
            self._disk_threads.shutdown(wait=True, cancel_futures=True)
            self._ledger_thread.close()

    def close(self) -> None:
        """Let go of trees and watchers; after `run`, or instead of it."""
        for content in self.contents.values():
            content.close()
        self._disk_threads.shutdown(wait=False)
        self._ledger_thread.close()

    async def _tick(self) -> None:
        jump = JumpDetector(self._clock)
        while True:
            if jump.jumped():
                log.warning("event=clock-jump action=drop-leases")
                self.feed(e.ClockJumped("the clocks jumped"))
            self.feed(e.Tick())
            await asyncio.sleep(TICK_SECONDS)

    def feed(self, event: e.Event) -> None:
        """One event into the controller, its commands carried out."""
        for command in self.controller.step(event, now=self._clock.now()):
            self._carry_out(command)

    def _carry_out(self, command: e.Command) -> None:
        match command:
            case e.Send(member, message):
                if self._links is not None:
                    self._links.send(member, message)
            case e.SendEntries(member):
                self._sends.setdefault(member, deque()).append(command)
                self._send_wanted.set()
            case e.Record() | e.RecordMark() | e.StoreFenced():
                self._records.put_nowait(command)
            case e.FenceMoved() | e.CurrencyMoved():
                self._note()
            case e.PeerLanded(member, group):
                if content := self.contents.get(group):
                    content.peer_landed(member)
                self._note()
            case e.GossipReceived(member, payload):
                self._on_gossip(member, payload)
            case _:
                assert_never(command)

    def _note(self) -> None:
        """Wake whoever waits for a verdict or a fence, and tell the app."""
        self._moved.set()
        self._moved = asyncio.Event()
        self._on_change()

    async def moved(self, seconds: float) -> None:
        """Wait until something moved, at most so long."""
        try:
            await asyncio.wait_for(self._moved.wait(), max(0.0, seconds))
        except TimeoutError:
            return

    # -- what others announce -------------------------------------------------------------------------------------

    async def _record(self) -> None:
        while True:
            command = await self._records.get()
            try:
                await self._record_one(command)
            except (EntryError, LedgerError) as error:
                self.hostile_frames += 1
                log.warning("event=refused-announcement reason=%s", error)

    async def _record_one(self, command: e.Record | e.RecordMark | e.StoreFenced) -> None:
        match command:
            case e.Record(group, origin, entries, bodies):
                for entry in entries:
                    check_path(entry.path)
                to_land = await self._ledger_thread.do(self.ledger.record, group, entries)
                if content := self.contents.get(group):
                    content.recorded(entries, to_land, bodies)
                self.feed(e.Recorded(group, origin, self.ledger.detailed().get(group, {}).get(origin, 0)))
                self._note()
            case e.RecordMark(mark):
                await self._ledger_thread.do(
                    self.ledger.mark, mark.group, mark.origin, mark.after, mark.upto, mark.prefix
                )
                self.feed(e.Marked(mark.group, mark.origin, mark.upto))
            case e.StoreFenced(group, origin, upto):
                await self._ledger_thread.do(self.ledger.store_fenced, group, origin, upto)
            case _:
                assert_never(command)

    async def _send_entries(self) -> None:
        while True:
            await self._send_wanted.wait()
            self._send_wanted.clear()
            while any(self._sends.values()):
                for member, queue in self._sends.items():
                    if queue:
                        await self._send_batch(member, queue.popleft())

    async def _send_batch(self, member: str, command: e.SendEntries) -> None:
        """One stretch of a journal, in frames that fit, small bodies along with it."""
        group, origin = command.group, command.origin
        after, content = command.after, self.contents.get(group)
        run = asyncio.get_running_loop().run_in_executor
        while after < command.upto and self._links is not None:
            limit = min(SEND_ENTRIES_MAX, command.upto - after)
            entries = self.ledger.entries(group, origin, after, limit)
            if not entries:
                return
            bodies: dict[bytes, bytes] = {}
            if content is not None:
                bodies = await run(self._disk_threads, content.inline_bodies, entries, SEND_BODY_BYTES_MAX)
            if not self._links.send(member, Entries(group, origin, entries, bodies)):
                return  # The controller sends it again when the link has room.
            after = entries[-1].seq

    def gossip(self, payload: bytes) -> None:
        """Tell every connected member."""
        if self._links is not None:
            for member in self._links.connected():
                self._links.send(member, Gossip(payload))

    # -- what the view and the tables show ------------------------------------------------------------------------

    def standing(self, *, now: float) -> dict[str, str]:
        """Group -> why steering must not count on this site; the empty string when it may."""
        return {name: content.standing(now=now) for name, content in self.contents.items()}

    def pending(self, site: str) -> dict[str, dict[bytes, float]]:
        """Group -> content prefix -> since when the oldest change below it has been missing at the site."""
        return {name: content.flight.pending(site) for name, content in self.contents.items()}

    def counters(self) -> dict[str, int]:
        """What was counted since the start."""
        contents = self.contents.values()
        return {
            "entries_recorded": sum(sum(origins.values()) for origins in self.ledger.recorded().values()),
            "entries_in_flight": sum(len(content.flight) for content in contents),
            "landed": sum(content.landing.landed_count for content in contents),
            "fetched_bytes": sum(content.landing.fetched_bytes for content in contents),
            "landings_failing": sum(len(content.landing.failed) for content in contents),
            "unreadable": sum(len(content.settle.failed) for content in contents),
            "skipped_special_files": sum(content.settle.skipped for content in contents),
            "still_written": sum(len(content.settle.still_written) for content in contents),
            "hostile_frames": self.hostile_frames,
        }

    # -- bodies (landing.Source, and what the links serve) --------------------------------------------------------

    def holders(self, entry: Entry) -> tuple[str, ...]:
        """Connected members that have landed the entry, nearest first; its origin at last, which had it once."""
        if self._links is None:
            return ()
        connected = self._links.connected()
        landed = self.controller.landed_sites(entry.group, entry.origin, entry.seq)
        order = [site for site in self.settings.distance if site in landed]
        if entry.origin not in order and entry.origin != self.settings.member:
            order.append(entry.origin)
        return tuple(site for site in order if site in connected)

    def fetch(self, member: str, entry: Entry, offset: int) -> AsyncIterator[bytes]:
        assert self._links is not None
        return self._links.fetch(member, entry.group, entry.digest, entry.size, offset)

    async def body(self, group: str, digest: bytes) -> int | None:
        """An open file with that content, for the links to serve; None when it is not here."""
        content = self.contents.get(group)
        if content is None:
            return None
        return await asyncio.get_running_loop().run_in_executor(self._disk_threads, content.open_body, digest)

    # -- the gate (edge.GatePort) ---------------------------------------------------------------------------------

    async def admit(self, group: str, path: bytes | None, prefix: bytes) -> Serve | Forward | Refuse:
        """Rule 5 for one request; `Wait` is waited for here, at most `wait_max`."""
        content = self.contents[group]
        deadline = self._clock.now() + content.settings.wait_max_seconds
        while True:
            verdict = content.verdict(path, prefix, self.settings.distance, now=self._clock.now())
            if not isinstance(verdict, Wait):
                return verdict
            left = deadline - self._clock.now()
            if left <= 0:
                return Refuse(verdict.reason, 1)
            content.want(path, prefix)
            await self.moved(min(left, TICK_SECONDS))

    def may_write(self, group: str) -> Forward | Refuse | None:
        """Rules 6 and 7; None when the write may be done here."""
        return self.contents[group].write_verdict(self.settings.distance, now=self._clock.now())

    async def fence(self, group: str) -> Refuse | None:
        """Rule 6: everything changed so far is fenced, and landed at `copies` sites; bounded by `fence_timeout`."""
        content = self.contents[group]
        try:
            async with asyncio.timeout(content.settings.fence_timeout_seconds):
                return await self._fence(content)
        except TimeoutError:
            head = self.ledger.head(group)
            why = self.controller.waiting_for(group, self.settings.member, head, now=self._clock.now())
            return Refuse(f"the change was announced but is not fenced yet: {why}", 1)

    async def _fence(self, content: Content) -> Refuse | None:
        group, member = content.settings.name, self.settings.member
        unreadable = set(content.settle.failed)
        head = await content.settle.barrier()
        if failed := set(content.settle.failed) - unreadable:
            path = min(failed)
            return Refuse(f"{path!r} cannot be replicated: {content.settle.failed[path]}", 1)
        self.feed(e.FenceWanted(group, member, head))
        while self.controller.fenced(group, member) < head:
            await self.moved(TICK_SECONDS)
        while content.copies(head) < content.settings.copies:
            await self.moved(TICK_SECONDS)
        return None
