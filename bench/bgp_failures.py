"""From a change of a service to a router's table: `anycastle announce`, and what people use now.

Law: all look at the same service by the same command, as often, and are seen in the same router.
"""

import random
import statistics
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from bench.bgp_router import OWN, OWN_AS, POLL_SECONDS, ROUTER, ROUTER_AS, SECONDS_MAX, Bird, bird, free_port
from bench.healthcheck import healthcheck
from bench.packages import find, from_pypi
from bench.process import BenchError, Server, running, wait_until
from bench.report import OURS, Row

SEED = 5
PREFIX = "198.51.100.1/32"
HEALTHCHECK, HEALTHCHECKER = "exabgp healthcheck", "anycast-healthchecker"
RELEASE = f"{HEALTHCHECKER}==0.9.10"
OPTIONS = {
    OURS: {
        "fastest": ("--interval", "100ms", "--timeout", "5s", "--rise", "1", "--fall", "1", "--hold-down", "0s"),
        "defaults": ("--hold-down", "0s"),
    },
    HEALTHCHECK: {
        "fastest": ("interval = 0.1", "fast-interval = 0.1", "rise = 1", "fall = 1", "debounce"),
        "defaults": (),
    },
    HEALTHCHECKER: {"fastest": ("check_interval = 0.1", "check_rise = 1", "check_fail = 1"), "defaults": ()},
}


def failures(router: Bird, folder: Path, system: str, name: str, count: int) -> list[Row]:
    """A service that is there while a file is; from its end to the router, and from its beginning, `count` times.

    Other words than for decisions: this holds the wait for the next check.
    """
    folder.mkdir()
    alive, source, case = folder / "alive", random.Random(SEED), f"failure to router, {name}"
    times: dict[str, list[float]] = {"announce": [], "withdraw": []}
    alive.touch()
    with _STARTED[system](router, folder, alive, OPTIONS[system][name]) as server:
        wait_until(lambda: router.has(PREFIX), server, SECONDS_MAX)
        for _ in range(count):
            for what, change in (("withdraw", alive.unlink), ("announce", alive.touch)):
                time.sleep(source.uniform(0.2, 0.4))
                began = time.perf_counter()
                change()
                while router.has(PREFIX) is not (what == "announce"):
                    server.check()
                    if time.perf_counter() - began > SECONDS_MAX:
                        raise BenchError(f"{system} told the router nothing within {SECONDS_MAX:g} s")
                    time.sleep(POLL_SECONDS)
                times[what].append(time.perf_counter() - began)
    rows = [row for what, found in times.items() for row in quantiles(system, case, f"check and {what}", found)]
    return [*rows, Row(system, case, "check and withdraw, longest", "ms", 1e3 * max(times["withdraw"]))]


def quantiles(system: str, case: str, what: str, seconds: Sequence[float]) -> list[Row]:
    """p99 only where there is one."""
    rows = [Row(system, case, f"{what} p50", "ms", 1e3 * statistics.median(seconds))]
    p99 = 1e3 * sorted(seconds)[max(0, round(len(seconds) * 0.99) - 1)] if len(seconds) >= 50 else None
    return [*rows, Row(system, case, f"{what} p99", "ms", p99)]


@contextmanager
def _announce(router: Bird, folder: Path, alive: Path, options: Sequence[str]) -> Iterator[Server]:
    command = [
        *(sys.executable, "-m", "anycastle.cli", "announce", "--command", f"test -e {alive}"),
        *("--route", PREFIX, "--allow-private", "--router-id", OWN, "--local-as", str(OWN_AS)),
        *("--peer", f"{ROUTER},as={ROUTER_AS},port={router.port},hold_time=240s", "--state-dir", str(folder / "run")),
        *options,
    ]
    with running(command, folder) as server:
        yield server


@contextmanager
def _healthcheck(router: Bird, folder: Path, alive: Path, options: Sequence[str]) -> Iterator[Server]:
    command = healthcheck(
        folder,
        check=f"test -e {alive}",
        route=PREFIX,
        own=(OWN, OWN_AS),
        router=(ROUTER, ROUTER_AS),
        hold_seconds=240,
        port=router.port,
        options=options,
    )
    with running(command, folder) as server:
        yield server


@contextmanager
def _healthchecker(router: Bird, folder: Path, alive: Path, options: Sequence[str]) -> Iterator[Server]:
    """It writes which prefixes a BIRD beside it may announce, and has that BIRD read its configuration again."""
    beside, prefixes = folder / "bird", folder / "prefixes.conf"
    beside.mkdir()
    prefixes.write_text("define ACAST_PS_ADVERTISE = [ 10.189.200.255/32 ];\n")
    (beside / "bird.conf").write_text(
        f'router id {OWN};\ninclude "{prefixes}";\nprotocol device {{}}\n'
        f"protocol static {{ ipv4; route {PREFIX} blackhole; }}\n"
        f"protocol bgp up {{ local {OWN} port {free_port(OWN)} as {OWN_AS}; neighbor {ROUTER} port {router.port}"
        f" as {ROUTER_AS}; multihop; ipv4 {{ import none; export where net ~ ACAST_PS_ADVERTISE; }}; }}\n"
    )
    daemon, service = folder / "daemon.conf", folder / "services" / "service.conf"
    service.parent.mkdir()
    lines = [f"check_cmd = test -e {alive}", f"ip_prefix = {PREFIX}", "ip_check_disabled = true", *options]
    service.write_text("\n".join(["[service]", "check_disabled = false", *lines]) + "\n")
    with bird(beside) as control:
        daemon.write_text(
            f"[daemon]\nbird_conf = {prefixes}\nbird_reconfigure_cmd = {find('birdc')} -s {control} configure\n"
            f"pidfile = {folder / 'pid'}\nloglevel = info\n"
        )
        with running([str(healthchecker()), "-f", str(daemon), "-d", str(service.parent)], folder) as server:
            yield server


def healthchecker() -> Path | None:
    """anycast-healthchecker, installed where it is missing; None, and said, where that fails."""
    return from_pypi(RELEASE, HEALTHCHECKER)


_STARTED = {OURS: _announce, HEALTHCHECK: _healthcheck, HEALTHCHECKER: _healthchecker}
