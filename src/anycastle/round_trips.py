"""Round trips of clients at all sites: what this edge measures, what the others tell, and the map made of both.

Laws: a site's numbers come from that site only; what is told is what is new, a few networks at a time, and all of it
again when a link comes up, so a lost message costs little; the map is made in a thread, from copies.
"""

import asyncio
import ipaddress
from collections.abc import Iterable, Mapping

import msgspec

from anycastle.clock import Clock
from anycastle.dns.fastest import NO_DETAIL, NOTHING, Detail, lay
from anycastle.dns.measured import MeasuredNetworks, Number, client_network, connections, networks_max, seconds
from anycastle.dns.settings import Policy, SteeredName
from anycastle.dns.tables import Tables, with_fastest
from anycastle.talk import MEASURED_MAX, Measured, RoundTrips

PUBLISH_SECONDS = 30.0
"""Between two maps that differ: each costs every worker a few milliseconds, and nobody's path changes faster."""
MAKE_SECONDS = 1.0
"""Between two looks whether something is new."""
MAKE_PAUSE = 20
"""Pauses of so many times what a map took: at most a twentieth of a core goes into maps."""
STALE_SECONDS = 600.0
"""A map is made again after this though nobody connected: numbers are forgotten."""

_NOTHING = msgspec.msgpack.encode(NOTHING)


class ClientRoundTrips:
    """One member's knowledge. All methods belong to the event loop."""

    def __init__(self, member: str, sites: tuple[str, ...], names: Iterable[SteeredName], *, clock: Clock) -> None:
        each_max = networks_max(len(sites))
        self.sites = {site: MeasuredNetworks(each_max) for site in sites}
        self._member = member
        self._clock = clock
        self._untold: dict[bytes, None] = {}
        self._wanted = False
        self._changed = True
        self._made_at = self._published_at = float("-inf")
        self._published = _NOTHING
        self._detail = NO_DETAIL
        self.use(names)

    def use(self, names: Iterable[SteeredName]) -> None:
        """These are the steered names from now on: without one that goes by speed nothing is kept, told or made."""
        self._wanted = any(name.policy is Policy.FASTEST for name in names)
        if not self._wanted:
            self._untold.clear()
            self._detail = NO_DETAIL
            for each in self.sites.values():
                each.numbers.clear()

    def sampled(self, address: str, round_trip_seconds: float) -> None:
        """One connection at the edge here."""
        own, network = self.sites.get(self._member), client_network(ipaddress.ip_address(address).packed)
        if self._wanted and own is not None and network is not None:
            own.sample(network, round_trip_seconds, now=self._clock.now())
            self._untold[network] = None
            self._changed = True
            if len(self._untold) > len(own.numbers):  # some had to make room before they were told
                self._untold = {each: None for each in self._untold if each in own.numbers}

    def hear(self, site: str, said: RoundTrips) -> None:
        """What a site says of itself."""
        theirs = self.sites.get(site)
        if theirs is None or site == self._member or not self._wanted:
            return
        for each in said:
            theirs.hear(each.network, each.microseconds / 1e6, each.connections, now=self._clock.now())
        self._changed = True

    def tell_all(self) -> None:
        """A member has come that may know nothing."""
        if self._member in self.sites:
            self._untold |= dict.fromkeys(self.sites[self._member].numbers)

    def untold(self) -> RoundTrips:
        """What is next to be told; empty when all is."""
        own, now = self.sites.get(self._member), self._clock.now()
        found: list[Measured] = []
        while own is not None and self._untold and len(found) < MEASURED_MAX:
            network = next(iter(self._untold))
            del self._untold[network]
            number = own.numbers.get(network)
            count = round(connections(number, now=now)) if number is not None else 0
            if number is not None and count:
                found.append(Measured(network, max(1, round(1e6 * seconds(number))), count))
        return tuple(found)

    async def next_map(self, tables: Tables) -> tuple[Tables, bytes | None] | None:
        """The tables with the map as it is known now, and the overlay for the workers if theirs is another; None when
        there is nothing new. Waits for a thread; whoever calls looks whether these tables are still in force.
        """
        now, fresh = self._clock.now(), tables.steering.fastest is None
        if not self._wanted or not (fresh or self._is_due(now)):
            return None
        self._changed, self._made_at = False, now
        numbers = {site: dict(each.numbers) for site, each in self.sites.items()}
        made, overlay, self._detail = await asyncio.to_thread(_made, tables, numbers, self._detail, now)
        if overlay == (_NOTHING if fresh else self._published):
            return made, None
        self._published, self._published_at = overlay, now
        return made, overlay

    def _is_due(self, now: float) -> bool:
        news = self._changed or now - self._made_at >= STALE_SECONDS
        return news and now - self._published_at >= PUBLISH_SECONDS

    def counters(self) -> dict[str, int]:
        """Of this edge."""
        own = self.sites.get(self._member)
        return {"networks_forgotten": own.forgotten} if own is not None else {}

    def levels(self) -> dict[str, dict[str, int]]:
        """By part: what this edge has measured, what all sites have, and how much of it decides."""
        own = self.sites.get(self._member)
        return {
            "edge": {"measured_networks": len(own.numbers) if own is not None else 0},
            "dns": {
                "measured_networks": sum(len(each.numbers) for each in self.sites.values()),
                "ranked_networks": len(self._detail.ranked),
            },
        }


def _made(
    tables: Tables, numbers: Mapping[str, Mapping[bytes, Number]], before: Detail, now: float
) -> tuple[Tables, bytes, Detail]:
    overlay, detail = lay(tables.steering.geo, numbers, before, now=now)
    payload = msgspec.msgpack.encode(overlay)
    return with_fastest(tables, payload, detail), payload, detail
