"""Carries stretches of journals to the other members, small bodies along with them.

Laws: each member has a lane of its own, so a slow one delays nobody; a full link makes its lane wait, nothing is
dropped silently; a stretch asked for twice is sent once. Members that are at the same place share what was read.
"""

import asyncio
import logging
from collections import OrderedDict
from collections.abc import Callable, Collection, Iterator, Sequence
from dataclasses import dataclass, field

import msgspec

from anycastle.errors import AnycastleError
from anycastle.replicator.entry import Entry
from anycastle.replicator.event import SendEntries
from anycastle.replicator.ledger import Ledger
from anycastle.replicator.link_frame import FrameError
from anycastle.replicator.message import BODIES_FOLLOW, Bodies, Entries
from anycastle.replicator.peer import Links
from anycastle.replicator.threads import Threads

log = logging.getLogger("anycastle.replicator.courier")

ENTRIES_MAX = 256
"""In one message."""
BODY_BYTES_MAX = 1024 * 1024
"""Of the bodies in one message; the frame limit is four times that."""
ALONG_BYTES_MAX = 8 * 1024
"""Bodies of more than that follow their entries: these then arrive whole in the first packets, whatever TCP does."""
READ_KEPT = 16
"""Messages kept for the other members."""
LANE_MAX = 1000
"""Stretches that wait for one member; beyond it they are dropped, and asked for again."""
FULL_SECONDS = 0.02

Stretch = tuple[str, str, int, int, bool]
"""(group, origin, after, upto, whether small bodies go along)."""


@dataclass(slots=True)
class _Lane:
    waiting: dict[Stretch, None] = field(default_factory=dict)
    filled: asyncio.Event = field(default_factory=asyncio.Event)


class Courier:
    """One member's lanes."""

    def __init__(
        self,
        members: Sequence[str],
        ledger: Ledger,
        *,
        threads: Threads,
        body: Callable[[Entry], bytes | None],
        sites: Collection[str] | None = None,
    ) -> None:
        """`body`: the small content of an entry that goes along, if it is still here. Called in a thread. `sites`:
        those of the members that want bodies; all of them by default.
        """
        self.too_long = 0
        """Entries that do not fit in a frame; their journal is stuck."""
        self._ledger = ledger
        self._threads = threads
        self._body = body
        self._sites = frozenset(members if sites is None else sites)
        self._lanes = {member: _Lane() for member in members}
        self._read: OrderedDict[Stretch, asyncio.Future[Entries | None]] = OrderedDict()

    def ask(self, command: SendEntries) -> None:
        """Send it soon."""
        lane = self._lanes[command.member]
        if len(lane.waiting) < LANE_MAX:
            bodies = command.bodies and command.member in self._sites
            stretch = (command.group, command.origin, command.after, command.upto, bodies)
            lane.waiting[stretch] = None
            lane.filled.set()

    async def run(self, links: Links) -> None:
        async with asyncio.TaskGroup() as tasks:
            for member, lane in self._lanes.items():
                tasks.create_task(self._serve(member, lane, links))

    async def _serve(self, member: str, lane: _Lane, links: Links) -> None:
        while True:
            await lane.filled.wait()
            lane.filled.clear()
            while lane.waiting:
                stretch = next(iter(lane.waiting))
                del lane.waiting[stretch]
                try:
                    await self._carry(member, stretch, links)
                except AnycastleError as error:  # the ledger cannot be read; it is asked for again
                    log.warning("peer=%s event=not-sent reason=%s", member, error)
                if member not in links.connected():
                    lane.waiting.clear()  # the controller begins anew with the next link

    async def _carry(self, member: str, stretch: Stretch, links: Links) -> None:
        group, origin, after, upto, bodies = stretch
        while after < upto and member in links.connected():
            message = await self._message((group, origin, after, min(upto, after + ENTRIES_MAX), bodies))
            if message is None:
                return
            parts = _parts(message) if links.version(member) >= BODIES_FOLLOW else (message,)
            for part in parts:
                while not self._send(member, part, links) and member in links.connected():  # noqa: ASYNC110 - links tell nobody
                    await asyncio.sleep(FULL_SECONDS)
            after = message.stretch()[1]

    def _send(self, member: str, message: Entries | Bodies, links: Links) -> bool:
        """False when the link is full. What does not fit in a frame goes in halves, at last without its body."""
        try:
            return links.send(member, message)
        except FrameError as error:
            if isinstance(message, Bodies):
                return True  # they are pulled
            group, origin, entries = message.group, message.origin, message.entries
            after, upto = message.stretch()
            if message.bodies:
                return self._send(member, Entries(group, origin, entries, {}, after, upto), links)
            if len(entries) > 1:
                half = len(entries) // 2
                middle = entries[half - 1].seq
                first = Entries(group, origin, entries[:half], {}, after, middle)
                second = Entries(group, origin, entries[half:], {}, middle, upto)
                return self._send(member, first, links) and self._send(member, second, links)
            if not self.too_long:
                log.warning("group=%s path=%r event=not-sent reason=%s", group, entries[0].path, error)
            self.too_long += 1
            return True

    async def _message(self, stretch: Stretch) -> Entries | None:
        """The first part of a stretch that fits, with what is left of it; None when the ledger does not hold it."""
        reading = self._read.get(stretch)
        if reading is None:
            reading = self._read[stretch] = asyncio.get_running_loop().create_future()
            while len(self._read) > READ_KEPT:
                self._read.popitem(last=False)
            try:
                reading.set_result(await self._threads.do(self._read_message, stretch))
            except BaseException:
                self._read.pop(stretch, None)
                reading.cancel()
                raise
        return await asyncio.shield(reading)

    def _read_message(self, stretch: Stretch) -> Entries | None:
        group, origin, after, upto, with_bodies = stretch
        lost = self._ledger.lost_beyond(group, origin, after)
        if lost is not None and lost[0] <= after:
            return Entries(group, origin, (), {}, after, min(upto, lost[1]), lost=True)
        if lost is not None:
            upto = min(upto, lost[0])
        entries: list[Entry] = []
        bodies: dict[bytes, bytes] = {}
        left = BODY_BYTES_MAX
        for entry in self._ledger.entries(group, origin, after, upto - after):
            if entry.seq > upto:
                break
            body = None if not with_bodies or entry.digest in bodies else self._body(entry)
            if body is not None and len(body) > left:
                upto = entries[-1].seq
                break
            if body is not None:
                bodies[entry.digest] = body
                left -= len(body)
            entries.append(entry)
        if upto > self._ledger.detailed()[group].get(origin, 0):
            return None
        return Entries(group, origin, tuple(entries), bodies, after, upto)


def _parts(message: Entries) -> Iterator[Entries | Bodies]:
    """A fence waits for the entries alone."""
    if sum(map(len, message.bodies.values())) <= ALONG_BYTES_MAX:
        yield message
        return
    yield msgspec.structs.replace(message, bodies={}, coming=tuple(message.bodies))
    yield Bodies(message.group, message.bodies)
