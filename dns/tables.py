"""Everything that answers depend on, except the view: one immutable object that crosses to the workers by pickle.

Law: all or nothing. `build_tables` makes the whole new state aside; any error keeps the old one in force.
"""

import secrets
from collections.abc import Iterable
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

import msgspec

from anycastle.dns.cookie import SECRET_BYTES
from anycastle.dns.errors import DnsError
from anycastle.dns.fastest import Detail, Overlay, opened
from anycastle.dns.rrset import DS, NS
from anycastle.dns.settings import DnsSettings, TransferSettings, TsigKey
from anycastle.dns.steer import Steering
from anycastle.dns.wire import parent_of
from anycastle.dns.zone import Zone, ZoneError, is_below, show_name

if TYPE_CHECKING:
    from anycastle.dns.difference import Difference
    from anycastle.dns.master import Progress


class ZonesError(ZoneError):
    """Some zones cannot be served as written; `faults` has a line for each."""

    def __init__(self, faults: list[str]) -> None:
        super().__init__("; ".join(faults))
        self.faults = faults


@dataclass(frozen=True, slots=True)
class Tables:
    """What one generation of the configuration and its files says."""

    zones: dict[bytes, Zone]
    """By origin, in wire form and lower case."""
    steering: Steering
    server_id: bytes
    """NSID (RFC 5001) and `id.server` (RFC 4892): which member answered."""
    udp_payload_bytes_max: int
    tcp_idle_seconds: float
    """Told to clients that ask for it (RFC 7828)."""
    cookie_secrets: tuple[bytes, ...] = field(repr=False)
    """One or more; the first signs."""
    transfers: dict[bytes, TransferSettings] = field(default_factory=dict)
    """By origin: who may have a zone; nobody may have the others."""
    notify: dict[bytes, tuple[tuple[str, int], ...]] = field(default_factory=dict)
    """By origin: who is told of a new serial."""
    keys: dict[bytes, TsigKey] = field(default_factory=dict)
    """By name, in wire form and lower case."""
    histories: dict[bytes, "tuple[Difference, ...]"] = field(default_factory=dict)
    """By origin: how the zone came to be what it is, oldest first (`difference.follow`)."""
    unraised: dict[bytes, str] = field(default_factory=dict)
    """By origin: zones that changed though their serial did not rise, and what to say of them."""

    def zone_of(self, name: bytes, rrtype: int) -> Zone | None:
        """The zone to answer from: the deepest, but DS is the parent's to say (RFC 4035 section 3.1.4.1)."""
        zone = self._deepest(name)
        if rrtype == DS and zone is not None and zone.origin == name and len(name) > 1:
            return self._deepest(parent_of(name)) or zone
        return zone

    def _deepest(self, name: bytes) -> Zone | None:
        position = 0
        while (zone := self.zones.get(name[position:])) is None:
            if not name[position]:
                return None
            position += name[position] + 1
        return zone


def with_fastest(tables: Tables, payload: bytes, detail: Detail | None = None) -> Tables:
    """The same, with an overlay (encoded in MessagePack) that was made over the map of these tables."""
    steering = tables.steering
    fastest = opened(steering.geo, msgspec.msgpack.decode(payload, type=Overlay), detail)
    return replace(tables, steering=replace(steering, fastest=fastest))


def build_tables(settings: DnsSettings, progress: "Progress | None" = None) -> Tables:
    """Reads every file that the settings name, telling of zones. Raises DnsError or GeoError; blocks while reading."""
    # Here and not above: the workers, who import this module to unpickle, need neither dnspython nor maxminddb.
    from anycastle.dns.geo_load import load_geo
    from anycastle.dns.master import load_zone, wire_name

    origins = [wire_name(zone.origin, f"zone {zone.origin}") for zone in settings.zones]
    for origin in origins:
        if origins.count(origin) > 1:
            raise ZoneError(f"zone {show_name(origin)} is configured more than once")
    steered: dict[bytes, list[bytes]] = {origin: [] for origin in origins}
    for rule in settings.names:
        if not rule.name.isascii() or "\\" in rule.name:
            raise ZoneError(f"name {rule.name}: expected plain ASCII, an international name in its xn-- form")
        name = wire_name(rule.name, f"name {rule.name}")
        inside = [origin for origin in origins if is_below(name, origin)]
        if not inside:
            raise ZoneError(f"name {rule.name}: expected a name in one of the zones served here: {_listed(origins)}")
        steered[max(inside, key=len)].append(name)
    files = dict(zip(origins, settings.zones, strict=True))
    zones: dict[bytes, Zone] = {}
    faults: list[str] = []
    for origin, file in files.items():
        try:
            zones[origin] = load_zone(file, steered[origin], progress)
        except DnsError as fault:  # the others are read too: an operator wants to hear of all that is wrong at once
            faults.append(str(fault))
    if faults:
        raise ZonesError(faults)
    _check_delegations(zones)
    geo = load_geo(settings.geo, settings.sites)
    return Tables(
        zones=zones,
        steering=Steering.build(settings.names, settings.sites, geo),
        server_id=settings.member.encode(),
        udp_payload_bytes_max=settings.udp_payload_bytes_max,
        tcp_idle_seconds=settings.tcp_idle_seconds,
        cookie_secrets=settings.cookie_secrets or (secrets.token_bytes(SECRET_BYTES),),
        transfers={origin: file.transfer for origin, file in files.items() if file.transfer is not None},
        notify={origin: file.notify for origin, file in files.items() if file.notify},
        keys={wire_name(key.name, f"key {key.name}"): key for key in settings.keys},
    )


def _listed(origins: Iterable[bytes]) -> str:
    return ", ".join(show_name(origin) for origin in origins) or "(none)"


def _check_delegations(zones: dict[bytes, Zone]) -> None:
    """A parent that does not know its child would say NXDOMAIN of what the child holds, in the middle of a chain."""
    for origin in zones:
        above = [other for other in zones if other != origin and is_below(origin, other)]
        if not above:
            continue
        parent = zones[max(above, key=len)]
        node = parent.nodes.get(origin)
        if node is None or NS not in node.rrsets:
            raise ZoneError(
                f"zone {show_name(parent.origin)}: expected NS records at {show_name(origin)}, "
                "because that zone is served here too"
            )
