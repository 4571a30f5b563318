"""The timeline of a member: what happened here, kept over restarts, found again by site and path.

Laws: telling of something waits for nobody, for the files are written by threads; what was told is on the disk a second
later, and is found at once; what cannot be written stays in memory, as much as has room, and what was lost is counted.
What happened to content has a file of its own, so that a bulk import never pushes out when a site was drained.
"""

import logging
import threading
from collections import deque
from pathlib import Path

import msgspec

from anycastle.health.event import TEXT_CHARACTERS_MAX, Event, Kind, Wanted
from anycastle.health.lines import Lines

FILE = "timeline.log"
CONTENT_FILE = "timeline-content.log"
OF_CONTENT = frozenset({Kind.CONTENT, Kind.CONFLICT})
WAITING_MAX = 2000
"""Below half of a file, so that a batch never pushes out what came just before it."""
SHOWN_MAX = 1000
log = logging.getLogger("anycastle.timeline")


class Timeline:
    """`record` in the event loop; all else in threads, too."""

    def __init__(self, folder: Path) -> None:
        self._rest, self._content = _Kept(folder / FILE), _Kept(folder / CONTENT_FILE)
        self._busy = threading.Lock()
        self.recorded = 0
        """Since the start: whoever shows the timeline asks anew when this moves."""

    def record(self, event: Event) -> None:
        if len(event.text) > TEXT_CHARACTERS_MAX:
            event = msgspec.structs.replace(event, text=event.text[:TEXT_CHARACTERS_MAX] + " …")
        self.recorded += 1
        (self._content if event.kind in OF_CONTENT else self._rest).tell(event)

    @property
    def waiting(self) -> int:
        """Told and not on the disk."""
        return len(self._rest.waiting) + len(self._content.waiting)

    @property
    def lost(self) -> int:
        return self._rest.lost + self._content.lost

    @property
    def fault(self) -> str:
        """Why the last events could not be written; empty when they were."""
        return self._rest.fault or self._content.fault

    def write(self) -> None:
        """Everything told by now."""
        with self._busy:
            self._rest.write()
            self._content.write()

    def newest(self, limit: int, wanted: Wanted) -> list[Event]:
        """The newest first, those not written yet among them. Raises OSError when a file cannot be read."""
        self.write()
        with self._busy:
            found = self._rest.newest(limit, wanted) + self._content.newest(limit, wanted)
        return sorted(found, key=lambda event: event.wall, reverse=True)[:limit]

    def ended_in_order(self) -> bool:
        """The last word is one of a member that stopped, or there is none. Raises OSError."""
        return all(event.kind is Kind.STOP for event in self._rest.newest(1, Wanted()))


class _Kept:
    """One file, and what is on its way there."""

    def __init__(self, file: Path) -> None:
        self._lines = Lines(file, Event)
        self.waiting: deque[Event] = deque()
        self.lost = 0
        self.fault = ""

    def tell(self, event: Event) -> None:
        if len(self.waiting) >= WAITING_MAX:
            self.lost += 1
        else:
            self.waiting.append(event)

    def write(self) -> None:
        """A disk that takes nothing costs the place of what waits, and is told of once."""
        batch = list(self.waiting)
        if not batch:
            return
        try:
            self._lines.append(batch)
        except OSError as error:
            fault = f"events cannot be written to {self._lines.file}: {error.strerror}"
            if fault != self.fault:
                log.error("event=timeline-not-kept reason=%r", fault)
            self.fault = fault
            return
        for _ in batch:
            self.waiting.popleft()
        self.fault = ""

    def newest(self, limit: int, wanted: Wanted) -> list[Event]:
        waiting = [event for event in reversed(list(self.waiting)) if wanted.matches(event)][:limit]
        left = limit - len(waiting)
        return waiting + self._lines.newest(left, wanted.matches) if left else waiting
