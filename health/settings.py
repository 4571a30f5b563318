"""What an operator may say about probes: checked and typed by `anycastle.config`."""

import enum
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

DAY_SECONDS = 86_400.0


@dataclass(frozen=True, slots=True, kw_only=True)
class HttpCheck:
    """Ask for a URL; healthy on an accepted status and, when given, a body with `match` and `pattern` in it.

    TLS is verified, against `authority` when given, else against the authorities that the system trusts.
    """

    url: str
    statuses: frozenset[int] = frozenset({200})
    match: str | None = None
    address: str | None = None
    """Connect to this address under the URL's host name: one site's public path, whatever DNS says of the name."""
    pattern: str | None = None
    """Regular expression, searched in the body as bytes."""
    method: str = "GET"
    headers: tuple[tuple[str, str], ...] = ()
    """Sent beside our own, or instead of them; `Host` too."""
    server_name: str | None = None
    """Asked for by SNI, and what the certificate must be for; without it, the URL's host."""
    authority: Path | None = None
    warn_before_seconds: float = 14 * DAY_SECONDS
    """A certificate that ends sooner is told of; it is healthy for as long as it is valid."""


@dataclass(frozen=True, slots=True, kw_only=True)
class TcpCheck:
    """A TCP connection that opens is healthy; with `expect`, one on which that is said after `send` was sent."""

    host: str
    port: int
    send: bytes = b""
    expect: bytes = b""


@dataclass(frozen=True, slots=True, kw_only=True)
class DnsCheck:
    """An authoritative NOERROR answer for `name`/`type` over UDP is healthy, unless something else is expected."""

    host: str
    port: int
    name: str
    type: str = "SOA"
    rcode: str = "NOERROR"
    answer: frozenset[str] = frozenset()
    """Data in master-file text, all of which must be among the answer's records."""
    authoritative: bool = True
    """False asks with recursion desired, and takes answers from a cache."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ExecCheck:
    """A program that ends by itself with status 0 is healthy. No shell; it is killed when the timeout is over."""

    arguments: tuple[str, ...]
    environment: tuple[tuple[str, str], ...] = ()
    """Beside PATH, LANG, ANYCASTLE_SITE and ANYCASTLE_MEMBER, which are all that it gets otherwise."""


@dataclass(frozen=True, slots=True, kw_only=True)
class FileCheck:
    """A regular file is healthy; with `age_max_seconds`, if modified lately; with `contains`, if that is in it."""

    file: Path
    age_max_seconds: float | None = None
    contains: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class DiskCheck:
    """A filesystem with enough room for those without privileges is healthy."""

    folder: Path
    free_min_bytes: int = 0
    free_min_share: float = 0.0
    files_min_share: float = 0.0
    """Of the files (inodes) it can have."""


@dataclass(frozen=True, slots=True, kw_only=True)
class CertificateCheck:
    """A certificate that is valid for longer than `fail_before_seconds` is healthy. Nothing else of it is judged.

    Exactly one of `file` (PEM; the first in it) and `endpoint`.
    """

    file: Path | None = None
    endpoint: tuple[str, int] | None = None
    server_name: str | None = None
    """Asked for by SNI; without it, the endpoint's host."""
    warn_before_seconds: float = 14 * DAY_SECONDS
    fail_before_seconds: float = 0.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Database:
    """How to reach a database server, and as whom."""

    place: tuple[str, int] | Path
    """Host and port, or a Unix socket."""
    user: str
    name: str = ""
    password_file: Path | None = None
    """Read anew for each connection, so that a new password needs no restart."""
    authority: Path | None = None
    """TLS, verified against this; without it, no TLS."""


@dataclass(frozen=True, slots=True, kw_only=True)
class PostgresCheck:
    """A PostgreSQL server that takes writes, or a standby that receives and is at most so far behind, is healthy."""

    database: Database
    lag_max_seconds: float


@dataclass(frozen=True, slots=True, kw_only=True)
class MysqlCheck:
    """The same of MySQL and MariaDB."""

    database: Database
    lag_max_seconds: float


Check = (
    HttpCheck | TcpCheck | DnsCheck | ExecCheck | FileCheck | DiskCheck | CertificateCheck | PostgresCheck | MysqlCheck
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Probe:
    """One check of one site, repeated."""

    site: str
    name: str
    """Unique within the site, shown in reasons: `http 192.0.2.10/health`, or the label an operator gave it."""
    check: Check
    interval_seconds: float = 1.0
    timeout_seconds: float = 0.5
    rise: int = 2
    """This many successes in a row make it UP."""
    fall: int = 3
    """This many failures in a row make it DOWN."""
    jitter: float = 0.1
    """Each interval is stretched by a random share up to this, so that probes of many observers spread out."""
    site_only: bool = False
    """Only the site's own member makes it: it looks at that machine, or at what only that site reaches."""
    gates_only: bool = False
    """Groups require it: it says of those groups whether the site may have users, and of the site nothing."""


@dataclass(frozen=True, slots=True, kw_only=True)
class HealthSettings:
    """The whole of health/ at one member: every member observes every site."""

    member: str
    sites: tuple[str, ...]
    probes: tuple[Probe, ...]
    """Those that this member makes."""
    hold_down_seconds: float = 1.0
    """After a site went DOWN it is not judged UP again before this has passed."""
    observation_age_max_seconds: float = 5.0
    """An observer not heard of for longer has no say."""
    concurrency_max: int = 64
    """Probes under way that answered in time at their last round; and as many that did not."""
    requires: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    """Group -> names of probes of this member's own site, all of which must be UP for users to be sent here for it."""


class Reading(enum.Enum):
    """Who may look at a member over TCP."""

    OPEN = "open"
    TOKEN = "token"
    """Who shows a token, and who connects over loopback."""


class Scope(enum.Enum):
    """What a token of the API allows."""

    READ = "read"
    """To look, where looking needs a token."""
    DRAIN = "drain"
    """drain and undrain."""
    ROUTES = "routes"
    """freeze, thaw and accept."""
    ADMIN = "admin"
    """Everything, the list of changes too."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Token:
    """One line of a token file; the token itself is forgotten when it was read."""

    name: str
    """Stands in the list of changes as who did it."""
    scopes: frozenset[Scope]
    digest: bytes
    """SHA-256 of the token: of one length, whatever the token's."""

    def allows(self, scope: Scope) -> bool:
        """Every token may read."""
        return scope is Scope.READ or scope in self.scopes or Scope.ADMIN in self.scopes
