"""`script/bench replicate [--quick] [--json]`: what keeps two folders alike, all on this machine, one after the other.

Law: every system does the same to the same folders: it starts with a full folder and an empty one, then takes single
uploads, then a folder full of files and one large file that are moved in. All that is measured is seen from outside, at
the other folder. Processor time and memory are of all processes of a system, both sides together.
`--scale FILES` is another question: what one large tree costs ours (`replicate_scale`).
"""

import argparse
import os
import random
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from bench import replicate_scale
from bench.packages import find, provide
from bench.process import BenchError, Server, running
from bench.replicate_load import SLOW_POLL_SECONDS, Tree, has_bytes, make_file, upload, wait_for
from bench.replicate_systems import SYSTEMS, System
from bench.report import Row, as_json, machine, table

SEED = 7
UPLOAD_BYTES = 100_000
PAUSE_SECONDS_MAX = 0.1
MIB = 2**20


@dataclass(frozen=True, slots=True)
class Plan:
    """How much work."""

    trees: tuple[int, ...]
    """Files before anything is timed."""
    uploads: int
    uploads_seconds_max: float
    """A system that is slow gets fewer uploads, and says so."""
    idle_seconds: float
    bulk: Tree
    large_bytes: int
    seconds_max: float
    """For any one thing to arrive."""


FULL = Plan((1_000, 20_000, 200_000), 100, 150.0, 10.0, Tree(20_000, 4096), 2 * 2**30, 900.0)
QUICK = Plan((1_000, 5_000), 20, 5.0, 1.0, Tree(2_000, 4096), 2**28, 60.0)


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="script/bench replicate", description="Replicators, side by side.")
    parser.add_argument("--quick", action="store_true", help="the same work cut down to fit a minute")
    parser.add_argument("--json", action="store_true", help="one JSON object instead of a table")
    parser.add_argument("--only", action="append", choices=[system.name for system in SYSTEMS], help="these systems")
    parser.add_argument("--trees", help="files before anything is timed, such as 1000,200000")
    parser.add_argument("--scale", type=int, metavar="FILES", help="ours alone, with one tree of so many small files")
    given = parser.parse_args(arguments)
    systems = [system for system in SYSTEMS if not given.only or system.name in given.only]
    plan = QUICK if given.quick else FULL
    if given.trees:
        plan = replace(plan, trees=tuple(int(files) for files in given.trees.split(",")))
    if given.scale is None:
        provide([("rsync", "rsync"), *(need for system in systems for need in system.needs)])
        rows = measure(systems, plan)
    else:
        with tempfile.TemporaryDirectory(prefix="bench-replicate-") as text:
            rows = list(replicate_scale.measure(Path(text), given.scale))
    print(as_json("replicate", machine(), rows) if given.json else f"{machine()}\n\n{table(rows)}")
    return 0


def measure(systems: Sequence[System], plan: Plan) -> list[Row]:
    """One round for each system and size of tree."""
    rows: list[Row] = []
    with tempfile.TemporaryDirectory(prefix="bench-replicate-") as text:
        folder = Path(text)
        for files in plan.trees:
            for system in systems:
                own = folder / f"{system.name.replace(' ', '-')}-{files}"
                own.mkdir()
                rows += _measure_one(system, own, files, plan)
                _remove(own)
        if find("rsync") is not None:
            own = folder / "once"
            own.mkdir()
            rows += _rsync_once(own, plan)
    return rows


def _measure_one(system: System, own: Path, files: int, plan: Plan) -> list[Row]:
    case = f"{files:,} files"
    missing = [package for command, package in system.needs if find(command) is None]
    if missing:
        return [Row(system.name, case, "p50", "ms", None, f"left out: {' and '.join(missing)} not installed")]
    one, other = own / "one", own / "other"
    tree = Tree(files, plan.bulk.file_bytes)
    tree.make(one / "tree", SEED)
    other.mkdir()
    command = system.prepare(own, one, other)
    command[0] = find(command[0]) or command[0]
    os.sync()
    rows: list[Row] = []
    try:
        with running(command, own) as server:
            for metric, unit, value in _work(server, one, other, tree, plan):
                print(f"{system.name}, {case}: {metric} {value:.4g} {unit}", file=sys.stderr)
                rows.append(Row(system.name, case, metric, unit, value, system.remark))
    except BenchError as error:
        rows.append(Row(system.name, case, "failed", "", None, f"{case}: failed: {error}"))
    return rows


