"""What an operator may say about groups and links: checked and typed by `anycastle.config`."""

import enum
import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from ipaddress import IPv4Network, IPv6Network
from pathlib import Path

READS = frozenset(("GET", "HEAD", "OPTIONS"))
"""Methods whose requests change nothing, but for a group's `writing` paths; all others are fenced."""

RETENTION_SECONDS = 30 * 86400.0
"""Who comes back later compares everything: still no copying, but minutes instead of seconds."""


class Isolated(enum.Enum):
    """What a site that is not current does with a request that no current site can take."""

    REFUSE = "refuse"
    SERVE = "serve"


@dataclass(frozen=True, slots=True, kw_only=True)
class GroupSettings:
    """One tree of content."""

    name: str
    root: Path
    hosts: tuple[str, ...]
    """Host patterns, lower case; one `*` as the first label; `{1}` below is what it matched."""
    document_root: str
    """Folder in the group that URL paths are relative to: `{1}/htdocs`, or the empty string."""
    application: str
    """URL of the unmodified software, on this site."""
    prefix_depth: int
    """How many path components steering distinguishes: the deepest `content` of the names of this group."""
    writes: tuple[str, ...] = ()
    """Sites that take writes, in order; empty means any."""
    copies: int = 1
    """Sites (the origin counts) that must have landed a write before its success is released."""
    isolated: Isolated = Isolated.REFUSE
    exclude: tuple[str, ...] = ()
    """fnmatch patterns on the path (folders with a last slash): neither watched nor sent nor landed."""
    dynamic: tuple[str, ...] = ("*.php", "*.cgi")
    """fnmatch patterns of paths that are programs: judged by their whole prefix, not by the file."""
    writing: tuple[str, ...] = ()
    """fnmatch patterns of URL paths that may change something under GET too: all their requests are fenced."""
    fence_timeout_seconds: float = 10.0
    scrub_bytes_per_second: int | None = None
    """Of the background pass that reads all files again; None for no such pass."""
    seed: str | None = None
    """The site whose content wins where sites with content meet for the first time; None: what was announced first."""
    wait_max_seconds: float = 2.0
    """Longest `Wait` of a read, then 503 with Retry-After."""
    static: tuple[str, ...] = ()
    """fnmatch patterns of URL paths that the built-in edge serves from the disk by itself."""
    affinity_seconds: float | None = None
    """How long a user is kept at the site that answered first; None is not at all."""
    settle_seconds: float = 0.0
    """A write's fence waits so long for changes that the software makes after its answer."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Tls:
    """Files (PEM) of the members' mutual TLS 1.3; the certificate's SAN holds the member's name."""

    authority: Path
    certificate: Path
    key: Path


@dataclass(frozen=True, slots=True, kw_only=True)
class Lease:
    """Timing of the fence (design section 5)."""

    term_seconds: float = 3.0
    renewal_seconds: float = 1.0
    drift: float = 0.02
    """Bound on the rate difference of any two members' clocks."""


@dataclass(frozen=True, slots=True)
class HourRate:
    """Another limit from one full hour to another, as the clock on the wall has it; over midnight when first > end."""

    first: int
    end: int
    """Not within; 0 to 24."""
    bytes_per_second: int | None

    def covers(self, hour: int) -> bool:
        if self.first < self.end:
            return self.first <= hour < self.end
        return hour >= self.first or hour < self.end


@dataclass(frozen=True, slots=True, kw_only=True)
class LinkSettings:
    """How this member talks to the others."""

    member: str
    listen: tuple[str, int]
    peers: dict[str, tuple[str, int]]
    """Other members and where to connect to them."""
    tls: Tls
    source_address: str | None = None
    """Outgoing links and fetches bind to this address; None lets the system choose."""
    frame_bytes_max: int = 4 * 1024 * 1024
    queue_bytes_max: int = 32 * 1024 * 1024
    """Waiting for one peer; beyond it the sender is told to stop (back-pressure), nothing is dropped."""
    body_bytes_per_second: int | None = None
    """Limit of what goes to each peer, bodies and announcements (urgent messages not); None is no limit."""
    body_hours: tuple[HourRate, ...] = ()
    """Other limits at hours of the day."""
    compress: bool = True
    """What is bulky is packed for peers that can unpack it."""
    fetches_max: int = 4
    """Bodies pulled at the same time."""
    hello_timeout_seconds: float = 5.0
    silence_seconds_max: float = 3.0
    """A link that said nothing for longer is closed; leases cross at least once a renewal."""


