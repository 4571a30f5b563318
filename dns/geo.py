"""Which sites are near a client: every network of the internet belongs to one place, with one order of sites.

Law: networks whose order of sites is equal are one place; the scope of a lookup is the leaf of the merged tree
(dns/runs.py), also for the default place, so the scopes of two answers never overlap (RFC 7871 section 7.2.1). An IPv6
address that carries an IPv4 address is looked up by it, and its scope is in bits of the address asked about.
"""

import ipaddress
from collections.abc import Iterable
from dataclasses import dataclass, field

from anycastle.dns.closeness import Point
from anycastle.dns.runs import Change, Runs, finished, overlay, paint
from anycastle.dns.settings import Network

DEFAULT_PLACE = 0
"""The place of networks that no map covers."""

HASH_BITS_4 = 24
HASH_BITS_6 = 48
"""The least network that is hashed as one client: what resolvers send at most (/24), and what a household may hold."""

WHY_TEXTS_MAX = 3
"""How many of its sources a place names; `Geo.source` knows the very one."""


@dataclass(frozen=True, slots=True)
class Place:
    """All networks with this order of sites."""

    order: tuple[str, ...]
    """Every site, the closest first."""
    why: str
    """Where the order comes from, for people."""


@dataclass(frozen=True, slots=True)
class Source:
    """One line of a map, one country, one point: what gave networks their order of sites."""

    order: tuple[str, ...]
    """Every site, the closest first."""
    why: str
    """Where that is said."""
    point: Point | None = None
    """Where the clients are, when distances were worked out from there."""
    kilometres: tuple[tuple[str, float], ...] = ()
    """Distances that an operator gave, by site."""
    written: bool = False
    """It is a line that an operator wrote."""


Span = tuple[int, int, int, Source]
"""One network of a map: IP version, first address, prefix bits, and what its order comes from."""


def spanning(network: Network, source: Source) -> Span:
    """A network as a map has it."""
    return network.version, int(network.network_address), network.prefixlen, source


@dataclass(frozen=True, slots=True)
class Sources:
    """Before networks of equal order became one: which source each address has. For people, not for answers."""

    every: tuple[Source, ...]
    runs4: Runs
    runs6: Runs
    """Below 0 as in `Geo.runs6`."""

    def used(self) -> set[int]:
        """Those that decide for some address; what others cover never does."""
        return {*self.runs4.values, *self.runs6.values}


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
    """The whole map; immutable, and may be pickled to the workers, who get it without the sources."""

    places: tuple[Place, ...]
    runs4: Runs
    runs6: Runs
    """A value below 0 stands for EMBEDDINGS[-1 - value]: look at the IPv4 address inside."""
    sources: Sources | None = field(default=None, compare=False)

    def __reduce__(self) -> tuple[type["Geo"], tuple[object, ...]]:
        return Geo, (self.places, self.runs4, self.runs6)

    def find(self, address: bytes) -> tuple[int, int]:
        """The place of an address of 4 or 16 bytes, and the scope: how many bits of it decide that."""
        return self._find(address, 0, 0)

    def find_client_network(self, address: bytes) -> tuple[int, bytes]:
        """The bits of the network that is hashed as one client, and the bytes that stand for it.

        It lies inside one leaf of the map and is at least HASH_BITS long, so these networks do not overlap either.
        """
        return hashed_network(address, self._find(address, HASH_BITS_4, HASH_BITS_6)[1])

    def leaf(self, version: int, address: int) -> tuple[int, int]:
        """For walking the map: the place of an address (below 0 as in `runs6`) and the bits of its network."""
        return (self.runs4 if version == 4 else self.runs6).look(address)

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

    def source(self, address: bytes) -> Source | None:
        """What gave this address its order; None where the sources were left behind."""
        if self.sources is None:
            return None
        address = inner_address(address)
        runs = self.sources.runs4 if len(address) == 4 else self.sources.runs6
        return self.sources.every[runs.look(int.from_bytes(address))[0]]

    def why(self, address: bytes) -> str:
        """Where the order for this address comes from: the very line or country, where it is known."""
        source = self.source(address)
        return source.why if source is not None else self.places[self.find(address)[0]].why


