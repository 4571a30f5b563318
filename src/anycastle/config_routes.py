"""What the configuration says of routes: `[[routes]]`, and `bgp` of a site with its peers and attributes.

Law: as in `anycastle.config_parts`, faults are noted in the `Table` and a value is always returned.
"""

import enum
import ipaddress
import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, fields
from typing import Any, TypeVar

from anycastle import config_values as v
from anycastle.bgp.settings import (
    COMMUNITIES_MAX,
    PREPEND_MAX,
    ROUTES_MAX,
    Address,
    Attributes,
    AttributesByState,
    Community,
    LargeCommunity,
    LoopbackSettings,
    Peer,
    Prefix,
    RouteRule,
)
from anycastle.config_prefixes import overlaps, problem
from anycastle.config_read import Expected, Faults, NamedFile, Table

T = TypeVar("T")

_STAND_IN_PREFIX = ipaddress.ip_network("2001:db8::/48")
_STAND_IN_ADDRESS = ipaddress.ip_address("192.0.2.1")


@dataclass(frozen=True, slots=True, kw_only=True)
class BgpPart:
    """`bgp` of a site."""

    router_id: ipaddress.IPv4Address
    local_as: int
    peers: tuple[tuple[Peer, NamedFile | None], ...]
    """Each with the file of its TCP MD5 key, which the member reads that has the session."""
    user: str | None
    attributes: AttributesByState
    routes_max: int
    changes_max: int | float | None
    """So many routes, or such a share of them."""
    loopback: LoopbackSettings | None

    def changes_of(self, routes: int) -> int | None:
        """`changes_max` of a site with so many routes; a share is at least one route."""
        if isinstance(self.changes_max, float):
            return max(1, int(self.changes_max * routes))
        return self.changes_max


_LENT_BGP_KEYS = (
    "attributes",
    "routes_max",
    "changes_max",
    "neighbors",
    "manage_loopback",
    "loopback",
    "loopback_delay",
)


def read_lent_bgp(table: Table) -> tuple[BgpPart, frozenset[Address]]:
    """`[bgp]` under somebody else's ExaBGP, who has the sessions: how routes look, and which neighbours are told."""
    some: tuple[Address, ...] = ()
    neighbors = frozenset(table.take("neighbors", v.many(v.address), some))
    part = BgpPart(
        router_id=ipaddress.IPv4Address("192.0.2.1"),
        local_as=1,
        peers=(),
        user=None,
        attributes=_read_states(table.table("attributes")),
        routes_max=table.take("routes_max", v.whole(1, ROUTES_MAX), 1000),
        changes_max=table.take("changes_max", _changes, None),
        loopback=_read_loopback(table),
    )
    table.done(_LENT_BGP_KEYS)
    return part, neighbors


_LOOPBACK_KEYS = ("manage_loopback", "loopback", "loopback_delay")
_BGP_KEYS = ("router_id", "local_as", "peers", "user", "attributes", "routes_max", "changes_max", *_LOOPBACK_KEYS)


def read_bgp(table: Table) -> BgpPart:
    router_id = table.need("router_id", v.ipv4, ipaddress.IPv4Address("192.0.2.1"), '"192.0.2.1"')
    local_as = table.need("local_as", v.whole(1, 2**32 - 1), 64500, "64500")
    part = BgpPart(
        router_id=router_id,
        local_as=local_as,
        peers=tuple(_read_peer(peer, router_id, local_as) for peer in table.tables("peers")),
        user=table.take("user", v.text, None),
        attributes=_read_states(table.table("attributes")),
        routes_max=table.take("routes_max", v.whole(1, ROUTES_MAX), 1000),
        changes_max=table.take("changes_max", _changes, None),
        loopback=_read_loopback(table),
    )
    table.done(_BGP_KEYS)
    return part


def _read_loopback(table: Table) -> LoopbackSettings | None:
    managed = table.take("manage_loopback", v.boolean, False)
    found = LoopbackSettings(
        interface=table.take("loopback", _interface, "lo"),
        delay_seconds=table.take("loopback_delay", v.seconds, 1.0),
    )
    return found if managed else None


