"""`script/soak bgp [--seconds N] [--hertz F]`: a health signal that flaps, at a real router, in real time.

Law: what counts is what changed BIRD's table (`show protocols all`), and the bounds are those of docs/bgp.md. Two sites
flap at the same time: one that may leave (others announce), and one that is the last and degrades. Repeated withdrawals
of what is withdrawn change nothing.
"""

import argparse
import asyncio
import ipaddress
import re
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from anycastle.bgp.announcer import Announcer
from anycastle.bgp.settings import BgpSettings, Peer, RouteRule
from anycastle.clock import SystemClock
from anycastle.health.view import Health, SiteView, View
from bench.bgp import OWN, OWN_AS, ROUTER, ROUTER_AS, Bird, router
from bench.packages import find, provide

PREFIX = "198.51.100.0/24"
SETTLE_SECONDS = 3.0


@dataclass(frozen=True, slots=True)
class Case:
    name: str
    others: int
    """So many other sites announce the prefix."""
    updates_max: int
    """In the first five minutes of flapping at 1 Hz or faster, hold-down 5 s; docs/bgp.md."""


CASES = (Case("may-leave", 1, 14), Case("last-site", 0, 26))


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="script/soak bgp", description="A flapping health signal at a real router.")
    parser.add_argument("--seconds", type=float, default=300.0, help="how long, at most 300; default 300")
    parser.add_argument("--hertz", type=float, default=1.0, help="failures a second; default 1")
    given = parser.parse_args(arguments)
    if not 0 < given.seconds <= 300 or given.hertz <= 0:
        parser.error("expected at most 300 seconds, for which the bounds hold, and some failures a second")
    provide([("bird", "bird2")])
    if find("bird") is None:
        print("soak: nothing can be counted without bird2", file=sys.stderr)
        return 2
    return 0 if asyncio.run(_all(given.seconds, given.hertz)) else 1


async def _all(seconds: float, hertz: float) -> bool:
    with tempfile.TemporaryDirectory(prefix="soak-bgp-") as folder:
        async with asyncio.TaskGroup() as group:
            tasks = [group.create_task(_one(case, Path(folder) / case.name, seconds, hertz)) for case in CASES]
    return min(task.result() for task in tasks)


async def _one(case: Case, folder: Path, seconds: float, hertz: float) -> bool:
    with router(folder) as bird:
        announcer = Announcer(_settings(bird, folder / "run"), SystemClock())
        async with asyncio.TaskGroup() as group:
            group.create_task(announcer.run())
            announcer.update(_view(case, Health.UP), "")
            while announcer.announced() != {PREFIX}:  # noqa: ASYNC110 - a router has no events to wait for
                await asyncio.sleep(0.1)
            before, flips = _received(bird), 0
            end = asyncio.get_running_loop().time() + seconds
            while asyncio.get_running_loop().time() < end:
                flips += 1
                announcer.update(_view(case, Health.DOWN if flips % 2 else Health.UP), "")
                await asyncio.sleep(0.5 / hertz)
            announcer.update(_view(case, Health.UP), "")
            await asyncio.sleep(SETTLE_SECONDS)
            updates = _received(bird) - before
            await announcer.close()
    right = 0 < updates <= case.updates_max
    said = f"{flips} changes of health, {updates} updates at BIRD, at most {case.updates_max}"
    print(f"{case.name}: {said}: {'right' if right else 'WRONG'}", flush=True)
    return right


def _received(bird: Bird) -> int:
    """Updates and withdrawals that changed something: the last of BIRD's columns."""
    text = bird.ask("show protocols all exa")
    found = [re.search(rf"Import {what}:.*\s(\d+)$", text, re.MULTILINE) for what in ("updates", "withdraws")]
    return sum(int(each[1]) for each in found if each)


def _settings(bird: Bird, run_dir: Path) -> BgpSettings:
    here, there = ipaddress.ip_address(OWN), ipaddress.ip_address(ROUTER)
    peer = Peer(address=there, asn=ROUTER_AS, local_address=here, port=bird.port)
    rule = RouteRule(prefix=ipaddress.ip_network(PREFIX), group=None)
    return BgpSettings(
        member="ams",
        router_id=ipaddress.IPv4Address(OWN),
        local_as=OWN_AS,
        peers=(peer,),
        rules=(rule,),
        run_dir=run_dir,
    )


def _view(case: Case, health: Health) -> View:
    def site(health: Health) -> SiteView:
        return SiteView(health=health, reason="soak", since=0.0, groups={}, announced=frozenset({PREFIX}))

    others = {f"other{number}": site(Health.UP) for number in range(case.others)}
    return View(member="ams", generation=1, at=0.0, sites={"ams": site(health)} | others)


if __name__ == "__main__":
    sys.exit(main())
