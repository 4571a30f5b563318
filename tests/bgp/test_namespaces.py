"""Sites and routers in network namespaces: sessions as operators configure them, and packets that follow the routes.

What a router has is read from the router: BIRD 2, GoBGP and FRR.
"""

import contextlib
import ipaddress
import json
import os
import pickle
import re
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import msgspec
import pytest

from anycastle.bgp.settings import Attributes, AttributesByState, BgpSettings, LoopbackSettings, Peer, RouteRule
from anycastle.health.view import ALL_GROUPS, GroupView, Health, SiteView, View
from tests.bgp.site import ECHO_PORT
from tests.netns import Segment, segment

pytestmark = pytest.mark.skipif(
    os.geteuid() != 0
    or not all(shutil.which(need, path="/usr/sbin:/usr/bin:/sbin") for need in ("bird", "gobgpd", "ip")),
    reason="needs root, bird2, gobgpd and iproute2",
)

DEADLINE_SECONDS = 30.0
FOUR, SIX = "198.51.100.0/24", "2001:db8:100::/48"
SERVICE = "198.51.100.1"
OWN_AS, BIRD_AS, GOBGP_AS, FRR_AS = 64500, 64499, 64498, 64497
MD5 = "a;secret,of#two"
Stack = contextlib.ExitStack


@pytest.fixture
def stack() -> Iterator[Stack]:
    with contextlib.ExitStack() as opened:
        yield opened


def until(truth: Callable[[], object], what: str | Callable[[], str]) -> None:
    """Polls: routers have no events to wait for."""
    deadline = time.monotonic() + DEADLINE_SECONDS
    while not truth():
        assert time.monotonic() < deadline, what if isinstance(what, str) else what()
        time.sleep(0.02)


def start(
    stack: Stack, net: Segment, host: str, *command: str | Path, log: Path, **more: Any
) -> subprocess.Popen[bytes]:
    """A process on a host, ended with the test."""
    opened = stack.enter_context(log.open("ab"))
    if "stdout" in more:
        more["stdout"] = stack.enter_context(more["stdout"].open("wb"))
    process = subprocess.Popen(net.inside(host, *map(str, command)), stderr=opened, **({"stdout": opened} | more))

    def end() -> None:
        if process.stdin is not None:
            process.stdin.close()
        process.terminate()
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(10)
        process.kill()
        process.wait()

    stack.callback(end)
    return process


def run(net: Segment, host: str, *command: str | Path) -> str:
    return subprocess.run(net.inside(host, *map(str, command)), capture_output=True, text=True, check=False).stdout


# ---- routers ---------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Route:
    """What a router has of a prefix."""

    next_hop: str
    path: tuple[int, ...]
    med: int | None
    local_preference: int | None
    communities: frozenset[tuple[int, ...]]
    large: frozenset[tuple[int, ...]]


class Bird:
    def __init__(self, stack: Stack, net: Segment, host: str, folder: Path, sessions: str) -> None:
        self._net, self._host, self._control = net, host, folder / f"{host}.ctl"
        config = folder / f"{host}.conf"
        config.write_text(f"router id 192.0.2.{len(host)};\nprotocol device {{}}\n{sessions}\n")
        start(stack, net, host, "bird", "-f", "-c", config, "-s", self._control, log=folder / f"{host}.log")
        until(lambda: "Daemon is up" in self.ask("show status"), f"{host} runs")

    def ask(self, question: str) -> str:
        return run(self._net, self._host, "birdc", "-s", self._control, question)

    def route(self, prefix: str) -> Route | None:
        """The best one."""
        text = self.ask(f"show route all primary for {prefix}")
        if "BGP.next_hop" not in text:
            return None

        def number(name: str) -> int | None:
            found = re.search(rf"BGP\.{name}: (\d+)", text)
            return int(found[1]) if found else None

        def numbers(name: str) -> frozenset[tuple[int, ...]]:
            found = re.search(rf"BGP\.{name}: (.*)", text)
            each = re.findall(r"\(([\d, ]+)\)", found[1]) if found else []
            return frozenset(tuple(map(int, one.split(","))) for one in each)

        path = re.search(r"BGP\.as_path:(.*)", text)
        next_hop = re.search(r"BGP\.next_hop: (\S+)", text)
        assert path
        assert next_hop
        return Route(
            next_hop=next_hop[1],
            path=tuple(map(int, path[1].split())),
            med=number("med"),
            local_preference=number("local_pref"),
            communities=numbers("community"),
            large=numbers("large_community"),
        )


