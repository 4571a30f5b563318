"""One member's replicator: the shell that lets watcher, ledger, controller, links and landing work as one.

    local change   watcher → settle → ledger (durable) → controller → links
    remote change  links → controller → ledger (durable) → ack; then landing → ledger → controller → links
    reader         edge → gatekeeper: ledger, one stat, controller → gate → serve, wait, forward or refuse
    writer         edge → application → gatekeeper: barrier → journaled → fenced, landed at `copies` sites → released

Law: the controller decides, this file only carries out; it holds no truth that the ledger or the controller has.
"""

import asyncio
import contextlib
import logging
from collections.abc import AsyncGenerator, Callable, Sequence
from typing import assert_never, cast

from anycastle.clock import Clock, JumpDetector
from anycastle.errors import AnycastleError
from anycastle.replicator import event as e
from anycastle.replicator.acquaintance import Acquaintance
from anycastle.replicator.body import FetchError
from anycastle.replicator.compaction import Compaction
from anycastle.replicator.content import Content
from anycastle.replicator.controller import Controller
from anycastle.replicator.courier import Courier
from anycastle.replicator.entry import Entry
from anycastle.replicator.gatekeeper import Gatekeeper
from anycastle.replicator.landing import NEAR_WORKERS
from anycastle.replicator.ledger import Ledger
from anycastle.replicator.ledger_thread import LedgerThread
from anycastle.replicator.listing import PAGE_SEQS, Listing
from anycastle.replicator.message import Bodies, Gossip
from anycastle.replicator.peer import Links
from anycastle.replicator.recorder import Recorder
from anycastle.replicator.settings import RETENTION_SECONDS, GroupSettings, ReplicaSettings
from anycastle.replicator.threads import Stopped, Threads
from anycastle.replicator.trouble import Found, Trouble, Troubles

log = logging.getLogger("anycastle.replicator.replica")

