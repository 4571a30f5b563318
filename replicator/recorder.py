"""Makes durable what other members announced, in order, and tells the controller.

Laws: nothing is acknowledged before it is durable; what cannot be believed is refused as a whole, counted, and logged
once per kind; what the ledger cannot take now (its disk is full) waits, and is tried again. What waits is bounded in
bytes. The sender feels it: it has only so many entries on their way that were not acknowledged, and no ack goes out for
what waits. The link itself is never stopped, for leases and votes of others come over it.
"""

import asyncio
import logging
from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import assert_never

from anycastle.errors import AnycastleError
from anycastle.replicator import event as e
from anycastle.replicator.entry import Entry, EntryError, check_path
from anycastle.replicator.fault_point import Point, reach
from anycastle.replicator.ledger import Ledger
from anycastle.replicator.ledger_thread import RETRY_SECONDS, LedgerThread
from anycastle.replicator.schema import LedgerError, LedgerHole

log = logging.getLogger("anycastle.replicator.recorder")

WAITING_MAX = 1000
"""Announcements waiting for the ledger, a commit each: some seconds of work. Those beyond it are dropped, as below."""
WAITING_BYTES_MAX = 64 * 1024 * 1024
"""Of announcements waiting for the ledger; beyond it they are dropped, and announced again."""
BODIES_WAITING_BYTES_MAX = 32 * 1024 * 1024
"""With more than that waiting their bodies are dropped first: those can be fetched when their turn comes."""
ENTRY_BYTES = 512
"""What an entry takes besides its path, target and attributes; rather too much."""
FENCES_SECONDS = 1.0
KINDS_TOLD_MAX = 1000

Recorded = Callable[[tuple[Entry, ...], tuple[Entry, ...], Mapping[bytes, bytes], tuple[bytes, ...]], None]
"""(entries that are durable now, those of them to land, bodies that came along, digests of those that follow)."""


class Recorder:
    """One member's writes to foreign journals."""

    def __init__(
        self,
        ledger: Ledger,
        ledger_thread: LedgerThread,
        *,
        feed: Callable[[e.Event], None],
        recorded: Mapping[str, Recorded],
    ) -> None:
        """`recorded`: by group, where this member holds content."""
        self.refused = 0
        """Announcements that cannot be believed."""
        self.dropped = 0
        """Announcements for which there was no room; they come again."""
        self.bodies_dropped = 0
        """Contents that came along and for which there was no room; they are fetched."""
        self.waiting_bytes = 0
        """Of announcements that are not durable yet."""
        self._ledger = ledger
        self._ledger_thread = ledger_thread
        self._feed = feed
        self._recorded = recorded
        self._waiting: asyncio.Queue[tuple[e.Record | e.RecordMark | e.Remembered, int]] = asyncio.Queue(WAITING_MAX)
        self._fences: dict[tuple[str, str], int] = {}
        self._ledger_failed = False
        self._told: set[tuple[str, str, str]] = set()

    def ask(self, command: e.Record | e.RecordMark | e.StoreFenced | e.Remembered) -> None:
        """Do it soon."""
        if isinstance(command, e.StoreFenced):
            self._fences[command.group, command.origin] = command.upto
            return
        size = _bytes(command)
        if isinstance(command, e.Record) and command.bodies and self.waiting_bytes + size > BODIES_WAITING_BYTES_MAX:
            self.bodies_dropped += len(command.bodies)
            command = replace(command, bodies={})
            size = _bytes(command)
        if self._waiting.full() or self.waiting_bytes + size > WAITING_BYTES_MAX:
            self.dropped += 1
            return
        self.waiting_bytes += size
        self._waiting.put_nowait((command, size))

    async def run(self) -> None:
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(self._record())
            tasks.create_task(self._store_fences())

    async def _record(self) -> None:
        while True:
            command, size = await self._waiting.get()
            while not await self._try(command):  # noqa: ASYNC110 - a full disk tells nobody
                await asyncio.sleep(RETRY_SECONDS)
            self.waiting_bytes -= size

    async def _try(self, command: e.Record | e.RecordMark | e.Remembered) -> bool:
        """False when it is worth trying again."""
        try:
            await self._record_one(command)
        except (EntryError, LedgerHole) as error:
            assert not isinstance(command, e.Remembered), "it writes no entry"
            self._refuse(command, error)
        except LedgerError as error:
            if not self._ledger_failed:
                log.warning("event=ledger-failed reason=%s", error)
            self._ledger_failed = True
            return False
        self._ledger_failed = False
        return True

    async def _record_one(self, command: e.Record | e.RecordMark | e.Remembered) -> None:
        match command:
            case e.Record(group, origin, entries, bodies, after, upto, coming, lost):
                for entry in entries:
                    check_path(entry.path)
                    if entry.origin != origin:
                        raise EntryError(f"an entry of {entry.origin} came in the journal of {origin}")
                to_land = await self._ledger_thread.do(
                    self._ledger.record, group, entries, left_of=(origin, after, upto), lost=lost
                )
                reach(Point.RECORDED)
                if group in self._recorded:
                    self._recorded[group](entries, to_land, bodies, coming)
                self._feed(e.Recorded(group, origin, self._ledger.detailed().get(group, {}).get(origin, 0)))
            case e.RecordMark(mark):
                await self._ledger_thread.do(
                    self._ledger.mark, mark.group, mark.origin, mark.after, mark.upto, mark.prefix
                )
                self._feed(e.Marked(mark.group, mark.origin, mark.upto))
            case e.Remembered():
                await self._ledger_thread.do(self._ledger.put, "forgot", b"")
            case _:
                assert_never(command)

    def _refuse(self, command: e.Record | e.RecordMark, error: AnycastleError) -> None:
        self.refused += 1
        of = command.mark if isinstance(command, e.RecordMark) else command
        self._tell(of.group, of.origin, error)

    def _tell(self, group: str, origin: str, error: AnycastleError) -> None:
        kind = (group, origin, type(error).__name__)
        if kind not in self._told and len(self._told) < KINDS_TOLD_MAX:
            self._told.add(kind)
            log.warning("event=refused-announcement group=%s origin=%s reason=%s", group, origin, error)

    async def _store_fences(self) -> None:
        """How far journals are fenced, every now and then: forgetting it costs a wait."""
        while True:
            await asyncio.sleep(FENCES_SECONDS)
            fences, self._fences = self._fences, {}
            for (group, origin), upto in fences.items():
                try:
                    await self._ledger_thread.do(self._ledger.store_fenced, group, origin, upto)
                except AnycastleError:
                    break


def _bytes(command: e.Record | e.RecordMark | e.Remembered) -> int:
    """About what it takes in memory."""
    match command:
        case e.Record(entries=entries, bodies=bodies):
            return sum(map(_entry_bytes, entries)) + sum(map(len, bodies.values()))
        case e.RecordMark(mark):
            return ENTRY_BYTES + len(mark.prefix)
        case e.Remembered():
            return ENTRY_BYTES
        case _:
            assert_never(command)


def _entry_bytes(entry: Entry) -> int:
    xattrs = sum(len(name) + len(value) for name, value in entry.xattrs.items()) if entry.xattrs else 0
    return ENTRY_BYTES + len(entry.path) + len(entry.target) + xattrs