class GoBgp:
    def __init__(self, stack: Stack, net: Segment, host: str, folder: Path, sessions: str) -> None:
        self._net, self._host = net, host
        config = folder / f"{host}.toml"
        config.write_text(f'[global.config]\nas = {GOBGP_AS}\nrouter-id = "192.0.2.3"\nport = 179\n{sessions}')
        words = ("gobgpd", "-f", config, "--pprof-disable", "--api-hosts", "127.0.0.1:50051")
        start(stack, net, host, *words, log=folder / f"{host}.log")
        until(lambda: "AS: " in run(net, host, "gobgp", "global"), f"{host} runs")

    def route(self, prefix: str) -> Route | None:
        family = "ipv6" if ":" in prefix else "ipv4"
        found = json.loads(run(self._net, self._host, "gobgp", "global", "rib", "-a", family, "-j") or "{}")
        if not found or prefix not in found:
            return None
        (path,) = found[prefix]
        attributes = {attribute["type"]: attribute for attribute in path["attrs"]}
        next_hop = attributes[3]["nexthop"] if 3 in attributes else attributes[14]["nexthop"]
        communities = attributes.get(8, {}).get("communities", [])
        large = attributes.get(32, {}).get("value", [])
        return Route(
            next_hop=next_hop,
            path=tuple(number for segment in attributes[2]["as_paths"] for number in segment["asns"]),
            med=attributes[4]["metric"] if 4 in attributes else None,
            local_preference=attributes[5]["value"] if 5 in attributes else None,
            communities=frozenset((number >> 16, number & 0xFFFF) for number in communities),
            large=frozenset((each["ASN"], each["LocalData1"], each["LocalData2"]) for each in large),
        )


class Frr:
    """bgpd alone: nothing of it reaches the kernel's routes."""

    PROGRAM = "/usr/lib/frr/bgpd"

    def __init__(self, stack: Stack, net: Segment, host: str, folder: Path, neighbors: str) -> None:
        # Its sockets' names must be short, and its folder its own user's; vtysh looks there too.
        self._net, self._host = net, host
        self._sockets = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="frr-")))
        config = self._sockets / "bgpd.conf"
        config.write_text(f"router bgp {FRR_AS}\n bgp router-id 192.0.2.5\n no bgp ebgp-requires-policy\n{neighbors}")
        for path in (self._sockets, config):
            shutil.chown(path, "frr", "frr")
        words = ("-f", config, "-n", "-Z", "-p", "179", "-i", self._sockets / "pid", "--vty_socket", self._sockets)
        start(stack, net, host, self.PROGRAM, *words, "-P", "0", log=folder / f"{host}.log")
        until(lambda: "local AS number" in self.ask("show bgp summary"), f"{host} runs")

    def ask(self, question: str) -> str:
        return run(self._net, self._host, "vtysh", "--vty_socket", self._sockets, "-d", "bgpd", "-c", question)

    def told(self, prefix: str) -> Route | None:
        """Without the LOCAL_PREF, which FRR sets by itself: it honours RFC 8326."""
        found = self.route(prefix)
        return None if found is None else replace(found, local_preference=None)

    def route(self, prefix: str) -> Route | None:
        family = "ipv6" if ":" in prefix else "ipv4"
        found = json.loads(self.ask(f"show bgp {family} unicast {prefix} json") or "{}")
        if not found.get("paths"):
            return None
        (path,) = found["paths"]

        def numbers(key: str) -> frozenset[tuple[int, ...]]:
            text = path.get(key, {}).get("string", "").replace("graceful-shutdown", "65535:0")
            return frozenset(tuple(map(int, each.split(":"))) for each in text.split())

        return Route(
            next_hop=next(hop["ip"] for hop in path["nexthops"] if hop.get("scope") != "link-local"),
            path=tuple(map(int, path["aspath"]["string"].replace("Local", "").split())),
            med=path.get("metric"),
            local_preference=path.get("locPrf"),
            communities=numbers("community"),
            large=numbers("largeCommunity"),
        )


# ---- sites -----------------------------------------------------------------------------------------------------------


