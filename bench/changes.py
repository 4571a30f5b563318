"""`script/bench changes [--quick] [--json]`: how soon a change of the view is answered from, at 1,000 changes a second.

Law: the product's own server and one worker, over loopback; every change is one file under way at one of the sites, as
an upload makes it, so each touches one name. Time is from `publish` to the first answer that shows it; the asking goes
on without a pause, so the worker is busy with queries too.
"""

import argparse
import asyncio
import contextlib
import ipaddress
import random
import statistics
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import dns.message
from msgspec import structs

from anycastle.clock import SystemClock
from anycastle.dns.server import DnsServer
from anycastle.dns.settings import DnsSettings, GeoSettings, SteeredName, SteeredSite, ZoneFile
from anycastle.dns.tables import build_tables
from anycastle.health.view import GroupView, Health, SiteView, View
from bench.process import BenchError
from bench.report import Row, as_json, machine, table

NAMES = 10_000
CHANGES_PER_SECOND = 1000
ZONE = "$TTL 60\n@ SOA ns hostmaster 1 3600 600 86400 60\n@ NS ns\nns A 192.0.2.53\n"
SITES = tuple(
    SteeredSite(name=name, addresses=(ipaddress.ip_address(f"192.0.2.{number}"),))
    for number, name in enumerate(("ams", "nyc"), start=1)
)
PROBE = b"probe/"
ANSWER_SECONDS_MAX = 2.0


@dataclass(frozen=True, slots=True)
class Plan:
    """How many changes are timed."""

    samples: int


FULL, QUICK = Plan(2000), Plan(300)


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="script/bench changes", description="From a change to the answers.")
    parser.add_argument("--quick", action="store_true", help="the same work cut down")
    parser.add_argument("--json", action="store_true", help="one JSON object instead of a table")
    given = parser.parse_args(arguments)
    rows = asyncio.run(measure(QUICK if given.quick else FULL))
    print(as_json("changes", machine(), rows) if given.json else f"{machine()}\n\n{table(rows)}")
    return 0


async def measure(plan: Plan) -> list[Row]:
    """Of one server."""
    clock = SystemClock()
    with tempfile.TemporaryDirectory(prefix="bench-changes-") as text:
        settings = make_settings(Path(text))
        tables = build_tables(settings)
        publisher = Publisher(DnsServer(settings, clock=clock), clock)
        await publisher.server.start(tables, publisher.view)
        try:
            async with asyncio.TaskGroup() as group:
                tasks = [group.create_task(publisher.server.run()), group.create_task(publisher.keep_changing())]
                began = time.monotonic()
                delays = await time_changes(publisher, plan.samples)
                rate = publisher.changes / (time.monotonic() - began)
                for task in tasks:
                    task.cancel()
        finally:
            await publisher.server.close()
    case = f"{NAMES:,} names, one worker"
    numbers = {
        ("changes", "/s"): rate,
        ("in the answers, p50", "ms"): 1000 * statistics.median(delays),
        ("p99", "ms"): 1000 * statistics.quantiles(delays, n=100)[98],
        ("longest", "ms"): 1000 * max(delays),
    }
    return [Row("anycastle", case, metric, unit, value) for (metric, unit), value in numbers.items()]


def make_settings(folder: Path) -> DnsSettings:
    (folder / "zone").write_text(ZONE)
    return DnsSettings(
        member="ams",
        listen=(("127.0.0.1", 0),),
        workers=1,
        zones=(ZoneFile(origin="bench.example", file=folder / "zone"),),
        names=(SteeredName(name="*.bench.example", group="blogs", content="{1}/"),),
        sites=SITES,
        geo=GeoSettings(),
        responses_per_second_max=0,
    )


class Publisher:
    """The view, changed again and again."""

    def __init__(self, server: DnsServer, clock: SystemClock) -> None:
        self.server = server
        self._clock = clock
        self._chance = random.Random(5)
        self._pending: dict[bytes, float] = {}
        self.changes = 0
        now = clock.now()
        group = GroupView(current=True, current_reason="", pending={})
        site = SiteView(health=Health.UP, reason="", since=now - 1000.0, groups={"blogs": group})
        self.view = View(member="ams", generation=1, at=now, sites={site_.name: site for site_ in SITES})

    def change(self, prefix: bytes) -> None:
        """Something below the prefix goes on its way to the first site, or lands there."""
        now = self._clock.now()
        if self._pending.pop(prefix, None) is None:
            self._pending[prefix] = now
        first = self.view.sites["ams"]
        group = structs.replace(first.groups["blogs"], pending=dict(self._pending))
        sites = self.view.sites | {"ams": structs.replace(first, groups={"blogs": group})}
        self.view = structs.replace(self.view, generation=self.view.generation + 1, at=now, sites=sites)
        self.server.publish(self.view)
        self.changes += 1

    async def keep_changing(self) -> None:
        """At an even pace, until cancelled; each name lands before the next goes on its way."""
        began, done = time.monotonic(), 0
        while True:
            due = int((time.monotonic() - began) * CHANGES_PER_SECOND)
            for number in range(done, due):
                if number % 2 == 0:
                    name = b"n%d/" % self._chance.randrange(NAMES)
                self.change(name)
            done = max(done, due)
            await asyncio.sleep(1 / CHANGES_PER_SECOND)


async def time_changes(publisher: Publisher, samples: int) -> list[float]:
    """Seconds from a change of the asked name to the first answer that shows it."""
    loop = asyncio.get_running_loop()
    replies: asyncio.Queue[bytes] = asyncio.Queue()

    class Client(asyncio.DatagramProtocol):
        def datagram_received(self, data: bytes, addr: object) -> None:
            replies.put_nowait(data)

    transport, _ = await loop.create_datagram_endpoint(Client, remote_addr=publisher.server.addresses[0])
    query = dns.message.make_query("probe.bench.example", "A").to_wire()
    delays = []
    try:
        shown = await _ask(transport, query, replies)
        for _ in range(samples):
            publisher.change(PROBE)
            began = time.monotonic()
            while (now_shown := await _ask(transport, query, replies)) == shown:
                if time.monotonic() - began > ANSWER_SECONDS_MAX:
                    raise BenchError("a change did not come into the answers")
            delays.append(time.monotonic() - began)
            shown = now_shown
    finally:
        with contextlib.suppress(OSError):
            transport.close()
    return delays


async def _ask(transport: asyncio.DatagramTransport, query: bytes, replies: "asyncio.Queue[bytes]") -> str:
    transport.sendto(query)
    async with asyncio.timeout(ANSWER_SECONDS_MAX):
        return str(dns.message.from_wire(await replies.get()).answer[0][0])


if __name__ == "__main__":
    sys.exit(main())
