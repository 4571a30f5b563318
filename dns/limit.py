"""Response-rate limiting: a network that asks too fast over UDP is, most likely, somebody else's forged address.

Law: a token bucket for each client network; what is over the limit is dropped, but every second time the client is
told to ask by TCP (TC, "slip"), so that a real resolver behind the address is never cut off. Who has a valid cookie
is not limited (the worker sees to it). Memory is bounded.
"""

import enum

NETWORK_BYTES_4 = 3
"""A /24: the unit in which IPv4 addresses are forged and routed."""
NETWORK_BYTES_6 = 7
"""A /56: what one household or customer gets."""
NETWORKS_MAX = 65536
"""Buckets kept, about 10 MB; beyond, the one that was made first is forgotten."""
BURST_SECONDS = 1.0
"""A bucket holds what may be spent in this time: resolvers come in bursts after a cache expires."""
SLIP = 2
"""Every how many-th limited answer is a truncated one instead of none."""


class Verdict(enum.Enum):
    """What becomes of one query."""

    PASS = "pass"
    SLIP = "slip"
    DROP = "drop"


class Limiter:
    """Counts by client network. `per_second_max` 0 lets everything pass."""

    def __init__(self, per_second_max: float, *, networks_max: int = NETWORKS_MAX) -> None:
        self._rate = per_second_max
        self._burst = max(1.0, per_second_max * BURST_SECONDS)
        self._networks_max = networks_max
        self._buckets: dict[bytes, list[float]] = {}

    def check(self, source: bytes, *, now: float) -> Verdict:
        """The verdict on a query from `source` (4 or 16 bytes), which is counted."""
        if not self._rate:
            return Verdict.PASS
        network = source[: NETWORK_BYTES_4 if len(source) == 4 else NETWORK_BYTES_6]
        bucket = self._buckets.get(network)
        if bucket is None:
            if len(self._buckets) >= self._networks_max:
                del self._buckets[next(iter(self._buckets))]
            self._buckets[network] = [self._burst - 1.0, now, 0.0]
            return Verdict.PASS
        tokens, since, limited = bucket
        tokens = min(self._burst, tokens + (now - since) * self._rate)
        if tokens >= 1.0:
            bucket[:] = tokens - 1.0, now, limited
            return Verdict.PASS
        bucket[:] = tokens, now, limited + 1.0
        return Verdict.DROP if limited % SLIP else Verdict.SLIP