class Site:
    """A site in its namespace."""

    def __init__(
        self,
        stack: Stack,
        net: Segment,
        host: str,
        folder: Path,
        settings: BgpSettings,
        *,
        service: str = SERVICE,
        through: tuple[str, ...] = (),
    ) -> None:
        """`through` is a program that starts it."""
        self._name = settings.member
        file = folder / f"{host}.pickle"
        file.write_bytes(pickle.dumps(replace(settings, run_dir=folder / f"{host}.run")))
        if service == SERVICE:
            subprocess.run(net.inside(host, "ip", "address", "replace", f"{SERVICE}/32", "dev", "lo"), check=True)
        words = (*through, sys.executable, "-m", "tests.bgp.site", file, service)
        self._said = folder / f"{host}.said"
        self._process = start(
            stack, net, host, *words, log=folder / f"{host}.log", stdin=subprocess.PIPE, stdout=self._said
        )

    def kill(self) -> None:
        """As a crash would."""
        self._process.kill()
        self._process.wait()

    def leave(self) -> None:
        """In order."""
        assert self._process.stdin is not None
        self._process.stdin.close()
        self._process.wait(DEADLINE_SECONDS)

    def status(self) -> list[dict[str, Any]]:
        """What `anycastle routes` would show, each router; empty before it says something."""
        lines = self._said.read_text().rpartition("\n")[0].splitlines()
        return json.loads(lines[-1]) if lines else []

    def session(self) -> tuple[str, str]:
        """State and reason of the first router."""
        found = self.status()
        return (found[0]["state"], found[0]["reason"]) if found else ("unknown", "")

    def tried_seconds(self) -> float:
        """For how long the first session has not been up."""
        found = self.status()
        return time.clock_gettime(time.CLOCK_BOOTTIME) - found[0]["since"] if found and found[0]["state"] != "up" else 0

    def see(self, health: Health = Health.UP, *, drained: bool = False, others: int = 2) -> None:
        """What the site sees of itself from now on; so many others announce."""
        content = GroupView(current=True, current_reason="3 of 3 leases", pending={})

        def site(health: Health, *, drained: bool = False) -> SiteView:
            return SiteView(
                health=health,
                reason="probe",
                since=0.0,
                groups={"blogs": content},
                drained=frozenset({ALL_GROUPS} if drained else ()),
                announced=frozenset({FOUR, SIX}),
            )

        sites = {self._name: site(health, drained=drained)} | {f"o{n}": site(Health.UP) for n in range(others)}
        view = View(member=self._name, generation=1, at=0.0, sites=sites)
        assert self._process.stdin is not None
        self._process.stdin.write(msgspec.json.encode(view) + b"\n")
        self._process.stdin.flush()


def rules(**more: Any) -> tuple[RouteRule, ...]:
    given = {"group": "blogs", "hold_down_seconds": 0.0, "drain_seconds": 1.0} | more
    return tuple(RouteRule(prefix=ipaddress.ip_network(prefix), **given) for prefix in (FOUR, SIX))


def session(there: str, here: str, asn: int, **more: Any) -> Peer:
    addresses = {"address": ipaddress.ip_address(there), "local_address": ipaddress.ip_address(here)}
    return Peer(asn=asn, hold_time_seconds=9, **addresses, **more)


def site_settings(name: str, address: str, local_as: int, peers: tuple[Peer, ...], **more: Any) -> BgpSettings:
    given = {"rules": rules(), "run_dir": Path("/nowhere")} | more
    return BgpSettings(member=name, router_id=ipaddress.IPv4Address(address), local_as=local_as, peers=peers, **given)


# ---- the tests -------------------------------------------------------------------------------------------------------

HOSTS = {
    "site": ("192.0.2.1/24", "2001:db8::1/64"),
    "bird": ("192.0.2.2/24", "2001:db8::2/64"),
    "gobgp": ("192.0.2.3/24", "2001:db8::3/64"),
    "inner": ("192.0.2.4/24",),
}
BIRD_SESSIONS = "\n".join(
    f"protocol bgp s{version} {{ local {there} as {BIRD_AS}; neighbor {here} as {OWN_AS}; ttl security on; "
    f'password "{MD5}"; hold time 9; error wait time 1, 2; ipv{version} {{ import all; export none; }}; }}'
    for version, there, here in ((4, "192.0.2.2", "192.0.2.1"), (6, "2001:db8::2", "2001:db8::1"))
)
INNER_SESSION = (
    f"protocol bgp s4 {{ local 192.0.2.4 as {OWN_AS}; neighbor 192.0.2.1 as {OWN_AS}; hold time 9; "
    "connect retry time 1; connect delay time 1; error wait time 1, 2; ipv4 { import all; export none; }; }"
)
GOBGP_SESSIONS = "".join(
    f'[[neighbors]]\n[neighbors.config]\nneighbor-address = "{here}"\npeer-as = {OWN_AS}\nauth-password = "{MD5}"\n'
    "[neighbors.timers.config]\nhold-time = 9\n[neighbors.transport.config]\npassive-mode = true\n"
    "[neighbors.ttl-security.config]\nenabled = true\nttl-min = 255\n"
    f'[[neighbors.afi-safis]]\n[neighbors.afi-safis.config]\nafi-safi-name = "{family}-unicast"\n'
    for here, family in (("192.0.2.1", "ipv4"), ("2001:db8::1", "ipv6"))
)
COMMON = frozenset({(64500, 7)})
POLICY = AttributesByState(
    normal=Attributes(med=11, communities=((64500, 7),), large_communities=((4200000000, 1, 2),), local_preference=333),
    degraded=Attributes(med=22, prepend=1, communities=((64500, 7), (64500, 8))),
    drained=Attributes(communities=((64500, 7),), local_preference=3),
)