def _interface(value: Any) -> str:
    """As the kernel has it (IFNAMSIZ), and safe in a path."""
    if not isinstance(value, str) or not re.fullmatch(r"[A-Za-z0-9_][A-Za-z0-9_.-]{0,14}", value):
        raise Expected('the name of an interface such as "lo" or "dummy0"')
    return value


def _changes(value: Any) -> int | float:
    try:
        return v.whole(1, ROUTES_MAX)(value) if isinstance(value, int) else v.share(value, 100)
    except Expected:
        raise Expected(f'a number of routes from 1 to {ROUTES_MAX}, or a share of them such as "50 %"') from None


_PEER_KEYS = (
    *("address", "as", "local_address", "port", "passive", "multihop", "ttl_security"),
    *("md5_file", "hold_time", "next_hop", "attributes"),
)


def _read_peer(table: Table, router_id: ipaddress.IPv4Address, local_as: int) -> tuple[Peer, NamedFile | None]:
    address = table.need("address", v.address, _STAND_IN_ADDRESS, '"192.0.2.254"')
    local: Address = router_id
    if address.version == 6:
        local = table.need("local_address", v.address, local, '"2001:db8::1"')
    else:
        local = table.take("local_address", v.address, local)
    if local.version != address.version:
        table.fault("local_address", f"expected an address of the peer's family, IPv{address.version}")
    hold = table.take("hold_time", v.whole_seconds, 9)
    if hold in (1, 2) or hold > 65535:
        table.fault("hold_time", "expected 0 or 3 s to 65535 s (RFC 4271)")
    if table.has("multihop") and table.has("ttl_security"):
        table.fault("", "expected one of multihop and ttl_security: both say how far away the peer is")
    asn = table.need("as", v.whole(1, 2**32 - 1), 64499, "64499")
    peer = Peer(
        address=address,
        asn=asn,
        local_address=local,
        port=table.take("port", v.whole(1, 65535), 179),
        passive=table.take("passive", v.boolean, False),
        multihop=table.take("multihop", v.whole(1, 255), None),
        ttl_security=table.take("ttl_security", v.whole(1, 254), None),
        hold_time_seconds=hold,
        next_hop=table.take("next_hop", v.address, None),
        attributes=_read_states(table.table("attributes"), internal=asn == local_as),
    )
    md5_file = table.named_file("md5_file", v.text)
    table.done(_PEER_KEYS)
    return peer, md5_file


# ---- attributes ----------------------------------------------------------------------------------------------------


def _read_states(table: Table, *, internal: bool | None = None) -> AttributesByState:
    """`internal` says of one peer whether it is in our own AS; None for a site, whose peers may be of both kinds."""
    states = [each.name for each in fields(AttributesByState)]
    found = {state: _read_attributes(table.table(state), internal) for state in states}
    table.done(tuple(states))
    return AttributesByState(**found)


def _read_attributes(table: Table, internal: bool | None) -> Attributes:
    if internal is True and table.has("prepend"):
        table.fault("prepend", "expected none for a peer in our own AS: it would take the path for a loop")
    if internal is False and table.has("local_preference"):
        table.fault("local_preference", "expected none for a peer in another AS: LOCAL_PREF never leaves our own")
    found = Attributes(
        med=table.take("med", v.whole(0, 2**32 - 1), None),
        local_preference=table.take("local_preference", v.whole(0, 2**32 - 1), None),
        prepend=table.take("prepend", v.whole(0, PREPEND_MAX), None),
        communities=table.take("communities", _few(_community), None),
        large_communities=table.take("large_communities", _few(_large_community), None),
    )
    table.done(tuple(each.name for each in fields(Attributes)))
    return found


def _few(parse: Callable[[Any], T]) -> Callable[[Any], tuple[T, ...]]:
    """Different ones, so many as a route may have."""
    parse_all = v.many(parse)

    def parse_few(value: Any) -> tuple[T, ...]:
        found = parse_all(value)
        if len(found) > COMMUNITIES_MAX or len(set(found)) != len(found):
            raise Expected(f"at most {COMMUNITIES_MAX} of them, each once")
        return found

    return parse_few


def _community(value: Any) -> Community:
    numbers = _numbers(value, 2)
    if numbers is None or max(numbers) > 65535:
        raise Expected('a community of two numbers up to 65535 such as "64500:100"')
    return numbers[0], numbers[1]


