"""What an operator may say about answers: checked and typed by `anycastle.config`, then used unchecked in dns/."""

import enum
import ipaddress
from dataclasses import dataclass, field
from pathlib import Path

Address = ipaddress.IPv4Address | ipaddress.IPv6Address
Network = ipaddress.IPv4Network | ipaddress.IPv6Network


class Policy(enum.Enum):
    """How eligible sites are ranked for a client (design section 6)."""

    CLOSEST = "closest"
    FASTEST = "fastest"
    CHEAPEST = "cheapest"
    FAILOVER = "failover"
    WEIGHTED = "weighted"


class NoneEligible(enum.Enum):
    """What a name answers when no site is eligible. Never by surprise: explain says so."""

    CLOSEST = "closest"
    ALL = "all"
    NODATA = "nodata"
    SERVFAIL = "servfail"
    FALLBACK = "fallback"


@dataclass(frozen=True, slots=True, kw_only=True)
class SteeredSite:
    """The static facts of one site that ranking needs."""

    name: str
    addresses: tuple[Address, ...]
    """Handed out by steering; both families of one site go together."""
    coordinates: tuple[float, float] | None = None
    """Latitude, longitude in degrees."""
    cost: float = 1.0
    weight: int = 1
    soft_load: float | None = None
    """Requests/s from which the site is asked for less and less."""
    hard_load: float | None = None
    """Requests/s at which it is not asked any more."""


@dataclass(frozen=True, slots=True, kw_only=True)
class SteeredName:
    """One name (exact, or wildcard `*.rest`) whose addresses are decided per query."""

    name: str
    """Absolute, lower case, without the last dot: `*.blogs.example.com`."""
    group: str | None = None
    """Content group; None when the name maps to no content."""
    content: str = ""
    """Template of the prefix in the group: `{1}/`; `{1}` is what the star matched (all labels of it, as one)."""
    policy: Policy = Policy.CLOSEST
    sites: tuple[str, ...] = ()
    """The sites it may use, in failover order; empty means all."""
    ttl_min_seconds: int = 5
    ttl_max_seconds: int = 60
    grace_seconds: float = 0.0
    none: NoneEligible = NoneEligible.CLOSEST
    fallback: tuple[Address, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class TsigKey:
    """A secret shared with secondaries (RFC 8945)."""

    name: str
    """A domain name without the last dot, lower case."""
    algorithm: str
    """`hmac-sha256` and the like."""
    secret: bytes = field(repr=False)


@dataclass(frozen=True, slots=True, kw_only=True)
class TransferSettings:
    """Who may have a whole zone."""

    to: tuple[Network, ...]
    key: str | None = None
    """The key that the request must be signed with, beside coming from one of the addresses."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ZoneFile:
    """One zone from a standard master file."""

    origin: str
    """Absolute, lower case, without the last dot."""
    file: Path
    transfer: TransferSettings | None = None
    """None when nobody may have it."""
    notify: tuple[tuple[str, int], ...] = ()
    """(address, port) of secondaries to be told of a new serial (RFC 1996)."""


@dataclass(frozen=True, slots=True, kw_only=True)
class GeoSettings:
    """Where client networks are: `networks`, then `asn` with `distances`, then `city`, then `country`."""

    country: Path | None = None
    """A MaxMind-format database (country or city); coordinates are used when it has them."""
    city: Path | None = None
    """As `country`, and goes before it."""
    asn: Path | None = None
    """A MaxMind-format database of autonomous systems, for those that stand in `distances`."""
    distances: Path | None = None
    """CSV lines `NL,ams=50 nyc=5900` and `AS64500,sgp=1`, in kilometres."""
    networks: Path | None = None
    """CSV lines `CIDR,site site site`: an explicit order of sites for a network."""


@dataclass(frozen=True, slots=True, kw_only=True)
class DnsSettings:
    """The whole of dns/ at one member."""

    member: str
    listen: tuple[tuple[str, int], ...]
    """(address, port) for UDP and TCP."""
    workers: int
    zones: tuple[ZoneFile, ...]
    names: tuple[SteeredName, ...]
    sites: tuple[SteeredSite, ...]
    geo: GeoSettings
    udp_payload_bytes_max: int = 1232
    """DNS flag day 2020 / RFC 9715."""
    tcp_connections_max: int = 256
    """Of all workers together; each has its share."""
    tcp_connections_per_client_max: int = 16
    """Of one IPv4 address or IPv6 /64, shared among the workers too. A resolver needs one or two (RFC 7766 section
    6.2.2); many may stand behind one address."""
    tcp_idle_seconds: float = 10.0
    keys: tuple[TsigKey, ...] = ()
    cookie_secrets: tuple[bytes, ...] = field(default=(), repr=False)
    """16 bytes each, the first signs (RFC 9018); none: a random one, so cookies are of use at this member only."""
    responses_per_second_max: float = 5000.0
    """UDP answers for one client network (/24 or /56), in each worker; 0 for no limit. Far above any one resolver."""
