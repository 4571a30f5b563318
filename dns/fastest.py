"""The map for `fastest`: measured networks laid over the map of `dns/geo`, where what is measured says something else.

Laws: an order of sites is constant on every leaf of both trees, so the scope is the longer of the two prefixes, and the
scopes of two answers never overlap (RFC 7871 section 7.2.1). Of two measured sites the closer one stands first unless
the other is clearly faster; all else stays in the order of closeness. So nobody is moved off a site, or to one, that
has no number.

A network is measured where at least two sites have CONNECTIONS_MIN: one number says nothing about which is faster.
"""

from array import array
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

import msgspec

from anycastle.dns.geo import EMBEDDINGS, Geo, Place, hashed_network
from anycastle.dns.measured import Number, client_network, connections, first_address, seconds, show_network
from anycastle.dns.runs import Runs, finished, paint

CONNECTIONS_MIN = 20.0
"""Round trips of one network differ by a factor of about 1.5; the mean of twenty is then good to 10 %."""
CONNECTIONS_KEPT_MIN = CONNECTIONS_MIN / 2
"""A network that is measured stays so for one more half-life, instead of coming and going."""
MARGIN_SECONDS = 0.002
MARGIN_SHARE = 0.1
"""Clearly faster is by both; less is noise, and not worth moving users for. Half of it is enough to stay ahead."""

WHY = "measured round-trip times"

_GAP = 0
"""The value of what the overlay says nothing of; others count from 1."""
_WIDTH_4, _WIDTH_6 = 24, 48
EMBEDDED: Runs = finished(
    paint(
        (
            (int(embedding.network.network_address), embedding.network.prefixlen, -1 - index)
            for index, embedding in enumerate(EMBEDDINGS)
        ),
        width=128,
    ),
    width=128,
    default=0,
)
"""Which addresses of IPv6 carry one of IPv4: -1 - i for EMBEDDINGS[i]."""


class Overlay(msgspec.Struct, frozen=True, array_like=True):
    """What differs from the map by closeness, as it crosses to the workers: quick to read, whatever its size."""

    orders: tuple[tuple[str, ...], ...]
    starts4: bytes
    """Array of 32-bit numbers: /24 networks where a run begins."""
    values4: bytes
    """Array of 32-bit numbers, 0 or 1 + the index in `orders`."""
    starts6: bytes
    """Array of 64-bit numbers: /48 networks."""
    values6: bytes


@dataclass(frozen=True, slots=True)
class Detail:
    """What the overlay was made of; stays in the control process."""

    numbers: Mapping[str, Mapping[bytes, Number]]
    """By site, then network."""
    ranked: Mapping[bytes, tuple[str, ...]]
    """Of every measured network its measured sites, the best first."""
    at: float
    """Seconds of BOOTTIME."""


NO_DETAIL = Detail({}, {}, 0.0)


@dataclass(frozen=True, slots=True)
class Reading:
    """One site's number for one network."""

    milliseconds: float
    connections: float


@dataclass(frozen=True, slots=True)
class Fastest:
    """A map as `Geo` is: the places of `geo`, and behind them those of the overlay."""

    geo: Geo
    places: tuple[Place, ...]
    runs4: Runs
    runs6: Runs
    detail: Detail | None = None

    def find(self, address: bytes) -> tuple[int, int]:
        """As `Geo.find`."""
        place, bits = self.geo.find(address)
        value, overlay_bits = self._look(address)
        return self._place(value, place), max(bits, overlay_bits)

    def find_client_network(self, address: bytes) -> tuple[int, bytes]:
        """As `Geo.find_client_network`."""
        bits, _ = self.geo.find_client_network(address)
        return hashed_network(address, max(bits, self._look(address)[1]))

    def leaf(self, version: int, address: int) -> tuple[int, int]:
        """As `Geo.leaf`."""
        place, bits = self.geo.leaf(version, address)
        if version == 4:
            value, overlay_bits = self.runs4.look(address >> 8)
            return self._place(value, place), max(bits, overlay_bits)
        embedded, embedded_bits = EMBEDDED.look(address)
        if embedded:
            return embedded, max(bits, embedded_bits)
        value, overlay_bits = self.runs6.look(address >> 80)
        return self._place(value, place), max(bits, embedded_bits, overlay_bits)

    def _place(self, value: int, below: int) -> int:
        return len(self.geo.places) + value - 1 if value else below

    def _look(self, address: bytes) -> tuple[int, int]:
        number = int.from_bytes(address)
        if len(address) == 4:
            return self.runs4.look(number >> 8)
        embedded, bits = EMBEDDED.look(number)
        if embedded:
            embedding = EMBEDDINGS[-1 - embedded]
            value, bits = self.runs4.look(embedding.inside(number) >> 8)
            return value, embedding.offset_bits + bits
        value, overlay_bits = self.runs6.look(number >> 80)
        return value, max(bits, overlay_bits)

    # -- for people, in the control process -----------------------------------------------------------------------

    def reading(self, address: bytes, site: str) -> Reading | None:
        """What the site has measured for the network of a client, as of when this map was made."""
        network = client_network(address)
        number = self.detail.numbers.get(site, {}).get(network) if self.detail and network else None
        if self.detail is None or number is None:
            return None
        return Reading(1000 * seconds(number), connections(number, now=self.detail.at))

    def why(self, address: bytes) -> str:
        """Where the order for this address comes from."""
        number, _ = self.find(address)
        if number < len(self.geo.places):
            return self.geo.why(address)
        return f"{WHY} of {self._shown(address)}, before {self.geo.why(address)}"

    def why_ranked(self, address: bytes, site: str) -> str:
        """Why a site stands where it does, with its number."""
        if self.detail is None:
            return f"by {WHY}"
        ranked = self.detail.ranked.get(client_network(address) or b"", ())
        found = self.reading(address, site)
        number = "not measured"
        if found is not None:
            number = f"measured {found.milliseconds:.1f} ms from {found.connections:.0f} connections"
        if not ranked:
            shown = self._shown(address)
            lack = f"as fewer than two sites have {CONNECTIONS_MIN:.0f} connections from {shown}; this one: {number}"
            return f"by closeness ({self.geo.why(address)}), {lack}"
        if site not in ranked:
            return f"by closeness ({self.geo.why(address)}): {number}, which is too little to go by"
        return number

    def _shown(self, address: bytes) -> str:
        return show_network(client_network(address) or address)


