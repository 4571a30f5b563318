"""The only place that reads a clock.

Law: intervals are measured with CLOCK_BOOTTIME, which never jumps and runs on through a suspend; wall time is for
showing to people. Cores never import this module: they take `now` as an argument (seconds, BOOTTIME).
"""

import time
from typing import Protocol


class Clock(Protocol):
    """What a shell needs of time; tests pass their own."""

    def now(self) -> float:
        """Seconds of CLOCK_BOOTTIME: only differences mean anything."""
        ...

    def wall(self) -> float:
        """Seconds since the epoch, for people."""
        ...


class SystemClock:
    """The machine's clock."""

    def now(self) -> float:
        return time.clock_gettime(time.CLOCK_BOOTTIME)

    def wall(self) -> float:
        return time.clock_gettime(time.CLOCK_REALTIME)


class JumpDetector:
    """Tells when BOOTTIME and REALTIME moved apart by more than a limit: a paused or suspended machine, or a clock set.

    A jump means that time may have passed that we did not count, so all leases must be dropped (docs/protocol.md).
    A virtual machine paused with both clocks stopped is the known hole that no guest can see.
    """

    def __init__(self, clock: Clock, *, limit_seconds: float = 0.5) -> None:
        self._clock = clock
        self._limit_seconds = limit_seconds
        self._offset = clock.wall() - clock.now()

    def jumped(self) -> bool:
        """True once for each jump; slow slewing (NTP, at most 500 ppm) is followed without alarm."""
        offset = self._clock.wall() - self._clock.now()
        moved = abs(offset - self._offset)
        self._offset = offset
        return moved > self._limit_seconds