def _work(server: Server, one: Path, other: Path, tree: Tree, plan: Plan) -> Iterator[tuple[str, str, float]]:
    seconds = _arrive(server, tree.arrived(other / "tree"), plan)
    yield "first copy", "s", seconds
    upload(one, other, "ready", b"x", plan.seconds_max)
    time.sleep(plan.idle_seconds / 5)
    before, began = server.cpu_seconds(), time.perf_counter()
    time.sleep(plan.idle_seconds)
    yield "idle CPU", "%", 100 * (server.cpu_seconds() - before) / (time.perf_counter() - began)
    before = server.cpu_seconds()
    times, resident = _uploads(server, one, other, plan)
    yield "p50", "ms", 1000 * statistics.median(times)
    yield "p99", "ms", 1000 * sorted(times)[int(0.99 * (len(times) - 1) + 0.5)]
    yield "CPU per upload", "ms", 1000 * (server.cpu_seconds() - before) / len(times)
    yield "memory", "MiB", resident / MIB
    if tree.files != min(plan.trees):
        return
    plan.bulk.make(one.parent / "bulk", SEED + 1)
    os.sync()
    before, began = server.cpu_seconds(), time.perf_counter()
    (one.parent / "bulk").rename(one / "bulk")
    seconds = _arrive(server, plan.bulk.arrived(other / "bulk"), plan, began)
    yield f"{plan.bulk.files:,} × {plan.bulk.file_bytes} B", "s", seconds
    make_file(one.parent / "large", plan.large_bytes, SEED)
    os.sync()
    began = time.perf_counter()
    (one.parent / "large").rename(one / "large")
    seconds = _arrive(server, lambda: has_bytes(other / "large", plan.large_bytes), plan, began)
    yield f"{plan.large_bytes // MIB:,} MiB", "s", seconds


def _arrive(server: Server, arrived: Callable[[], bool], plan: Plan, began: float | None = None) -> float:
    def look() -> bool:
        server.check()
        return arrived()

    return wait_for(look, began or time.perf_counter(), plan.seconds_max, SLOW_POLL_SECONDS)


def _uploads(server: Server, one: Path, other: Path, plan: Plan) -> tuple[list[float], int]:
    source = random.Random(SEED)
    times: list[float] = []
    resident = 0
    end = time.perf_counter() + plan.uploads_seconds_max
    while len(times) < plan.uploads and time.perf_counter() < end:
        server.check()
        time.sleep(source.uniform(0, PAUSE_SECONDS_MAX))
        content = source.randbytes(UPLOAD_BYTES)
        times.append(upload(one, other, f"upload-{len(times)}", content, plan.seconds_max))
        resident = max(resident, server.resident_bytes())
    return times, resident


def _rsync_once(own: Path, plan: Plan) -> Iterator[Row]:
    one, other = own / "one", own / "other"
    plan.bulk.make(one, SEED + 1)
    make_file(own / "large", plan.large_bytes, SEED)
    os.sync()
    for extra in ([], ["--fsync"]):
        name = " ".join(["rsync -a --whole-file", *extra])
        for metric, source in (
            (f"{plan.bulk.files:,} × {plan.bulk.file_bytes} B", f"{one}/"),
            (f"{plan.large_bytes // MIB:,} MiB", f"{own}/large"),
        ):
            began = time.perf_counter()
            subprocess.run(["rsync", "-a", "--whole-file", *extra, source, f"{other}/"], check=True)
            yield Row(name, "one run", metric, "s", time.perf_counter() - began)
            os.sync()
            _remove(other)


def _remove(folder: Path) -> None:
    subprocess.run(["rm", "-rf", str(folder)], check=True)


if __name__ == "__main__":
    sys.exit(main())
