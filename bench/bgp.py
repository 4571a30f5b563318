"""`script/bench bgp [--quick] [--json]`: from a decision to a router's table, and many routes at once.

Law: what a router has is read from the router, BIRD, through its control socket; ExaBGP's own view counts for nothing.
The peer is `exabgp healthcheck`, the same ExaBGP with the program that comes with it.
"""

import argparse
import asyncio
import contextlib
import ipaddress
import random
import socket
import statistics
import sys
import tempfile
import time
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from anycastle.bgp.process import environment, program
from anycastle.bgp.route import RouteState, Wanted
from anycastle.bgp.settings import BgpSettings, Peer, Prefix
from anycastle.bgp.speaker import Speaker
from anycastle.clock import SystemClock
from bench.packages import find, provide
from bench.process import BenchError, running, wait_until
from bench.report import OURS, Row, as_json, machine, table

SEED = 5
OWN, ROUTER = "127.0.0.1", "127.0.0.2"
OWN_AS, ROUTER_AS = 64500, 64499
SECONDS_MAX = 120.0
POLL_SECONDS = 0.0002
PEER = "exabgp healthcheck"
OUR_FASTEST = ("--interval", "100ms", "--timeout", "5s", "--rise", "1", "--fall", "1", "--hold-down", "0s")
ITS_FASTEST = ("interval = 0.1", "fast-interval = 0.1", "rise = 1", "fall = 1", "debounce")


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
        runs = (
            (_announce, "fastest", OUR_FASTEST, plan.peer_changes),
            (_healthcheck, "fastest", ITS_FASTEST, plan.peer_changes),
            (_announce, "defaults", ("--hold-down", "0s"), plan.default_changes),
            (_healthcheck, "defaults", (), plan.default_changes),
        )
        for number, (run, name, options, count) in enumerate(runs):
            if count:
                with router(folder / f"bird-{number}") as bird:
                    rows += run(bird, folder / str(number), f"failure to router, {name}", options, count)
    return rows


# ---- the router ------------------------------------------------------------------------------------------------------


class Bird:
    """BIRD's control socket: some tenths of a millisecond a question, where birdc would start a process each time."""

    def __init__(self, control: Path, port: int) -> None:
        self.port = port
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self._socket.connect(str(control))
        self._lines = self._socket.makefile("r", encoding="ascii")
        self._read()

    def close(self) -> None:
        self._lines.close()
        self._socket.close()

    def has(self, prefix: str) -> bool:
        return prefix in self.ask(f"show route for {prefix} protocol exa")

    def count(self) -> int:
        """Routes from the session."""
        return int(self.ask("show route protocol exa count").split()[0])

    def ask(self, question: str) -> str:
        self._socket.sendall(question.encode() + b"\n")
        return self._read()

    def _read(self) -> str:
        """Lines are `1234-text`, or with the same code again ` text`; the last one of an answer is `1234 text`."""
        text = []
        while line := self._lines.readline():
            text.append(line[1:] if line.startswith(" ") else line[5:])
            if line[:4].isdigit() and line[4] == " ":
                return "".join(text)
        raise BenchError("BIRD has ended")