def test_every_attribute_of_every_state_at_three_routers(stack: Stack, tmp_path: Path) -> None:
    """MD5 and GTSM over IPv4 and IPv6, a given next hop, a policy of one peer, and a passive session within the AS."""
    net = stack.enter_context(segment(HOSTS))
    bird = Bird(stack, net, "bird", tmp_path, BIRD_SESSIONS)
    gobgp = GoBgp(stack, net, "gobgp", tmp_path, GOBGP_SESSIONS)
    inner = Bird(stack, net, "inner", tmp_path, INNER_SESSION)
    secure: dict[str, Any] = {"md5": MD5, "ttl_security": 1}
    longer = AttributesByState(normal=Attributes(prepend=3, large_communities=()))
    peers = (
        session("192.0.2.2", "192.0.2.1", BIRD_AS, **secure),
        session("2001:db8::2", "2001:db8::1", BIRD_AS, **secure),
        session("192.0.2.3", "192.0.2.1", GOBGP_AS, next_hop=ipaddress.ip_address("192.0.2.99"), **secure),
        session("2001:db8::3", "2001:db8::1", GOBGP_AS, attributes=longer, **secure),
        session("192.0.2.4", "192.0.2.1", OWN_AS, passive=True, multihop=2),
    )
    settings = site_settings("ams", "192.0.2.1", OWN_AS, peers, attributes=POLICY, rules=rules(drain_seconds=60.0))
    site = Site(stack, net, "site", tmp_path, settings)
    large = frozenset({(4200000000, 1, 2)})
    none: frozenset[tuple[int, ...]] = frozenset()

    def told(path: int, med: int, communities: frozenset[tuple[int, ...]], large: frozenset[tuple[int, ...]]) -> Route:
        return Route("192.0.2.1", (OWN_AS,) * path, med, None, communities, large)

    def routers_have(of_bird: Route, of_gobgp_six: Route, of_inner: Route) -> None:
        """BIRD shows its own default LOCAL_PREF on eBGP, and a link-local next hop beside the IPv6 one never comes."""
        four = replace(of_bird, local_preference=100)
        until(lambda: bird.route(FOUR) == four, lambda: f"{four} at BIRD: {bird.route(FOUR)}")
        six = replace(four, next_hop="2001:db8::1")
        until(lambda: bird.route(SIX) == six, lambda: f"{six} at BIRD: {bird.route(SIX)}")
        given = replace(of_bird, next_hop="192.0.2.99")
        until(lambda: gobgp.route(FOUR) == given, lambda: f"{given} at GoBGP: {gobgp.route(FOUR)}")
        other = replace(of_gobgp_six, next_hop="2001:db8::1")
        until(lambda: gobgp.route(SIX) == other, lambda: f"{other} at GoBGP: {gobgp.route(SIX)}")
        until(lambda: inner.route(FOUR) == of_inner, lambda: f"{of_inner} within the AS: {inner.route(FOUR)}")

    site.see()
    normal = told(1, 11, COMMON, large)
    routers_have(normal, told(4, 11, COMMON, none), replace(normal, path=(), local_preference=333))
    site.see(Health.DOWN, others=0)
    degraded = told(2, 22, COMMON | {(64500, 8)}, none)
    routers_have(degraded, degraded, replace(degraded, path=(), local_preference=50))
    site.see()
    routers_have(normal, told(4, 11, COMMON, none), replace(normal, path=(), local_preference=333))
    site.see(drained=True)
    drained = told(3, 1000, COMMON | {(65535, 0)}, none)
    routers_have(drained, drained, replace(drained, path=(), local_preference=3))
    site.see(Health.DOWN)
    for router in (bird, gobgp, inner):
        until(lambda router=router: router.route(FOUR) is None, "withdrawn")
    for router in (bird, gobgp):
        until(lambda router=router: router.route(SIX) is None, "withdrawn")


