"""`script/bench replicate --scale FILES`: one tree of many small files at one of our sites, and what it costs to keep.

Law: everything is seen from outside: the names at the other site, what the two ledgers' files say, /proc. Both sites
run from the beginning, so scanning, sending and landing share the machine's cores.
"""

import contextlib
import itertools
import os
import random
import re
import sqlite3
import statistics
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

from bench.process import Server, running
from bench.replicate_anycastle import NAMES
from bench.replicate_load import FOLDER_FILES, Tree, upload, wait_for
from bench.replicate_systems import SYSTEMS
from bench.report import Row

FILE_BYTES = 1024
SECONDS_MAX = 2 * 3600.0
LOOK_SECONDS = 0.5
UPLOADS = 50
UPLOAD_BYTES = 100_000
SETTLE_SECONDS = 10.0
MIB = 2**20
WHERE = ("where it was", "the other site")
SEED = 11


class _Memory:
    """The most that each site's process had resident."""

    def __init__(self, server: Server) -> None:
        self.most = [0] * len(NAMES)
        self._server = server

    def look(self) -> list[int]:
        now = self._server.resident_each()[1:]  # the first one only starts them
        self.most = [max(pair) for pair in zip(self.most, now, strict=False)] or self.most
        return now


def measure(own: Path, files: int) -> Iterator[Row]:
    """Rows for our own system, the only one that is asked; `own` is an empty folder."""
    one, other = own / "one", own / "other"
    other.mkdir()
    tree = Tree(files, FILE_BYTES)
    print(f"making {files:,} files", file=sys.stderr, flush=True)
    tree.make(one / "tree", SEED)
    os.sync()
    for where, metric, unit, value in itertools.chain(_first(own, one, other, tree), _again(own, one, other, files)):
        print(f"{where}: {metric} {value:.4g} {unit}", file=sys.stderr, flush=True)
        yield Row("anycastle", f"{files:,} files, {where}", metric, unit, value)


def _command(own: Path, one: Path, other: Path) -> list[str]:
    return next(system for system in SYSTEMS if system.name == "anycastle").prepare(own, one, other)


def _first(own: Path, one: Path, other: Path, tree: Tree) -> Iterator[tuple[str, str, str, float]]:
    entries = tree.files + 1 + -(-tree.files // FOLDER_FILES)
    ledgers = [own / name / "ledger.sqlite" for name in NAMES]
    with running(_command(own, one, other), own) as server:
        memory, began = _Memory(server), time.perf_counter()
        seconds = _watch(server, memory, lambda: _recorded(ledgers[0]) >= entries, began)
        yield WHERE[0], "taken", "s", seconds
        yield WHERE[0], "taken", "files/s", tree.files / seconds
        if told := re.findall(r"event=scanning (.*)", (own / "log").read_text("utf-8", "replace")):
            print(f"its log said meanwhile: {told[len(told) // 2]}", file=sys.stderr)
        arrived = tree.arrived(other / "tree")
        seconds = _watch(server, memory, arrived, began)
        yield WHERE[1], "taken", "s", seconds
        yield WHERE[1], "taken", "files/s", tree.files / seconds
        upload(one, other, "ready", b"x", SECONDS_MAX)
        time.sleep(SETTLE_SECONDS)
        for where, most, now in zip(WHERE, memory.most, memory.look(), strict=True):
            yield where, "memory, most", "MiB", most / MIB
            yield where, "memory, after", "MiB", now / MIB
        yield WHERE[1], "reaction p50", "ms", _reaction(one, other, "first")
    for where, ledger in zip(WHERE, ledgers, strict=True):
        yield where, "ledger", "B a file", ledger.stat().st_size / tree.files


def _again(own: Path, one: Path, other: Path, files: int) -> Iterator[tuple[str, str, str, float]]:
    """After a restart: the first upload passes when the scan, which reads no file again, is over."""
    began = time.perf_counter()
    with running(_command(own, one, other), own) as server:
        memory = _Memory(server)
        (one / "again").write_bytes(b"x")
        seconds = _watch(server, memory, (other / "again").exists, began)
        yield WHERE[0], "restart", "s", seconds
        yield WHERE[0], "restart", "files/s", files / seconds
        time.sleep(SETTLE_SECONDS)
        for where, now in zip(WHERE, memory.look(), strict=True):
            yield where, "memory, restarted", "MiB", now / MIB
        yield WHERE[1], "reaction p50, restarted", "ms", _reaction(one, other, "second")


def _watch(server: Server, memory: _Memory, done: Callable[[], bool], began: float) -> float:
    def look() -> bool:
        server.check()
        memory.look()
        return done()

    return wait_for(look, began, SECONDS_MAX, LOOK_SECONDS)


def _recorded(ledger: Path) -> int:
    """Entries that a ledger holds."""
    with (
        contextlib.suppress(sqlite3.OperationalError),  # it is not there yet
        contextlib.closing(sqlite3.connect(f"file:{ledger}?mode=ro", uri=True)) as database,
    ):
        return int(database.execute("SELECT coalesce(sum(detailed), 0) FROM journal").fetchone()[0])
    return 0


def _reaction(one: Path, other: Path, name: str) -> float:
    source = random.Random(SEED)
    times = []
    for number in range(UPLOADS):
        time.sleep(source.uniform(0, 0.1))
        times.append(upload(one, other, f"{name}-{number}", source.randbytes(UPLOAD_BYTES), SECONDS_MAX))
    return 1000 * statistics.median(times)
