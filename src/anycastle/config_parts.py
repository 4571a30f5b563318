"""The tables of the configuration, one reader each: `[sites.X]`, `[groups.X]`, `[[names]]`.

Law: readers note faults in their `Table` and always return a value, so that the whole file is read in one go.
"""

import ipaddress
import re
from dataclasses import dataclass
from typing import Any, ClassVar

from anycastle import config_values as v
from anycastle.bgp.settings import Address
from anycastle.config_edge import SiteEdgePart, affinity, read_site_edge
from anycastle.config_probes import read_probes
from anycastle.config_profile import read_profile
from anycastle.config_read import Expected, NamedFile, Table
from anycastle.config_routes import BgpPart, read_bgp
from anycastle.dns.settings import NoneEligible, Policy, SteeredName
from anycastle.health.settings import Probe, Reading
from anycastle.replicator.settings import RETENTION_SECONDS, HourRate, Isolated

_NOWHERE = ("0.0.0.0", 1)


_RATE_KEYS = ("body_rate", "body_rate_hours", "compress")
_HOURS = re.compile(r"([01]\d|2[0-3])-([01]\d|2[0-4])")


def _rate_hours(value: Any) -> tuple[HourRate, ...]:
    """`{"08-20" = "5MB/s", "00-06" = "unlimited"}`: full hours of local time, from the first to before the second."""
    expected = Expected('hours and rates such as { "08-20" = "5MB/s", "22-06" = "unlimited" }')
    if not isinstance(value, dict):
        raise expected
    found: list[HourRate] = []
    for hours, rate in value.items():
        matched = _HOURS.fullmatch(hours)
        if not matched or matched[1] == matched[2]:
            raise expected
        each = HourRate(int(matched[1]), int(matched[2]), None if rate == "unlimited" else v.bytes_per_second(rate))
        if any(other.covers(hour) and each.covers(hour) for other in found for hour in range(24)):
            raise Expected(f"each hour once, and {hours} has some that stand in another line too")
        found.append(each)
    return tuple(found)