def test_a_drain_is_seen_by_the_router_in_order(stack: Stack, tmp_path: Path) -> None:
    """GoBGP tells of each change as it comes, so that nothing between two looks is missed."""
    net = stack.enter_context(segment({host: HOSTS[host] for host in ("site", "gobgp")}))
    GoBgp(stack, net, "gobgp", tmp_path, GOBGP_SESSIONS)
    seen = tmp_path / "seen"
    start(stack, net, "gobgp", "gobgp", "monitor", "global", "rib", log=tmp_path / "monitor.log", stdout=seen)
    peers = (session("192.0.2.3", "192.0.2.1", GOBGP_AS, md5=MD5, ttl_security=1),)
    site = Site(stack, net, "site", tmp_path, site_settings("ams", "192.0.2.1", OWN_AS, peers))
    site.see()
    until(lambda: len(seen.read_text().splitlines()) == 1, "the route is seen")
    began = time.monotonic()
    site.see(drained=True)
    until(lambda: len(seen.read_text().splitlines()) == 3, "65535:0 and the end are seen")
    assert time.monotonic() - began >= 1.0, "routers have drain_seconds to move the traffic"
    first, second, third = seen.read_text().splitlines()
    assert f" [ROUTE] {FOUR} via 192.0.2.1 aspath [{OWN_AS}]" in first
    assert "Med: 100" in first
    assert "Communities" not in first
    assert f" [ROUTE] {FOUR} " in second
    assert "{Communities: planned-shut}" in second, "GoBGP's word for 65535:0"
    assert f"{OWN_AS} {OWN_AS} {OWN_AS}" in second
    assert f" [DELROUTE] {FOUR} " in third


NAMES = ("ams", "nyc", "sgp")
CLIENT = "192.0.2.100"


class Pings:
    """Datagrams to the service address each 5 ms from the client's namespace: (sequence, who answered or None)."""

    PROGRAM = """
import socket, sys, time
s = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
s.settimeout(1.0)
n = 0
while True:
    n += 1
    s.sendto(b"%d" % n, (sys.argv[1], int(sys.argv[2])))
    try:
        while True:
            who, number = s.recv(100).split()
            if int(number) == n: break
        print(n, who.decode(), flush=True)
    except TimeoutError:
        print(n, "lost", flush=True)
    time.sleep(0.005)
"""

    def __init__(self, stack: Stack, net: Segment, folder: Path) -> None:
        self._file = folder / "pings"
        words = (sys.executable, "-c", self.PROGRAM, SERVICE, str(ECHO_PORT))
        start(stack, net, "client", *words, log=folder / "client.log", stdout=self._file)

    def answers(self) -> list[str]:
        return [line.split()[1] for line in self._file.read_text().splitlines() if len(line.split()) == 2]

    def more(self, count: int) -> list[str]:
        """The next so many from now on; the one under way is not counted."""
        before = len(self.answers()) + 1
        until(lambda: len(self.answers()) >= before + count, "pings go on")
        return self.answers()[before : before + count]


def test_three_sites_behind_one_router_and_the_right_one_answers(stack: Stack, tmp_path: Path) -> None:
    sites = {name: f"192.0.2.{number}" for number, name in enumerate(NAMES, 1)}
    hosts = {name: (f"{address}/24",) for name, address in sites.items()}
    net = stack.enter_context(segment(hosts | {"router": ("192.0.2.254/24",), "client": (f"{CLIENT}/24",)}))
    for setting in ("ip_forward=1", "conf.all.send_redirects=0", "conf.eth0.send_redirects=0", "conf.all.rp_filter=0"):
        subprocess.run(net.inside("router", "sysctl", "-qw", f"net.ipv4.{setting}"), check=True)
    subprocess.run(net.inside("client", "ip", "route", "add", FOUR, "via", "192.0.2.254"), check=True)
    sessions = "\n".join(
        f"protocol bgp {name} {{ local 192.0.2.254 as {BIRD_AS}; neighbor {address} as {64500 + number}; passive on; "
        "hold time 9; error wait time 1, 2; ipv4 { import all; export none; }; }"
        for number, (name, address) in enumerate(sites.items(), 1)
    )
    router = Bird(stack, net, "router", tmp_path, "protocol kernel { ipv4 { export all; }; }\n" + sessions)
    made: dict[str, Site] = {}
    for number, (name, address) in enumerate(sites.items(), 1):
        # The router takes the shortest path: ams, then nyc, then sgp.
        policy = AttributesByState(normal=Attributes(prepend=number - 1), drained=Attributes(prepend=9))
        peers = (session("192.0.2.254", address, BIRD_AS),)
        made[name] = Site(
            stack, net, name, tmp_path, site_settings(name, address, 64500 + number, peers, attributes=policy)
        )
        made[name].see()

    def best() -> str | None:
        found = router.route(FOUR)
        return found.next_hop if found is not None else None

    def moved(name: str) -> None:
        until(lambda: best() == sites[name], f"the best path leads to {name}")
        route = f"via {sites[name]}"
        until(lambda: route in run(net, "router", "ip", "route", "show", FOUR), f"the kernel follows to {name}")

    until(lambda: router.ask(f"show route for {FOUR}").count("unicast") == 3, "three sites announce")
    moved("ams")
    pings = Pings(stack, net, tmp_path)
    assert pings.more(20) == ["ams"] * 20
    steps: list[tuple[str, Callable[[], None]]] = [
        ("nyc", lambda: made["ams"].see(drained=True)),  # told first, then withdrawn
        ("sgp", lambda: made["nyc"].see(Health.DOWN)),  # withdrawn at once
        ("nyc", lambda: made["nyc"].see()),
        ("ams", lambda: made["ams"].see()),
    ]
    expected = ["ams"]
    for name, step in steps:
        step()
        moved(name)
        expected.append(name)
        assert pings.more(20) == [name] * 20
    answers = pings.answers()
    changes = [name for before, name in zip(["", *answers], answers, strict=False) if name != before]
    assert answers.count("lost") == 0
    assert changes == expected, "each move once, never back and forth"


