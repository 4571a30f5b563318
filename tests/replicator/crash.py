"""Rounds of SIGKILL at the commit points of real members, and what must hold after each.

    python -m tests.replicator.crash --rounds 5000 --seed 7

In each round a member is armed with one point, all members are written to at once, the armed one dies there (or
anywhere, when it did not come by), and is started again. Then all trees are equal; what stands at a path was written
there whole, and not before an upload that was acknowledged; no temp is left. The seed replays the choices.
"""

import argparse
import asyncio
import contextlib
import itertools
import json
import os
import random
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from anycastle.replicator.fault_point import Point
from tests.ports import free_port
from tests.replicator.cluster import picture, temps
from tests.replicator.members import make_authority

NAMES = ("ams", "nyc", "sgp")
PATHS = tuple(f"{folder}/{name}" for folder in ("a", "b") for name in ("x", "y", "z"))
WRITES = 9
SETTLE_SECONDS = 30.0
OP_SECONDS = 12.0
LARGE = 300_000
"""Too large to travel with its announcement."""


@dataclass(slots=True)
class Write:
    """One upload or delete; `ended` is set once it was acknowledged."""

    path: str
    content: str | None
    began: float
    ended: float | None = None


@dataclass(slots=True)
class Child:
    """A member's process."""

    pid: int
    socket: str

    async def ask(self, **order: Any) -> Any:
        """Its answer. Raises OSError when it is not there, or died."""
        reader, writer = await asyncio.open_unix_connection(self.socket)
        try:
            writer.write(json.dumps(order).encode() + b"\n")
            line = await reader.readline()
        finally:
            writer.close()
        if not line:
            raise ConnectionResetError("it died")
        return json.loads(line)

    async def gone(self) -> None:
        while _alive(self.pid):  # noqa: ASYNC110 - nobody tells
            await asyncio.sleep(0.005)


def _put(path: Path, content: str | None) -> None:
    """As software does it, which outlives a member: in place, or under another name first; None deletes."""
    if content is None:
        path.unlink(missing_ok=True)
        return
    path.parent.mkdir(exist_ok=True)
    if len(content) % 2:
        path.write_text(content)
        return
    aside = path.with_name(f".{path.name}.new")
    aside.write_text(content)
    os.replace(aside, path)


