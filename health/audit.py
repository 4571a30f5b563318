"""The list of changes: who changed what, from where, when, and what became of it; a file of lines, and the log.

Laws: a change that was let in is in the list, whatever became of it; the list is synced to the disk before its answer
goes out. A list that cannot be written stops no change: at three in the morning with
a full disk somebody needs to drain. Who was not let in stands in no list, since strangers could fill it.
"""

import logging
from datetime import UTC, datetime
from pathlib import Path

import msgspec

from anycastle.clock import Clock
from anycastle.health.access import Caller
from anycastle.health.lines import Lines

ORDER_CHARACTERS_MAX = 1000
SHOWN_MAX = 1000
log = logging.getLogger("anycastle.audit")


class Change(msgspec.Struct, frozen=True, kw_only=True):
    """One line."""

    at: str
    """UTC, RFC 3339."""
    who: str
    origin: str
    what: str
    order: str
    """What was sent along, as it came; cut off when it is long."""
    outcome: str
    """`done`, or why not."""


class Audit:
    """The list of one member."""

    def __init__(self, file: Path, clock: Clock) -> None:
        self._lines = Lines(file, Change)
        self._clock = clock
        self.fault = ""
        """Why the last change could not be written down; empty when it was."""

    def record(self, caller: Caller, what: str, order: str, outcome: str) -> None:
        change = Change(
            at=datetime.fromtimestamp(self._clock.wall(), UTC).isoformat(timespec="milliseconds"),
            who=caller.who,
            origin=caller.origin,
            what=what,
            order=order[:ORDER_CHARACTERS_MAX],
            outcome=outcome,
        )
        told = (change.what, change.who, change.origin, change.order, change.outcome)
        log.info("event=change what=%s who=%r from=%r order=%r outcome=%r", *told)
        try:
            self._lines.append([change])
            self.fault = ""
        except OSError as error:
            self.fault = f"changes cannot be written to {self._lines.file}: {error.strerror}"
            log.error("event=change-not-kept reason=%r", self.fault)

    def newest(self, limit: int) -> list[Change]:
        """The newest first."""
        return self._lines.newest(limit)