FRR_NEIGHBORS = "".join(
    f" neighbor {here} remote-as {OWN_AS}\n neighbor {here} password {MD5}\n neighbor {here} ttl-security hops 1\n"
    f" neighbor {here} timers 3 9\n address-family {family} unicast\n  neighbor {here} activate\n exit-address-family\n"
    for here, family in (("192.0.2.1", "ipv4"), ("2001:db8::1", "ipv6"))
)


@pytest.mark.skipif(not Path(Frr.PROGRAM).exists(), reason="needs frr")
def test_frr_sees_every_state_over_both_families_with_md5_and_gtsm(stack: Stack, tmp_path: Path) -> None:
    net = stack.enter_context(segment({"site": HOSTS["site"], "frr": ("192.0.2.5/24", "2001:db8::5/64")}))
    frr = Frr(stack, net, "frr", tmp_path, FRR_NEIGHBORS)
    secure: dict[str, Any] = {"md5": MD5, "ttl_security": 1}
    peers = (
        session("192.0.2.5", "192.0.2.1", FRR_AS, **secure),
        session("2001:db8::5", "2001:db8::1", FRR_AS, **secure),
    )
    settings = site_settings("ams", "192.0.2.1", OWN_AS, peers, attributes=POLICY, rules=rules(drain_seconds=60.0))
    site = Site(stack, net, "site", tmp_path, settings)
    large = frozenset({(4200000000, 1, 2)})
    steps: list[tuple[Callable[[], None], int, int, frozenset[tuple[int, ...]], frozenset[tuple[int, ...]]]] = [
        (lambda: site.see(), 1, 11, COMMON, large),
        (lambda: site.see(Health.DOWN, others=0), 2, 22, COMMON | {(64500, 8)}, frozenset()),
        (lambda: site.see(), 1, 11, COMMON, large),
        (lambda: site.see(drained=True), 3, 1000, COMMON | {(65535, 0)}, frozenset()),
    ]
    for step, path, med, communities, larges in steps:
        step()
        for prefix, hop in ((FOUR, "192.0.2.1"), (SIX, "2001:db8::1")):
            expected = Route(hop, (OWN_AS,) * path, med, None, communities, larges)
            until(
                lambda prefix=prefix, expected=expected: frr.told(prefix) == expected,
                lambda prefix=prefix, expected=expected: f"{expected} at FRR: {frr.told(prefix)}",
            )
    site.see(Health.DOWN)
    for prefix in (FOUR, SIX):
        until(lambda prefix=prefix: frr.route(prefix) is None, "withdrawn")


# ---- sessions that must not come up ----------------------------------------------------------------------------------

NEAR, FAR = "192.0.2.1", "198.18.0.2"
TWO_HOPS = {
    "site": (f"{NEAR}/24",),
    "middle": ("192.0.2.254/24", "198.18.0.254/24"),
    "bird": (f"{FAR}/24",),
}


def two_hops(stack: Stack) -> Segment:
    """site, middle, bird in a row: what goes from one end to the other loses a hop."""
    net = stack.enter_context(segment(TWO_HOPS))
    for setting in ("ip_forward=1", "conf.all.send_redirects=0", "conf.eth0.send_redirects=0"):
        subprocess.run(net.inside("middle", "sysctl", "-qw", f"net.ipv4.{setting}"), check=True)
    for host, middle in (("site", "192.0.2.254"), ("bird", "198.18.0.254")):
        subprocess.run(net.inside(host, "ip", "route", "add", "default", "via", middle), check=True)
    return net


def far_session(**more: Any) -> Peer:
    return session(FAR, NEAR, BIRD_AS, **more)


def far_bird(security: str) -> str:
    return (
        f"protocol bgp s4 {{ local {FAR} as {BIRD_AS}; neighbor {NEAR} as {OWN_AS}; {security} hold time 9; "
        "passive on; connect delay time 1; connect retry time 1; error wait time 1, 2; "
        "ipv4 { import all; export none; }; }"
    )


