"""A real router for the tests: BIRD 2 on loopback, unprivileged ports, its table read through birdc."""

import asyncio
import ipaddress
import re
import subprocess
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from anycastle.bgp.route import RouteState, Wanted, parse_prefix
from anycastle.bgp.settings import Address, BgpSettings, Peer, RouteRule
from tests.ports import free_port

OWN_AS, ROUTER_AS = 64500, 64499
DEADLINE_SECONDS = 15.0


@dataclass(frozen=True)
class Route:
    """What the router really has."""

    med: int
    path: tuple[int, ...]
    communities: tuple[str, ...]
    next_hop: str


NORMAL = Route(100, (OWN_AS,), (), "127.0.0.1")
DEGRADED = Route(500, (OWN_AS,) * 3, (), "127.0.0.1")
DRAINED = Route(1000, (OWN_AS,) * 3, ("65535,0",), "127.0.0.1")


class Bird:
    """One BIRD with one session to us; `table()` is the truth of every test."""

    def __init__(self, folder: Path, address: str, *, md5: str | None = None) -> None:
        self.address = ipaddress.ip_address(address)
        self.port = free_port(address)
        self._folder = folder
        self._md5 = md5
        self._process: subprocess.Popen[bytes] | None = None
        folder.mkdir(parents=True, exist_ok=True)

    @property
    def local(self) -> str:
        return "127.0.0.1" if self.address.version == 4 else "::1"

    def start(self) -> None:
        family = f"ipv{self.address.version}"
        password = f'password "{self._md5}"; ' if self._md5 else ""
        (self._folder / "bird.conf").write_text(
            "router id 127.0.0.2;\nprotocol device {}\n"
            f"protocol bgp exa {{ local {self.address} port {self.port} as {ROUTER_AS};"
            f" neighbor {self.local} as {OWN_AS}; multihop; passive on; hold time 9; error wait time 1, 2; {password}"
            f" {family} {{ import all; export none; }}; }}\n"
        )
        with open(self._folder / "bird.log", "ab") as log:
            self._process = subprocess.Popen(
                ["bird", "-f", "-c", self._folder / "bird.conf", "-s", self._folder / "ctl"],
                stdout=log,
                stderr=log,
            )
        deadline = time.monotonic() + DEADLINE_SECONDS
        while "Daemon is up" not in self._ask("show status"):
            assert time.monotonic() < deadline, (self._folder / "bird.log").read_text()
            time.sleep(0.02)

    def stop(self) -> None:
        if self._process is not None:
            self._process.kill()
            self._process.wait()
            self._process = None

    def table(self) -> dict[str, Route]:
        found: dict[str, Route] = {}
        for block in re.split(r"\n(?=\S)", self._ask("show route all protocol exa")):
            if prefix := re.match(r"([0-9a-f.:]+/[0-9]+)\s", block):
                found[prefix[1]] = Route(
                    int(_field(block, "med") or -1),
                    tuple(int(n) for n in _field(block, "as_path").split()),
                    tuple(re.findall(r"\((\d+,\d+)\)", _field(block, "community"))),
                    _field(block, "next_hop").split()[0],
                )
        return found

    def session(self) -> str:
        """All that BIRD says of it."""
        return self._ask("show protocols all exa")

    def _ask(self, question: str) -> str:
        return subprocess.run(
            ["birdc", "-s", self._folder / "ctl", question], capture_output=True, text=True, check=False
        ).stdout


def _field(block: str, name: str) -> str:
    found = re.search(rf"BGP\.{name}: (.*)", block)
    return found[1] if found else ""


def peer(bird: Bird, **more: object) -> Peer:
    local: Address = ipaddress.ip_address(bird.local)
    return Peer(address=bird.address, asn=ROUTER_AS, local_address=local, port=bird.port, **more)  # type: ignore[arg-type]


def settings(run_dir: Path, peers: tuple[Peer, ...], rules: tuple[RouteRule, ...] = (), **more: object) -> BgpSettings:
    return BgpSettings(
        member="ams",
        router_id=ipaddress.IPv4Address("127.0.0.1"),
        local_as=OWN_AS,
        peers=peers,
        rules=rules,
        run_dir=run_dir,
        **more,  # type: ignore[arg-type]
    )


def want(**states: str) -> tuple[Wanted, ...]:
    """`want(a="normal")`: the prefixes are named by letters, see `prefix`."""
    return tuple(Wanted(prefix=parse_prefix(prefix(k)), state=RouteState(v), reason="test") for k, v in states.items())


def prefix(letter: str) -> str:
    """a is 198.51.97.0/24; v6 ones are upper case: A is 2001:db8:41::/48."""
    return f"198.51.{ord(letter)}.0/24" if letter.islower() else f"2001:db8:{ord(letter):x}::/48"


async def eventually(truth: Callable[[], object], seconds: float = DEADLINE_SECONDS) -> None:
    """Polls until `truth` holds; the assertion shows its last value."""
    deadline = time.monotonic() + seconds
    while not truth() and time.monotonic() < deadline:  # noqa: ASYNC110 - birdc has no events to wait for
        await asyncio.sleep(0.03)
    assert truth(), "not in time"


def children(pid: int) -> list[int]:
    """The processes that `pid` started and that live."""
    return [int(child) for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]


def alive(pid: int) -> bool:
    """Running; a zombie that nobody has waited for yet is not."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0] != "Z"
    except FileNotFoundError:
        return False
