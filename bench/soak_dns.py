"""`script/soak dns [--queries N]`: many queries of all sorts, reloads, changing views, and memory that stays flat.

Law: the product's own server and worker, in this process and its child. Memory is sampled each half second. It is flat
when a straight line through the last half of the samples rises by no more than GROWTH_SHARE of their median from its
beginning to its end; what a process takes at first (tables, caches that fill) lies in the first half. Faults of ours
and workers that died fail the run too.
"""

import argparse
import asyncio
import os
import statistics
import sys
import tempfile
import time
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from anycastle.clock import SystemClock
from anycastle.dns.server import DnsServer
from anycastle.dns.tables import Tables, build_tables
from tests.dns.world import SITES, make_settings, make_view

QUERIES = 10_000_000
SEED = 17
VIEW_SECONDS = 1.0
RELOAD_SECONDS = 2.0
SAMPLE_SECONDS = 0.5
SAY_SECONDS = 10.0
SAMPLES_MIN = 60
"""With fewer nothing is said of memory: half of them is not enough for a line."""
GROWTH_SHARE = 0.03
PAGE_BYTES = os.sysconf("SC_PAGE_SIZE")


@dataclass(slots=True)
class Record:
    """What was seen while it ran."""

    sent: int = 0
    answered: int = 0
    views: int = 0
    reloads: int = 0
    worker_bytes: list[int] = field(default_factory=list)
    control_bytes: list[int] = field(default_factory=list)
    counters: dict[str, int] = field(default_factory=dict)


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="script/soak dns", description="A long load, after which memory is flat.")
    parser.add_argument("--queries", type=int, default=QUERIES, help=f"packets to send (default {QUERIES:,})")
    given = parser.parse_args(arguments)
    with tempfile.TemporaryDirectory(prefix="soak-dns-") as folder:
        record = asyncio.run(soak(Path(folder), given.queries))
    faults = list(judge(record))
    print(f"{summary(record)}\n" + ("\n".join(faults) or "well"))
    return 1 if faults else 0


async def soak(folder: Path, queries: int) -> Record:
    """Serves until the load has sent all its packets."""
    settings = make_settings(folder)
    clock = SystemClock()
    server = DnsServer(settings, clock=clock)
    record = Record()
    await server.start(build_tables(settings), make_view(now=clock.now()))
    try:
        async with asyncio.TaskGroup() as group:
            tasks = [
                group.create_task(server.run()),
                group.create_task(_change_views(server, clock, record)),
                group.create_task(_reload(server, folder, record)),
                group.create_task(_sample(server, record)),
            ]
            await _load(server.addresses[0][1], queries, record)
            await asyncio.sleep(2 * VIEW_SECONDS)  # for the last counters to be reported
            record.counters = server.counters()
            for task in tasks:
                task.cancel()
    finally:
        await server.close()
    return record


async def _load(port: int, queries: int, record: Record) -> None:
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "bench.soak_load", str(port), str(queries), str(SEED)), stdout=asyncio.subprocess.PIPE
    )
    assert process.stdout is not None
    said = time.monotonic()
    try:
        async for line in process.stdout:
            record.sent, record.answered = map(int, line.split())
            if time.monotonic() - said >= SAY_SECONDS:
                said = time.monotonic()
                print(summary(record), file=sys.stderr, flush=True)
    finally:
        if process.returncode is None and record.sent < queries:
            process.kill()
        await process.wait()
    if process.returncode:
        raise RuntimeError(f"the load ended with {process.returncode}; its own words stand above")


async def _change_views(server: DnsServer, clock: SystemClock, record: Record) -> None:
    while True:
        await asyncio.sleep(VIEW_SECONDS)
        record.views += 1
        down = tuple(site.name for number, site in enumerate(SITES) if record.views >> number & 1)
        server.publish(make_view(down=down, now=clock.now(), generation=1 + record.views))


async def _reload(server: DnsServer, folder: Path, record: Record) -> None:
    while True:
        await asyncio.sleep(RELOAD_SECONDS)
        record.reloads += 1
        await server.replace(await asyncio.to_thread(_next_tables, folder, record.reloads))


def _next_tables(folder: Path, number: int) -> Tables:
    """With another serial and another record each time: no two are equal."""
    settings = make_settings(folder)
    zone = settings.zones[0].file
    text = zone.read_text().replace("2024010101", str(2024010101 + number))
    zone.write_text(f'{text}reloaded 60 IN TXT "{number}"\n')
    return build_tables(settings)


async def _sample(server: DnsServer, record: Record) -> None:
    while True:
        record.control_bytes.append(resident_bytes("self"))
        record.worker_bytes.append(sum(resident_bytes(pid) for pid in worker_pids()))
        await asyncio.sleep(SAMPLE_SECONDS)


def worker_pids() -> list[str]:
    """Our children that are DNS workers."""
    children = [pid for task in Path("/proc/self/task").iterdir() for pid in (task / "children").read_text().split()]
    return [pid for pid in children if b"anycastle.dns.worker" in _read(pid, "cmdline")]


def resident_bytes(pid: str) -> int:
    fields = _read(pid, "statm").split()
    return int(fields[1]) * PAGE_BYTES if fields else 0


def _read(pid: str, name: str) -> bytes:
    try:
        return Path(f"/proc/{pid}/{name}").read_bytes()
    except OSError:  # it has ended
        return b""


def judge(record: Record) -> Iterable[str]:
    """What is wrong, in lines for people."""
    for name in ("faults", "worker_restarts"):
        if record.counters.get(name):
            yield f"{name}: {record.counters[name]}, expected none"
    if record.answered < record.sent / 2:
        yield f"only {record.answered:,} of {record.sent:,} packets were answered; nine in ten deserve it"
    for what, samples in (("worker", record.worker_bytes), ("control process", record.control_bytes)):
        if len(samples) < SAMPLES_MIN:
            continue
        rise = rise_share(samples)
        if rise > GROWTH_SHARE:
            yield f"memory of the {what} rose by {rise:.1%} in the last half, expected at most {GROWTH_SHARE:.0%}"


def rise_share(samples: Sequence[int]) -> float:
    """How far the line through the last half rises, as a share of the half's median."""
    half = samples[len(samples) // 2 :]
    slope = statistics.linear_regression(range(len(half)), half).slope
    return slope * (len(half) - 1) / statistics.median(half)


def summary(record: Record) -> str:
    now = [
        f"{samples[-1] / 2**20:.1f} MiB" if samples else "-" for samples in (record.worker_bytes, record.control_bytes)
    ]
    return (
        f"{record.sent:,} packets, {record.answered:,} answered over UDP; {record.views} views, "
        f"{record.reloads} reloads; worker {now[0]}, control process {now[1]}"
    )


if __name__ == "__main__":
    sys.exit(main())