class Crashes:
    """Three members and everything that was ever written to them."""

    def __init__(self, folder: Path, seed: int) -> None:
        self.reached: Counter[Point] = Counter()
        self.acknowledged = 0
        self._folder = folder
        self._random = random.Random(seed)
        self._numbers = itertools.count()
        self._writes: list[Write] = []
        self._children: dict[str, Child] = {}
        make_authority(folder / "pki", NAMES)
        self._ports = {name: free_port() for name in NAMES}
        self._log = (folder / "log").open("w")
        path = os.pathsep.join(entry for entry in sys.path if entry)
        self._zygote = subprocess.Popen(
            [sys.executable, "-m", "tests.replicator.crash_member"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self._log,
            env={**os.environ, "PYTHONPATH": path},
            text=True,
        )

    def close(self) -> None:
        for child in self._children.values():
            _kill(child.pid)
        self._zygote.communicate()
        self._log.close()

    async def start(self) -> None:
        for name in NAMES:
            await self._start(name)
        await self._settled()

    async def _start(self, name: str) -> None:
        socket = str(self._folder / f"{name}.sock")
        with contextlib.suppress(FileNotFoundError):
            os.unlink(socket)
        told = {"name": name, "names": NAMES, "folder": str(self._folder), "ports": self._ports, "socket": socket}
        assert self._zygote.stdin is not None
        assert self._zygote.stdout is not None
        self._zygote.stdin.write(json.dumps(told) + "\n")
        self._zygote.stdin.flush()
        pid = int(await asyncio.to_thread(self._zygote.stdout.readline))
        child = self._children[name] = Child(pid, socket)
        deadline = time.monotonic() + SETTLE_SECONDS
        while True:
            try:
                await child.ask(arm="", times=0)
                break
            except OSError:
                assert time.monotonic() < deadline, f"{name} does not start"
                await asyncio.sleep(0.01)

    async def round(self, name: str, point: Point) -> None:
        """One death and everything after it. Raises AssertionError with what does not hold."""
        child = self._children[name]
        seldom = point in (Point.SWAPPED, Point.REMOVED, Point.KEPT)
        await child.ask(arm=point.name, times=1 if seldom else self._random.choice((1, 1, 2, 3)))
        async with asyncio.TaskGroup() as tasks:
            for _ in range(WRITES):
                tasks.create_task(self._write(self._random.choice(NAMES), point))
        if _alive(child.pid):
            _kill(child.pid)
        else:
            self.reached[point] += 1
        await child.gone()
        await self._start(name)
        await self._settled()
        self._check()

    async def _write(self, name: str, point: Point) -> None:
        """Some points are seldom met but where many write to one path, or delete.

        A success is asked for only where the edge would have let the write through: under a coarse mark what was
        written elsewhere is not known, and may win (rule 6).
        """
        number = next(self._numbers)
        kind = self._random.random()
        size = LARGE if kind < 0.15 else self._random.randrange(5, 2000)
        content = None if kind > (0.5 if point is Point.REMOVED else 0.9) else f"{number}:".ljust(size, "x")
        path = self._random.choice(PATHS[:1] if point is Point.KEPT else PATHS)
        await asyncio.sleep(self._random.uniform(0, 0.1))
        write = Write(path, content, time.monotonic())
        self._writes.append(write)
        child, admitted = self._children[name], False
        with contextlib.suppress(OSError, TimeoutError):
            async with asyncio.timeout(OP_SECONDS):
                admitted = await child.ask(may_write=True)
        _put(self._folder / name / "root" / path, content)
        with contextlib.suppress(OSError, TimeoutError):
            async with asyncio.timeout(OP_SECONDS):
                if admitted and await child.ask(fence=True):
                    write.ended = time.monotonic()
                    self.acknowledged += 1

    async def _settled(self) -> None:
        """All know the same, have landed it, and stand well; the trees are equal."""
        deadline, why = time.monotonic() + SETTLE_SECONDS, ""
        while time.monotonic() < deadline:
            states = [await child.ask(state=True) for child in self._children.values()]
            try:
                trees = [picture(self._folder / name / "root") for name in NAMES]
            except FileNotFoundError as error:  # it went while we looked
                why = str(error)
                continue
            if any(state["reason"] or state["unlanded"] for state in states):
                why = f"not well: {states}"
            elif any(state["detailed"] != states[0]["detailed"] for state in states):
                why = f"not all know the same: {states}"
            elif left := {name: found for name in NAMES if (found := temps(self._folder / name / "root"))}:
                why = f"temps are left: {left}"
            elif any(tree != trees[0] for tree in trees):
                why = f"the trees differ: {_difference(trees)}"
            else:
                return
            await asyncio.sleep(0.02)
        raise AssertionError(why)

    def _check(self) -> None:
        root = self._folder / NAMES[0] / "root"
        for path in PATHS:
            file = root / path
            content = file.read_text() if file.exists() else None
            history = [write for write in self._writes if write.path == path]
            possible = [write for write in history if not _overtaken(write, history)]
            contents = {write.content for write in possible} | (
                set() if possible and _acknowledged(history) else {None}
            )
            assert content in contents, (
                f"{path} holds {_short(content)}, expected one of {sorted(_short(each) for each in contents)}"
            )
            self._forget(history, possible)

    def _forget(self, history: list[Write], possible: list[Write]) -> None:
        """What can never be seen again need not be remembered."""
        gone = {id(write) for write in history} - {id(write) for write in possible}
        self._writes = [write for write in self._writes if id(write) not in gone]


def _acknowledged(history: list[Write]) -> bool:
    return any(write.ended is not None for write in history)


def _overtaken(write: Write, history: list[Write]) -> bool:
    """It was over before another began that was acknowledged."""
    return write.ended is not None and any(other.ended is not None and other.began > write.ended for other in history)


def _short(content: str | None) -> str:
    return "nothing" if content is None else content[:12]


def _difference(trees: list[dict[str, Any]]) -> list[str]:
    names = {name for tree in trees for name in tree}
    return sorted(name for name in names if any(tree.get(name) != trees[0].get(name) for tree in trees))


def _alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return True


def _kill(pid: int) -> None:
    with contextlib.suppress(ProcessLookupError):
        os.kill(pid, signal.SIGKILL)


@contextlib.contextmanager
def crashes(folder: Path, seed: int) -> Iterator[Crashes]:
    made = Crashes(folder, seed)
    try:
        yield made
    finally:
        made.close()


async def rounds(made: Crashes, count: int, seed: int) -> None:
    """Every point in turn, at every member in turn."""
    await made.start()
    places = itertools.cycle((name, point) for point in Point for name in NAMES[:: 1 if seed % 2 else -1])
    for number, (name, point) in enumerate(itertools.islice(places, count)):
        try:
            await made.round(name, point)
        except AssertionError as error:
            raise AssertionError(f"seed {seed}, round {number}, {name} at {point.name}: {error}") from None


def main() -> None:
    parser = argparse.ArgumentParser(description="SIGKILL real members at their commit points.")
    parser.add_argument("--rounds", type=int, default=100)
    parser.add_argument("--seed", type=int, default=1)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="ac-") as folder, crashes(Path(folder), options.seed) as made:
        began = time.monotonic()
        asyncio.run(rounds(made, options.rounds, options.seed))
        seconds = time.monotonic() - began
        print(f"{options.rounds} rounds in {seconds:.0f} s, {made.acknowledged} writes acknowledged, none lost")
        for point in Point:
            print(f"  died {made.reached[point]:5} times at {point.name}: {point.value}")


if __name__ == "__main__":
    main()