def build(default: tuple[str, ...], *layers: Iterable[Span]) -> Geo:
    """The merged map: what an earlier layer says goes before a later one, then the default; in each the longest match
    wins."""
    numbered = _Numbered(Source(default, "default: no map covers it"))
    over4: list[Change] = [(0, None)]
    over6: list[Change] = [(0, None)]
    for layer in layers:
        painted = numbered.paint(layer)
        over4 = overlay(over4, painted[4], width=32)
        over6 = overlay(over6, painted[6], width=128)
    places, place_of = _placed(numbered.every)
    source4 = finished(over4, width=32, default=DEFAULT_PLACE)
    runs4 = _renumbered(source4, place_of)
    embedded = paint(
        (
            (int(embedding.network.network_address), embedding.network.prefixlen, -1 - index)
            for index, embedding in enumerate(EMBEDDINGS)
        ),
        width=128,
    )
    source6 = finished(overlay(embedded, over6, width=128), width=128, default=DEFAULT_PLACE)
    # One place in all of IPv4 needs no second lookup; else each embedding is a run that merges with nothing.
    one_place = runs4.values[0] if len(runs4.values) == 1 else None
    inside = {-1 - index: -1 - index if one_place is None else one_place for index in range(len(EMBEDDINGS))}
    runs6 = _renumbered(source6, place_of | inside)
    return Geo(places, runs4, runs6, Sources(tuple(numbered.every), source4, source6))


def hashed_network(address: bytes, bits: int) -> tuple[int, bytes]:
    """The length of a network around an address, and the bytes that stand for it in a hash."""
    unused_bits = len(address) * 8 - bits
    masked = int.from_bytes(address) >> unused_bits << unused_bits
    return bits, bytes((bits,)) + masked.to_bytes(len(address))


def inner_address(address: bytes) -> bytes:
    """The IPv4 address that an IPv6 address carries, or the address itself."""
    if len(address) == 16:
        for embedding in EMBEDDINGS:
            if ipaddress.IPv6Address(address) in embedding.network:
                return embedding.inside(int.from_bytes(address)).to_bytes(4)
    return address


class _Numbered:
    """Sources seen so far; the first is what holds where no map says anything."""

    def __init__(self, default: Source) -> None:
        self.every = [default]
        self._numbers: dict[int, int] = {}

    def paint(self, layer: Iterable[Span]) -> dict[int, list[Change]]:
        """One map as changes of IPv4 and of IPv6."""
        spans: dict[int, list[tuple[int, int, int]]] = {4: [], 6: []}
        numbers, every = self._numbers, self.every
        for version, first, bits, source in layer:
            # By identity, which is quick; the list keeps each alive, so no other gets its identity.
            number = numbers.get(id(source))
            if number is None:
                number = numbers[id(source)] = len(every)
                every.append(source)
            spans[version].append((first, bits, number))
        return {4: paint(spans[4], width=32), 6: paint(spans[6], width=128)}


def _placed(sources: list[Source]) -> tuple[tuple[Place, ...], dict[int, int]]:
    """A place for each order, and the place of each source by number."""
    texts: dict[tuple[str, ...], dict[str, None]] = {}
    for source in sources:
        texts.setdefault(source.order, {})[source.why] = None
    numbers = {order: number for number, order in enumerate(texts)}
    places = tuple(Place(order, _one_text(list(why))) for order, why in texts.items())
    return places, {number: numbers[source.order] for number, source in enumerate(sources)}


def _renumbered(runs: Runs, numbers: dict[int, int]) -> Runs:
    changes: list[Change] = [(start, numbers[value]) for start, value in zip(runs.starts, runs.values, strict=True)]
    return finished(changes, width=runs.width, default=DEFAULT_PLACE)


def _one_text(sources: list[str]) -> str:
    shown = sources[:WHY_TEXTS_MAX]
    more = len(sources) - len(shown)
    return " or ".join([*shown, f"{more} more"] if more else shown)
