"""Response-rate limiting: a network that asks too fast over UDP is, most likely, somebody else's forged address.

Law: a token bucket for each client network; what is over the limit is dropped, but every second time the client is
told to ask by TCP (TC, "slip"), so that a real resolver behind the address is never cut off. Who has a valid cookie
is not limited (the worker sees to it).

The table has a fixed size and forgets nothing that matters. A network may stand in any of the WAYS places of one row,
chosen by a keyed hash. A newcomer takes the place with the most tokens of its row, *with the tokens that are there*.
So a flood from random networks, whose buckets are full again at once, takes places from each other and never from a
bucket that is being limited; and whoever could choose where networks fall would gain nothing, because a row never
gives out more than its places hold.
"""

import enum

NETWORK_BYTES_4 = 3
"""A /24: the unit in which IPv4 addresses are forged and routed."""
NETWORK_BYTES_6 = 7
"""A /56: what one household or customer gets."""
ROW_BITS = 14
"""16,384 rows of 4 places: 65,536 networks, 8 MB in this form. With 1,000 networks being limited, one newcomer in some
two million falls into a row without room."""
WAYS = 4
BURST_SECONDS = 1.0
"""A bucket holds what may be spent in this time: resolvers come in bursts after a cache expires."""
SLIP = 2
"""Every how many-th limited answer is a truncated one instead of none."""

KEY = 0x9E3779B97F4A7C15
"""Spreads networks over the rows as well as any other large number, but everybody knows it."""

_FAMILY_4 = 1 << 8 * NETWORK_BYTES_6
"""Keeps IPv4 networks apart from IPv6 ones."""
_WORD_BITS = 64
_WORD = (1 << _WORD_BITS) - 1


class Verdict(enum.Enum):
    """What becomes of one query."""

    PASS = "pass"
    SLIP = "slip"
    DROP = "drop"


class Limiter:
    """Counts by client network. `per_second_max` 0 lets everything pass; `key` is 64 bits nobody else knows."""

    def __init__(self, per_second_max: float, *, key: int = KEY, row_bits: int = ROW_BITS) -> None:
        self._rate = per_second_max
        self._burst = max(1.0, per_second_max * BURST_SECONDS)
        self._multiplier = key & _WORD | 1
        self._shift = _WORD_BITS - row_bits
        places = WAYS << row_bits if per_second_max else 0
        self._networks = [0] * places
        self._tokens = [self._burst] * places
        self._since = [0.0] * places
        self._limited = [0] * places

    def check(self, source: bytes, *, now: float) -> Verdict:
        """The verdict on a query from `source` (4 or 16 bytes), which is counted."""
        if not self._rate:
            return Verdict.PASS
        place = self._place(network_of(source), now)
        tokens = self._tokens_at(place, now)
        self._since[place] = now
        if tokens >= 1.0:
            self._tokens[place] = tokens - 1.0
            return Verdict.PASS
        self._tokens[place] = tokens
        self._limited[place] += 1
        return Verdict.SLIP if self._limited[place] % SLIP else Verdict.DROP

    def _place(self, network: int, now: float) -> int:
        """The network's own place; or that with the most tokens of its row (the first of equals), which becomes its."""
        row = ((network * self._multiplier & _WORD) >> self._shift) * WAYS
        places = range(row, row + WAYS)
        for place in places:
            if self._networks[place] == network:
                return place
        place = max(places, key=lambda each: self._tokens_at(each, now))
        self._networks[place] = network
        return place

    def _tokens_at(self, place: int, now: float) -> float:
        return min(self._burst, self._tokens[place] + (now - self._since[place]) * self._rate)


def network_of(source: bytes) -> int:
    """The client network of an address, as a number that is never 0."""
    if len(source) == 4:
        return _FAMILY_4 | int.from_bytes(source[:NETWORK_BYTES_4], "big")
    return _FAMILY_4 << 1 | int.from_bytes(source[:NETWORK_BYTES_6], "big")
