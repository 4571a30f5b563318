"""What an operator may say about routes: checked and typed by `anycastle.config`, then used unchecked in bgp/."""

import ipaddress
from dataclasses import dataclass
from pathlib import Path

Address = ipaddress.IPv4Address | ipaddress.IPv6Address
Prefix = ipaddress.IPv4Network | ipaddress.IPv6Network


PREPEND_MAX = 10
"""Longer paths are filtered by many networks and gain nothing."""
COMMUNITIES_MAX = 32
"""Of each kind on one route; routers keep far more, but nobody writes more by intent."""
ROUTES_MAX = 10_000
"""The hard ceiling, which `script/bench bgp` measures."""

Community = tuple[int, int]
LargeCommunity = tuple[int, int, int]


@dataclass(frozen=True, slots=True, kw_only=True)
class Attributes:
    """What a router is told beside prefix and next hop; None means "as the layer below says" (`exabgp.attributes`)."""

    med: int | None = None
    local_preference: int | None = None
    """Only within our own AS; nobody sends it to another one (RFC 4271, 5.1.5)."""
    prepend: int | None = None
    """How often our AS number stands in the path besides once; only to other ASes."""
    communities: tuple[Community, ...] | None = None
    """RFC 1997."""
    large_communities: tuple[LargeCommunity, ...] | None = None
    """RFC 8092."""


@dataclass(frozen=True, slots=True, kw_only=True)
class AttributesByState:
    """What is told of a route in each state in which it is told."""

    normal: Attributes = Attributes()
    degraded: Attributes = Attributes()
    drained: Attributes = Attributes()


@dataclass(frozen=True, slots=True, kw_only=True)
class Peer:
    """One router that this site's ExaBGP talks to; a session carries the family of its own address only."""

    address: Address
    asn: int
    local_address: Address
    port: int = 179
    """Where the connection is accepted: the router's port; of a passive session ours."""
    passive: bool = False
    """The router connects to us."""
    multihop: int | None = None
    """Routers at most so many hops away hear us (the TTL we send with, 1..255); None leaves it to the system."""
    ttl_security: int | None = None
    """GTSM (RFC 5082): packets from more than so many hops away (1..254) are dropped, ours leave with 255."""
    md5: str | None = None
    """The TCP MD5 key itself, printable ASCII without quotes and spaces (RFC 2385)."""
    hold_time_seconds: int = 9
    """0 or 3..65535 (RFC 4271)."""
    next_hop: Address | None = None
    """None announces the session's own address ("self")."""
    attributes: AttributesByState = AttributesByState()
    """Of this router alone; goes before the site's."""


@dataclass(frozen=True, slots=True, kw_only=True)
class LoopbackSettings:
    """The service addresses of routes come and go with them."""

    interface: str = "lo"
    delay_seconds: float = 1.0
    """How long an address stays when its route has gone: routers far away still send for a moment."""


@dataclass(frozen=True, slots=True, kw_only=True)
class RouteRule:
    """One anycast prefix and when it is announced."""

    prefix: Prefix
    group: str | None
    """The content group that gates it; None for a nameserver route, which depends on the local DNS server alone."""
    nameserver: bool = False
    lag_max_seconds: float = 10.0
    """Announced again only below half of this: BGP must not flap with every upload."""
    minimum_sites: int = 1
    """The withdrawal that would leave fewer announcing sites is refused, but for lost currency under `refuse`."""
    isolated_refuse: bool = True
    """The group's policy `isolated`: True withdraws on lost currency, False keeps the route."""
    hold_down_seconds: float = 5.0
    """After a withdrawal the route stays away at least this long."""
    drain_seconds: float = 10.0
    """A drained route is kept with 65535:0 (RFC 8326) this long, then withdrawn."""
    kept_while_hung: bool = False
    """The bridge leaves it alone while no controller speaks; one that dies takes it along all the same."""
    addresses: tuple[Address, ...] = ()
    """Service addresses within the prefix that come and go with the route, where the loopback is managed."""


@dataclass(frozen=True, slots=True, kw_only=True)
class BgpSettings:
    """The whole of bgp/ at one site."""

    member: str
    router_id: ipaddress.IPv4Address
    local_as: int
    peers: tuple[Peer, ...]
    rules: tuple[RouteRule, ...]
    run_dir: Path
    """For the generated configuration, the bridge's socket and the list of prefixes ever announced."""
    user: str | None = None
    """Whom ExaBGP becomes when started as root; None keeps the user."""
    attributes: AttributesByState = AttributesByState()
    routes_max: int = 1000
    """More are refused before anything starts."""
    changes_max: int | None = None
    """So many routes may get worse at once by what was measured; None is any number."""
    loopback: LoopbackSettings | None = None
    """None leaves the machine's addresses alone."""
