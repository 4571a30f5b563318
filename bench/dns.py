"""`script/bench dns [--quick] [--json]`: nameservers that steer by client network, on the same zone and queries.

Law: one server at a time on one core, dnsperf on another, the order rotated from round to round. Before anything is
timed each server is asked a sample of the queries and must give the right address for name and client network.
"""

import argparse
import contextlib
import os
import re
import socket
import struct
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import dns.message
import dns.rcode

from bench.dns_load import AAAA, SITES, Query, make_queries, place_clients, write_database
from bench.dns_systems import SYSTEMS, System
from bench.packages import find, provide
from bench.process import BenchError, Server, running, wait_until
from bench.report import Row, as_json, machine, median_rows, table

SEED = 3
START_SECONDS_MAX = 60.0
ANSWER_SECONDS_MAX = 1.0
SERVER_CORE, CLIENT_CORE = min(os.sched_getaffinity(0)), max(os.sched_getaffinity(0))
CASE = "steered by client subnet"


@dataclass(frozen=True, slots=True)
class Plan:
    """How much work."""

    rounds: int
    warm_seconds: int
    timed_seconds: int
    queries: int
    sample: int


FULL = Plan(rounds=3, warm_seconds=1, timed_seconds=5, queries=200_000, sample=1000)
QUICK = Plan(rounds=2, warm_seconds=1, timed_seconds=1, queries=50_000, sample=300)


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="script/bench dns", description="Steering nameservers, side by side.")
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
    print(as_json("dns", machine(), rows) if given.json else f"{machine()}\n\n{table(rows)}")
    return 0


def measure(systems: Sequence[System], plan: Plan) -> list[Row]:
    """Medians over the rounds."""
    rounds: list[list[Row]] = []
    with tempfile.TemporaryDirectory(prefix="bench-dns-") as text:
        folder = Path(text)
        clients = place_clients(SEED)
        write_database(clients, folder / "geo.mmdb")
        queries = list(make_queries(clients, plan.queries, SEED))
        load = folder / "queries"
        load.write_bytes(b"".join(struct.pack(">H", len(query.wire)) + query.wire for query in queries))
        for number in range(plan.rounds):
            found: list[Row] = []
            turn = number % len(systems)
            for system in (*systems[turn:], *systems[:turn]):
                own = folder / f"{system.name}-{number}"
                own.mkdir(mode=0o755)
                found += _round(system, own, folder / "geo.mmdb", load, queries[: plan.sample], plan)
            rounds.append(found)
    return median_rows(rounds)


def _round(system: System, own: Path, database: Path, load: Path, sample: list[Query], plan: Plan) -> list[Row]:
    case = CASE if system.steers else "static"
    missing = [package for command, package in system.needs if find(command) is None]
    if missing:
        return [Row(system.name, case, "answers", "/s", None, f"left out: {' and '.join(missing)} not installed")]
    port = free_port()
    command = system.prepare(own, database, port, 0)
    command[0] = find(command[0]) or command[0]
    try:
        with running(command, own, core=SERVER_CORE) as server:
            wait_until(lambda: ask(port, sample[0].wire) is not None, server, START_SECONDS_MAX)
            right = agreement(port, sample, steers=system.steers)
            dnsperf(port, load, plan.warm_seconds)
            numbers = _timed(server, port, load, plan)
    except BenchError as error:
        return [Row(system.name, case, "answers", "/s", None, f"failed: {error}")]
    rows = [(*pair, value) for pair, value in (*numbers.items(), (("right answers", "%"), 100 * right))]
    return [Row(system.name, case, metric, unit, value, system.remark) for metric, unit, value in rows]


def _timed(server: Server, port: int, load: Path, plan: Plan) -> dict[tuple[str, str], float]:
    before, began = server.cpu_seconds(), time.monotonic()
    answered, seconds, lost = dnsperf(port, load, plan.timed_seconds)
    used, took = server.cpu_seconds() - before, time.monotonic() - began
    server.check()
    if not answered:
        raise BenchError("it answered nothing")
    return {
        ("answers", "/s"): answered / seconds,
        ("CPU per query", "µs"): used / answered * 1e6,
        ("memory", "MiB"): server.resident_bytes() / 2**20,
        ("core busy", "%"): 100 * used / took,
        ("lost", "%"): 100 * lost / (answered + lost),
    }


def dnsperf(port: int, load: Path, seconds: int) -> tuple[int, float, int]:
    """(answered queries, seconds, lost queries) of one run with 8 sockets and 100 queries under way."""
    command = ["taskset", "-c", str(CLIENT_CORE), "dnsperf", "-s", "127.0.0.1", "-p", str(port), "-B", "-d", str(load)]
    command += ["-l", str(seconds), "-c", "8", "-T", "1", "-q", "100", "-t", "1"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=seconds + 30, check=False)
    return parse_dnsperf(done.stdout + done.stderr)


def parse_dnsperf(text: str) -> tuple[int, float, int]:
    """Its final statistics. Raises BenchError when there are none."""
    found = [
        re.search(rf"{words}:\s+([\d.]+)", text) for words in ("Queries completed", "Run time .s.", "Queries lost")
    ]
    if not all(found):
        raise BenchError(f"dnsperf gave no statistics: {text.strip()[-300:]}")
    completed, seconds, lost = (each[1] for each in found if each)
    return int(completed), float(seconds), int(lost)


def agreement(port: int, sample: Sequence[Query], *, steers: bool) -> float:
    """The share of the sample that is answered as it should be; a static server owes everybody the first site."""
    return sum(is_right(ask(port, query.wire), query, steers=steers) for query in sample) / len(sample)


def is_right(reply: bytes | None, query: Query, *, steers: bool) -> bool:
    if reply is None:
        return False
    message = dns.message.from_wire(reply)
    if query.site is None:
        return message.rcode() == dns.rcode.NXDOMAIN
    site = query.site if steers else SITES[0]
    addresses = {item.to_text() for rrset in message.answer for item in rrset if rrset.rdtype == query.rrtype}
    return addresses == {site.ipv6 if query.rrtype == AAAA else site.ipv4}


def ask(port: int, wire: bytes) -> bytes | None:
    """One query from a socket of its own; None when there is no answer in time."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock, contextlib.suppress(OSError):
        sock.settimeout(ANSWER_SECONDS_MAX)
        sock.connect(("127.0.0.1", port))
        sock.send(wire)
        return sock.recv(4096)
    return None


def free_port() -> int:
    """A port that is free for UDP and TCP at this moment."""
    for port in _ports():
        with socket.socket(socket.AF_INET, socket.SOCK_STREAM) as tcp, contextlib.suppress(OSError):
            tcp.bind(("127.0.0.1", port))
            return port
    raise AssertionError


def _ports() -> Iterator[int]:
    while True:
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as udp:
            udp.bind(("127.0.0.1", 0))
            yield udp.getsockname()[1]


if __name__ == "__main__":
    sys.exit(main())
