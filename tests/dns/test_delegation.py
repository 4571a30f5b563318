"""A delegation as on the internet, in network namespaces: a root and a parent (Knot), and two nameservers of ours.

unbound resolves steered names from the root on, and goes on when one of the two is gone; zonemaster checks the zone
as a registry would. Nothing here is told where the zone is served, but the parent.
"""

import json
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.dns.delegated import ADDRESSES, GLUE, ORIGIN, SITES
from tests.netns import Segment, segment

KNOTD, UNBOUND = "/usr/sbin/knotd", "/usr/sbin/unbound"
DEADLINE_SECONDS = 60.0
ROOT_ADDRESSES, PARENT_ADDRESSES = ("192.0.2.1", "2001:db8::1"), ("192.0.2.2", "2001:db8::2")
RESOLVER = "192.0.2.100"
HOSTS = {"root": ROOT_ADDRESSES, "parent": PARENT_ADDRESSES, **ADDRESSES, "client": (RESOLVER, "2001:db8::100")}
SOA = "IN SOA ns.parent.test. hostmaster.parent.test. 1 14400 3600 1209600 300"


def addresses_of(name: str, addresses: tuple[str, str]) -> str:
    return f"{name} 3600 IN A {addresses[0]}\n{name} 3600 IN AAAA {addresses[1]}\n"


HINTS = ". 3600 IN NS ns.root.\n" + addresses_of("ns.root.", ROOT_ADDRESSES)
PARENT_GLUE = addresses_of("ns.parent.test.", PARENT_ADDRESSES)
ZONES = {
    "root": (".", f"$TTL 3600\n. {SOA}\n{HINTS}test. IN NS ns.parent.test.\n{PARENT_GLUE}"),
    "parent": (
        "test.",
        f"$TTL 3600\n$ORIGIN test.\n@ {SOA}\n@ IN NS ns.parent.test.\n{PARENT_GLUE}"
        f"castle IN NS ns1.castle\ncastle IN NS ns2.castle\n$ORIGIN {ORIGIN}.\n{GLUE}",
    ),
}

LAB_FINDINGS = {
    "NAMESERVER_IP_PRIVATE_NETWORK": "the segment has documentation addresses",
    "NAMESERVER_IP_WITHOUT_REVERSE": "nobody serves the reverse zones of documentation addresses here",
    "NEITHER_DNSKEY_NOR_DS": "zones are not signed: docs/limits.md",
    "NOT_SIGNED": "zones are not signed: docs/limits.md",
}
"""What zonemaster may remark above its level INFO, and why that is no fault of the server."""
PRAISE = {
    *("HAS_PARENT", "NAMES_MATCH", "ADDRESSES_MATCH", "ARE_AUTHORITATIVE", "REFERRAL_SIZE_OK", "CAN_BE_RESOLVED"),
    *("NO_RECURSOR", "NO_UPWARD_REFERRAL", "EDNS0_SUPPORT", "SAME_SOURCE_IP", "AXFR_FAILURE"),
    *("QNAME_CASE_SENSITIVE", "CASE_QUERIES_RESULTS_OK", "ONE_SOA_SERIAL", "ONE_NS_SET", "Z09_MX_DATA"),
}
"""What it says at level INFO of servers that it could talk to: who checked nothing finds no fault either."""

pytestmark = pytest.mark.skipif(
    os.geteuid() != 0 or shutil.which("zonemaster-cli") is None,
    reason="needs root, for network namespaces, and zonemaster-cli",
)


class Lab:
    """The segment with all its nameservers."""

    def __init__(self, net: Segment, folder: Path) -> None:
        self.net = net
        self.folder = folder
        self.processes: dict[str, subprocess.Popen[bytes]] = {}

    def start(self, name: str, host: str, *command: str) -> None:
        with (self.folder / f"{name}.log").open("wb") as log:
            self.processes[name] = subprocess.Popen(
                self.net.inside(host, *command), stdin=subprocess.DEVNULL, stdout=log, stderr=log
            )

    def stop(self, name: str) -> None:
        process = self.processes.pop(name)
        process.terminate()
        process.wait()

    def run(self, *command: str) -> str:
        """What it prints when the client runs it."""
        return subprocess.run(
            self.net.inside("client", *command), capture_output=True, text=True, timeout=DEADLINE_SECONDS, check=False
        ).stdout

    def dig(self, server: str, *question: str) -> list[str]:
        printed = self.run("kdig", f"@{server}", "+short", "+timeout=2", "+retry=0", *question)
        return sorted(line for line in printed.splitlines() if not line.startswith(";"))

    def wait_until_answered(self, server: str, *question: str) -> list[str]:
        deadline = time.monotonic() + DEADLINE_SECONDS
        while not (found := self.dig(server, *question)):
            assert time.monotonic() < deadline, f"{server} does not answer {question}"
            time.sleep(0.1)
        return found


