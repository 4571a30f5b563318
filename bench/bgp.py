"""`script/bench bgp [--quick] [--json]`: from a decision to a router's table, and many routes at once.

Law: what a router has is read from the router, BIRD, through its control socket; ExaBGP's own view counts for nothing.
The peers are `exabgp healthcheck`, the same ExaBGP with the program that comes with it, and anycast-healthchecker, that
has a BIRD beside it announce what is well.
"""

import argparse
import asyncio
import contextlib
import ipaddress
import random
import sys
import tempfile
import time
from collections.abc import AsyncIterator, Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from anycastle.bgp.route import RouteState, Wanted
from anycastle.bgp.settings import BgpSettings, Peer, Prefix
from anycastle.bgp.speaker import Speaker
from anycastle.clock import SystemClock
from bench.bgp_failures import HEALTHCHECK, HEALTHCHECKER, failures, healthchecker, quantiles
from bench.bgp_router import OWN, OWN_AS, POLL_SECONDS, ROUTER, ROUTER_AS, SECONDS_MAX, Bird, router
from bench.packages import find, provide
from bench.process import BenchError
from bench.report import OURS, Row, as_json, machine, table

SEED = 5


@dataclass(frozen=True, slots=True)
class Plan:
    """How much of it."""

    changes: int
    """Timed announcements, and as many withdrawals."""
    routes: tuple[int, ...]
    peer_changes: int
    default_changes: int


FULL = Plan(changes=300, routes=(1_000, 10_000), peer_changes=60, default_changes=5)
QUICK = Plan(changes=100, routes=(1_000,), peer_changes=20, default_changes=1)


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="script/bench bgp", description="From a decision to a router's table.")
    parser.add_argument("--quick", action="store_true", help="the same work cut down to fit a minute")
    parser.add_argument("--json", action="store_true", help="one JSON object instead of a table")
    given = parser.parse_args(arguments)
    provide([("bird", "bird2")])
    if find("bird") is None:
        print("bench: nothing can be measured without bird2", file=sys.stderr)
        return 2
    rows = measure(QUICK if given.quick else FULL)
    print(as_json("bgp", machine(), rows) if given.json else f"{machine()}\n\n{table(rows)}")
    return 0


def measure(plan: Plan) -> list[Row]:
    rows = []
    with tempfile.TemporaryDirectory(prefix="bench-bgp-") as text:
        folder = Path(text)
        folder.chmod(0o755)
        with router(folder / "bird") as bird:
            rows += asyncio.run(_ours(bird, folder, plan))
        systems = [OURS, HEALTHCHECK, *([HEALTHCHECKER] if healthchecker() is not None else [])]
        for name, count in (("fastest", plan.peer_changes), ("defaults", plan.default_changes)):
            for system in systems if count else ():
                own = folder / f"{system} {name}".replace(" ", "-")
                own.mkdir(0o755)
                with router(own / "router") as bird:
                    rows += failures(bird, own / "system", system, name, count)
    return rows


async def _ours(bird: Bird, folder: Path, plan: Plan) -> list[Row]:
    rows = []
    async with _speaking(bird, folder / "run") as speaker:
        source, prefix = random.Random(SEED), "198.51.100.0/24"
        times: dict[str, list[float]] = {"announce": [], "withdraw": []}
        for _ in range(plan.changes):
            for what, prefixes in (("announce", [ipaddress.ip_network(prefix)]), ("withdraw", [])):
                await asyncio.sleep(source.uniform(0.0, 0.02))
                began = time.perf_counter()
                speaker.set_routes(_normal(prefixes))
                await _until(lambda wanted=what == "announce": bird.has(prefix) is wanted)
                times[what].append(time.perf_counter() - began)
        for what, found in times.items():
            rows += quantiles(OURS, "decision to router", what, found)
    for count in plan.routes:
        rows += await _many(bird, folder / f"run-{count}", count)
    return rows


async def _many(bird: Bird, folder: Path, count: int) -> list[Row]:
    prefixes = [ipaddress.ip_network((0x0A000000 + (number << 8), 24)) for number in range(count)]
    case = f"{count:,} routes"
    async with _speaking(bird, folder) as speaker:
        began = time.perf_counter()
        speaker.set_routes(_normal(prefixes))
        await _until(lambda: bird.count() == count, 0.01)
        announced = time.perf_counter() - began
        assert speaker.exabgp_pid is not None
        resident = _resident_mib(speaker.exabgp_pid)
        began = time.perf_counter()
        speaker.set_routes(())
        await _until(lambda: bird.count() == 0, 0.01)
        withdrawn = time.perf_counter() - began
    return [
        Row(OURS, case, "announce", "s", announced),
        Row(OURS, case, "withdraw", "s", withdrawn),
        Row(OURS, case, "ExaBGP", "MiB", resident),
    ]


@contextlib.asynccontextmanager
async def _speaking(bird: Bird, folder: Path) -> AsyncIterator[Speaker]:
    """A speaker whose session is up."""
    local = ipaddress.ip_address(OWN)
    peer = Peer(
        address=ipaddress.ip_address(ROUTER), asn=ROUTER_AS, local_address=local, port=bird.port, hold_time_seconds=240
    )
    settings = BgpSettings(
        member="bench",
        router_id=ipaddress.IPv4Address(OWN),
        local_as=OWN_AS,
        peers=(peer,),
        rules=(),
        run_dir=folder,
    )
    speaker = Speaker(settings, clock=SystemClock())
    async with asyncio.TaskGroup() as group:
        group.create_task(speaker.run())
        try:
            await _until(lambda: speaker.status()[0].state == "up", 0.05)
            yield speaker
        finally:
            await speaker.close()


def _normal(prefixes: Sequence[Prefix]) -> tuple[Wanted, ...]:
    return tuple(Wanted(prefix=prefix, state=RouteState.NORMAL, reason="bench") for prefix in prefixes)


async def _until(truth: Callable[[], bool], pause_seconds: float = POLL_SECONDS) -> None:
    end = time.monotonic() + SECONDS_MAX
    while not truth():
        if time.monotonic() > end:
            raise BenchError(f"the router had not what was told within {SECONDS_MAX:g} s")
        await asyncio.sleep(pause_seconds)


def _resident_mib(pid: int) -> float:
    (line,) = [line for line in Path(f"/proc/{pid}/status").read_text().splitlines() if line.startswith("VmRSS:")]
    return int(line.split()[1]) / 1024


if __name__ == "__main__":
    sys.exit(main())
