"""Three sites, a router and a user for `bench/failover.py`, each a host of its own: network namespaces on one segment.

Law: everything started here is ended here by its process id, everything is written below one folder, and no packet
leaves the namespaces.
"""

import contextlib
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

from anycastle.replicator import pki
from bench.packages import find
from bench.process import BenchError
from tests.anycastle.members import anycastle, descendants, until
from tests.netns import Segment, segment

SITES = ("ams", "nyc", "sgp")
ROUTER, USER = "router", "user"
ADDRESSES = {name: f"192.0.2.{number}" for number, name in enumerate((*SITES, ROUTER, USER), 1)}
HOST = "alice.photos.example.com"
PREFIX = "198.51.100.0/24"
ROUTER_AS, OWN_AS = 64499, 64500
ORIGIN_PORT = 8090
READY_SECONDS = 60.0


@dataclass(frozen=True, slots=True)
class Profile:
    """How soon a site is held to be gone."""

    name: str
    lease: str
    probe: str
    peer: str
    route: str


DEFAULT = Profile("defaults", "", "", "", "")
FAST = Profile(
    "fast profile",
    lease='lease = { term = "500ms", renewal = "150ms" }',
    probe=', interval = "200ms", timeout = "150ms", fall = 4',
    peer=', hold_time = "3s"',
    route='hold_down = "0s"',
)

_TOP = """\
[cluster]
name = "failover"
members = ["ams", "nyc", "sgp"]
LEASE
"""
_SITE = """
[sites.SITE]
addresses = ["ADDRESS"]
state_dir = "state/{site}"
link = "ADDRESS:7400"
link_listen = "ADDRESS:7400"
dns = { listen = ["ADDRESS:53"], workers = 1 }
edge = { listen = ["ADDRESS:80"] }
applications = { photos = "http://ADDRESS:ORIGIN" }
probes = [{ http = "http://ADDRESS:ORIGIN/health"PROBE }]
bgp = { router_id = "ADDRESS", local_as = ASN, peers = [{ address = "ROUTER", as = 64499PEER }] }
"""
_REST = """
[groups.photos]
root = "content/{site}"
hosts = ["*.photos.example.com"]
document_root = "{1}"
application = "http://127.0.0.1:1"
writes = ["ams", "nyc", "sgp"]

[[zones]]
file = "zone"
origin = "example.com"

[[names]]
name = "*.photos.example.com"
content = "photos:{1}/"
steer = "closest"
ttl = { min = "1s", max = "5s" }

[[routes]]
prefix = "PREFIX"
allow_private = true
group = "photos"
minimum_sites = 1
HOLD

[geo]
networks = "networks.csv"
"""
_ZONE = "$TTL 60\n@ SOA ns hostmaster 1 3600 600 86400 60\n@ NS ns\nns A 192.0.2.2\n"


