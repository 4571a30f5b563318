"""Bringing what a site holds of a group together with what the others announced: one group, at one site.

At first contact (a group that is new here, a ledger that is new) and after `anycastle resync`, in this order:

    current         all that a majority knows is recorded; journals with holes are taken meanwhile
    dead            what landed here and is alive nowhere else is deleted: its delete was compacted while we were gone
    seed            where the group has one, and we never announced anything: wait for what it announces
    scan            what is found is compared by digest: equal is landed; where somebody announced a version, what
                    differs gives way to it and is kept as a conflict; what only we have is announced

Laws: nothing is added to the own journal before the scan; what is found is never deleted, only what was known to be the
others' and unchanged since; until the end the site vouches for nothing.
"""

import asyncio
import logging
import os
from collections.abc import Awaitable, Callable

from anycastle.clock import Clock
from anycastle.errors import AnycastleError
from anycastle.replicator.controller import Controller
from anycastle.replicator.disk import Tree
from anycastle.replicator.event import Event, Merging
from anycastle.replicator.landing import Landing
from anycastle.replicator.ledger import Ledger
from anycastle.replicator.ledger_thread import RETRY_SECONDS, LedgerThread
from anycastle.replicator.listing import Listing
from anycastle.replicator.settings import GroupSettings
from anycastle.replicator.settle import Settle
from anycastle.replicator.threads import Threads

log = logging.getLogger("anycastle.replicator.merge")

POLL_SECONDS = 0.05
BURY_AT_ONCE = 1000

Lister = Callable[[str, str, str, int], Awaitable[Listing]]
"""(member, group, origin, after) -> a page. Raises AnycastleError."""


class Merge:
    """One group's, now or when it is asked for."""

    def __init__(
        self,
        settings: GroupSettings,
        member: str,
        tree: Tree,
        ledger: Ledger,
        controller: Controller,
        settle: Settle,
        landing: Landing,
        *,
        clock: Clock,
        disk: Threads,
        ledger_thread: LedgerThread,
        feed: Callable[[Event], None],
        connected: Callable[[], frozenset[str]],
        listing: Lister,
    ) -> None:
        self.reason = ""
        """Why the site vouches for nothing; the empty string when nothing is to be brought together."""
        self._settings = settings
        self._group = settings.name
        self._member = member
        self._tree = tree
        self._ledger = ledger
        self._controller = controller
        self._settle = settle
        self._landing = landing
        self._clock = clock
        self._disk = disk
        self._ledger_thread = ledger_thread
        self._feed = feed
        self._connected = connected
        self._listing = listing
        self._wanted = asyncio.Event()
        if ledger.merge.under_way(self._group):
            self._begin()

    async def again(self) -> None:
        """`anycastle resync`: what is here is compared anew; returns when that is durable, and goes on by itself."""
        await self._ledger_thread.do(self._ledger.merge.begin, self._group)
        if not self.reason:
            self._begin()

    def _begin(self) -> None:
        self.reason = "what is here is being compared with what the others have"
        self._wanted.set()

    def announce(self) -> None:
        """Tell the controller before the first link is up."""
        if self.reason:
            self._feed(Merging(self._group, True, comparing=self._holds_something()))

    def _holds_something(self) -> bool:
        with os.scandir(self._tree.descriptor) as found:
            return any(not self._tree.excluded(os.fsencode(item.name)) for item in found)

    async def run(self) -> None:
        while True:
            await self._wanted.wait()
            self._wanted.clear()
            await self._merge()
            self.reason = ""
            self._feed(Merging(self._group, False))
            log.info("group=%s event=merged", self._group)

    async def _merge(self) -> None:
        self.announce()
        self._landing.look_first = True
        await self._until(
            lambda: self._controller.remembers() and not self._controller.currency(self._group, now=self._clock.now())
        )
        await self._bury_dead()
        await self._wait_for_seed()
        if not self._prevails():
            self._ledger.yielding.add(self._group)
        try:
            self._settle.allow_journal()
            if self._settle.sight.reason:
                await self._until(lambda: not self._settle.sight.reason)
            else:
                await self._settle.rescan()
        finally:
            self._ledger.yielding.discard(self._group)
        await self._until(self._covers_all_linked)
        await self._ledger_thread.do(self._ledger.merge.end, self._group)
        self._landing.look_first = False
        self._landing.take_up()

    async def _until(self, true: Callable[[], bool]) -> None:
        while not true():  # noqa: ASYNC110 - what is waited for has many causes
            await asyncio.sleep(POLL_SECONDS)

    def _covers_all_linked(self) -> bool:
        return all(self._controller.covers_peer(member, self._group) for member in self._connected())

    # The seed

    def _first_time(self) -> bool:
        """Nobody who was asked knows of anything that we announced."""
        return self._ledger.head(self._group) == 0

    def _prevails(self) -> bool:
        return self._settings.seed == self._member and self._first_time()

    async def _wait_for_seed(self) -> None:
        seed = self._settings.seed
        if seed is None or seed == self._member or not self._first_time():
            return
        before, self.reason = self.reason, f"waits for what {seed}, the group's seed, holds"
        await self._until(
            lambda: (
                self._controller.peer_comparing(seed, self._group) is False
                and self._controller.covers_peer(seed, self._group)
            )
        )
        self.reason = before

    # What is dead

    async def _bury_dead(self) -> None:
        """Ask one member that is not comparing itself; where all are, nobody knows better."""
        while next(self._ledger.locals_below(self._group, b""), None) is not None:
            members = self._connected()
            able = [member for member in members if self._controller.peer_comparing(member, self._group) is False]
            if members and not able and all(self._controller.peer_comparing(m, self._group) for m in members):
                return
            for member in able:
                try:
                    await self._bury_as_told(member)
                except AnycastleError as error:
                    log.warning("group=%s peer=%s event=no-listing reason=%s", self._group, member, error)
                else:
                    return
            await asyncio.sleep(RETRY_SECONDS)

    async def _bury_as_told(self, member: str) -> None:
        ledger, group, buried = self._ledger, self._group, 0
        for origin in tuple(ledger.detailed().get(group, {})):
            after, last = 0, False
            while not last:
                page = await self._listing(member, group, origin, after)
                await self._until(lambda page=page: self._holds(page.recorded))  # type: ignore[misc]
                upto = min(page.upto, page.recorded.get(origin, 0))  # of what lies beyond it cannot tell
                dead = await self._disk.do(ledger.merge.dead, group, origin, after, upto, page.alive())
                for start in range(0, len(dead), BURY_AT_ONCE):
                    part = dead[start : start + BURY_AT_ONCE]
                    await self._ledger_thread.do(ledger.merge.bury, group, part)
                buried += len(dead)
                after, last = page.upto, page.last
        if buried:
            log.warning("group=%s peer=%s event=buried paths=%d", group, member, buried)
            self._landing.take_up()

    def _holds(self, recorded: dict[str, int]) -> bool:
        here = self._ledger.detailed().get(self._group, {})
        return all(here.get(origin, 0) >= seq for origin, seq in recorded.items())
