"""Our nameserver as the benchmark starts it: `python -m bench.dns_anycastle FOLDER DATABASE PORT LIMIT`, until SIGTERM.

Law: the product's own server and worker, one worker, LIMIT answers/s for a client network (0: no limit); the view is
published each second as a member does, so what is dropped with each view counts too.
"""

import asyncio
import ipaddress
import signal
import sys
from pathlib import Path

from msgspec import structs

from anycastle.clock import SystemClock
from anycastle.dns.server import DnsServer
from anycastle.dns.settings import DnsSettings, GeoSettings, SteeredName, SteeredSite, ZoneFile
from anycastle.dns.tables import build_tables
from anycastle.health.view import Health, SiteView, View
from bench.dns_load import ORIGIN, SITES, TTL_SECONDS, names

PUBLISH_SECONDS = 1.0


def make_settings(folder: Path, database: Path, port: int, limit: int = 0) -> DnsSettings:
    """Of a member that only answers queries."""
    return DnsSettings(
        member="ams",
        listen=(("127.0.0.1", port),),
        workers=1,
        zones=(ZoneFile(origin=ORIGIN, file=folder / "zone"),),
        names=tuple(SteeredName(name=name, ttl_max_seconds=TTL_SECONDS) for name in names()),
        sites=tuple(
            SteeredSite(
                name=site.name,
                addresses=(ipaddress.ip_address(site.ipv4), ipaddress.ip_address(site.ipv6)),
                coordinates=site.coordinates,
            )
            for site in SITES
        ),
        geo=GeoSettings(country=database),
        responses_per_second_max=limit,
    )


def make_view(now: float) -> View:
    """All sites up."""
    sites = {site.name: SiteView(health=Health.UP, reason="answers", since=now - 1000.0, groups={}) for site in SITES}
    return View(member="ams", generation=1, at=now, sites=sites)


async def serve(settings: DnsSettings) -> None:
    """Until SIGTERM."""
    clock = SystemClock()
    view = make_view(clock.now())
    server = DnsServer(settings, clock=clock)
    end = asyncio.Event()
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, end.set)
    await server.start(build_tables(settings), view)
    try:
        async with asyncio.TaskGroup() as group:
            supervision = group.create_task(server.run())
            while not end.is_set():
                view = structs.replace(view, generation=view.generation + 1, at=clock.now())
                server.publish(view)
                try:
                    async with asyncio.timeout(PUBLISH_SECONDS):
                        await end.wait()
                except TimeoutError:
                    continue
            supervision.cancel()
    finally:
        await server.close()


def main() -> None:
    """The process."""
    folder, database, port, limit = sys.argv[1:]
    asyncio.run(serve(make_settings(Path(folder), Path(database), int(port), int(limit))))


if __name__ == "__main__":
    main()