def _large_community(value: Any) -> LargeCommunity:
    numbers = _numbers(value, 3)
    if numbers is None or max(numbers) > 2**32 - 1:
        raise Expected('a large community of three numbers up to 4294967295 such as "64500:1:2"')
    return numbers[0], numbers[1], numbers[2]


def _numbers(value: Any, count: int) -> list[int] | None:
    """Digits alone: names of communities never come near ExaBGP's commands."""
    if not isinstance(value, str) or not re.fullmatch(r"[0-9]{1,10}(:[0-9]{1,10})*", value):
        return None
    numbers = [int(number) for number in value.split(":")]
    return numbers if len(numbers) == count else None


# ---- [[routes]] ----------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True, kw_only=True)
class RoutePart:
    """`[[routes]]`."""

    prefix: Prefix
    group: str | None
    nameserver: bool
    sites: tuple[str, ...]
    lag_max_seconds: float
    minimum_sites: int
    hold_down_seconds: float
    drain_seconds: float
    on_controller_loss: "OnControllerLoss"
    addresses: tuple[Address, ...] | None
    """None where the file does not say and the prefix is more than one address."""

    def rule(self, isolated_refuse: bool) -> RouteRule:
        return RouteRule(
            prefix=self.prefix,
            group=self.group,
            nameserver=self.nameserver,
            lag_max_seconds=self.lag_max_seconds,
            minimum_sites=self.minimum_sites,
            isolated_refuse=isolated_refuse,
            hold_down_seconds=self.hold_down_seconds,
            drain_seconds=self.drain_seconds,
            kept_while_hung=self.on_controller_loss is OnControllerLoss.KEEP,
            addresses=self.addresses or (),
        )


class OnControllerLoss(enum.Enum):
    """What becomes of a route while the member hangs: it cannot know whether it may still serve."""

    WITHDRAW = "withdraw"
    KEEP = "keep"


def _read_addresses(table: Table, prefix: Prefix) -> tuple[Address, ...] | None:
    """Service addresses of a route: of a host route its own, of any other what the file says."""
    if not table.has("service_addresses"):
        return (prefix.network_address,) if prefix.prefixlen == prefix.max_prefixlen else None
    none: tuple[Address, ...] = ()
    found = table.take("service_addresses", v.many(v.address), none)
    if strangers := [str(address) for address in found if address not in prefix]:
        table.fault("service_addresses", f"expected addresses within {prefix}, found {', '.join(strangers)}")
    return found


def needs_addresses(prefix: Prefix) -> str:
    """The fault of a route without them where the loopback is managed."""
    return (
        f"needs a key 'service_addresses', such as: service_addresses = [\"{prefix[1]}\"]; "
        "manage_loopback adds them with the route ([] for none)"
    )


def _read_loss(table: Table, default: OnControllerLoss) -> OnControllerLoss:
    return table.take("on_controller_loss", v.one_of(OnControllerLoss), default)


_ROUTE_KEYS = (
    *("prefix", "group", "nameserver", "sites", "lag_max", "minimum_sites", "hold_down", "drain"),
    *("allow_private", "allow_long_prefix", "service_addresses", "on_controller_loss"),
)


def read_route(table: Table, groups: tuple[str, ...], announcers: tuple[str, ...]) -> RoutePart:
    group = table.take("group", v.text, None)
    nameserver = table.take("nameserver", v.boolean, False)
    if (group is None) is not nameserver:
        table.fault("", 'expected either group = "…" or nameserver = true')
    if group is not None and group not in groups:
        table.fault("group", f"no such group; groups: {', '.join(groups) or '(none defined)'}")
    allow_private = table.take("allow_private", v.boolean, False)
    allow_long_prefix = table.take("allow_long_prefix", v.boolean, False)
    prefix = table.need("prefix", v.prefix, _STAND_IN_PREFIX, '"198.51.100.0/24"')
    found = problem(prefix, nameserver=nameserver, allow_private=allow_private, allow_long_prefix=allow_long_prefix)
    if found and prefix is not _STAND_IN_PREFIX:
        table.fault("prefix", found)
    part = RoutePart(
        prefix=prefix,
        group=group,
        nameserver=nameserver,
        sites=table.take("sites", v.some_of(announcers, "sites with bgp"), announcers),
        lag_max_seconds=table.take("lag_max", v.positive_seconds, 10.0),
        minimum_sites=table.take("minimum_sites", v.whole(0, 1000), 1),
        hold_down_seconds=table.take("hold_down", v.seconds, 5.0),
        drain_seconds=table.take("drain", v.seconds, 10.0),
        # A nameserver's answers do not depend on the control process.
        on_controller_loss=_read_loss(table, OnControllerLoss.KEEP if nameserver else OnControllerLoss.WITHDRAW),
        addresses=_read_addresses(table, prefix),
    )
    table.done(_ROUTE_KEYS)
    return part