LOOPBACK = (IPv4Network("127.0.0.0/8"), IPv6Network("::1/128"))


@dataclass(frozen=True, slots=True)
class CertificateFiles:
    """PEM files of one certificate, with what stands between it and its authority, and of its key."""

    certificate: Path
    key: Path


@dataclass(frozen=True, slots=True, kw_only=True)
class EdgeSettings:
    """The built-in reverse proxy."""

    site: str
    listen: tuple[tuple[str, int], ...]
    tls_listen: tuple[tuple[str, int], ...] = ()
    certificates: tuple[CertificateFiles, ...] = ()
    """For `tls_listen`; a client that names no host, or one that no certificate has, gets the first."""
    trusted_proxies: tuple[IPv4Network | IPv6Network, ...] = LOOPBACK
    """Who may say for whom it asks (X-Forwarded-For and its like)."""
    header_bytes_max: int = 32 * 1024
    body_bytes_max: int = 1024 * 1024 * 1024
    response_held_bytes_max: int = 16 * 1024 * 1024
    """A write's response is held until it is fenced; a longer one is answered 502."""
    connections_max: int = 1000
    connections_per_client_max: int = 200
    """Of one IPv4 address or IPv6 /64; trusted proxies are not counted."""
    head_seconds_max: float = 15.0
    """From the first byte of a request to the end of its fields."""
    silence_seconds_max: float = 60.0
    """A client that neither sends nor takes anything of a body for so long is given up."""
    application_timeout_seconds: float = 60.0
    drain_seconds_max: float = 5.0
    """When the edge ends, requests under way may take so long."""
    verdict_headers: bool = True
    """Answers say which site gave them, and why (`X-Anycastle-…`)."""
    access_log: Path | None = None
    websockets_max: int = 500
    websocket_silence_seconds_max: float = 600.0
    affinity_keys: tuple[bytes, ...] = ()
    """Shared by the sites, for the cookies of groups with affinity: the first signs, all verify."""


@dataclass(frozen=True, slots=True, kw_only=True)
class VerdictSettings:
    """The socket on which a web server beside us asks the gate."""

    site: str
    socket: Path
    owner: str | None = None
    """`user` or `user:group`; None is whoever runs the member."""
    mode: int = 0o600
    passes: Path | None = None
    """Folder of what it may serve without asking (`edge_pass`); None: it always asks."""
    header_bytes_max: int = 32 * 1024
    """Of one question: what the built-in edge takes."""
    connections_max: int = 1000


@dataclass(frozen=True, slots=True, kw_only=True)
class ReplicaSettings:
    """The whole of replicator/ at one member."""

    member: str
    members: tuple[str, ...]
    """The roster, witnesses included."""
    members_previous: tuple[str, ...] = ()
    """Only while the roster changes: every majority must hold in both."""
    sites: tuple[str, ...]
    """Members that hold content."""
    distance: tuple[str, ...]
    """The other sites, nearest first."""
    groups: tuple[GroupSettings, ...]
    """Empty at a witness for content; it still votes for the group names below."""
    group_names: tuple[str, ...]
    lease: Lease
    state_dir: Path
    hash_threads: int = field(default_factory=lambda: max(2, os.cpu_count() or 1))
    """Every core may hash: what is read first is read once, and a big first scan waits for nothing else."""
    retention_seconds: Mapping[str, float] = field(default_factory=dict)
    """By group, for how long what a member that is away has missed is kept for it."""
