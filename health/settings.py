"""What an operator may say about probes: checked and typed by `anycastle.config`."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class HttpCheck:
    """GET a URL; healthy on an accepted status and, when given, a body that contains `match`. TLS is verified."""

    url: str
    statuses: frozenset[int] = frozenset({200})
    match: str | None = None
    address: str | None = None
    """Connect to this address under the URL's host name: one site's public path, whatever DNS says of the name."""


@dataclass(frozen=True, slots=True, kw_only=True)
class TcpCheck:
    """A TCP connection that opens is healthy."""

    host: str
    port: int


@dataclass(frozen=True, slots=True, kw_only=True)
class DnsCheck:
    """An authoritative NOERROR answer for `name`/`type` over UDP is healthy."""

    host: str
    port: int
    name: str
    type: str = "SOA"


@dataclass(frozen=True, slots=True, kw_only=True)
class CommandCheck:
    """A command that ends with status 0 is healthy."""

    command: str


Check = HttpCheck | TcpCheck | DnsCheck | CommandCheck


@dataclass(frozen=True, slots=True, kw_only=True)
class Probe:
    """One check of one site, repeated."""

    site: str
    name: str
    """Unique within the site, shown in reasons: `http 192.0.2.10/health`."""
    check: Check
    interval_seconds: float = 1.0
    timeout_seconds: float = 0.5
    rise: int = 2
    """This many successes in a row make it UP."""
    fall: int = 3
    """This many failures in a row make it DOWN."""
    jitter: float = 0.1
    """Each interval is stretched by a random share up to this, so that probes of many observers spread out."""


@dataclass(frozen=True, slots=True, kw_only=True)
class HealthSettings:
    """The whole of health/ at one member: every member observes every site."""

    member: str
    sites: tuple[str, ...]
    probes: tuple[Probe, ...]
    hold_down_seconds: float = 1.0
    """After a site went DOWN it is not judged UP again before this has passed."""
    observation_age_max_seconds: float = 5.0
    """An observer not heard of for longer has no say."""
    concurrency_max: int = 64
