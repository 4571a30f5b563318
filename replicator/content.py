"""One group's content at this site: what is on disk, what is in flight, and the verdict on one path.

Law: a verdict is made anew for each request, from the ledger, one `stat` and the controller; no verdict is kept.
"""

import asyncio
from collections.abc import Callable, Collection, Mapping, Sequence

from pyroaring import BitMap

from anycastle.clock import Clock
from anycastle.errors import AnycastleError
from anycastle.health.view import content_prefix
from anycastle.replicator.as_of import AsOf
from anycastle.replicator.controller import Controller
from anycastle.replicator.disk import Tree, TreeError
from anycastle.replicator.entry import PRIVATE_FOLDER, Entry
from anycastle.replicator.event import Event, FenceWanted, Journaled, LandedHere
from anycastle.replicator.fault_point import Point, reach
from anycastle.replicator.feed import common_folder
from anycastle.replicator.flight import Flight
from anycastle.replicator.following import Following
from anycastle.replicator.gate import Forward, Refuse, Verdict, prefix_verdict, verdict, write_verdict
from anycastle.replicator.landing import Landing
from anycastle.replicator.ledger import Ledger
from anycastle.replicator.ledger_thread import RETRY_SECONDS, LedgerThread
from anycastle.replicator.merge import Lister, Merge
from anycastle.replicator.message import LandedUpto
from anycastle.replicator.observation import Conflict
from anycastle.replicator.pull import Source
from anycastle.replicator.room import refusal
from anycastle.replicator.scrub import Scrub
from anycastle.replicator.settings import GroupSettings
from anycastle.replicator.settle import Settle
from anycastle.replicator.stock import Stock
from anycastle.replicator.threads import Threads
from anycastle.replicator.trouble import WORDS, Found, by_cause

NOTHING_LANDED = LandedUpto(0)
NO_GAPS = BitMap()
NAMED_AT_ONCE = 1000
DISK_SECONDS = 2.0


