"""A token bucket: how long to wait so that bytes flow evenly at a limit. Pure.

Law: over any stretch of time at most `rate · time + one piece` bytes are let through, and a piece is small enough to
last a tenth of a second, so a limited link never sends in bursts and then stalls.
"""


class Pace:
    """The limit of one peer, shared by all that it pulls at once."""

    def __init__(self, bytes_per_second: int | None) -> None:
        self._rate = bytes_per_second
        self._free_at = 0.0

    def piece_bytes(self, most: int) -> int:
        """How much to send at a time, at most `most`."""
        return most if self._rate is None else max(1, min(most, self._rate // 10))

    def delay(self, count: int, *, now: float) -> float:
        """Take `count` bytes; returns the seconds to wait before sending them. Unused time is not saved up."""
        if self._rate is None:
            return 0.0
        start = max(now, self._free_at)
        self._free_at = start + count / self._rate
        return start - now