def _listens(control: Path) -> bool:
    """A socket is there a moment before anybody listens at it."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as trying:
        return trying.connect_ex(str(control)) == 0


@contextlib.contextmanager
def router(folder: Path) -> Iterator[Bird]:
    folder.mkdir()
    with socket.create_server((ROUTER, 0)) as free:
        port = free.getsockname()[1]
    (folder / "bird.conf").write_text(
        "router id 127.0.0.2;\nprotocol device {}\n"
        f"protocol bgp exa {{ local {ROUTER} port {port} as {ROUTER_AS}; neighbor {OWN} as {OWN_AS}; multihop;"
        " passive on; hold time 240; error wait time 1, 2; ipv4 { import all; export none; }; }\n"
    )
    bird, control = find("bird"), folder / "ctl"
    assert bird is not None
    with running([bird, "-f", "-c", str(folder / "bird.conf"), "-s", str(control)], folder) as server:
        wait_until(lambda: _listens(control), server, 10.0)
        opened = Bird(control, port)
        try:
            yield opened
        finally:
            opened.close()


# ---- ours ------------------------------------------------------------------------------------------------------------


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
            rows += _quantiles(OURS, "decision to router", what, found)
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


# ---- the peer --------------------------------------------------------------------------------------------------------


def _healthcheck(bird: Bird, folder: Path, case: str, options: Sequence[str], count: int) -> list[Row]:
    prefix, alive = "198.51.100.1/32", folder / "alive"
    folder.mkdir()
    lines = [f"command = test -e {alive}", f"ip = {prefix}", "no-ip-setup", "withdraw-on-down", "no-syslog", *options]
    (folder / "healthcheck").write_text("\n".join(lines) + "\n")
    (folder / "exabgp.conf").write_text(
        f"process hc {{ run {program()} healthcheck --config {folder / 'healthcheck'}; encoder text; }}\n"
        f"neighbor {ROUTER} {{ router-id {OWN}; local-address {OWN}; local-as {OWN_AS}; peer-as {ROUTER_AS}; "
        f"hold-time 240; connect {bird.port}; family {{ ipv4 unicast; }} api {{ processes [ hc ]; }} }}\n"
    )
    settings = [f"{name}={value}" for name, value in environment(None).items()]
    command = ["env", "-i", *settings, str(program()), "server", str(folder / "exabgp.conf")]
    return _failures(bird, PEER, folder, case, command, alive, prefix, count)


def _announce(bird: Bird, folder: Path, case: str, options: Sequence[str], count: int) -> list[Row]:
    """The same service and the same check, by `anycastle announce`."""
    prefix, alive = "198.51.100.1/32", folder / "alive"
    folder.mkdir()
    command = [
        *(sys.executable, "-m", "anycastle.cli", "announce", "--command", f"test -e {alive}"),
        *("--route", prefix, "--allow-private", "--router-id", OWN, "--local-as", str(OWN_AS)),
        *("--peer", f"{ROUTER},as={ROUTER_AS},port={bird.port},hold_time=240s", "--state-dir", str(folder / "run")),
        *options,
    ]
    return _failures(bird, OURS, folder, case, command, alive, prefix, count)


def _failures(
    bird: Bird, system: str, folder: Path, case: str, command: list[str], alive: Path, prefix: str, count: int
) -> list[Row]:
    """A service that is there while a file is; from its end to the router, and from its beginning.

    Other words than for decisions: this holds the wait for the next check.
    """
    source = random.Random(SEED)
    times: dict[str, list[float]] = {"announce": [], "withdraw": []}
    alive.touch()
    with running(command, folder) as server:
        wait_until(lambda: bird.has(prefix), server, SECONDS_MAX)
        for _ in range(count):
            for what, change in (("withdraw", alive.unlink), ("announce", alive.touch)):
                time.sleep(source.uniform(0.2, 0.4))
                began = time.perf_counter()
                change()
                while bird.has(prefix) is not (what == "announce"):
                    server.check()
                    if time.perf_counter() - began > SECONDS_MAX:
                        raise BenchError(f"{system} told the router nothing within {SECONDS_MAX:g} s")
                    time.sleep(POLL_SECONDS)
                times[what].append(time.perf_counter() - began)
    rows = [row for what, found in times.items() for row in _quantiles(system, case, f"check and {what}", found)]
    return [*rows, Row(system, case, "check and withdraw, longest", "ms", 1e3 * max(times["withdraw"]))]


def _quantiles(system: str, case: str, what: str, seconds: Sequence[float]) -> list[Row]:
    """p99 only where there is one."""
    rows = [Row(system, case, f"{what} p50", "ms", 1e3 * statistics.median(seconds))]
    p99 = 1e3 * sorted(seconds)[max(0, round(len(seconds) * 0.99) - 1)] if len(seconds) >= 50 else None
    return [*rows, Row(system, case, f"{what} p99", "ms", p99)]


if __name__ == "__main__":
    sys.exit(main())