SILENT = f"{FAR} does not answer on TCP port 179: "


@pytest.mark.parametrize(
    ("router", "right", "wrong", "reason"),
    [
        ("multihop 2; ttl security on;", {"ttl_security": 2}, {"ttl_security": 1}, "ttl_security = 1 hops away"),
        ("multihop 2; ttl security on;", {"ttl_security": 2}, {"multihop": 9}, ""),
        ("multihop 2;", {"multihop": 2}, {"multihop": 1}, ""),
        (f'multihop 2; password "{MD5}";', {"md5": MD5}, {"md5": "x"}, f"{SILENT}it has another TCP MD5 key"),
        (f'multihop 2; password "{MD5}";', {"md5": MD5}, {}, f"{SILENT}it expects a TCP MD5 key"),
        ("multihop 2;", {}, {"md5": MD5}, f"{SILENT}it has another TCP MD5 key than md5_file, or none"),
    ],
    ids=["farther than GTSM allows", "not sent with 255", "TTL too low", "another key", "no key", "a key of ours only"],
)
def test_a_session_that_is_not_as_agreed_never_comes_up(
    stack: Stack, tmp_path: Path, router: str, right: dict[str, Any], wrong: dict[str, Any], reason: str
) -> None:
    """The same two ends agree first, so that nothing but the difference can be the cause. The reason is in `routes`."""
    net = two_hops(stack)
    bird = Bird(stack, net, "bird", tmp_path, far_bird(router))
    for name, more in (("right", right), ("wrong", wrong)):
        folder = tmp_path / name
        folder.mkdir()
        with contextlib.ExitStack() as own:
            site = Site(own, net, "site", folder, site_settings("ams", NEAR, OWN_AS, (far_session(**more),)))
            site.see()
            if name == "right":
                until(lambda: bird.route(FOUR) is not None, "the session as agreed is up")
                until(lambda site=site: site.session() == ("up", ""), "and shown as up")
            else:
                until(lambda site=site: site.tried_seconds() > 10.0, "it had time to come up")
                until(lambda site=site: reason in site.session()[1], lambda site=site: f"{reason} in {site.session()}")
                assert site.session()[0] in ("down", "connected")
                assert bird.route(FOUR) is None
        until(lambda: bird.route(FOUR) is None, "the site has left")


# ---- addresses that come and go with their routes --------------------------------------------------------------------

SERVICE_SIX = "2001:db8:100::1"
BOTH_FAMILIES = "\n".join(
    f"protocol bgp s{version} {{ local {there} as {BIRD_AS}; neighbor {here} as {OWN_AS}; passive on; hold time 9; "
    f"error wait time 1, 2; ipv{version} {{ import all; export none; }}; }}"
    for version, there, here in ((4, "192.0.2.2", "192.0.2.1"), (6, "2001:db8::2", "2001:db8::1"))
)


NETLINK = """
import json, sys
from pyroute2 import IPRoute
with IPRoute() as netlink:
    (lo,) = netlink.link_lookup(ifname="lo")
    if sys.argv[1:]:
        netlink.addr("add", index=lo, address=sys.argv[1], prefixlen=32, proto=97)
    dump = netlink.addr("dump", index=lo, scope=0)
    print(json.dumps({each.get_attr("IFA_ADDRESS"): each.get_attr("IFA_PROTO") for each in dump}))
"""
"""Debian's iproute2 does not know IFA_PROTO yet."""


def addresses(net: Segment, *add: str) -> dict[str, int | None]:
    """On the site's loopback: address -> who added it (IFA_PROTO). `add` is one to add before, with our mark."""
    found: dict[str, int | None] = json.loads(run(net, "site", sys.executable, "-c", NETLINK, *add))
    return {address: mark for address, mark in found.items() if address not in ("127.0.0.1", "::1")}


@dataclass(frozen=True)
class Managed:
    net: Segment
    bird: Bird
    settings: BgpSettings

    def start(self, stack: Stack, folder: Path, **more: Any) -> Site:
        folder.mkdir(exist_ok=True)
        return Site(stack, self.net, "site", folder, self.settings, service="127.0.0.1", **more)


