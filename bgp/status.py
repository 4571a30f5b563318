"""What tables and the dashboard show of routers and routes, in plain values."""

import msgspec


class RouteStatus(msgspec.Struct, frozen=True, kw_only=True):
    """One prefix at one router."""

    prefix: str
    wanted: str
    """normal, degraded, drained or withdrawn."""
    since: float
    """Since when it is wanted so, seconds of BOOTTIME."""
    acknowledged: str
    """The state that ExaBGP acknowledged in the present session; "unknown" before it did."""
    acknowledged_since: float | None
    """None while unknown."""
    reason: str
    """Why it is wanted so."""
    waits_for: str
    """Why what is acknowledged is not what is wanted; empty when it is."""


class PeerStatus(msgspec.Struct, frozen=True, kw_only=True):
    """One router."""

    peer: str
    asn: int
    state: str
    """up, connected, down; unknown while ExaBGP cannot be asked."""
    since: float
    """Seconds of BOOTTIME."""
    reason: str
    routes_wanted: int
    routes_acknowledged: int
    """Announced and acknowledged in the present session; 0 while it is not up."""
    routes: tuple[RouteStatus, ...]


class Hold(msgspec.Struct, frozen=True, kw_only=True):
    """Why decisions do not reach the routers."""

    kind: str
    """frozen (by an operator) or refused (too many changes at once)."""
    reason: str
    seconds: float
    """For how long already."""