class Content:
    """Everything of one group at one site."""

    def __init__(
        self,
        settings: GroupSettings,
        sites: tuple[str, ...],
        member: str,
        ledger: Ledger,
        controller: Controller,
        source: Source,
        *,
        clock: Clock,
        disk: Threads,
        hashing: Threads,
        ledger_thread: LedgerThread,
        feed: Callable[[Event], None],
        moved: Callable[[], None],
        touched: Callable[[], None],
        connected: Callable[[], frozenset[str]],
        listing: Lister,
    ) -> None:
        """Raises TreeError when the root cannot be used, WatchError when it cannot be watched."""
        self.settings = settings
        self.ledger = ledger
        self.controller = controller
        held = ledger.detailed().get(settings.name, {})
        self.writing = 0
        """Writes under way through this site's edge."""
        self.flight = Flight(sites, depth=settings.prefix_depth, heads=held)
        _check_root(settings, ledger)
        ledger.merge.leave_out(settings.name, settings.exclude)
        self.tree = Tree(settings.root, settings.exclude)
        self.tree.know_folders(lambda path: ledger.last_folder(settings.name, path))
        self.stock = Stock(settings.name, self.tree, ledger)
        self._member = member
        self._clock = clock
        self._disk = disk
        self._ledger_thread = ledger_thread
        self._feed = feed
        self._moved = moved
        self._caught_up = False
        self._refusal = ""
        self._unnamed = asyncio.Event()
        self.landing = Landing(
            settings.name,
            self.tree,
            ledger,
            source,
            clock=clock,
            disk=disk,
            ledger_thread=ledger_thread,
            look=lambda paths: self.settle.look(paths),
            look_through=lambda folders: self.settle.look_through(folders),
            insist=lambda path: self.settle.insist(path),
            landed=self._landed_here,
        )
        self.following = Following(self.landing.add)
        try:
            self.settle = Settle(
                settings.name,
                self.tree,
                ledger,
                clock=clock,
                hashing=hashing,
                disk=disk,
                ledger_thread=ledger_thread,
                landing=self.landing.landing,
                journaled=self._journaled,
                moved=moved,
                touched=touched,
            )
        except BaseException:
            self.tree.close()
            raise
        self.scrub = Scrub(
            settings.name,
            self.tree,
            ledger,
            self.landing,
            rate=settings.scrub_bytes_per_second,
            clock=clock,
            threads=disk,
            ledger_thread=ledger_thread,
            look=self.settle.look,
        )
        self.merge = Merge(
            settings,
            member,
            self.tree,
            ledger,
            controller,
            self.settle,
            self.landing,
            clock=clock,
            disk=disk,
            ledger_thread=ledger_thread,
            feed=feed,
            connected=connected,
            listing=listing,
        )

    def journal_if_whole(self) -> None:
        """Changes may be added to the own journal once the site is current, and nobody can know more of it.

        Not before that, at each start: a ledger that was lost or restored would begin again at seqs that others hold.
        """
        if self.merge.reason or not self.controller.remembers():  # a merge sees to that itself, when its time has come
            return
        if not self.controller.currency(self.settings.name, now=self._clock.now()):
            self.settle.allow_journal()

    async def run(self) -> None:
        self._landed_here()
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(self.settle.run())
            tasks.create_task(self.landing.run())
            tasks.create_task(self.merge.run())
            tasks.create_task(self._name_flying())
            tasks.create_task(self._look_at_disk())
            tasks.create_task(self.scrub.run())

    async def _look_at_disk(self) -> None:
        """A filesystem that was made read-only, or is full, tells nobody until somebody writes."""
        while True:
            self._refusal = await self._disk.do(refusal, self.tree.descriptor)
            await asyncio.sleep(DISK_SECONDS)

    def troubles(self) -> list[Found]:
        """What this machine does not let us do for the group."""
        group, looks = self.settings.name, self.settle.looks
        found = by_cause(group, "landing", self.landing.causes, self.landing.failed)
        found += by_cause(group, "reading", looks.causes, looks.failed)
        if self._refusal and self._refusal not in {each.cause for each in found if each.what == "landing"}:
            words = f"nothing can be written below {self.settings.root}: {WORDS.get(self._refusal, self._refusal)}"
            found.append(Found(group, "writing", self._refusal, example=words))
        found += by_cause(group, "scrubbing", dict.fromkeys(self.scrub.damaged, ""), self.scrub.damaged)
        if self.settle.sight.reason.startswith("cannot"):
            found.append(Found(group, "watching", "", example=self.settle.sight.reason))
        return found

    def close(self) -> None:
        self.settle.close()
        self.tree.close()

    def prefix_of(self, path: bytes) -> bytes:
        """What steering distinguishes: the content prefix that a path belongs to."""
        return content_prefix(path, self.settings.prefix_depth)

    # -- news -----------------------------------------------------------------------------------------------------

    def _journaled(self, entries: tuple[Entry, ...]) -> None:
        """Our own changes are durable: announce them. They have landed here by their nature."""
        now = self._clock.now()
        for entry in entries:
            self.flight.add(entry, now=now)
        if entries:
            reach(Point.JOURNALED)
            self._feed(Journaled(self.settings.name, entries[-1].seq, common_prefix(entries)))
        self._landed_here()  # Also when nothing was announced: what we found may be what was to land.

    def recorded(
        self,
        entries: tuple[Entry, ...],
        to_land: tuple[Entry, ...],
        bodies: Mapping[bytes, bytes],
        coming: tuple[bytes, ...],
    ) -> None:
        """Others' entries are durable here; bodies with the digests `coming` follow."""
        now = self._clock.now()
        for entry in entries:
            self.flight.add(entry, now=now)
        for site in self.flight.sites:
            if site != self._member:
                self.peer_landed(site)
        self.following.recorded(to_land, bodies, coming, now=now)
        self._landed_here()

    def _landed_here(self) -> None:
        landed = self.ledger.landed_upto(self.settings.name)
        self._apply(self._member, landed)
        self._feed(LandedHere(self.settings.name, landed))
        self.settle.wake()
        self._moved()

    def peer_landed(self, site: str) -> None:
        """The controller heard what a site has landed. What it never told is not known, and it is not counted on."""
        if site in self.flight.sites and (landed := self.controller.peer_landed(site, self.settings.name)):
            self._apply(site, landed)

    def _apply(self, site: str, landed: Mapping[str, LandedUpto]) -> None:
        """Bring the flight in line with what a site said: forget what it landed, learn what it lacks."""
        now = self._clock.now()
        for origin in self.flight.origins:
            said = landed.get(origin, NOTHING_LANDED)
            gaps = BitMap.deserialize(said.gaps) if said.gaps else NO_GAPS
            self.flight.landed(site, origin, said.watermark, gaps, now=now)
        self._unnamed.set()

    async def _name_flying(self) -> None:
        """After a restart of ours, sites lack entries that we knew before: look up their paths, little by little."""
        while True:
            await self._unnamed.wait()
            self._unnamed.clear()
            while wanted := self.flight.unnamed(NAMED_AT_ONCE):
                origin, seqs = wanted
                try:
                    paths = await self._disk.do(self._paths, origin, seqs)
                except AnycastleError:
                    await asyncio.sleep(RETRY_SECONDS)
                    continue
                self.flight.name(origin, seqs, paths, now=self._clock.now())
                self._moved()

    def _paths(self, origin: str, seqs: list[int]) -> dict[int, bytes]:
        return dict(self.ledger.paths(self.settings.name, origin, seqs))

    # -- the gate -------------------------------------------------------------------------------------------------

    def as_of_now(self, prefix: bytes) -> AsOf:
        """What is known below the prefix at this moment."""
        return AsOf(prefix, member=self._member, flight=self.flight, settle=self.settle)

    def verdict(
        self, path: bytes | None, prefix: bytes, distance: tuple[str, ...], *, now: float, as_of: AsOf | None = None
    ) -> Verdict:
        """Rule 5 for one path, or for the whole prefix when the URL maps to no file we know: as of now, or of then."""
        group = self.settings.name
        newest, local = self.ledger.known(group, path) if path is not None else (None, None)
        if path is None or newest is None:
            return self._prefix_verdict(path, prefix, as_of or self.as_of_now(prefix), distance, now=now)
        landing = self.landing.landing(path)
        on_disk = self.tree.fingerprint(path)
        landed_here = (
            not landing and local is not None and local.version == newest.version and path not in self.scrub.damaged
        )
        currency, uncovered = self.not_current(now=now), self.controller.uncovered(group, path)
        # With this no line of the table asks for other sites, so most requests need not look for any.
        here = landed_here and not currency and uncovered is None
        return verdict(
            newest=newest,
            fenced=self.controller.fenced(group, newest.origin) >= newest.seq,
            landed_here=landed_here,
            disk_as_recorded=landing or on_disk == (local.fingerprint if local else None),
            currency=currency,
            current_sites=() if here else self.current_elsewhere(distance, now=now),
            landed_sites=() if here else self.controller.landed_sites(group, newest.origin, newest.seq),
            isolated=self.settings.isolated,
            uncovered=uncovered,
            detailed_sites=self._detailed(uncovered),
        )

    def _prefix_verdict(
        self, path: bytes | None, prefix: bytes, as_of: AsOf, distance: tuple[str, ...], *, now: float
    ) -> Verdict:
        group = self.settings.name
        current = self.current_elsewhere(distance, now=now)
        return prefix_verdict(
            disk_as_recorded=not as_of.unsettled() and not self._unnoticed(path),
            fenced=not as_of.unfenced(group, self.controller),
            settled_here=not as_of.lacking(self._member),
            currency=self.not_current(now=now),
            current_sites=current,
            settled_sites=frozenset(site for site in current if not as_of.lacking(site)),
            isolated=self.settings.isolated,
            uncovered=(uncovered := self.controller.uncovered_below(group, prefix)),
            detailed_sites=self._detailed(uncovered),
        )

    def _unnoticed(self, path: bytes | None) -> bool:
        """Something is at a path of which nobody ever announced anything."""
        return path is not None and not self.tree.excluded(path) and self.tree.fingerprint(path) is not None

    def write_verdict(
        self, distance: tuple[str, ...], unfit: Collection[str], *, now: float
    ) -> Forward | Refuse | None:
        """Rules 6 and 7: where a write must go instead of here; None when it may be done here."""
        return write_verdict(
            member=self._member,
            writes=self.settings.writes,
            currency=self.not_current(now=now),
            current_sites=self.current_elsewhere(distance, now=now),
            uncovered=(uncovered := self.controller.uncovered_below(self.settings.name, b"")),
            detailed_sites=self._detailed(uncovered),
            unfit=unfit,
        )

    def _detailed(self, uncovered: tuple[str, int] | None) -> frozenset[str]:
        """The other sites that have landed what a coarse mark here only announces."""
        return self.controller.landed_sites(self.settings.name, *uncovered) if uncovered else frozenset()

    def not_current(self, *, now: float) -> str:
        """Why this site cannot vouch for the group; the empty string when it can."""
        if outdated := self.controller.outdated(self.settings.name):
            return (
                f"away for longer than the retention: {outdated} has compacted what was missed here; "
                f"run `anycastle resync {self.settings.name}`"
            )
        if self.merge.reason:
            return self.merge.reason
        if self.settle.sight.reason:
            told = self.settle.survey.told()
            return f"{self.settle.sight.reason}: {told}" if told else self.settle.sight.reason
        if self._ledger_thread.trouble:
            return f"cannot record changes: {self._ledger_thread.trouble}"
        return self.controller.currency(self.settings.name, now=now)

    def standing(self, *, now: float) -> str:
        """Why steering must not count on this site for the group at all; the empty string when it may.

        After a start everything that was missed has to land first; what is missing later withholds its own names only.
        """
        reason = self.not_current(now=now)
        if not reason and not self._caught_up:
            missing = self.flight.missing_total(self._member)
            uncovered = self.controller.uncovered_below(self.settings.name, b"")
            self._caught_up = not missing and uncovered is None
            if missing:
                reason = f"catching up: {missing} changes have not landed here"
            elif uncovered is not None:
                reason = f"catching up: details of changes at {uncovered[0]} have not arrived here"
        return reason

    def current_elsewhere(self, distance: tuple[str, ...], *, now: float) -> tuple[str, ...]:
        """The other sites that are current, nearest first."""
        group = self.settings.name
        return tuple(site for site in distance if not self.controller.peer_current(site, group, now=now))

    def want(self, path: bytes | None, prefix: bytes) -> None:
        """A request waits: fence and land this before other things."""
        group = self.settings.name
        if path is not None and (newest := self.ledger.newest(group, path)) is not None:
            self._feed(FenceWanted(group, newest.origin, newest.seq))
            self.landing.want(path)
            self.settle.look((path,))
            return
        for (origin, seq), flying in tuple(self.flight.below(prefix)):
            if self.controller.fenced(group, origin) < seq:
                self._feed(FenceWanted(group, origin, seq))
            self.landing.want(flying.path)

    def writers_with(
        self, prefix: bytes, heads: Mapping[str, int], distance: tuple[str, ...], *, now: float
    ) -> tuple[str, ...]:
        """Other current sites that take writes and have landed all below the prefix up to these heads."""
        able = [
            site
            for site in self.current_elsewhere(distance, now=now)
            if not self.settings.writes or site in self.settings.writes
        ]
        return tuple(site for site in able if not self.flight.lacks_up_to(site, prefix, heads))

    def copies(self, head: int) -> int:
        """Sites, this one included, that have landed all of our own journal up to `head`."""
        group = self.settings.name
        return 1 + sum(
            self._has_all(self.controller.peer_landed(site, group).get(self._member), head)
            for site in self.flight.sites
            if site != self._member
        )

    def _has_all(self, landed: LandedUpto | None, head: int) -> bool:
        if landed is None or landed.watermark < head:
            return False
        return not landed.gaps or BitMap.deserialize(landed.gaps).min() > head

    async def end_conflict(self, number: int, conflict: Conflict, *, put_back: bool) -> None:
        """Take a conflict off the list, with the kept version back in its place or gone. Raises TreeError.

        What nobody compared with the kept version is not replaced by it: somebody wrote it since.
        """
        local = self.ledger.local(conflict.group, conflict.path)
        if put_back and (local is None or local.version != conflict.winner):
            raise TreeError(
                f"{conflict.path[:200]!r} was changed since it won: expected version {conflict.winner}; "
                "copy the kept one over it yourself if it shall go"
            )
        await self._disk.do(self.tree.end_conflict, conflict.kept, conflict.path, put_back=put_back)
        self.settle.look((conflict.path,))
        await self._ledger_thread.do(self.ledger.end_conflict, number)
        self._moved()


def _check_root(settings: GroupSettings, ledger: Ledger) -> None:
    """A root that we never saw, where the ledger knows files: its scan would delete them at every site.

    Raises TreeError.
    """
    if (settings.root / PRIVATE_FOLDER.decode()).is_dir():
        return
    if next(ledger.locals_below(settings.name, b""), None) is not None:
        raise TreeError(
            f"group {settings.name}: root {settings.root} is not the one this member replicated (no "
            f"{PRIVATE_FOLDER.decode()} in it): expected its disk to be mounted; to fetch all content from the other "
            "sites into it instead, move the ledger in state_dir away first"
        )


def common_prefix(entries: Sequence[Entry]) -> bytes:
    """The deepest folder, with its slash, that holds all these paths; empty for the root.

    Folders are known by their first and last path in order: whatever these two share, all between them share.
    """
    first, last = min(entry.path for entry in entries), max(entry.path for entry in entries)
    return common_folder(first, last)