@pytest.fixture
def managed(stack: Stack, tmp_path: Path) -> Managed:
    net = stack.enter_context(segment({host: HOSTS[host] for host in ("site", "bird")}))
    bird = Bird(stack, net, "bird", tmp_path, BOTH_FAMILIES)
    peers = (session("192.0.2.2", "192.0.2.1", BIRD_AS), session("2001:db8::2", "2001:db8::1", BIRD_AS))
    four, six = rules()
    given = (
        replace(four, addresses=(ipaddress.ip_address(SERVICE),)),
        replace(six, addresses=(ipaddress.ip_address(SERVICE_SIX),)),
    )
    loopback = LoopbackSettings(delay_seconds=2.0)
    return Managed(net, bird, site_settings("ams", "192.0.2.1", OWN_AS, peers, rules=given, loopback=loopback))


def test_addresses_come_before_their_routes_and_leave_after_them(
    stack: Stack, managed: Managed, tmp_path: Path
) -> None:
    net, bird = managed.net, managed.bird
    site = managed.start(stack, tmp_path / "run")
    until(lambda: site.session()[0] == "up", "the session is up")
    assert addresses(net) == {}
    site.see()
    until(lambda: bird.route(FOUR) and bird.route(SIX), "both are announced")
    assert addresses(net) == {SERVICE: 97, SERVICE_SIX: 97}, "they were there before"
    began = time.monotonic()
    site.see(Health.DOWN)
    until(lambda: not bird.route(FOUR) and not bird.route(SIX), "both are withdrawn")
    assert addresses(net).keys() == {SERVICE, SERVICE_SIX}, "what is still on its way is answered"
    until(lambda: addresses(net) == {}, "they leave")
    assert time.monotonic() - began >= 2.0
    # Somebody takes one away: its route leaves at once or the address is back, and never stays away with the route.
    site.see()
    until(lambda: bird.route(FOUR) and addresses(net).keys() == {SERVICE, SERVICE_SIX}, "announced again")
    subprocess.run(net.inside("site", "ip", "address", "del", f"{SERVICE}/32", "dev", "lo"), check=True)
    until(lambda: addresses(net).keys() == {SERVICE, SERVICE_SIX}, "it is put back")


def test_what_somebody_else_added_is_never_removed(stack: Stack, managed: Managed, tmp_path: Path) -> None:
    net, bird = managed.net, managed.bird
    subprocess.run(net.inside("site", "ip", "address", "add", f"{SERVICE}/32", "dev", "lo"), check=True)
    stranger = "198.51.100.77"
    assert addresses(net, stranger) == {SERVICE: None, stranger: 97}
    site = managed.start(stack, tmp_path / "run")
    site.see()
    until(lambda: bird.route(FOUR) and bird.route(SIX), "both are announced")
    assert addresses(net) == {SERVICE: None, stranger: 97, SERVICE_SIX: 97}
    site.see(Health.DOWN)
    until(lambda: SERVICE_SIX not in addresses(net), "ours leaves")
    assert addresses(net) == {SERVICE: None, stranger: 97}, "one was there before, the other is not configured"
    site.see()
    until(lambda: SERVICE_SIX in addresses(net), "ours is back")
    site.leave()
    assert addresses(net) == {SERVICE: None, stranger: 97}, "so it is after an end in order"
    assert bird.route(SIX) is None


def test_after_a_crash_it_knows_its_own_again(stack: Stack, managed: Managed, tmp_path: Path) -> None:
    net, bird = managed.net, managed.bird
    first = managed.start(stack, tmp_path / "first")
    first.see()
    until(lambda: bird.route(FOUR), "announced")
    first.kill()
    until(lambda: bird.route(FOUR) is None, "a killed controller takes its routes with it")
    assert addresses(net) == {SERVICE: 97, SERVICE_SIX: 97}
    second = managed.start(stack, tmp_path / "second")
    until(lambda: second.session()[0] == "up", "the next run is up")
    assert addresses(net).keys() == {SERVICE, SERVICE_SIX}, "nothing is touched before anything is known"
    second.see(Health.DOWN)
    until(lambda: addresses(net) == {}, "what the first run left is taken away")


def test_without_the_right_to_change_addresses_nothing_is_announced(
    stack: Stack, managed: Managed, tmp_path: Path
) -> None:
    away = ("setpriv", "--bounding-set", "-net_admin", "--inh-caps", "-net_admin")
    site = managed.start(stack, tmp_path / "run", through=away)
    site.see()

    def reasons() -> set[str]:
        return {route["reason"] for router in site.status() for route in router["routes"]}

    said = f"{SERVICE} is not on lo: operation not permitted (it needs CAP_NET_ADMIN)"
    until(lambda: said in reasons(), lambda: f"{said} in {reasons()}")
    assert managed.bird.route(FOUR) is None
    subprocess.run(managed.net.inside("site", "ip", "address", "add", f"{SERVICE}/32", "dev", "lo"), check=True)
    until(lambda: managed.bird.route(FOUR), "announced once somebody else has added it")
    assert managed.bird.route(SIX) is None