TICK_SECONDS = 0.05
DISK_THREADS = NEAR_WORKERS + 8
"""Landings, pulled bodies, scans."""
READ_THREADS = 2
"""Bodies for others; landings do not make them wait."""


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
        self._clock = clock
        self._jump = JumpDetector(clock)
        self._clock_jumps = 0
        self._unlinked = dict.fromkeys(set(settings.sites) - {settings.member}, clock.now())
        """Sites without a link with us -> since when."""
        self._troubles = Troubles()
        self._on_change = on_change
        self.on_news: Callable[[str], None] = lambda group: None
        """Hears of a group before anything of it is acknowledged that may not be served yet (`edge_pass`)."""
        self._on_gossip = on_gossip
        self._ledger_thread = LedgerThread()
        self._disk_threads = Threads(DISK_THREADS, "disk")
        self._hash_threads = Threads(settings.hash_threads, "hash")
        self._read_threads = Threads(READ_THREADS, "read")
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
            marks=tuple(mark for group in settings.group_names for mark in ledger.marks(group)),
            sites=settings.sites,
            forgot=(ledger.get("forgot") or b"").decode(),
            now=clock.now(),
        )
        self._links: Links | None = None
        self.contents: dict[str, Content] = {}
        try:
            for group in settings.groups:
                self.contents[group.name] = self._content(group)
        except BaseException:
            self.close()
            raise
        self.gate = Gatekeeper(
            settings,
            ledger,
            self.controller,
            self.contents,
            clock=clock,
            heed_clock=self._heed_clock,
            unlinked=self._unlinked,
            moved=self.moved,
            feed=self.feed,
            news=lambda group: self.on_news(group),
        )
        self._recorder = Recorder(
            ledger,
            self._ledger_thread,
            feed=self.feed,
            recorded={name: content.recorded for name, content in self.contents.items()},
        )
        others = sorted(frozenset().union(*rosters) - {settings.member})
        self._courier = Courier(others, ledger, threads=self._read_threads, body=self._small_body, sites=settings.sites)
        self.acquaintance = Acquaintance(
            settings.member,
            frozenset(others),
            ledger,
            told=self.controller.told,
            forget=lambda: self.feed(e.Forgot()),
        )
        self.compaction = Compaction(
            ledger,
            self._ledger_thread,
            clock=clock,
            members=frozenset(others),
            retention_seconds={g: settings.retention_seconds.get(g, RETENTION_SECONDS) for g in settings.group_names},
            connected=self.connected,
            feed=self.feed,
        )
        self._moved = asyncio.Event()
        for content in self.contents.values():
            content.merge.announce()

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
            hashing=self._hash_threads,
            ledger_thread=self._ledger_thread,
            feed=self.feed,
            moved=self._note,
            touched=lambda: self.on_news(group.name),
            connected=self.connected,
            listing=self._listing,
        )

    # -- running --------------------------------------------------------------------------------------------------

    async def run(self, links: Links) -> None:
        """Replicate until cancelled; `links` is run by the caller and feeds `self.feed`."""
        self._links = links
        links.listings = self.listing
        try:
            async with asyncio.TaskGroup() as tasks:
                for content in self.contents.values():
                    tasks.create_task(content.run())
                tasks.create_task(self._tick())
                tasks.create_task(self._recorder.run())
                tasks.create_task(self.compaction.run())
                tasks.create_task(self._courier.run(links))
                tasks.create_task(self._ledger_thread.heal(lambda: self.ledger.put("probe", b"")))
                tasks.create_task(self._stop_threads())
        except* Stopped:
            pass  # some work was about to go to a thread when we were cancelled
        finally:
            self._close_threads()

    def close(self) -> None:
        """Let go of trees and watchers; after `run`, or instead of it. May be called twice."""
        self._close_threads()
        for content in self.contents.values():
            content.close()
        self.contents.clear()

    def _close_threads(self) -> None:
        for threads in (self._disk_threads, self._hash_threads, self._read_threads, self._ledger_thread):
            threads.close()

    async def _stop_threads(self) -> None:
        """The moment that `run` is cancelled, long work in threads is asked to end: everybody waits for it."""
        try:
            await asyncio.get_running_loop().create_future()
        finally:
            self._disk_threads.stop()

    async def _tick(self) -> None:
        while True:
            self._heed_clock()
            self.feed(e.Tick())
            for content in self.contents.values():
                content.following.expire(now=self._clock.now())
            await asyncio.sleep(TICK_SECONDS)

    def _heed_clock(self) -> None:
        """A machine that slept must know before it vouches for anything, so requests ask too, not the tick alone."""
        if self._jump.jumped():
            log.warning("event=clock-jump action=drop-leases")
            self._clock_jumps += 1
            self.feed(e.ClockJumped("the clocks jumped"))

    def feed(self, event: e.Event) -> None:
        """One event into the controller, its commands carried out."""
        match event:
            case e.LinkUp(member=member):
                self._unlinked.pop(member, None)
                for content in self.contents.values():
                    content.landing.try_again()
            case e.LinkDown(member=member):
                self._unlinked[member] = self._clock.now()
            case e.Recorded(group=group) | e.Journaled(group=group) | e.Marked(group=group):
                self.on_news(group)
            case e.Received(message=Bodies(group, bodies)) if group in self.contents:
                self.contents[group].following.came(bodies, now=self._clock.now())
                return
            case e.Forgot():
                for content in self.contents.values():
                    content.settle.forbid_journal()
            case _:
                pass
        for command in self.controller.step(event, now=self._clock.now()):
            self._carry_out(command)

    def _carry_out(self, command: e.Command) -> None:
        match command:
            case e.Send(member, message):
                if self._links is not None:
                    self._links.send(member, message)
            case e.SendEntries():
                self._courier.ask(command)
            case e.Record() | e.RecordMark() | e.StoreFenced():
                self._recorder.ask(command)
            case e.FenceMoved():
                self._note()
            case e.CurrencyMoved(group, reason):
                if not reason and (content := self.contents.get(group)):
                    content.journal_if_whole()
                self._note()
            case e.PeerLanded(member, group):
                if content := self.contents.get(group):
                    content.peer_landed(member)
                self._note()
            case e.Remembered():
                self._recorder.ask(command)
                for content in self.contents.values():
                    content.journal_if_whole()
            case e.Compact():
                self.compaction.ask(command)
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

    async def current(self, seconds: float) -> None:
        """Wait until this site can vouch for all its groups, at most so long."""
        deadline = self._clock.now() + seconds
        while any(each.not_current(now=self._clock.now()) for each in self.contents.values()):
            if (left := deadline - self._clock.now()) <= 0:
                return
            await self.moved(min(left, TICK_SECONDS))

    # -- members that come together ---------------------------------------------------------------------------------

    def connected(self) -> frozenset[str]:
        return self._links.connected() if self._links is not None else frozenset()

    async def resync(self, groups: Sequence[str]) -> None:
        """Compare what is here with what the others have, as at first contact; returns when it has begun for good."""
        if self.acquaintance.disowned:
            await self._ledger_thread.do(self.acquaintance.resync)
            self.feed(e.Forgot())
            groups = tuple(self.contents)
        for group in groups:
            await self.contents[group].merge.again()

    async def _listing(self, member: str, group: str, origin: str, after: int) -> Listing:
        assert self._links is not None
        return await self._links.listing(member, group, origin, after)

    async def listing(self, group: str, origin: str, after: int) -> Listing | None:
        """A page of what is alive here, for a member that compares; None when this one compares itself."""
        content = self.contents.get(group)
        if group not in self.settings.group_names or (content is not None and content.merge.reason):
            return None
        upto = after + PAGE_SEQS
        recorded, alive = await self._read_threads.do(self.ledger.merge.alive, group, origin, after, upto)
        return Listing(upto, upto >= recorded.get(origin, 0), dict(recorded), alive.serialize())

    # -- what goes out --------------------------------------------------------------------------------------------

    def _small_body(self, entry: Entry) -> bytes | None:
        content = self.contents.get(entry.group)
        return content.stock.small(entry) if content is not None else None

    def gossip(self, payload: bytes) -> None:
        """Tell every connected member."""
        if self._links is not None:
            for member in self._links.connected():
                self._links.send(member, Gossip(payload))

    # -- what the view and the tables show ------------------------------------------------------------------------

    def standing(self, *, now: float) -> dict[str, str]:
        """Group -> why steering must not count on this site; the empty string when it may."""
        return {
            name: self.acquaintance.disowned or content.standing(now=now) for name, content in self.contents.items()
        }

    def pending(self, site: str) -> dict[str, dict[bytes, float]]:
        """Group -> content prefix -> since when the oldest change below it has been missing at the site."""
        return {name: content.flight.pending(site) for name, content in self.contents.items()}

    def troubles(self) -> tuple[Trouble, ...]:
        """What this machine does not let us do at the moment, and since when."""
        found = [each for content in self.contents.values() for each in content.troubles()]
        if self._ledger_thread.trouble:
            found.append(Found("", "recording", "", example=f"cannot record changes: {self._ledger_thread.trouble}"))
        return self._troubles.update(found, now=self._clock.now())

    def counters(self) -> dict[str, int]:
        """What was counted since the start."""
        contents = self.contents.values()
        return {
            "entries_recorded": sum(sum(origins.values()) for origins in self.ledger.recorded().values()),
            "landed": sum(content.landing.landed_count for content in contents),
            "fetched_bytes": sum(content.landing.pulls.fetched_bytes for content in contents),
            "bodies_refused": sum(
                content.landing.bad_bodies + content.landing.pulls.mismatches for content in contents
            ),
            "skipped_special_files": sum(content.tree.skipped for content in contents),
            "private_folder_remade": sum(content.tree.mended for content in contents),
            "announcements_refused": self._recorder.refused,
            "announcements_dropped": self._recorder.dropped,
            "entries_compacted": self.compaction.compacted,
            "announced_bodies_dropped": self._recorder.bodies_dropped
            + sum(content.following.dropped for content in contents),
            "watch_events": sum(content.settle.sight.heard for content in contents),
            "entries_too_long": self._courier.too_long,
            "clock_jumps": self._clock_jumps,
            "scrubbed_files": sum(content.scrub.counters.files for content in contents),
            "scrubbed_bytes": sum(content.scrub.counters.bytes for content in contents),
            "scrub_damaged_files": sum(content.scrub.counters.damaged for content in contents),
            "scrub_repaired_files": sum(content.scrub.counters.repaired for content in contents),
            "messages_ignored": sum(self.controller.ignored.values()),
        }

    def levels(self) -> dict[str, int]:
        """How it stands now; these go down again."""
        contents = self.contents.values()
        return {
            "flight_entries": sum(len(content.flight) for content in contents),
            "landing_failed_paths": sum(len(content.landing.failed) for content in contents),
            "unreadable_paths": sum(len(content.settle.looks.failed) for content in contents),
            "still_written_paths": sum(len(content.settle.still_written) for content in contents),
            "announcements_waiting_bytes": self._recorder.waiting_bytes
            + sum(content.following.early_bytes for content in contents),
        }

    # -- bodies (landing.Source, and what the links serve) --------------------------------------------------------

    def holders(self, entry: Entry) -> tuple[str, ...]:
        """Connected members that have landed the entry, nearest first; then its origin, which had it once; then the
        other sites, which may have that content elsewhere.
        """
        if self._links is None:
            return ()
        connected = self._links.connected()
        landed = self.controller.landed_sites(entry.group, entry.origin, entry.seq)
        order = [site for site in self.settings.distance if site in landed]
        order += [entry.origin, *self.settings.distance]
        return tuple(site for site in dict.fromkeys(order) if site in connected)

    async def fetch(self, member: str, entry: Entry, offset: int) -> AsyncGenerator[bytes | memoryview, None]:
        assert self._links is not None
        chunks = self._links.fetch(member, entry.group, entry.digest, entry.size, offset)
        try:
            async with contextlib.aclosing(cast("AsyncGenerator[bytes | memoryview, None]", chunks)) as opened:
                async for chunk in opened:
                    yield chunk
        except RuntimeError as error:  # so says aiohttp of a session that is closed, which it is when the member stops
            raise FetchError(f"from {member}: {error}") from error

    async def fetch_small(self, member: str, group: str, digests: Sequence[bytes]) -> dict[bytes, bytes]:
        assert self._links is not None
        try:
            return await self._links.fetch_small(member, group, digests)
        except RuntimeError as error:  # as in `fetch`
            raise FetchError(f"from {member}: {error}") from error

    async def body(self, group: str, digest: bytes) -> int | None:
        """An open file with that content, for the links to serve; None when it is not here."""
        content = self.contents.get(group)
        if content is None:
            return None
        try:
            descriptor, changed = await self._read_threads.do(content.stock.open, digest)
        except AnycastleError:
            return None
        content.settle.look(changed)  # nobody told us of that, or nobody has looked yet
        return descriptor
