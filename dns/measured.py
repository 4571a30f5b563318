"""How far away client networks are from one site, in time: what its edge has measured, by network, forgotten slowly.

Law: pure and bounded. A number is a decaying mean of logarithms: the typical round trip (the median, as round trips are
spread about log-normally), so that a few slow phones do not hide what the path can do. With it goes the number of
connections that it stands on, halved each HALF_LIFE_SECONDS; nothing else ages a number.
"""

import heapq
import ipaddress
import math

from anycastle.dns.geo import EMBEDDINGS, HASH_BITS_4, HASH_BITS_6, inner_address

HALF_LIFE_SECONDS = 3600.0
"""Long enough to collect what a small network sends, short enough that a new path counts within the hour."""
ROUND_TRIP_SECONDS_MIN = 0.000_001
ROUND_TRIP_SECONDS_MAX = 10.0
"""What a kernel may say; beyond it a connection tells of something else than a path."""
CONNECTIONS_MAX = 1e6
"""More say nothing more, and floats add up well below it."""
NETWORKS_MAX = 50_000
"""Of one site: about 15 MB. The networks that connect least are forgotten first."""
NUMBERS_MAX = 400_000
"""Of all sites together, so that fifty sites do not take fifty times as much."""

_FORGOTTEN_SHARE = 8
"""One in so many goes at once when there is no room: looking for the least costs more than adding one."""

Number = tuple[float, float, float]
"""The mean logarithm of the round trip in seconds, connections behind it, and when that was so (BOOTTIME seconds)."""

_BYTES_4, _BYTES_6 = HASH_BITS_4 // 8, HASH_BITS_6 // 8
_HALF_EMBEDDED = frozenset(
    embedding.network.network_address.packed[:_BYTES_6]
    for embedding in EMBEDDINGS
    if embedding.network.prefixlen > HASH_BITS_6
)
"""IPv6 networks of which a part stands for IPv4: the rest is reserved, and nobody connects from there."""


def client_network(address: bytes) -> bytes | None:
    """What is measured as one: the first 3 bytes of an IPv4 address, also of an embedded one, or 6 of an IPv6 address.

    None for the few addresses around embedded ones, loopback among them.
    """
    address = inner_address(address)
    if len(address) == 4:
        return address[:_BYTES_4]
    network = address[:_BYTES_6]
    return None if network in _HALF_EMBEDDED else network


def show_network(network: bytes) -> str:
    """For people: `192.0.2.0/24`.

    >>> show_network(bytes((192, 0, 2))), show_network(bytes((0x20, 1, 0xD, 0xB8, 0, 1)))
    ('192.0.2.0/24', '2001:db8:1::/48')
    """
    return f"{ipaddress.ip_address(first_address(network))}/{8 * len(network)}"


def first_address(network: bytes) -> bytes:
    """Of 4 or 16 bytes."""
    return network.ljust(4 if len(network) == _BYTES_4 else 16, b"\0")


def connections(number: Number, *, now: float) -> float:
    """How many of them still count."""
    _, count, at = number
    return count * math.exp2(min(0.0, at - now) / HALF_LIFE_SECONDS)


def seconds(number: Number) -> float:
    """The typical round trip."""
    return math.exp(number[0])


def networks_max(sites: int) -> int:
    """How many networks of each site are remembered when there are so many sites."""
    return min(NETWORKS_MAX, NUMBERS_MAX // max(1, sites))


class MeasuredNetworks:
    """What one site has measured, as this member knows it."""

    def __init__(self, networks_max: int = NETWORKS_MAX) -> None:
        self.numbers: dict[bytes, Number] = {}
        """By client network; read it, or copy it to look at it in a thread."""
        self.forgotten = 0
        """Networks that had to make room."""
        self._networks_max = networks_max

    def sample(self, network: bytes, round_trip_seconds: float, *, now: float) -> None:
        """One connection."""
        bounded = min(max(round_trip_seconds, ROUND_TRIP_SECONDS_MIN), ROUND_TRIP_SECONDS_MAX)
        logarithm = math.log(bounded)
        known = self.numbers.get(network)
        if known is None:
            self._make_room()
            self.numbers[network] = (logarithm, 1.0, now)
            return
        count = min(connections(known, now=now) + 1.0, CONNECTIONS_MAX)
        self.numbers[network] = (known[0] + (logarithm - known[0]) / count, count, now)

    def hear(self, network: bytes, round_trip_seconds: float, count: float, *, now: float) -> None:
        """What the site itself says of a network; it goes before all that it said earlier."""
        if network not in self.numbers:
            self._make_room()
        self.numbers[network] = (math.log(round_trip_seconds), count, now)

    def _weight(self, network: bytes) -> float:
        """Grows with the connections that still count, whatever the time is."""
        _, count, at = self.numbers[network]
        return math.log2(count) + at / HALF_LIFE_SECONDS

    def _make_room(self) -> None:
        if len(self.numbers) < self._networks_max:
            return
        going = max(1, self._networks_max // _FORGOTTEN_SHARE)
        for network in heapq.nsmallest(going, self.numbers, key=self._weight):
            del self.numbers[network]
        self.forgotten += going
