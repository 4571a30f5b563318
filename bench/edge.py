"""`script/bench edge [--quick] [--json]`: nginx alone, nginx with the gate, the built-in edge, a plain aiohttp proxy.

Law: the same files and the same PHP behind all four, one after the other, the order rotated from round to round; an
answer that is no success ends a measurement. Processor time is of all processes that a system needs for its answers.
Fenced uploads go through nginx to a member whose only other member is on a line with a delay.
"""

import argparse
import contextlib
import itertools
import os
import statistics
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from bench import edge_load as load
from bench import edge_systems as systems
from bench.edge_systems import Place
from bench.packages import find, provide
from bench.process import BenchError, Server, running, wait_until
from bench.replicate_systems import free_ports
from bench.report import OURS, Row, as_json, machine, median_rows, table
from tests import lag

FILES, FILE_BYTES, UPLOAD_BYTES = 200, 10_000, (1_000, 100_000)
START_SECONDS_MAX = 60.0
GATED, EDGE, PROXY, ALONE = OURS, "built-in edge", "aiohttp proxy", "nginx alone"
CASES = {"10 KB file": "/f1.bin", "PHP page": "/page.php"}
WARM_UPLOADS = 3
NEAR, FAR = "198.18.0.9", "198.18.0.1"


@dataclass(frozen=True, slots=True)
class Plan:
    """How much work."""

    rounds: int
    warm_seconds: int
    seconds: int
    connections: int
    uploads: int
    delays_seconds: tuple[float, ...]
    congestion: tuple[str, ...] = ("", "reno")
    """TCP's congestion control between the sites: the machine's own, and one that does not pace."""


FULL = Plan(rounds=3, warm_seconds=1, seconds=3, connections=16, uploads=50, delays_seconds=(0.0, 0.02, 0.08))
QUICK = Plan(rounds=1, warm_seconds=1, seconds=1, connections=16, uploads=10, delays_seconds=(0.0, 0.02))


@dataclass(frozen=True, slots=True)
class System:
    """Where one is asked, and the processes it needs."""

    name: str
    port: int
    servers: tuple[Server, ...]

    def cpu_seconds(self) -> float:
        return sum(server.cpu_seconds() for server in self.servers)


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="script/bench edge", description="Edges, side by side.")
    parser.add_argument("--quick", action="store_true", help="the same work cut down to fit a minute")
    parser.add_argument("--json", action="store_true", help="one JSON object instead of a table")
    given = parser.parse_args(arguments)
    provide(systems.NEEDS)
    if missing := [package for command, package in systems.NEEDS if find(command) is None]:
        print(f"bench: without {' and '.join(missing)} nothing can be measured", file=sys.stderr)
        return 1
    plan = QUICK if given.quick else FULL
    rows = [*measure(plan), *fenced_uploads(plan)]
    print(as_json("edge", machine(), rows) if given.json else f"{machine()}\n\n{table(rows)}")
    return 0


def measure(plan: Plan) -> list[Row]:
    """Medians over the rounds."""
    with tempfile.TemporaryDirectory(prefix="bench-edge-") as text, contextlib.ExitStack() as undo:
        folder = Path(text)
        *ports, alone, proxy = free_ports(6)
        place = Place("ams", "127.0.0.1", *ports)
        config = systems.write_config(folder, {"ams": place})
        root = folder / "content/ams/a"
        (root / "page.php").write_text(systems.PAGE)
        for number in range(FILES):
            (root / f"f{number}.bin").write_bytes(os.urandom(FILE_BYTES))

        def start(name: str, command: list[str]) -> Server:
            own = folder / f"log-{name}"
            own.mkdir()
            return undo.enter_context(running(command, own))

        php = start("php", systems.php_command(folder))
        member = start("member", systems.member_command(config, "ams"))
        gated = start("gated", systems.nginx_gated(folder, config, place))
        plain = start("alone", systems.nginx_alone(folder, root, alone))
        proxied = [sys.executable, "-m", "bench.edge_proxy", str(proxy), f"http://127.0.0.1:{place.application}"]
        found = [
            System(GATED, place.nginx, (gated, member, php)),
            System(EDGE, place.edge, (gated, member, php)),
            System(PROXY, proxy, (start("proxy", proxied), gated, php)),
            System(ALONE, alone, (plain, php)),
        ]
        for system in found:
            wait_until(lambda system=system: _answers(system.port), system.servers[0], START_SECONDS_MAX)
        rounds = []
        for number in range(plan.rounds):
            turn = number % len(found)
            order = (*found[turn:], *found[:turn])
            rounds.append([row for system in order for row in _round(system, plan)] + [*_checks(member, folder, plan)])
        return _with_added(median_rows(rounds))


def _answers(port: int) -> bool:
    return all(load.get(port, path)[0] == 200 for path in CASES.values())