class OnDown(enum.Enum):
    """What a route of `anycastle announce` does when its service fails."""

    WITHDRAW = "withdraw"
    DEGRADE = "degrade"
    """It stays, with the attributes of `degraded`: this may be the last one."""


_LONE_ROUTE_KEYS = (
    *("prefix", "on_down", "hold_down", "drain", "allow_private", "allow_long_prefix", "service_addresses"),
    "on_controller_loss",
)


def read_lone_route(table: Table, *, managed: bool) -> RouteRule:
    """`[[routes]]` of `anycastle announce`: no groups, and nothing known of other sites."""
    allow_private = table.take("allow_private", v.boolean, False)
    allow_long_prefix = table.take("allow_long_prefix", v.boolean, False)
    prefix = table.need("prefix", v.prefix, _STAND_IN_PREFIX, '"198.51.100.1/32"')
    # A host route to one's own routers is the usual way to announce a service, as with nameservers.
    found = problem(prefix, nameserver=True, allow_private=allow_private, allow_long_prefix=allow_long_prefix)
    if found and prefix is not _STAND_IN_PREFIX:
        table.fault("prefix", found)
    on_down = table.take("on_down", v.one_of(OnDown), OnDown.WITHDRAW)
    addresses = _read_addresses(table, prefix)
    if managed and addresses is None:
        table.fault("", needs_addresses(prefix))
    rule = RouteRule(
        prefix=prefix,
        group=None,
        kept_while_hung=_read_loss(table, OnControllerLoss.WITHDRAW) is OnControllerLoss.KEEP,
        addresses=addresses or (),
        minimum_sites=0 if on_down is OnDown.WITHDRAW else 1,
        hold_down_seconds=table.take("hold_down", v.seconds, 5.0),
        drain_seconds=table.take("drain", v.seconds, 10.0),
    )
    table.done(_LONE_ROUTE_KEYS)
    return rule


def check_routes(faults: Faults, routes: tuple[RoutePart, ...], sites: Mapping[str, BgpPart]) -> None:
    """One route against another, and all of them against what each site has under `bgp`."""
    for later, first in _twice(routes):
        faults.add(f"routes[{later}].prefix", f"{routes[later].prefix} is that of routes[{first}]: expected it once")
    for inner, outer in overlaps([part.prefix for part in routes]):
        if inner != outer:
            at = next(index for index, part in enumerate(routes) if part.prefix == inner)
            faults.warn(
                f"routes[{at}].prefix", f"lies within {outer}: where {inner} is withdrawn, {outer} draws its users"
            )
    managed = {site for site, part in sites.items() if part.loopback is not None}
    for index, part in enumerate(routes):
        if part.addresses is None and managed & set(part.sites):
            faults.add(f"routes[{index}]", needs_addresses(part.prefix))
    for site, routes_max in ((site, part.routes_max) for site, part in sites.items()):
        count = sum(site in part.sites for part in routes)
        if count > routes_max:
            faults.add(f"sites.{site}.bgp", f"announces {count} routes: expected at most routes_max = {routes_max}")


def _twice(routes: tuple[RoutePart, ...]) -> Iterator[tuple[int, int]]:
    """Indexes of routes that share a prefix and a site, the later first. Two sites may differ in their rules."""
    by_prefix: dict[Prefix, list[int]] = {}
    for later, part in enumerate(routes):
        same = by_prefix.setdefault(part.prefix, [])
        yield from ((later, first) for first in same if set(part.sites) & set(routes[first].sites))
        same.append(later)