@dataclass(frozen=True, slots=True, kw_only=True)
class LocalPart:
    """What every member has, witness or site. Paths may hold `{site}`."""

    KEYS: ClassVar[tuple[str, ...]] = ("state_dir", "link", "link_listen", "link_source", "dashboard", *_RATE_KEYS)

    state_dir: str
    link: tuple[str, int]
    link_listen: tuple[str, int]
    link_source: str | None
    body_rate: int | None
    body_rate_hours: tuple[HourRate, ...]
    compress: bool
    dashboard: "DashboardPart"

    @classmethod
    def read(cls, table: Table) -> "LocalPart":
        link = table.need("link", v.endpoint, _NOWHERE, '"ams.example.net:7400"')
        any_address = ("0.0.0.0", link[1])
        source = table.take("link_source", v.address, None)
        dashboard = DashboardPart.read(table.table("dashboard"))
        return cls(
            state_dir=table.take("state_dir", v.text, "/var/lib/anycastle"),
            link=link,
            link_listen=table.take("link_listen", v.listener, any_address),
            link_source=str(source) if source else None,
            body_rate=table.take("body_rate", v.bytes_per_second, None),
            body_rate_hours=table.take("body_rate_hours", _rate_hours, ()),
            compress=table.take("compress", v.boolean, True),
            dashboard=dashboard,
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class DashboardPart:
    """`dashboard` of a member."""

    listen: tuple[str, int] | None
    token_file: NamedFile | None
    reading: Reading
    hosts: tuple[str, ...]

    @classmethod
    def read(cls, table: Table) -> "DashboardPart":
        listen = table.take("listen", v.listener, None)
        token_file = table.named_file("token_file", v.text)
        reading = table.take("reading", v.one_of(Reading), Reading.OPEN)
        hosts: tuple[str, ...] = table.take("hosts", v.many(v.host_name), ())
        table.done(("listen", "token_file", "reading", "hosts"))
        remote = listen is not None and not ipaddress.ip_address(listen[0]).is_loopback
        if listen is not None and remote and reading is Reading.OPEN:
            table.warn("listen", f"{listen[0]} is not a loopback address: whoever reaches it may read without a token")
        if reading is Reading.TOKEN and token_file is None:
            table.fault("reading", "is by token, and there is none: expected a token_file too")
        return cls(listen=listen, token_file=token_file, reading=reading, hosts=hosts)


@dataclass(frozen=True, slots=True, kw_only=True)
class SitePart:
    """`[sites.X]`."""

    local: LocalPart
    coordinates: tuple[float, float] | None
    addresses: tuple[Address, ...]
    cost: float
    weight: int
    soft_load: float | None
    hard_load: float | None
    dns_listen: tuple[tuple[str, int], ...]
    dns_workers: int
    dns_responses_per_second: float
    dns_tcp_connections: int
    dns_tcp_connections_per_client: int
    dns_cookie_secrets: NamedFile | None
    edge: SiteEdgePart
    applications: dict[str, str]
    probes: tuple[Probe, ...]
    bgp: BgpPart | None


_SITE_KEYS = (
    *LocalPart.KEYS,
    *("coordinates", "addresses", "cost", "weight", "capacity"),
    *("dns", "edge", "applications", "probes", "bgp"),
)


def read_site(name: str, table: Table) -> SitePart:
    dns, capacity = table.table("dns"), table.table("capacity")
    applications = table.table("applications").named_values(v.http_url)
    part = SitePart(
        local=LocalPart.read(table),
        coordinates=table.take("coordinates", _coordinates, None),
        addresses=table.need("addresses", v.many(v.address), (), '["192.0.2.10"]'),
        cost=table.take("cost", v.number(0, 1e9), 1.0),
        weight=table.take("weight", v.whole(0, 1_000_000), 1),
        soft_load=capacity.take("soft", v.requests_per_second, None),
        hard_load=capacity.take("hard", v.requests_per_second, None),
        dns_listen=dns.take("listen", v.many(v.own_listener), ()),
        dns_workers=dns.take("workers", v.whole(1, 64), 1),
        dns_responses_per_second=dns.take("responses_per_network", v.responses_per_second, 5000.0),
        dns_tcp_connections=dns.take("tcp_connections", v.whole(1, 65_536), 256),
        dns_tcp_connections_per_client=dns.take("tcp_connections_per_client", v.whole(1, 65_536), 16),
        dns_cookie_secrets=dns.named_file("cookie_secrets", v.text),
        edge=read_site_edge(table.table("edge")),
        applications=applications,
        probes=read_probes(name, table.tables("probes")),
        bgp=read_bgp(table.table("bgp")) if table.has("bgp") else None,
    )
    if not part.probes:
        table.fault("probes", "expected at least one: a site that nobody probes is never known to be up")
    dns.done(
        (
            *("listen", "workers", "responses_per_network", "cookie_secrets"),
            *("tcp_connections", "tcp_connections_per_client"),
        )
    )
    capacity.done(("soft", "hard"))
    if part.soft_load is not None and part.hard_load is not None and part.soft_load > part.hard_load:
        table.fault("capacity", "expected soft to be at most hard")
    table.done(_SITE_KEYS)
    return part


def _coordinates(value: Any) -> tuple[float, float]:
    fits = isinstance(value, list) and len(value) == 2 and all(type(x) in (int, float) for x in value)
    if not fits or not (-90 <= value[0] <= 90 and -180 <= value[1] <= 180):
        raise Expected("[latitude, longitude] in degrees, such as [52.37, 4.90]")
    return float(value[0]), float(value[1])


@dataclass(frozen=True, slots=True, kw_only=True)
class GroupPart:
    """`[groups.X]`, before `{site}` in its root is known."""

    name: str
    root: str
    hosts: tuple[str, ...]
    document_root: str
    application: str
    writes: tuple[str, ...]
    copies: int
    isolated: Isolated
    exclude: tuple[str, ...]
    dynamic: tuple[str, ...]
    fence_timeout_seconds: float
    wait_max_seconds: float
    static: tuple[str, ...]
    affinity_seconds: float | None
    settle_seconds: float
    scrub_bytes_per_second: int | None
    seed: str | None
    retention_seconds: float
    writing: tuple[str, ...]
    requires: tuple[str, ...]
    """Labels of probes that gate it at their site."""
    requires_by_profile: bool
    """The group itself does not say so."""


_PROFILE_KEYS = (
    *("document_root", "writes", "writing", "copies", "isolated", "exclude", "dynamic", "static", "settle"),
    *("fence_timeout", "wait_max", "affinity", "affinity_life", "scrub_rate", "seed", "retention", "requires"),
)
"""Those with a default."""
_GROUP_KEYS = ("root", "hosts", "application", "profile", *_PROFILE_KEYS)


SCRUB_BYTES_PER_SECOND = 5_000_000
"""A terabyte in two and a half days, and a disk hardly notices."""


AFFINITY_SECONDS = 4 * 3600.0
"""Longer than software keeps an idle session, as a rule; the mark is renewed while its user comes."""


def _scrub_rate(value: Any) -> int | None:
    return None if value == "off" else v.bytes_per_second(value)


def _writes(value: Any, sites: tuple[str, ...]) -> tuple[str, ...]:
    if isinstance(value, list):
        return v.some_of(sites, "sites")(value)
    if value not in ("any", "first"):
        raise Expected(f'"any", "first", or an array of different sites out of {", ".join(sites)}')
    return sites if value == "first" else ()


def read_group(name: str, table: Table, sites: tuple[str, ...]) -> GroupPart:
    own = frozenset(key for key in _PROFILE_KEYS if table.has(key))
    profile = read_profile(table)
    anywhere: tuple[str, ...] = ()
    affinity_seconds = table.take("affinity_life", v.positive_seconds, AFFINITY_SECONDS)
    usual_scrub_rate: int | None = SCRUB_BYTES_PER_SECOND
    part = GroupPart(
        name=name,
        root=table.need("root", v.text, f"?{name}", '"/srv/blogs"'),
        hosts=table.need("hosts", v.many(v.host_name), (), '["*.blogs.example.com"]'),
        document_root=table.take("document_root", v.any_text, ""),
        application=table.need("application", v.http_url, "http://invalid", '"http://127.0.0.1:8081"'),
        writes=table.take("writes", lambda value: _writes(value, sites), anywhere),
        writing=table.take("writing", v.many(v.text), ()),
        copies=table.take("copies", v.whole(1, max(1, len(sites))), 1),
        isolated=table.take("isolated", v.one_of(Isolated), Isolated.REFUSE),
        exclude=table.take("exclude", v.many(v.text), ()),
        dynamic=table.take("dynamic", v.many(v.text), ("*.php", "*.cgi")),
        fence_timeout_seconds=table.take("fence_timeout", v.positive_seconds, 10.0),
        wait_max_seconds=table.take("wait_max", v.positive_seconds, 2.0),
        static=table.take("static", v.many(v.text), ()),
        affinity_seconds=affinity_seconds if table.take("affinity", affinity, False) else None,
        settle_seconds=table.take("settle", v.seconds, 0.0),
        scrub_bytes_per_second=table.take("scrub_rate", _scrub_rate, usual_scrub_rate),
        seed=table.take("seed", v.one_out_of(sites, "site"), None),
        retention_seconds=table.take("retention", v.positive_seconds, RETENTION_SECONDS),
        requires=table.take("requires", v.many(v.short_name), ()),
        requires_by_profile="requires" not in own,
    )
    if not re.fullmatch(r"[a-z0-9]([a-z0-9-]{0,30}[a-z0-9])?", name):
        table.fault("", "expected a group name of lower-case letters, digits and inner hyphens, at most 32")
    if part.document_root.startswith("/") or ".." in part.document_root.split("/"):
        table.fault("document_root", 'expected a folder in the group such as "{1}/htdocs"')
    if part.settle_seconds >= part.fence_timeout_seconds:
        why = "every write waits so long"
        if "settle" not in own and "fence_timeout" in own:
            table.fault("fence_timeout", f"expected more than the profile's settle, {part.settle_seconds:g} s: {why}")
        else:
            said = table if "settle" in own or profile is None else profile
            said.fault("settle", f"expected less than fence_timeout: {why}")
    if "{1}" in part.document_root and not all(host.startswith("*.") for host in part.hosts):
        table.fault("document_root", "uses {1}, so each of hosts must begin with a star")
    table.done(_GROUP_KEYS)
    if profile is not None:
        profile.done(("about", *_PROFILE_KEYS))
        table.faults.found.extend(profile.faults.found)
    return part


_NAME_KEYS = ("name", "content", "steer", "sites", "ttl", "grace", "none", "fallback")


def read_name(table: Table, groups: tuple[str, ...], sites: tuple[str, ...]) -> SteeredName:
    name = table.need("name", v.host_name, "?", '"*.blogs.example.com"')
    group, content = _read_content(table, name, groups)
    ttl = table.table("ttl")
    low, high = ttl.take("min", v.whole_seconds, 5), ttl.take("max", v.whole_seconds, 60)
    ttl.done(("min", "max"))
    if low > high:
        table.fault("ttl", "expected min to be at most max")
    part = SteeredName(
        name=name,
        group=group,
        content=content,
        policy=table.take("steer", v.one_of(Policy), Policy.CLOSEST),
        sites=table.take("sites", v.some_of(sites, "sites"), ()),
        ttl_min_seconds=low,
        ttl_max_seconds=high,
        grace_seconds=table.take("grace", v.seconds, 0.0),
        none=table.take("none", v.one_of(NoneEligible), NoneEligible.CLOSEST),
        fallback=table.take("fallback", v.many(v.address), ()),
    )
    if part.none is NoneEligible.FALLBACK and not part.fallback:
        table.fault("", 'none = "fallback" needs a key \'fallback\', such as: fallback = ["192.0.2.99"]')
    table.done(_NAME_KEYS)
    return part


def _read_content(table: Table, name: str, groups: tuple[str, ...]) -> tuple[str | None, str]:
    """`group:prefix/` -> (group, prefix); (None, "") when the name maps to no content."""
    value = table.take("content", v.text, "")
    if not value:
        return None, ""
    group, colon, prefix = value.partition(":")
    if not colon or group not in groups:
        table.fault("content", f"expected group:prefix/ with a group of {', '.join(groups) or '(none defined)'}")
        return None, ""
    if prefix and (not prefix.endswith("/") or prefix.startswith("/") or ".." in prefix.split("/")):
        table.fault("content", 'expected a prefix that ends with a slash such as "blogs:{1}/"')
    if "{1}" in prefix and not name.startswith("*."):
        table.fault("content", "uses {1}, so the name must begin with a star")
    return group, prefix
