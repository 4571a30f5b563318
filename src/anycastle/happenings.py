"""What of a member is told to its timeline and put into its charts: gathered here, from every part.

Law: gathering changes nothing, and waits for nothing.
"""

from __future__ import annotations

from collections.abc import Hashable
from typing import TYPE_CHECKING

from anycastle import counts
from anycastle.health.event import Event, Kind
from anycastle.health.series import Key, Sample
from anycastle.health.view import show_path
from anycastle.news import Condition

if TYPE_CHECKING:
    from anycastle.app import Member
    from anycastle.bgp.announcer import Announcer
    from anycastle.replicator.observation import Conflict

DNS_ERRORS = ("rcode_servfail", "send_failed", "udp_dropped")
EDGE_ANSWERS = ("serve", "write", "forward", "refuse", "fault", "verdict_serve", "verdict_refuse")
"""What a web server was told to forward comes to the edge by itself."""
EDGE_ERRORS = ("refuse", "fault", "verdict_refuse")


def conditions(member: Member, *, now: float) -> dict[Hashable, Condition]:
    """What holds now and is worth a line when it begins or ends."""
    own = member.settings.member
    found: dict[Hashable, Condition] = {}
    for trouble in member.replica.troubles():
        what = trouble.found
        place = f"{what.group}:" if what.group else ""
        over = f"over: {trouble.text}"
        key = ("trouble", what.group, what.what, what.cause)
        found[key] = Condition(kind=Kind.TROUBLE, site=own, place=place, text=trouble.text, over=over)
    if words := member.replica.acquaintance.disowned:
        over = "others talk to this member again"
        found["disowned"] = Condition(kind=Kind.LEDGER, site=own, text=words, over=over)
    if words := member.reload_refused:
        found["reload"] = Condition(kind=Kind.RELOAD, site=own, text=words)
    for hold in member.announcer.holds() if member.announcer is not None else ():
        text = f"routes are {hold.kind}: {hold.reason}"
        over = f"routes are no longer {hold.kind}"
        found["hold", hold.kind] = Condition(kind=Kind.ROUTE, site=own, text=text, over=over)
    return found


class RouteWatch:
    """Sessions, and what routers have acknowledged; what the site announces in all is told of the view.

    Looked at only when something of it has moved: 10,000 routes take some 60 ms.
    """

    def __init__(self) -> None:
        self.moved = True
        """Set by whoever hears that what sessions or routers say has changed."""
        self._found: dict[Hashable, Condition] = {}

    def conditions(self, member: Member) -> dict[Hashable, Condition]:
        if member.announcer is not None and self.moved:
            self.moved = False
            self._found = _routes(member.announcer, member.settings.member)
        return self._found


def _routes(announcer: Announcer, own: str) -> dict[Hashable, Condition]:
    found: dict[Hashable, Condition] = {}
    for session in announcer.status():
        if session.state == "up":
            text, over = f"the BGP session with {session.peer} is up", f"the BGP session with {session.peer} is down"
            found["session", session.peer] = Condition(kind=Kind.ROUTE, site=own, text=text, over=over)
        for route in session.routes:
            if route.acknowledged == route.wanted:
                text = f"{session.peer} has {route.prefix} as {route.wanted}: {route.reason}"
                key = ("route", session.peer, route.prefix, route.wanted)
                found[key] = Condition(kind=Kind.ROUTE, site=own, text=text)
    return found


def conflict_event(conflict: Conflict, *, site: str, wall: float) -> Event:
    place = f"{conflict.group}:{show_path(conflict.path)}"
    kept = "which is kept" if conflict.kept else "which had no bytes to keep"
    text = f"{place} was edited at two sites at once: {conflict.winner} won over {conflict.loser}, {kept}"
    return Event(wall=wall, kind=Kind.CONFLICT, site=site, place=place, text=text)


def sample(member: Member, *, now: float) -> Sample:
    """A point of each series."""
    sites = member.view.sites if member.view is not None else {}
    levels: dict[Key, float] = {
        ("lag_seconds", name): max((group.lag_seconds(now) for group in site.groups.values()), default=0.0)
        for name, site in sites.items()
    }
    counters = counts.counters(member)
    rates: dict[Key, float] = {}
    means: dict[Key, tuple[float, float]] = {}
    if (dns := counters.get("dns")) is not None:
        rates["dns_queries_per_second", ""] = dns.get("queries", 0)
        rates["dns_errors_per_second", ""] = sum(dns.get(word, 0) for word in DNS_ERRORS)
    if (edge := counters.get("edge")) is not None and member.edge is not None:
        rates["edge_requests_per_second", ""] = sum(edge.get(word, 0) for word in EDGE_ANSWERS)
        rates["edge_errors_per_second", ""] = sum(edge.get(word, 0) for word in EDGE_ERRORS)
        means["fence_seconds", ""] = (edge["fence_microseconds"] / 1e6, edge["fences"])
    return Sample(levels=levels, counts=rates, means=means)