def _round(system: System, plan: Plan) -> Iterator[Row]:
    for case, path in CASES.items():
        try:
            if plan.warm_seconds:
                load.wrk(system.port, path, connections=plan.connections, seconds=plan.warm_seconds)
            before = system.cpu_seconds()
            busy = load.wrk(system.port, path, connections=plan.connections, seconds=plan.seconds)
            used = system.cpu_seconds() - before
            single = load.wrk(system.port, path, connections=1, seconds=plan.seconds)
        except BenchError as error:
            yield Row(system.name, case, "requests", "/s", None, f"failed: {error}")
            continue
        yield Row(system.name, case, "requests", "/s", busy.per_second)
        yield Row(system.name, case, "CPU per request", "µs", 1e6 * used / busy.requests)
        yield Row(system.name, case, "p50", "ms", 1e3 * single.p50_seconds)
        yield Row(system.name, case, "p99", "ms", 1e3 * single.p99_seconds)


def _with_added(rows: list[Row]) -> list[Row]:
    """What the gate adds to nginx for a client alone."""
    values = {(row.system, row.case, row.metric): row.value for row in rows}
    added = []
    for case in CASES:
        for metric in ("p50", "p99"):
            ours, theirs = values.get((GATED, case, metric)), values.get((ALONE, case, metric))
            if ours is not None and theirs is not None:
                added.append(Row(f"{GATED}, added", case, metric, "ms", ours - theirs))
    return [*rows, *added]


def _checks(member: Server, folder: Path, plan: Plan) -> Iterator[Row]:
    uris = [f"/f{number}.bin" for number in range(FILES)]
    before, began = member.cpu_seconds(), time.perf_counter()
    done = load.checks(folder / "ams.sock", uris, connections=plan.connections, seconds=plan.seconds)
    used, took = member.cpu_seconds() - before, time.perf_counter() - began
    yield Row("verdict socket", "one client", "requests", "/s", done / took)
    yield Row("verdict socket", "one client", "CPU per request", "µs", 1e6 * used / done)


def fenced_uploads(plan: Plan) -> list[Row]:
    """Through nginx, the edge and PHP of one member; the other one acknowledges over the line."""
    if os.geteuid() or not Path("/dev/net/tun").exists():
        return [Row(GATED, "fenced 100 KB upload", "p50", "ms", None, "left out: needs root and /dev/net/tun")]
    rows: list[Row] = []
    for delay, congestion in itertools.product(plan.delays_seconds, plan.congestion):
        if congestion and not delay:
            continue
        apart = f"{1e3 * delay:.0f} ms apart" + (f", {congestion}" if congestion else "")
        try:
            with lag.line({FAR: delay}, congestion=congestion) as line:
                found = _uploads(line, plan)
        except BenchError as error:
            rows.append(Row(GATED, f"fenced upload, {apart}", "p50", "ms", None, f"failed: {error}"))
            continue
        for size, times in found.items():
            case, p50 = f"fenced {size // 1000} KB upload, {apart}", statistics.median(times)
            rows.append(Row(GATED, case, "p50", "ms", 1e3 * p50))
            rows.append(Row(GATED, case, "p99", "ms", 1e3 * sorted(times)[int(0.99 * (len(times) - 1) + 0.5)]))
            if delay:
                rows.append(Row(GATED, case, "round trips", "×", p50 / delay))
    return rows


def _uploads(line: lag.Line, plan: Plan) -> dict[int, list[float]]:
    """Size -> seconds of each, the first few left out."""
    with tempfile.TemporaryDirectory(prefix="bench-edge-") as text, contextlib.ExitStack() as undo:
        folder = Path(text)
        ports = free_ports(8)
        places = {"ams": Place("ams", NEAR, *ports[:4]), "nyc": Place("nyc", FAR, *ports[4:])}
        config = systems.write_config(folder, places)
        (folder / "content/ams/a/page.php").write_text(systems.PAGE)
        for name in ("far", "near", "php", "nginx"):
            (folder / name).mkdir()
        with lag.entered(line.servers):
            undo.enter_context(running(systems.member_command(config, "nyc"), folder / "far"))
        with lag.entered(line.clients):
            member = undo.enter_context(running(systems.member_command(config, "ams"), folder / "near"))
            undo.enter_context(running(systems.php_command(folder), folder / "php"))
            nginx = systems.nginx_gated(folder, config, places["ams"])
            undo.enter_context(running(nginx, folder / "nginx"))
            port = places["ams"].nginx
            wait_until(lambda: load.get(port, "/page.php") == (200, "serve"), member, START_SECONDS_MAX)
            return {size: list(_upload_times(port, size, plan.uploads)) for size in UPLOAD_BYTES}


def _upload_times(port: int, size: int, count: int) -> Iterator[float]:
    """Each with other content, and a pause before it, as users make."""
    for number in range(WARM_UPLOADS + count):
        time.sleep(0.05)
        took = load.upload_seconds(port, "/page.php", os.urandom(size))
        if number >= WARM_UPLOADS:
            yield took


if __name__ == "__main__":
    sys.exit(main())
