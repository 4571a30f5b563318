"""The timeline of a member: what happened here, kept over restarts, found again by site and path.

Laws: telling of something waits for nobody, for the file is written by threads; what was told is on the disk a second
later, and is found at once; what cannot be written stays in memory, as much as has room, and what was lost is counted.
"""

import logging
import threading
from collections import deque
from pathlib import Path

import msgspec

from anycastle.health.event import TEXT_CHARACTERS_MAX, Event, Wanted
from anycastle.health.lines import Lines

WAITING_MAX = 2000
"""Below half of the file, so that a batch never pushes out what came just before it."""
SHOWN_MAX = 1000
log = logging.getLogger("anycastle.timeline")


class Timeline:
    """`record` in the event loop; `write` and `newest` in threads."""

    def __init__(self, file: Path) -> None:
        self._lines = Lines(file, Event)
        self._waiting: deque[Event] = deque()
        self._writing = threading.Lock()
        self.recorded = 0
        """Since the start: whoever shows the timeline asks anew when this moves."""
        self.lost = 0
        self.fault = ""
        """Why the last events could not be written; empty when they were."""

    def record(self, event: Event) -> None:
        if len(event.text) > TEXT_CHARACTERS_MAX:
            event = msgspec.structs.replace(event, text=event.text[:TEXT_CHARACTERS_MAX] + " …")
        self.recorded += 1
        if len(self._waiting) >= WAITING_MAX:
            self.lost += 1
        else:
            self._waiting.append(event)

    @property
    def waiting(self) -> int:
        return len(self._waiting)

    def write(self) -> None:
        """Everything told by now. A disk that takes nothing costs the place of what waits, and is told of once."""
        with self._writing:
            batch = list(self._waiting)
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
                self._waiting.popleft()
            self.fault = ""

    def newest(self, limit: int, wanted: Wanted) -> list[Event]:
        """The newest first, those not written yet among them. Raises OSError when the file cannot be read."""
        self.write()
        with self._writing:
            waiting = [event for event in reversed(tuple(self._waiting)) if wanted.matches(event)][:limit]
            return (
                waiting + self._lines.newest(limit - len(waiting), wanted.matches) if len(waiting) < limit else waiting
            )
