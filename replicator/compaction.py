"""Carries out compaction, and knows who was away for longer than a group's retention.

Law: what the controller did not cut stays; a member that is away holds compaction up for the retention and no longer.
Times of day decide only how long is waited, never what may go: who was given up has to compare (`merge`).
"""

import asyncio
import contextlib
from collections.abc import Callable, Mapping

from anycastle.clock import Clock
from anycastle.errors import AnycastleError
from anycastle.replicator.event import Absent, Compact, Event
from anycastle.replicator.ledger import Ledger
from anycastle.replicator.ledger_thread import RETRY_SECONDS, LedgerThread

HEARD_SECONDS_MAX = 60.0
"""Between two notes of who is linked; also a quarter of the shortest retention at most."""


class Compaction:
    """One member's, for all groups."""

    def __init__(
        self,
        ledger: Ledger,
        ledger_thread: LedgerThread,
        *,
        clock: Clock,
        members: frozenset[str],
        retention_seconds: Mapping[str, float],
        connected: Callable[[], frozenset[str]],
        feed: Callable[[Event], None],
    ) -> None:
        self.compacted = 0
        """Entries that went."""
        self.absent: dict[str, frozenset[str]] = {}
        """By group: members that compaction does not wait for any more."""
        self._ledger = ledger
        self._ledger_thread = ledger_thread
        self._clock = clock
        self._members = members
        self._retention_seconds = retention_seconds
        self._connected = connected
        self._feed = feed
        self._cuts: dict[tuple[str, str], int] = {}
        self._asked = asyncio.Event()

    def ask(self, command: Compact) -> None:
        """Do it soon."""
        for origin, upto in command.upto.items():
            self._cuts[command.group, origin] = upto
        self._asked.set()

    async def run(self) -> None:
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(self._compact())
            tasks.create_task(self._watch())

    async def _compact(self) -> None:
        while True:
            await self._asked.wait()
            self._asked.clear()
            cuts, self._cuts = self._cuts, {}
            for (group, origin), upto in cuts.items():
                after = 0
                while after < upto:
                    try:
                        after, gone = await self._ledger_thread.do(
                            self._ledger.merge.compact, group, origin, after, upto
                        )
                        self.compacted += gone
                    except AnycastleError:
                        await asyncio.sleep(RETRY_SECONDS)

    async def _watch(self) -> None:
        shortest = min(self._retention_seconds.values(), default=HEARD_SECONDS_MAX)
        while True:
            with contextlib.suppress(AnycastleError):  # a full disk: noted the next time
                await self._note()
            await asyncio.sleep(min(HEARD_SECONDS_MAX, shortest / 4))

    async def _note(self) -> None:
        wall, connected = self._clock.wall(), self._connected()
        silent: dict[str, float] = {}
        for member in self._members:
            heard = self._ledger.get(f"heard.{member}")
            if member in connected or heard is None:
                await self._ledger_thread.do(self._ledger.put, f"heard.{member}", b"%.3f" % wall)
            else:
                silent[member] = wall - float(heard)
        for group, retention in self._retention_seconds.items():
            absent = frozenset(member for member, seconds in silent.items() if seconds > retention)
            if absent != self.absent.get(group, frozenset()):
                self.absent[group] = absent
                self._feed(Absent(group, absent))