@dataclass
class Hosts:
    """What runs."""

    folder: Path
    net: Segment
    running: dict[str, subprocess.Popen[bytes]] = field(default_factory=dict)

    def start(self, name: str, host: str, *command: str) -> subprocess.Popen[bytes]:
        """`name` is unique among all that runs."""
        with (self.folder / f"{name}.log").open("ab") as words:
            self.running[name] = subprocess.Popen(
                self.net.inside(host, *command), stdin=subprocess.DEVNULL, stdout=words, stderr=words
            )
        return self.running[name]

    def kill(self, *names: str) -> None:
        """With all that they have started, at once."""
        for name in names:
            process = self.running.pop(name)
            for pid in (process.pid, *descendants(process.pid)):
                with contextlib.suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGKILL)
            process.wait()

    def check(self) -> None:
        """Raises BenchError with the last words of whatever has ended by itself."""
        for name, process in self.running.items():
            if process.poll() is not None:
                raise BenchError(f"{name} ended: {self.log(name)[-500:]}")

    def close(self) -> None:
        for process in self.running.values():
            process.terminate()
        for name, process in tuple(self.running.items()):
            with contextlib.suppress(subprocess.TimeoutExpired):
                process.wait(10)
            self.kill(name)

    def cable(self, site: str, state: str) -> None:
        """`up` or `down`."""
        subprocess.run(["ip", "-n", self.net.namespace(site), "link", "set", "eth0", state], check=True)

    def log(self, name: str) -> str:
        return (self.folder / f"{name}.log").read_text("utf-8", "replace")

    # -- an application at each site --------------------------------------------------------------------------------

    def start_application(self, site: str) -> None:
        root = self.folder / "content" / site
        root.mkdir(parents=True, exist_ok=True)
        listen = f"{ADDRESSES[site]}:{ORIGIN_PORT}"
        program = (sys.executable, "-m", "examples.demo.upload_app", "--listen", listen, "--root", str(root))
        self.start(f"application-{site}", site, *program)

    # -- members ----------------------------------------------------------------------------------------------------

    def configure(self, profile: Profile) -> None:
        pki.init(self.folder / "pki")
        text = [_TOP.replace("LEASE", profile.lease)]
        for number, site in enumerate(SITES, 1):
            pki.issue(self.folder / "pki", site)
            words = {
                "SITE": site,
                "ADDRESS": ADDRESSES[site],
                "ORIGIN": str(ORIGIN_PORT),
                "PROBE": profile.probe,
                "ROUTER": ADDRESSES[ROUTER],
                "PEER": profile.peer,
                "ASN": str(OWN_AS + number),
            }
            text.append(_replaced(_SITE, words))
        text.append(_replaced(_REST, {"PREFIX": PREFIX, "HOLD": profile.route}))
        (self.folder / "a.toml").write_text("".join(text))
        (self.folder / "zone").write_text(_ZONE)
        (self.folder / "networks.csv").write_text("192.0.2.0/24,ams nyc sgp\n")

    def start_member(self, site: str) -> None:
        config = str(self.folder / "a.toml")
        self.start(
            f"member-{site}", site, sys.executable, "-m", "anycastle.cli", "serve", "--config", config, "--site", site
        )

    def wait_until_well(self) -> None:
        """Every site is eligible for everybody, and the router has its routes."""
        until(self._all_well, "all sites are eligible", READY_SECONDS)

    def _all_well(self) -> bool:
        self.check()
        for site in SITES:
            found = anycastle("sites", "--json", "--config", self.folder / "a.toml", "--site", site)
            if found.status:
                return False
            groups = [group for each in found.json["sites"] for group in each["groups"].values()]
            if len(groups) != len(SITES) or any(group["withheld"] for group in groups):
                return False
        return all(self.has_route(site) for site in SITES)

    # -- the router -------------------------------------------------------------------------------------------------

    def start_router(self, protocols: str) -> None:
        bird = find("bird")
        assert bird is not None
        (self.folder / "bird.conf").write_text(f"router id {ADDRESSES[ROUTER]};\nprotocol device {{}}\n{protocols}\n")
        self.start("bird", ROUTER, bird, "-f", "-c", str(self.folder / "bird.conf"), "-s", str(self.folder / "ctl"))
        until(lambda: "Daemon is up" in self._birdc("show status"), "the router runs")

    def has_route(self, site: str, prefix: str = PREFIX) -> bool:
        return prefix in self._birdc(f"show route for {prefix} protocol {site}")

    def _birdc(self, question: str) -> str:
        birdc = find("birdc")
        assert birdc is not None
        command = [birdc, "-s", str(self.folder / "ctl"), question]
        return subprocess.run(command, capture_output=True, text=True, check=False).stdout


def _replaced(text: str, words: dict[str, str]) -> str:
    for word, value in words.items():
        text = text.replace(word, value)
    return text


def session(site: str, asn: int, *, hold_seconds: int = 240) -> str:
    """The router's side, for bird.conf. The lesser hold time of the two counts."""
    return (
        f"protocol bgp {site} {{ local {ADDRESSES[ROUTER]} as {ROUTER_AS}; neighbor {ADDRESSES[site]} as {asn}; "
        f"direct; passive on; hold time {hold_seconds}; error wait time 1, 2; "
        "ipv4 { import all; export none; }; }"
    )


@contextlib.contextmanager
def hosts(folder: Path) -> Iterator[Hosts]:
    """Empty ones, on one segment."""
    with segment({name: (f"{address}/24",) for name, address in ADDRESSES.items()}) as net:
        made = Hosts(folder, net)
        try:
            yield made
        finally:
            made.close()
