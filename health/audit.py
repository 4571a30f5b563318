"""The list of changes: who changed what, from where, when, and what became of it; a JSON object a line, and the log.

Laws: a change that was let in is in the list, whatever became of it; the list is synced to the disk before its answer
goes out; it takes a bounded amount of room. A list that cannot be written stops no change: at three in the morning with
a full disk somebody needs to drain. Who was not let in stands in no list, since strangers could fill it.
"""

import logging
import os
from datetime import UTC, datetime
from pathlib import Path

import msgspec

from anycastle.clock import Clock
from anycastle.health.access import Caller

FILE_BYTES_MAX = 4 * 1024 * 1024
"""Some twenty thousand changes; then the file becomes `.1`, and what was there before it is dropped."""
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
        self._file = file
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
            self._append(msgspec.json.encode(change) + b"\n")
            self.fault = ""
        except OSError as error:
            self.fault = f"changes cannot be written to {self._file}: {error.strerror}"
            log.error("event=change-not-kept reason=%r", self.fault)

    def _append(self, line: bytes) -> None:
        flags = os.O_RDWR | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC | os.O_NOFOLLOW
        opened = os.open(self._file, flags, 0o600)
        try:
            size = os.fstat(opened).st_size
            if size and os.pread(opened, 1, size - 1) != b"\n":  # torn by a crash or a full disk
                line = b"\n" + line
            if size + len(line) > FILE_BYTES_MAX:
                os.replace(self._file, self._older)
                os.close(opened)
                opened = os.open(self._file, flags, 0o600)
            os.write(opened, line)
            os.fsync(opened)
        finally:
            os.close(opened)

    @property
    def _older(self) -> Path:
        return self._file.with_name(self._file.name + ".1")

    def newest(self, limit: int) -> list[Change]:
        """The newest first. A line torn by a crash is left out."""
        found: list[Change] = []
        for file in (self._file, self._older):
            lines = file.read_bytes().splitlines() if file.exists() else []
            for line in reversed(lines):
                if len(found) >= limit:
                    return found
                try:
                    found.append(msgspec.json.decode(line, type=Change))
                except msgspec.DecodeError:
                    continue
        return found
