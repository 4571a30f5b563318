"""What a member remembers of what happened: the tail that is watched, the timeline that is kept, the hour's series.

Law: remembering holds up nothing: files are written by threads, and a disk that hangs or is full costs lines here and
nothing else.
"""

from __future__ import annotations

import asyncio
import logging
from collections import deque
from typing import TYPE_CHECKING

from anycastle import __version__
from anycastle.happenings import RouteWatch, conditions, conflict_event, sample
from anycastle.health.event import Event, Kind
from anycastle.health.series import History
from anycastle.health.timeline import Timeline
from anycastle.news import Late, Turns
from anycastle.replicator.schema import LedgerError

if TYPE_CHECKING:
    from anycastle.app import Member

TAIL_EVENTS = 500
LOOK_SECONDS = 1.0
log = logging.getLogger("anycastle.chronicle")


class Chronicle:
    """One member's."""

    def __init__(self, member: Member) -> None:
        self._member = member
        self._turns = Turns()
        self._late = Late()
        self.routes = RouteWatch()
        self._last_conflict = member.ledger.last_conflict()
        self.timeline = Timeline(member.settings.state_dir)
        self.history = History()
        self.tail: deque[Event] = deque(maxlen=TAIL_EVENTS)

    def tell(self, event: Event, *, kept: bool = True) -> None:
        """`kept`: worth its place on the disk, too."""
        self.tail.append(event)
        if kept:
            self.timeline.record(event)
        self._member.changes.bump()

    async def begin(self) -> None:
        """The first word of a run says how the one before ended."""
        try:
            in_order = await asyncio.to_thread(self.timeline.ended_in_order)
        except OSError as error:
            log.error("event=timeline-unreadable reason=%r", str(error))
            in_order = True
        name = self._member.settings.member
        crashed = "; the run before did not end in order: killed, crashed, or the power went"
        text = f"{name} starts, version {__version__}" + ("" if in_order else crashed)
        self.tell(self._own(Kind.START, text))

    async def end(self) -> None:
        self.tell(self._own(Kind.STOP, f"{self._member.settings.member} stops, as it was told to"))
        await asyncio.to_thread(self.timeline.write)

    async def run(self) -> None:
        """Until cancelled."""
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(self._watch())
            tasks.create_task(self._keep())

    async def _watch(self) -> None:
        member = self._member
        while True:
            now, wall = member.clock.now(), member.clock.wall()
            present = conditions(member, now=now) | self.routes.conditions(member)
            if member.view is not None:
                present |= self._late.conditions(member.view, now=now)
            for event in (*self._turns.told(present, now=now, wall=wall), *self._conflicts()):
                log.info("event=%s text=%r", event.kind.value, event.text)
                self.tell(event)
            if self.history.due(now=now):
                self.history.take(sample(member, now=now), now=now, wall=wall)
                member.changes.bump()
            await asyncio.sleep(LOOK_SECONDS)

    def _conflicts(self) -> list[Event]:
        """Those that came since the last look."""
        member, wall = self._member, self._member.clock.wall()
        try:
            last = member.ledger.last_conflict()  # first: one that comes meanwhile is among those found, or comes next
            found = member.ledger.conflicts_after(self._last_conflict)
        except LedgerError:  # whoever needs the ledger more says so
            return []
        self._last_conflict = max(found, default=last)
        return [conflict_event(conflict, site=member.settings.member, wall=wall) for conflict in found.values()]

    async def _keep(self) -> None:
        while True:
            if self.timeline.waiting:
                await asyncio.to_thread(self.timeline.write)
            await asyncio.sleep(LOOK_SECONDS)

    def _own(self, kind: Kind, text: str) -> Event:
        return Event(wall=self._member.clock.wall(), kind=kind, site=self._member.settings.member, text=text)
