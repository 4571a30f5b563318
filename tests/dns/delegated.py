"""One nameserver of a delegated zone: `python -m tests.dns.delegated FOLDER MEMBER ADDRESS...`, until it is killed.

The zone has static and steered names, two nameservers, and what a checker of zones expects of a decent one.
"""

import asyncio
import ipaddress
import sys
from pathlib import Path

from anycastle.clock import SystemClock
from anycastle.dns.server import DnsServer
from anycastle.dns.settings import DnsSettings, GeoSettings, SteeredName, SteeredSite, ZoneFile
from anycastle.dns.tables import build_tables
from anycastle.health.view import Health, SiteView, View

ORIGIN = "castle.test"
ADDRESSES = {"ns1": ("192.0.2.3", "2001:db8::3"), "ns2": ("192.0.2.4", "2001:db8::4")}
GLUE = "".join(f"{name} IN A {ipv4}\n{name} IN AAAA {ipv6}\n" for name, (ipv4, ipv6) in ADDRESSES.items())
ZONE = f"""\
$TTL 3600
$ORIGIN {ORIGIN}.
@     IN SOA ns1 hostmaster 2024010101 14400 3600 1209600 300
      IN NS  ns1
      IN NS  ns2
      IN MX  10 mail
mail  IN A   198.51.100.25
      IN AAAA 2001:db8:25::25
www   IN CNAME shop
{GLUE}"""
SITES = {
    "ams": ("198.51.100.10", "2001:db8:a::10"),
    "nyc": ("198.51.100.20", "2001:db8:b::10"),
}
NETWORKS = "192.0.2.100/32,nyc ams\n2001:db8::100/128,nyc ams\n192.0.2.0/24,ams nyc\n2001:db8::/64,ams nyc\n"


def make_settings(folder: Path, member: str, addresses: list[str]) -> DnsSettings:
    (folder / "zone").write_text(ZONE)
    (folder / "networks.csv").write_text(NETWORKS)
    return DnsSettings(
        member=member,
        listen=tuple((address, 53) for address in addresses),
        workers=1,
        zones=(ZoneFile(origin=ORIGIN, file=folder / "zone"),),
        names=(SteeredName(name=f"shop.{ORIGIN}"), SteeredName(name=f"*.blogs.{ORIGIN}")),
        sites=tuple(
            SteeredSite(name=name, addresses=tuple(map(ipaddress.ip_address, pair))) for name, pair in SITES.items()
        ),
        geo=GeoSettings(networks=folder / "networks.csv"),
    )


def make_view(member: str, now: float) -> View:
    """All sites up."""
    sites = {name: SiteView(health=Health.UP, reason="answers", since=now - 1000.0, groups={}) for name in SITES}
    return View(member=member, generation=1, at=now, sites=sites)


async def serve(settings: DnsSettings) -> None:
    """Says `ready` when it answers."""
    clock = SystemClock()
    server = DnsServer(settings, clock=clock)
    await server.start(build_tables(settings), make_view(settings.member, clock.now()))
    print("ready", flush=True)
    await server.run()


def main() -> None:
    """The process."""
    folder, member, *addresses = sys.argv[1:]
    asyncio.run(serve(make_settings(Path(folder), member, addresses)))


if __name__ == "__main__":
    main()