def knot_configuration(folder: Path, host: str) -> str:
    origin, zone = ZONES[host]
    (folder / "zone").write_text(zone)
    listen = ", ".join(f"{address}@53" for address in HOSTS[host])
    return (
        f"server:\n  listen: [{listen}]\n  rundir: {folder}\n  udp-workers: 1\n  tcp-workers: 1\n"
        f"log:\n  - target: stderr\n    any: warning\ndatabase:\n  storage: {folder}\n"
        f"zone:\n  - domain: {origin}\n    file: {folder}/zone\n    zonefile-sync: -1\n    journal-content: none\n"
    )


def unbound_configuration(folder: Path) -> str:
    (folder / "hints").write_text(HINTS)
    return (
        f'server:\n  interface: 127.0.0.1\n  do-daemonize: no\n  username: ""\n  chroot: ""\n  directory: "{folder}"\n'
        f'  pidfile: ""\n  use-syslog: no\n  num-threads: 1\n  module-config: "iterator"\n  use-caps-for-id: yes\n'
        f"  root-hints: {folder}/hints\n  local-zone: test. nodefault\n  cache-max-ttl: 1\n"
        "  infra-keep-probing: yes\n  infra-cache-max-rtt: 1000\n"
        "remote-control:\n  control-enable: no\n"
    )


@pytest.fixture(scope="module")
def lab(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Lab]:
    folder = tmp_path_factory.mktemp("lab")
    with segment({host: (f"{ipv4}/24", f"{ipv6}/64") for host, (ipv4, ipv6) in HOSTS.items()}) as net:
        found = Lab(net, folder)
        try:
            for host in ZONES:
                own = folder / host
                own.mkdir()
                (own / "knot.conf").write_text(knot_configuration(own, host))
                found.start(host, host, KNOTD, "-c", str(own / "knot.conf"))
            for host, addresses in ADDRESSES.items():
                own = folder / host
                own.mkdir()
                found.start(host, host, sys.executable, "-m", "tests.dns.delegated", str(own), host, *addresses)
            (folder / "unbound.conf").write_text(unbound_configuration(folder))
            found.start("unbound", "client", UNBOUND, "-d", "-p", "-c", str(folder / "unbound.conf"))
            for ipv4, ipv6 in ADDRESSES.values():
                found.wait_until_answered(ipv4, ORIGIN, "SOA")
                found.wait_until_answered(ipv6, ORIGIN, "SOA")
            yield found
        finally:
            for name in list(found.processes):
                found.stop(name)


def test_zonemaster_finds_no_fault_that_is_ours(lab: Lab) -> None:
    (lab.folder / "zonemaster.hints").write_text(HINTS)
    printed = lab.run(
        *("zonemaster-cli", "--json", "--level", "INFO", "--hints", str(lab.folder / "zonemaster.hints"), ORIGIN)
    )
    findings = json.loads(printed)
    assert [found for found in findings if found["level"] != "INFO" and found["tag"] not in LAB_FINDINGS] == []
    assert {found["tag"] for found in findings} >= PRAISE


def test_unbound_resolves_from_the_root_on_and_survives_the_loss_of_a_nameserver(lab: Lab) -> None:
    """The map sends this resolver's address to nyc."""
    resolver = "127.0.0.1"
    assert lab.wait_until_answered(resolver, f"shop.{ORIGIN}", "A") == [SITES["nyc"][0]]
    assert lab.dig(resolver, f"shop.{ORIGIN}", "AAAA") == [SITES["nyc"][1]]
    assert lab.dig(resolver, f"any.blogs.{ORIGIN}", "A") == [SITES["nyc"][0]]
    assert lab.dig(resolver, f"www.{ORIGIN}", "A") == [SITES["nyc"][0], f"shop.{ORIGIN}."]
    lab.stop("ns1")
    assert lab.wait_until_answered(resolver, f"later.blogs.{ORIGIN}", "A") == [SITES["nyc"][0]]
