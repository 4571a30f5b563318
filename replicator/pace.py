"""A token bucket: how long to wait so that bytes flow evenly at a limit. Pure.

Law: over any stretch of time at most `rate · time + one piece` bytes of each that shares it are let through, and a
piece is small enough to last a tenth of a second, so a limited link never sends in bursts and then stalls. The limit
may depend on the hour of the day; it is looked up for each piece.
"""

from collections.abc import Callable

from anycastle.replicator.settings import HourRate


class Pace:
    """The limit of one peer, shared by all that goes to it but urgent messages."""

    def __init__(
        self,
        bytes_per_second: int | None,
        hours: tuple[HourRate, ...] = (),
        hour: Callable[[], int] = lambda: 0,
    ) -> None:
        """`hour` is asked which hour of the day it is, where `hours` are given."""
        self._usual = bytes_per_second
        self._hours = hours
        self._hour = hour
        self._free_at = 0.0
        self._first_free_at = 0.0

    @property
    def rate(self) -> int | None:
        """Bytes/s at this hour; None is no limit."""
        if self._hours:
            hour = self._hour()
            for each in self._hours:
                if each.covers(hour):
                    return each.bytes_per_second
        return self._usual

    def piece_bytes(self, most: int) -> int:
        """How much to send at a time, at most `most`."""
        rate = self.rate
        return most if rate is None else max(1, min(most, rate // 10))

    def delay(self, count: int, *, now: float) -> float:
        """Take `count` bytes; returns the seconds to wait before sending them. Unused time is not saved up."""
        rate = self.rate
        if rate is None:
            return 0.0
        start = max(now, self._free_at)
        self._free_at = start + count / rate
        return start - now

    def delay_first(self, count: int, *, now: float) -> float:
        """The same for what goes before the rest: it waits for its own kind only, and the rest waits for it."""
        rate = self.rate
        if rate is None:
            return 0.0
        start = max(now, self._first_free_at)
        self._first_free_at = start + count / rate
        self._free_at = max(now, self._free_at) + count / rate
        return start - now
