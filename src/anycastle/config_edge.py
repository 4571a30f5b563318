"""The edge's tables: `[edge]`, the same at every site, and `sites.X.edge`, where it listens.

Law: as in `config_parts`, readers note faults in their `Table` and always return a value.
"""

import ipaddress
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from anycastle import config_values as v
from anycastle.config_read import Expected, NamedFile, Table
from anycastle.replicator.settings import LOOPBACK

_KEYS = (
    *("certificates", "trusted_proxies", "access_log", "verdict_headers", "affinity_keys"),
    *("body_max", "held_max", "connections", "connections_per_client", "websockets"),
    *("head_timeout", "client_timeout", "application_timeout", "websocket_timeout", "drain"),
)


@dataclass(frozen=True, slots=True, kw_only=True)
class EdgePart:
    """`[edge]`. File names may hold `{site}`."""

    certificates: tuple[tuple[str, str], ...]
    """(certificate, key)."""
    trusted_proxies: tuple[ipaddress.IPv4Network | ipaddress.IPv6Network, ...]
    access_log: str | None
    verdict_headers: bool
    affinity_keys: NamedFile | None
    body_bytes_max: int
    held_bytes_max: int
    connections_max: int
    connections_per_client_max: int
    websockets_max: int
    head_seconds_max: float
    client_seconds_max: float
    application_seconds_max: float
    websocket_seconds_max: float
    drain_seconds_max: float


def read_edge(table: Table) -> EdgePart:
    certificates = tuple(_read_certificate(each) for each in table.tables("certificates"))
    no_log: str | None = None
    part = EdgePart(
        certificates=certificates,
        trusted_proxies=table.take("trusted_proxies", v.many(_proxy), LOOPBACK),
        access_log=table.take("access_log", v.text, no_log),
        verdict_headers=table.take("verdict_headers", v.boolean, True),
        affinity_keys=table.named_file("affinity_keys", v.text),
        body_bytes_max=table.take("body_max", v.size_bytes, 1024**3),
        held_bytes_max=table.take("held_max", v.size_bytes, 16 * 1024**2),
        connections_max=table.take("connections", v.whole(1, 65_536), 1000),
        connections_per_client_max=table.take("connections_per_client", v.whole(1, 65_536), 200),
        websockets_max=table.take("websockets", v.whole(0, 65_536), 500),
        head_seconds_max=table.take("head_timeout", v.positive_seconds, 15.0),
        client_seconds_max=table.take("client_timeout", v.positive_seconds, 60.0),
        application_seconds_max=table.take("application_timeout", v.positive_seconds, 60.0),
        websocket_seconds_max=table.take("websocket_timeout", v.positive_seconds, 600.0),
        drain_seconds_max=table.take("drain", v.seconds, 5.0),
    )
    table.done(_KEYS)
    return part


@dataclass(frozen=True, slots=True, kw_only=True)
class VerdictPart:
    """`edge.verdict`: where a web server beside us asks the gate. The socket's name may hold `{site}`."""

    socket: str
    owner: str | None
    mode: int
    passes: bool

    @classmethod
    def read(cls, table: Table) -> "VerdictPart":
        part = cls(
            socket=table.need("socket", v.socket_file, "/", '"/run/anycastle/verdict.sock"'),
            owner=table.take("owner", v.account, None),
            mode=table.take("mode", v.file_mode, 0o600),
            passes=table.take("passes", v.boolean, True),
        )
        table.done(("socket", "owner", "mode", "passes"))
        return part


@dataclass(frozen=True, slots=True, kw_only=True)
class SiteEdgePart:
    """`sites.X.edge`."""

    listen: tuple[tuple[str, int], ...]
    tls_listen: tuple[tuple[str, int], ...]
    verdict: VerdictPart | None


def read_site_edge(table: Table) -> SiteEdgePart:
    part = SiteEdgePart(
        listen=table.take("listen", v.many(v.listener), ()),
        tls_listen=table.take("tls_listen", v.many(v.listener), ()),
        verdict=VerdictPart.read(table.table("verdict")) if table.has("verdict") else None,
    )
    table.done(("listen", "tls_listen", "verdict"))
    return part


def check_edge(table: Table, part: EdgePart, sites: Mapping[str, SiteEdgePart], affine: tuple[str, ...]) -> None:
    """What one of the tables needs of another; `affine` are the groups with affinity."""
    speaking = [name for name, site in sites.items() if site.tls_listen]
    if speaking and not part.certificates:
        example = '[{ certificate = "tls/site.pem", key = "tls/site.key" }]'
        table.fault("certificates", f"tls_listen of {', '.join(speaking)} needs this key, such as: {example}")
    if affine and part.affinity_keys is None:
        table.fault(
            "affinity_keys", f"affinity of {', '.join(affine)} needs this file; `openssl rand -hex 32` makes it"
        )


def affinity(value: Any) -> bool:
    """`affinity` of a group."""
    if value not in ("none", "cookie"):
        raise Expected('one of "none", "cookie"')
    return bool(value == "cookie")


def _read_certificate(table: Table) -> tuple[str, str]:
    files = (
        table.need("certificate", v.text, "?", '"tls/example.com.pem"'),
        table.need("key", v.text, "?", '"tls/example.com.key"'),
    )
    table.done(("certificate", "key"))
    return files


def _proxy(value: Any) -> ipaddress.IPv4Network | ipaddress.IPv6Network:
    """A network, or the address of one machine. All addresses would mean to believe every client."""
    return v.prefix(value)
