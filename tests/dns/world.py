"""A small world to answer from: two zones, three sites, steered names. Shared by the tests of the answer path."""

import ipaddress
from pathlib import Path

import dns.edns
import dns.message
import dns.rcode

from anycastle.dns.decider import Decider
from anycastle.dns.respond import new_counters, respond
from anycastle.dns.settings import DnsSettings, GeoSettings, NoneEligible, SteeredName, SteeredSite, ZoneFile
from anycastle.dns.tables import Tables, build_tables
from anycastle.health.view import GroupView, Health, SiteView, View

ZONE = """\
$TTL 3600
@            IN SOA ns1 hostmaster 2024010101 7200 3600 1209600 300
             IN NS  ns1
             IN NS  ns2.Example.NET.
             IN MX  10 mail
ns1          IN A   192.0.2.53
             IN AAAA 2001:db8::53
mail         IN A   192.0.2.25
www          IN A   192.0.2.80
             IN TXT "hello" "world"
alias        IN CNAME www
far          IN CNAME www.example.org.
dangling     IN CNAME nothing.here
loop1        IN CNAME loop2
loop2        IN CNAME loop1
tosteered    IN CNAME a.blogs
a.b.ent      IN A   192.0.2.1
*.wild       IN A   192.0.2.99
*.wild       IN MX  5 mail
sub.wild     IN TXT "blocks"
static.blogs IN A   192.0.2.77
shop         IN TXT "also here"
shop         IN A   192.0.2.66
deleg        IN NS  ns.deleg
             IN NS  ns1
             IN DS  12345 13 2 0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef
ns.deleg     IN A   192.0.2.54
             IN AAAA 2001:db8::54
old          IN DNAME new
x.new        IN A   192.0.2.11
big          IN TXT "%s"
$GENERATE 1-40 many A 198.51.100.$
$GENERATE 1-3 host$ A 203.0.113.$
"""

SITES = (
    SteeredSite(
        name="ams",
        addresses=(ipaddress.ip_address("192.0.2.10"), ipaddress.ip_address("2001:db8:1::10")),
        coordinates=(52.4, 4.9),
    ),
    SteeredSite(name="nyc", addresses=(ipaddress.ip_address("192.0.2.20"),), coordinates=(40.7, -74.0)),
    SteeredSite(name="sgp", addresses=(ipaddress.ip_address("192.0.2.30"),), coordinates=(1.3, 103.8)),
)

NAMES = (
    SteeredName(name="shop.example.com"),
    SteeredName(name="*.blogs.example.com", group="blogs", content="{1}/"),
    SteeredName(name="fails.example.com", sites=("sgp",), none=NoneEligible.SERVFAIL),
)

NETWORKS = """\
10.1.0.0/16,ams nyc sgp
10.2.0.0/16,nyc ams sgp
10.3.0.0/16,sgp ams nyc
2001:db8:2::/48,nyc ams sgp
"""

NOW = 5000.0
WALL = 1_700_000_000.0
RESOLVER = bytes((10, 1, 0, 1))


def make_settings(folder: Path, **changes: object) -> DnsSettings:
    """Settings whose files stand in `folder`."""
    (folder / "example.com").write_text(ZONE % ("x" * 255 + '" "') * 1)
    (folder / "networks.csv").write_text(NETWORKS)
    given: dict[str, object] = {
        "member": "ams",
        "listen": (("127.0.0.1", 0),),
        "workers": 1,
        "zones": (ZoneFile(origin="example.com", file=folder / "example.com"),),
        "names": NAMES,
        "sites": SITES,
        "geo": GeoSettings(networks=folder / "networks.csv"),
        "tcp_idle_seconds": 5.0,
    }
    return DnsSettings(**(given | changes))  # type: ignore[arg-type]


def make_tables(folder: Path, **changes: object) -> Tables:
    return build_tables(make_settings(folder, **changes))


def make_view(*, down: tuple[str, ...] = (), now: float = NOW, generation: int = 1) -> View:
    """All sites up and current, but those in `down`."""
    sites = {
        site.name: SiteView(
            health=Health.DOWN if site.name in down else Health.UP,
            reason="asked to be",
            since=now - 1000.0,
            groups={"blogs": GroupView(current=True, current_reason="3 of 3 leases", pending={})},
        )
        for site in SITES
    }
    return View(member="ams", generation=generation, at=now, sites=sites)


def raw(
    tables: Tables,
    packet: bytes,
    counters: dict[str, int] | None = None,
    *,
    view: View | None = None,
    source: bytes = RESOLVER,
    tcp: bool = False,
) -> bytes | None:
    """The answer to any bytes, as bytes."""
    return respond(
        packet,
        source=source,
        tcp=tcp,
        tables=tables,
        decider=Decider(tables.steering, view or make_view()),
        now=NOW,
        wall=WALL,
        counters=new_counters() if counters is None else counters,
    )


def ask(
    tables: Tables,
    question: str,
    *,
    view: View | None = None,
    subnet: str | None = None,
    source: bytes = RESOLVER,
    tcp: bool = False,
    edns: bool = True,
    payload: int = 1232,
) -> dns.message.Message:
    """The answer to `name type`, as dnspython reads it."""
    name, rrtype = question.split()
    options: list[dns.edns.Option] = []
    if subnet is not None:
        address, _, bits = subnet.partition("/")
        options.append(dns.edns.ECSOption(address, int(bits)))
    query = dns.message.make_query(
        name, rrtype, use_edns=0 if edns else False, payload=payload, options=options or None
    )
    reply = raw(tables, query.to_wire(), view=view, source=source, tcp=tcp)
    assert reply is not None
    message = dns.message.from_wire(reply)
    assert query.is_response(message)
    return message


def show(message: dns.message.Message) -> str:
    """An answer as text: RCODE and flags, then each record with the section it is in."""
    flags = "".join(" " + text for text, bit in (("aa", 0x0400), ("tc", 0x0200)) if message.flags & bit)
    lines = [dns.rcode.to_text(message.rcode()) + flags]
    for section, rrsets in (("an", message.answer), ("au", message.authority), ("ad", message.additional)):
        lines += [f"{section} {line}" for rrset in rrsets for line in sorted(rrset.to_text().splitlines())]
    return "\n".join(lines)


def scope_of(message: dns.message.Message) -> int | None:
    for option in message.options:
        if isinstance(option, dns.edns.ECSOption):
            return int(option.scopelen)
    return None
