"""Which sites are near a client: every network of the internet belongs to one place, with one order of sites.

Law: networks whose order of sites is equal are one place; the scope of a lookup is the leaf of the merged tree
(dns/runs.py), also for the default place, so the scopes of two answers never overlap (RFC 7871 section 7.2.1). An IPv6
address that carries an IPv4 address is looked up by it, and its scope is in bits of the address asked about.
"""

import ipaddress
from collections.abc import Iterable
from dataclasses import dataclass

from anycastle.dns.runs import Runs, finished, overlay, paint
from anycastle.dns.settings import Network

DEFAULT_PLACE = 0
"""The place of networks that no map covers."""

HASH_BITS_4 = 24
HASH_BITS_6 = 48
"""The least network that is hashed as one client: what resolvers send at most (/24), and what a household may hold."""

WHY_TEXTS_MAX = 3
"""How many of its sources a place names; `Geo.why` is exact for explicit networks."""


@dataclass(frozen=True, slots=True)
class Place:
    """All networks with this order of sites."""

    order: tuple[str, ...]
    """Every site, the closest first."""
    why: str
    """Where the order comes from, for people."""


@dataclass(frozen=True, slots=True)
class Mapped:
    """One network of a map: its complete order of sites, and where that is said."""

    network: Network
    order: tuple[str, ...]
    why: str


@dataclass(frozen=True, slots=True)
class Embedding:
    """A prefix of IPv6 whose addresses carry an IPv4 address that begins `offset_bits` in."""

    network: ipaddress.IPv6Network
    offset_bits: int
    inverted: bool = False

    def inside(self, address: int) -> int:
        """The IPv4 address in an IPv6 address."""
        found = (address >> (96 - self.offset_bits)) & 0xFFFFFFFF
        return found ^ 0xFFFFFFFF if self.inverted else found


EMBEDDINGS = (
    Embedding(ipaddress.IPv6Network("::ffff:0:0/96"), 96),  # v4-mapped, RFC 4291 section 2.5.5.2
    Embedding(ipaddress.IPv6Network("64:ff9b::/96"), 96),  # NAT64, RFC 6052 section 2.1
    Embedding(ipaddress.IPv6Network("2001::/32"), 96, inverted=True),  # Teredo client, RFC 4380 section 4
    Embedding(ipaddress.IPv6Network("2002::/16"), 16),  # 6to4, RFC 3056 section 2
)


@dataclass(frozen=True, slots=True)
class Geo:
    """The whole map; immutable, and may be pickled to the workers."""

    places: tuple[Place, ...]
    runs4: Runs
    runs6: Runs
    """A value below 0 stands for EMBEDDINGS[-1 - value]: look at the IPv4 address inside."""
    explicit: tuple[Mapped, ...]
    """The operator's own networks, for `why`."""

    def find(self, address: bytes) -> tuple[int, int]:
        """The place of an address of 4 or 16 bytes, and the scope: how many bits of it decide that."""
        return self._find(address, 0, 0)

    def find_client_network(self, address: bytes) -> tuple[int, bytes]:
        """The bits of the network that is hashed as one client, and the bytes that stand for it.

        It lies inside one leaf of the map and is at least HASH_BITS long, so these networks do not overlap either.
        """
        _, bits = self._find(address, HASH_BITS_4, HASH_BITS_6)
        unused_bits = len(address) * 8 - bits
        masked = int.from_bytes(address) >> unused_bits << unused_bits
        return bits, bytes((bits,)) + masked.to_bytes(len(address))

    def _find(self, address: bytes, least_bits_4: int, least_bits_6: int) -> tuple[int, int]:
        number = int.from_bytes(address)
        if len(address) == 4:
            place, bits = self.runs4.look(number)
            return place, max(bits, least_bits_4)
        assert len(address) == 16, "an address has 4 or 16 bytes"
        place, bits = self.runs6.look(number)
        if place >= 0:
            return place, max(bits, least_bits_6)
        embedding = EMBEDDINGS[-1 - place]
        place, bits = self.runs4.look(embedding.inside(number))
        return place, embedding.offset_bits + max(bits, least_bits_4)

    def why(self, address: bytes) -> str:
        """Where the order for this address comes from: the very line for an explicit network. O(networks)."""
        client = ipaddress.ip_address(inner_address(address))
        lines = [line for line in self.explicit if client in line.network]
        if lines:
            return max(lines, key=lambda line: line.network.prefixlen).why
        return self.places[self.find(address)[0]].why


def build(default: tuple[str, ...], explicit: Iterable[Mapped], located: Iterable[Mapped]) -> Geo:
    """The merged map: explicit networks before located ones, then the default; in each the longest match wins."""
    places = _Places()
    places.index(default, "default: no map covers it")
    lines = tuple(explicit)
    upper4, upper6 = _layer(lines, places)
    lower4, lower6 = _layer(located, places)
    runs4 = finished(overlay(upper4, lower4, width=32), width=32, default=DEFAULT_PLACE)
    # One place in all of IPv4 needs no second lookup; else each embedding is a run that merges with nothing.
    inside = [runs4.values[0] if len(runs4.values) == 1 else -1 - index for index in range(len(EMBEDDINGS))]
    embedded = paint(
        (
            (int(embedding.network.network_address), embedding.network.prefixlen, value)
            for embedding, value in zip(EMBEDDINGS, inside, strict=True)
        ),
        width=128,
    )
    layers6 = overlay(embedded, overlay(upper6, lower6, width=128), width=128)
    return Geo(places.finished(), runs4, finished(layers6, width=128, default=DEFAULT_PLACE), lines)


def inner_address(address: bytes) -> bytes:
    """The IPv4 address that an IPv6 address carries, or the address itself."""
    if len(address) == 16:
        for embedding in EMBEDDINGS:
            if ipaddress.IPv6Address(address) in embedding.network:
                return embedding.inside(int.from_bytes(address)).to_bytes(4)
    return address


class _Places:
    """Orders of sites seen so far, numbered, with the sources that gave them."""

    def __init__(self) -> None:
        self._sources: dict[tuple[str, ...], dict[str, None]] = {}
        self._numbers: dict[tuple[str, ...], int] = {}

    def index(self, order: tuple[str, ...], why: str) -> int:
        number = self._numbers.setdefault(order, len(self._numbers))
        self._sources.setdefault(order, {})[why] = None
        return number

    def finished(self) -> tuple[Place, ...]:
        return tuple(Place(order, _one_text(list(sources))) for order, sources in self._sources.items())


def _one_text(sources: list[str]) -> str:
    shown = sources[:WHY_TEXTS_MAX]
    more = len(sources) - len(shown)
    return " or ".join([*shown, f"{more} more"] if more else shown)


def _layer(networks: Iterable[Mapped], places: _Places) -> tuple[list[tuple[int, int | None]], ...]:
    """One map as changes of IPv4 and of IPv6."""
    painted: dict[int, list[tuple[int, int, int]]] = {4: [], 6: []}
    for mapped in networks:
        network = mapped.network
        place = places.index(mapped.order, mapped.why)
        painted[network.version].append((int(network.network_address), network.prefixlen, place))
    return paint(painted[4], width=32), paint(painted[6], width=128)
