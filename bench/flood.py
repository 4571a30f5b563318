"""`script/bench flood [--quick] [--json]`: what legitimate clients get while a server is flooded from forged addresses.

Law: the same flood for everybody: TIMES what our own worker answers, measured first. A tenth of all queries is
legitimate, as many as one process can ask like a resolver (bench.flood_clients). Two floods: from everywhere, which
nothing can tell from clients, and in the name of one network, which response rate limiting is for. One server at a time
on one core; flood and clients on the other.
"""

import argparse
import contextlib
import json
import struct
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from bench.dns import CLIENT_CORE, SERVER_CORE, START_SECONDS_MAX, ask, dnsperf, free_port
from bench.dns_load import ORIGIN, names, place_clients, write_database
from bench.dns_systems import SYSTEMS, System
from bench.flood_sender import encode_plain
from bench.packages import find, provide
from bench.process import BenchError, running, wait_until
from bench.report import Row, as_json, machine, median_rows, table

SEED = 3
TIMES = 3.0
LIMIT = 200
"""UDP answers/s for one client network, with every second limited one truncated, at all servers that can."""
LEGITIMATE_SHARE, LEGITIMATE_MAX = 0.1, 3000.0
FLOOD_MAX = 200_000.0
"""About half of what the sender can do with a core of its own."""
METRICS = (("answered", "%"), ("by_tcp", "%"), ("median", "ms"), ("p99", "ms"))


@dataclass(frozen=True, slots=True)
class Plan:
    """How much work."""

    rounds: int
    capacity_seconds: int
    flood_seconds: float


FULL = Plan(rounds=3, capacity_seconds=3, flood_seconds=6.0)
QUICK = Plan(rounds=1, capacity_seconds=1, flood_seconds=2.0)


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="script/bench flood", description="Legitimate clients in a spoofed flood.")
    parser.add_argument("--quick", action="store_true", help="the same work cut down to fit a minute")
    parser.add_argument("--json", action="store_true", help="one JSON object instead of a table")
    parser.add_argument("--only", action="append", choices=[system.name for system in SYSTEMS], help="these servers")
    given = parser.parse_args(arguments)
    systems = [system for system in SYSTEMS if not given.only or system.name in given.only]
    provide([("dnsperf", "dnsperf"), *(need for system in systems for need in system.needs)])
    if find("dnsperf") is None:
        print("bench: there is no dnsperf, so nothing can be measured", file=sys.stderr)
        return 1
    rows = measure(systems, QUICK if given.quick else FULL)
    print(as_json("flood", machine(), rows) if given.json else f"{machine()}\n\n{table(rows)}")
    return 0


def measure(systems: Sequence[System], plan: Plan) -> list[Row]:
    """Medians over the rounds."""
    with tempfile.TemporaryDirectory(prefix="bench-flood-") as text:
        folder = Path(text)
        database = folder / "geo.mmdb"
        write_database(place_clients(SEED), database)
        flood = min(FLOOD_MAX, TIMES * _capacity(folder, database, plan))
        rounds = [
            [
                row
                for system in systems
                for row in _round(system, folder / f"{system.name}-{number}", database, flood, plan)
            ]
            for number in range(plan.rounds)
        ]
    return median_rows(rounds)


def _capacity(folder: Path, database: Path, plan: Plan) -> float:
    """Answers/s of our worker without a limit."""
    load = folder / "queries"
    queries = [encode_plain(name, 0) for name in names()]
    load.write_bytes(b"".join(struct.pack(">H", len(query)) + query for query in queries))
    with _serving(SYSTEMS[0], folder / "capacity", database, 0) as port:
        dnsperf(port, load, 1)
        answered, seconds, _ = dnsperf(port, load, plan.capacity_seconds)
    if not answered:
        raise BenchError("our own server answered nothing")
    return answered / seconds


@contextlib.contextmanager
def _serving(system: System, own: Path, database: Path, limit: int) -> Iterator[int]:
    """The port of a server that answers. Raises BenchError."""
    own.mkdir(mode=0o755)
    port = free_port()
    command = system.prepare(own, database, port, limit)
    command[0] = find(command[0]) or command[0]
    with running(command, own, core=SERVER_CORE) as server:
        wait_until(lambda: ask(port, encode_plain(f"n0000.{ORIGIN}", 1)) is not None, server, START_SECONDS_MAX)
        yield port
        server.check()


def _round(system: System, own: Path, database: Path, flood: float, plan: Plan) -> Iterator[Row]:
    missing = [package for command, package in system.needs if find(command) is None]
    for kind in ("everywhere", "network"):
        case = f"flood from {'one network' if kind == 'network' else kind}"
        if missing:
            yield Row(system.name, case, "answered", "%", None, f"left out: {' and '.join(missing)} not installed")
            continue
        remark = "" if system.limits else "has no limit for client networks"
        try:
            with _serving(system, own.with_name(f"{own.name}-{kind}"), database, LIMIT) as port:
                sent, reflected, groups = _flooded(port, flood, kind, plan.flood_seconds)
        except BenchError as error:
            yield Row(system.name, case, "answered", "%", None, f"failed: {error}")
            continue
        for group, outcome in groups.items():
            yield Row(system.name, f"{case}, {group}", "flood", "q/s", sent / plan.flood_seconds, remark)
            yield Row(system.name, f"{case}, {group}", "of it answered", "%", 100 * reflected / sent, remark)
            for metric, unit in METRICS:
                yield Row(system.name, f"{case}, {group}", metric.replace("_", " "), unit, outcome[metric], remark)


def _flooded(port: int, flood: float, kind: str, seconds: float) -> tuple[int, int, dict[str, dict[str, float | None]]]:
    """(forged queries sent, answers to them, outcome of each group of clients)."""
    legitimate = min(LEGITIMATE_MAX, flood * LEGITIMATE_SHARE / (1 - LEGITIMATE_SHARE))
    python = ["taskset", "-c", str(CLIENT_CORE), sys.executable, "-m"]
    clients = subprocess.Popen(
        [*python, "bench.flood_clients", str(port), str(legitimate), str(seconds), kind],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    assert clients.stdout is not None
    try:
        if clients.stdout.readline() != "ready\n":
            raise BenchError("the clients did not start")
        sender = [*python, "bench.flood_sender", str(port), str(flood), str(seconds), kind]
        with subprocess.Popen(sender, stdout=subprocess.PIPE, text=True) as flooding:
            told, _ = clients.communicate("go\n", timeout=seconds + 30)
            counted, _ = flooding.communicate(timeout=seconds + 30)
    finally:
        clients.kill()
        clients.wait()
    if clients.returncode or flooding.returncode:
        raise BenchError("the flood or its clients failed; their own words stand above")
    sent, reflected = map(int, counted.split())
    return sent, reflected, json.loads(told)


if __name__ == "__main__":
    sys.exit(main())