def by_speed(closest: tuple[str, ...], times: Mapping[str, float], before: tuple[str, ...]) -> tuple[str, ...]:
    """All sites, the best first. `times` in seconds, of those that are measured; `before`: how these stood the last
    time, or nothing.

    In the order of closeness each measured site goes ahead of the first measured one that it is clearly faster than.
    """
    order: list[str] = []
    for site in closest:
        place, own = len(order), times.get(site)
        if own is not None:
            for index, other in enumerate(order):
                theirs = times.get(other)
                if theirs is not None and own < theirs and own <= theirs - _margin(theirs, before, site, other):
                    place = index
                    break
        order.insert(place, site)
    return tuple(order)


def lay(
    geo: Geo, numbers: Mapping[str, Mapping[bytes, Number]], before: Detail = NO_DETAIL, *, now: float
) -> tuple[Overlay, Detail]:
    """The overlay for what is known now. `numbers` by site; `before` is the detail of the last overlay.

    O(networks of all sites), half a second for 400,000: for a thread.
    """
    ranked: dict[bytes, tuple[str, ...]] = {}
    painted: dict[bytes, tuple[str, ...]] = {}
    for network in _several(numbers):
        was = before.ranked.get(network, ())
        times = {
            site: seconds(number)
            for site, of_site in numbers.items()
            if (number := of_site.get(network)) is not None
            and connections(number, now=now) >= (CONNECTIONS_KEPT_MIN if site in was else CONNECTIONS_MIN)
        }
        if len(times) < 2:
            continue
        # Where the map divides a network that is measured as one, its first address stands for all of it.
        closest = geo.places[geo.find(first_address(network))[0]].order
        order = by_speed(closest, times, was)
        ranked[network] = tuple(site for site in order if site in times)
        if order != closest:
            painted[network] = order
    return _packed(painted), Detail(numbers, ranked, now)


def opened(geo: Geo, overlay: Overlay, detail: Detail | None = None) -> Fastest:
    """The map that answers; a few milliseconds for any overlay."""
    places = tuple(Place(order, WHY) for order in overlay.orders)
    return Fastest(
        geo,
        (*geo.places, *places),
        Runs(_WIDTH_4, tuple(array("I", overlay.starts4)), tuple(array("I", overlay.values4))),
        Runs(_WIDTH_6, tuple(array("Q", overlay.starts6)), tuple(array("I", overlay.values6))),
        detail,
    )


def _margin(slower_seconds: float, before: tuple[str, ...], site: str, other: str) -> float:
    """By how much a site must be faster to go ahead of another, or to stay there."""
    margin = max(MARGIN_SECONDS, MARGIN_SHARE * slower_seconds)
    stood_ahead = site in before and other in before and before.index(site) < before.index(other)
    return margin / 2 if stood_ahead else margin


def _several(numbers: Mapping[str, Mapping[bytes, Number]]) -> Iterable[bytes]:
    """Networks of which at least two sites know something."""
    once: set[bytes] = set()
    twice: set[bytes] = set()
    for of_site in numbers.values():
        twice |= once & of_site.keys()
        once |= of_site.keys()
    return twice


def _packed(painted: Mapping[bytes, tuple[str, ...]]) -> Overlay:
    indexes: dict[tuple[str, ...], int] = {}
    values = {
        network: 1 + indexes.setdefault(painted[network], len(indexes))
        for network in sorted(painted)  # so that equal knowledge is one overlay, byte for byte
    }
    starts4, values4 = _runs(((int.from_bytes(n), v) for n, v in values.items() if len(n) * 8 == _WIDTH_4), _WIDTH_4)
    starts6, values6 = _runs(((int.from_bytes(n), v) for n, v in values.items() if len(n) * 8 == _WIDTH_6), _WIDTH_6)
    return Overlay(
        tuple(indexes),
        array("I", starts4).tobytes(),
        array("I", values4).tobytes(),
        array("Q", starts6).tobytes(),
        array("I", values6).tobytes(),
    )


def _runs(networks: Iterable[tuple[int, int]], width: int) -> tuple[list[int], list[int]]:
    """Maximal runs for ascending single networks."""
    starts, values = [0], [_GAP]
    for start, value in networks:
        if starts[-1] != start:
            starts.append(start)
            values.append(value)
        elif len(values) > 1 and values[-2] == value:
            del starts[-1], values[-1]
        else:
            values[-1] = value
        starts.append(start + 1)
        values.append(_GAP)
    if starts[-1] >> width:
        del starts[-1], values[-1]
    return starts, values


NOTHING = _packed({})
"""The overlay of workers that were given none."""
