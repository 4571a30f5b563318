"""Scrubbing: one group's files are read again from the disk, hashed, and repaired from another member where damaged.

What is damage? A file that `stat` shows otherwise than recorded was changed by somebody: that is an edit, and looked at
like any other. Damage is what changed without the kernel's knowing: all that `stat` says is as recorded, nobody holds
the file open for writing, and yet its bytes, read twice past the cache, have another digest, or cannot be read at all.

Laws: nothing is replaced but what was found damaged, and only by content with the recorded digest; what was there is
kept below `.anycastle/conflicts/` as far as it can be read; what nobody can repair stays known, is not vouched for, and
is tried again. The background pass keeps its rate; it goes on after a restart where it was.
"""

import asyncio
import contextlib
import itertools
import logging
import os
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field

from blake3 import blake3

from anycastle.clock import Clock
from anycastle.errors import AnycastleError
from anycastle.replicator.disk import Tree, TreeError
from anycastle.replicator.entry import Entry, Kind
from anycastle.replicator.landing import Landing
from anycastle.replicator.ledger import Ledger
from anycastle.replicator.ledger_thread import LedgerThread
from anycastle.replicator.observation import Local, fingerprint_of
from anycastle.replicator.pace import Pace
from anycastle.replicator.scrub_look import BATCH_BYTES, Damaged, Differs, Finding, ScrubLook
from anycastle.replicator.threads import Threads

log = logging.getLogger("anycastle.replicator.scrub")

BATCH_FILES = 64
PASS_SECONDS_MIN = 24 * 3600.0
"""A background pass begins no sooner after the last one began."""
NOTE_SECONDS = 60.0
"""How often the ledger is told where the pass is."""
AGAIN_SECONDS = 60.0
"""What could not be repaired is tried again so often."""
DAMAGED_MAX = 10_000
"""Remembered by name."""


@dataclass(slots=True)
class Pass:
    """How far one pass is."""

    asked: bool
    """By a command, not by the clock: at full speed."""
    began: float
    files_total: int = 0
    bytes_total: int = 0
    files: int = 0
    bytes: int = 0
    damaged: int = 0
    repaired: int = 0
    ended: float | None = None


@dataclass(slots=True)
class Counters:
    """Since the start."""

    files: int = 0
    bytes: int = 0
    damaged: int = 0
    repaired: int = 0


@dataclass(slots=True)
class _Batch:
    """Small files that are looked at in one go."""

    items: list[tuple[bytes, Local]] = field(default_factory=list)
    bytes: int = 0


