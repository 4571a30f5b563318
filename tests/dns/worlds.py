"""Small worlds for the tests of steering: three sites, a view of them in which all is well, and a map."""

import ipaddress
from typing import Any

import msgspec

from anycastle.dns.geo import Geo, Source, build, spanning
from anycastle.dns.settings import SteeredName, SteeredSite
from anycastle.dns.steer import Decision, Steering
from anycastle.dns.steer import decide as decide_at
from anycastle.health.view import GroupView, Health, SiteView, View

NOW = 10_000.0
LONG_AGO = 1_000.0


def site(name: str, number: int, **facts: Any) -> SteeredSite:
    addresses = (ipaddress.ip_address(f"192.0.2.{number}"), ipaddress.ip_address(f"2001:db8::{number}"))
    return SteeredSite(name=name, addresses=addresses, **facts)


AMS, NYC, SGP = SITES = (site("ams", 1), site("nyc", 2), site("sgp", 3))
NEAR_SGP = spanning(ipaddress.ip_network("10.3.0.0/16"), Source(("sgp", "nyc", "ams"), "networks.csv:1 10.3.0.0/16"))
NEAR_NYC = spanning(ipaddress.ip_network("10.2.0.0/16"), Source(("nyc", "ams", "sgp"), "networks.csv:2 10.2.0.0/16"))
GEO: Geo = build(("ams", "nyc", "sgp"), (NEAR_SGP, NEAR_NYC), ())
BLOGS = SteeredName(name="*.blogs.example.com", group="blogs", content="{1}/")


def state(
    health: Health = Health.UP,
    *,
    since: float = LONG_AGO,
    current: bool = True,
    pending: dict[bytes, float] | None = None,
    drained: frozenset[str] = frozenset(),
    load: float = 0.0,
    gated: str = "",
) -> SiteView:
    group = GroupView(current=current, current_reason="1 of 3 leases", pending=pending or {}, gated=gated)
    return SiteView(health=health, reason="probes", since=since, groups={"blogs": group}, drained=drained, load=load)


def view(isolated: bool = False, **sites: SiteView) -> View:
    """All is well, but for what is given."""
    known = {name: state() for name in ("ams", "nyc", "sgp")} | sites
    return View(member="ams", generation=1, at=NOW, sites=known, isolated=isolated)


def without(world: View, *names: str) -> View:
    return msgspec.structs.replace(world, sites={n: s for n, s in world.sites.items() if n not in names})


def steering(*names: SteeredName, sites: tuple[SteeredSite, ...] = SITES, geo: Geo = GEO) -> Steering:
    return Steering.build(names, sites, geo)


def ask(
    rule: SteeredName,
    world: View,
    client: str = "10.3.0.1",
    *,
    name: str = "alice.blogs.example.com",
    sites: tuple[SteeredSite, ...] = SITES,
    source_bits: int | None = None,
    now: float = NOW,
) -> Decision:
    """What one client is told of one name."""
    table = steering(rule, sites=sites)
    match = table.match(tuple(name.encode().split(b".")))
    assert match is not None
    address = ipaddress.ip_address(client).packed
    bits = len(address) * 8 if source_bits is None else source_bits
    return decide_at(table, match, address, bits, world, now=now)
