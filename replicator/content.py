"""One group's content at this site: what is on disk, what is in flight, and the verdict on one path.

Law: a verdict is made anew for each request, from the ledger, one `stat` and the controller; nothing is cached.
"""

import asyncio
import itertools
import os
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Executor

from blake3 import blake3
from pyroaring import BitMap

from anycastle.clock import Clock
from anycastle.health.view import content_prefix
from anycastle.replicator.controller import Controller
from anycastle.replicator.disk import Tree, TreeError
from anycastle.replicator.entry import Entry, Kind
from anycastle.replicator.event import Event, FenceWanted, Journaled, LandedHere
from anycastle.replicator.feed import common_folder
from anycastle.replicator.flight import ENTRIES_MAX, Flight
from anycastle.replicator.gate import Forward, Refuse, Verdict, prefix_verdict, verdict, write_verdict
from anycastle.replicator.landing import Landing, Source
from anycastle.replicator.ledger import Ledger
from anycastle.replicator.ledger_thread import LedgerThread
from anycastle.replicator.message import LandedUpto
from anycastle.replicator.settings import GroupSettings
from anycastle.replicator.settle import Settle
from anycastle.replicator.watch import open_watcher

NOTHING_LANDED = LandedUpto(0)
INLINE_BYTES_MAX = 256 * 1024
"""Larger bodies are pulled when their turn comes (design section 4)."""


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
        disk: Executor,
        ledger_thread: LedgerThread,
        feed: Callable[[Event], None],
        moved: Callable[[], None],
    ) -> None:
        """Raises TreeError when the root cannot be used, WatchError when it cannot be watched."""
        self.settings = settings
        self.flight = Flight(sites, depth=settings.prefix_depth)
        self.tree = Tree(settings.root, settings.exclude)
        self.watcher = open_watcher(self.tree)
        self._member = member
        self.ledger = ledger
        self.controller = controller
        self._clock = clock
        self._feed = feed
        self._moved = moved
        self._caught_up = False
        self.landing = Landing(
            settings.name,
            self.tree,
            ledger,
            source,
            clock=clock,
            disk=disk,
            ledger_thread=ledger_thread,
            look=lambda paths: self.settle.look(paths),
            landed=self._landed_here,
        )
        self.settle = Settle(
            settings.name,
            self.tree,
            self.watcher,
            ledger,
            clock=clock,
            hashing=disk,
            ledger_thread=ledger_thread,
            landing=self.landing.landing,
            journaled=self._journaled,
        )

    async def run(self) -> None:
        self._landed_here()
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(self.settle.run())
            tasks.create_task(self.landing.run())

    def close(self) -> None:
        self.watcher.close()
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
            self._feed(Journaled(self.settings.name, entries[-1].seq, common_prefix(entries)))
        self._landed_here()

    def recorded(self, entries: tuple[Entry, ...], to_land: tuple[Entry, ...], bodies: Mapping[bytes, bytes]) -> None:
        """Others' entries are durable here."""
        now = self._clock.now()
        for entry in entries:
            self.flight.add(entry, now=now)
        for site in self.flight.sites:
            if site != self._member:
                self.peer_landed(site)
        self.landing.add(to_land, bodies)
        self._landed_here()

    def _landed_here(self) -> None:
        landed = self.ledger.landed_upto(self.settings.name)
        self._apply(self._member, landed)
        self._feed(LandedHere(self.settings.name, landed))
        self._moved()

    def peer_landed(self, site: str) -> None:
        """The controller heard what a site has landed."""
        if site in self.flight.sites:
            self._apply(site, self.controller.peer_landed(site, self.settings.name))

    def _apply(self, site: str, landed: Mapping[str, LandedUpto]) -> None:
        """Bring the flight in line with what a site said: forget what it landed, learn what it lacks."""
        known = self.ledger.detailed().get(self.settings.name, {})
        for origin, head in known.items():
            said = landed.get(origin, NOTHING_LANDED)
            gaps = BitMap.deserialize(said.gaps) if said.gaps else BitMap()
            self.flight.landed(site, origin, said.watermark, gaps)
            behind = max(0, head - said.watermark) + gaps.rank(head)
            if self.flight.missing_count(site, origin) < behind:
                self._learn_missing(site, origin, gaps, said.watermark, head)

    def _learn_missing(self, site: str, origin: str, gaps: BitMap, watermark: int, head: int) -> None:
        """After a restart of ours: the site lacks entries that we knew before and do not have in flight any more."""
        seqs = itertools.chain((seq for seq in gaps if seq <= head), range(watermark + 1, head + 1))
        now = self._clock.now()
        for seq, path in self.ledger.paths(self.settings.name, origin, itertools.islice(seqs, ENTRIES_MAX)):
            self.flight.add_missing(site, (origin, seq), path, now=now)

    # -- the gate -------------------------------------------------------------------------------------------------

    def verdict(self, path: bytes | None, prefix: bytes, distance: tuple[str, ...], *, now: float) -> Verdict:
        """Rule 5 for one path, or for the whole prefix when the URL maps to no file we know."""
        group = self.settings.name
        if path is None or (newest := self.ledger.newest(group, path)) is None:
            return self._prefix_verdict(path, prefix, distance, now=now)
        local = self.ledger.local(group, path)
        landing = self.landing.landing(path)
        on_disk = self.tree.fingerprint(path)
        return verdict(
            newest=newest,
            fenced=self.controller.fenced(group, newest.origin) >= newest.seq,
            landed_here=not landing and local is not None and local.version == newest.version,
            disk_as_recorded=landing or on_disk == (local.fingerprint if local else None),
            currency=self.not_current(now=now),
            current_sites=self._current(distance, now=now),
            landed_sites=self.controller.landed_sites(group, newest.origin, newest.seq),
            isolated=self.settings.isolated,
            uncovered=(uncovered := self.controller.uncovered(group, path)),
            detailed_sites=self._detailed(uncovered),
        )

    def _prefix_verdict(self, path: bytes | None, prefix: bytes, distance: tuple[str, ...], *, now: float) -> Verdict:
        group = self.settings.name
        unfenced = any(self.controller.fenced(group, origin) < seq for (origin, seq), _ in self.flight.below(prefix))
        noticed = not self.settle.unsettled(prefix) and (path is None or self.tree.fingerprint(path) is None)
        current = self._current(distance, now=now)
        return prefix_verdict(
            fenced=not unfenced,
            settled_here=not any(self.flight.missing(self._member, prefix)),
            disk_as_recorded=noticed,
            currency=self.not_current(now=now),
            current_sites=current,
            settled_sites=frozenset(site for site in current if not any(self.flight.missing(site, prefix))),
            isolated=self.settings.isolated,
            uncovered=(uncovered := self.controller.uncovered_below(group, prefix)),
            detailed_sites=self._detailed(uncovered),
        )

    def write_verdict(self, distance: tuple[str, ...], *, now: float) -> Forward | Refuse | None:
        """Rules 6 and 7: where a write must go instead of here; None when it may be done here."""
        return write_verdict(
            member=self._member,
            writes=self.settings.writes,
            currency=self.not_current(now=now),
            current_sites=self._current(distance, now=now),
            uncovered=(uncovered := self.controller.uncovered_below(self.settings.name, b"")),
            detailed_sites=self._detailed(uncovered),
        )

    def _detailed(self, uncovered: tuple[str, int] | None) -> frozenset[str]:
        """The other sites that have landed what a coarse mark here only announces."""
        return self.controller.landed_sites(self.settings.name, *uncovered) if uncovered else frozenset()

    def not_current(self, *, now: float) -> str:
        """Why this site cannot vouch for the group; the empty string when it can."""
        if not self.settle.scanned:
            return "the first scan is under way"
        return self.controller.currency(self.settings.name, now=now)

    def standing(self, *, now: float) -> str:
        """Why steering must not count on this site for the group at all; the empty string when it may.

        After a start everything that was missed has to land first; what is missing later withholds its own names only.
        """
        reason = self.not_current(now=now)
        if not reason and not self._caught_up:
            missing = self.flight.missing_total(self._member)
            self._caught_up = not missing
            reason = f"catching up: {missing} changes have not landed here" if missing else ""
        return reason

    def _current(self, distance: tuple[str, ...], *, now: float) -> tuple[str, ...]:
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
        return not landed.gaps or not any(seq <= head for seq in BitMap.deserialize(landed.gaps))

    # -- bodies ---------------------------------------------------------------------------------------------------

    def inline_bodies(self, entries: Sequence[Entry], bytes_max: int) -> dict[bytes, bytes]:
        """Small contents of these entries that are still on disk, by digest (checked), at most `bytes_max` in all."""
        bodies: dict[bytes, bytes] = {}
        left = bytes_max
        for entry in entries:
            if entry.kind is not Kind.FILE or not 0 < entry.size <= min(INLINE_BYTES_MAX, left):
                continue
            body = self._read(entry.path, entry.size)
            if body is not None and blake3(body).digest() == entry.digest:
                bodies[entry.digest] = body
                left -= len(body)
        return bodies

    def _read(self, path: bytes, size: int) -> bytes | None:
        try:
            descriptor = self.tree.open_body(path)
        except (TreeError, OSError):
            return None
        with os.fdopen(descriptor, "rb") as file:
            body = file.read(size + 1)
        return body if len(body) == size else None

    def open_body(self, digest: bytes) -> int | None:
        """An open file with that content, or None. It may change under the reader, who checks the digest."""
        path = self.ledger.path_with_digest(self.settings.name, digest)
        if path is None:
            return None
        try:
            return self.tree.open_body(path)
        except (TreeError, OSError):
            return None


def common_prefix(entries: Sequence[Entry]) -> bytes:
    """The deepest folder, with its slash, that holds all these paths; empty for the root.

    Folders are known by their first and last path in order: whatever these two share, all between them share.
    """
    first, last = min(entry.path for entry in entries), max(entry.path for entry in entries)
    return common_folder(first, last)