class Scrub:
    """Scrubs one group."""

    def __init__(
        self,
        group: str,
        tree: Tree,
        ledger: Ledger,
        landing: Landing,
        *,
        rate: int | None,
        clock: Clock,
        threads: Threads,
        ledger_thread: LedgerThread,
        look: Callable[[tuple[bytes, ...]], None],
    ) -> None:
        """`rate`: bytes/s of the background pass; None for no such pass. `look`: somebody edited these paths."""
        self.damaged: dict[bytes, str] = {}
        """Files that are damaged and not repaired yet -> why not."""
        self.counters = Counters()
        self.current: Pass | None = None
        """The pass under way, or the last one."""
        self._group = group
        self._tree = tree
        self._ledger = ledger
        self._landing = landing
        self._rate = rate
        self._clock = clock
        self._threads = threads
        self._ledger_thread = ledger_thread
        self._look = look
        self._finder = ScrubLook(tree)
        self._asked = asyncio.Event()
        self._noted_at = clock.now()

    def ask(self) -> None:
        """Begin a whole pass at full speed now; one that was asked for before goes on instead."""
        if self.current is None or not self.current.asked or self.current.ended is not None:
            self.current = Pass(asked=True, began=self._clock.now())
            self._asked.set()

    async def run(self) -> None:
        """Scrub until cancelled."""
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(self._passes())
            tasks.create_task(self._repair_again())

    # Passes

    async def _passes(self) -> None:
        while True:
            if not self._asked.is_set():
                with contextlib.suppress(TimeoutError):
                    async with asyncio.timeout(self._pause()):
                        await self._asked.wait()
            asked = self._asked.is_set()
            self._asked.clear()
            if not asked or self.current is None:
                self.current = Pass(asked=False, began=self._clock.now())
            try:
                await self._pass(self.current)
            except AnycastleError as error:  # the ledger cannot be read: later
                log.warning("group=%s event=scrub-failed reason=%s", self._group, error)
                self.current.ended = self._clock.now()
                await asyncio.sleep(AGAIN_SECONDS)

    def _pause(self) -> float | None:
        """Seconds until the next background pass; None for never."""
        if self._rate is None:
            return None
        try:
            if self._position():
                return 0.0
            began = float(self._ledger.get(f"scrub-began.{self._group}") or b"0")
        except AnycastleError:
            return AGAIN_SECONDS
        return min(PASS_SECONDS_MIN, max(0.0, began + PASS_SECONDS_MIN - self._clock.wall()))

    def _position(self) -> bytes:
        return self._ledger.get(f"scrub-at.{self._group}") or b""

    async def _pass(self, here: Pass) -> None:
        here.files_total, here.bytes_total = await self._threads.do(self._ledger.files_total, self._group)
        after = b"" if here.asked else self._position()
        if not after:
            await self._note(f"scrub-began.{self._group}", b"%.0f" % self._clock.wall())
        pace = Pace(None if here.asked else self._rate)
        while batch := await self._threads.do(self._read, after):
            for small in _batches([item for item in batch if self._small(item[1])]):
                await self._take(small, here, pace)
            for path, local in batch:
                if not self._small(local):
                    await self._take_large(path, local, here, pace)
            after = batch[-1][0]
            if self._asked.is_set():
                return  # a new pass was asked for
            if not here.asked and self._clock.now() - self._noted_at >= NOTE_SECONDS:
                await self._note(f"scrub-at.{self._group}", after)
        if not here.asked:
            await self._note(f"scrub-at.{self._group}", b"")
        here.ended = self._clock.now()
        log.info(
            "group=%s event=scrubbed files=%d bytes=%d damaged=%d repaired=%d seconds=%.1f",
            *(self._group, here.files, here.bytes, here.damaged, here.repaired, here.ended - here.began),
        )

    def _read(self, after: bytes) -> list[tuple[bytes, Local]]:
        """The next files in the order of their paths. In a thread."""
        found = self._ledger.locals_below(self._group, after, onwards=True)
        return list(itertools.islice((each for each in found if each[1].kind is Kind.FILE), BATCH_FILES))

    async def _note(self, key: str, value: bytes) -> None:
        self._noted_at = self._clock.now()
        with contextlib.suppress(AnycastleError):
            await self._ledger_thread.do(self._ledger.put, key, value)

    def _small(self, local: Local) -> bool:
        return local.fingerprint is not None and local.fingerprint.size <= BATCH_BYTES

    async def _take(self, batch: _Batch, here: Pass, pace: Pace) -> None:
        await asyncio.sleep(pace.delay(batch.bytes, now=self._clock.now()))
        findings = await self._threads.do(self._finder.small, batch.items)
        for (path, local), finding in zip(batch.items, findings, strict=True):
            await self._conclude(path, local, finding, here)

    async def _take_large(self, path: bytes, local: Local, here: Pass, pace: Pace) -> None:
        async def paced(count: int) -> None:
            await asyncio.sleep(pace.delay(count, now=self._clock.now()))

        finding = await self._examine_large(path, local, paced)
        if isinstance(finding, Damaged):  # read it once more: a bit that flipped on its way is no damage
            finding = await self._examine_large(path, local, paced)
        await self._conclude(path, local, finding, here)

    async def _examine_large(self, path: bytes, local: Local, paced: Callable[[int], Awaitable[None]]) -> Finding:
        reading = await self._threads.do(self._finder.open, path, local)
        if not isinstance(reading, int):
            return reading
        digest, offset = blake3(), 0
        try:
            while True:
                await paced(BATCH_BYTES)
                count = await self._threads.do(self._finder.read, reading, offset, digest)
                offset += count
                if not count:
                    break
            if fingerprint_of(os.fstat(reading)) != local.fingerprint:
                return Differs()
        except OSError as error:
            return self._finder.unreadable(error)
        finally:
            os.close(reading)
        return None if digest.digest() == local.digest else Damaged("", "its bytes are not what was recorded")

    async def _conclude(self, path: bytes, local: Local, finding: Finding, here: Pass) -> None:
        size = local.fingerprint.size if local.fingerprint else 0
        here.files += 1
        here.bytes += size
        self.counters.files += 1
        self.counters.bytes += size
        if isinstance(finding, Damaged):
            here.damaged += 1
            self.counters.damaged += 1
            log.warning("group=%s path=%r event=damaged reason=%r", self._group, path, finding.reason)
            here.repaired += await self._repair(path, local, finding)
            return
        self.damaged.pop(path, None)
        if isinstance(finding, Differs):
            self._look((path,))

    # Repair

    async def _repair(self, path: bytes, local: Local, finding: Damaged) -> bool:
        """True when the file is whole again."""
        entry = self._ledger.newest(self._group, path)
        if entry is None or entry.version != local.version:
            return False  # something newer is on its way and will replace it
        try:
            with self._landing.holding(path) as ours:
                if not ours:
                    return False
                await self._replace(entry, local)
        except (AnycastleError, OSError) as error:
            if path in self.damaged or len(self.damaged) < DAMAGED_MAX:
                self.damaged[path] = f"{path[:200]!r}: {finding.reason}; {error}"
            return False
        self.damaged.pop(path, None)
        self.counters.repaired += 1
        log.warning("group=%s path=%r event=repaired", self._group, path)
        return True

    async def _replace(self, entry: Entry, local: Local) -> None:
        with contextlib.suppress(AnycastleError, OSError):  # as far as it can be read
            await self._threads.do(self._tree.keep_conflict, entry.path, entry.version, local.fingerprint)
        staged = await self._landing.pulls.pull(entry)
        try:
            landed = await self._threads.do(self._tree.land, entry, staged, local.fingerprint)
        finally:
            staged.abort()
        await self._ledger_thread.do(self._ledger.landed, self._group, [(entry, landed)])

    async def _repair_again(self) -> None:
        while True:
            await asyncio.sleep(AGAIN_SECONDS)
            for path in tuple(self.damaged):
                local = self._ledger.local(self._group, path)
                if local is None or local.kind is not Kind.FILE:
                    self.damaged.pop(path, None)
                    continue
                with contextlib.suppress(TreeError):
                    (finding,) = await self._threads.do(self._finder.small, [(path, local)])
                    if isinstance(finding, Damaged):
                        await self._repair(path, local, finding)
                    else:
                        self.damaged.pop(path, None)


def _batches(items: list[tuple[bytes, Local]]) -> list[_Batch]:
    batches = [_Batch()]
    for path, local in items:
        size = local.fingerprint.size if local.fingerprint else 0
        if batches[-1].items and batches[-1].bytes + size > BATCH_BYTES:
            batches.append(_Batch())
        batches[-1].items.append((path, local))
        batches[-1].bytes += size
    return [batch for batch in batches if batch.items]
