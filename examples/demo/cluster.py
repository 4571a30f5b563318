"""The demo's machinery: three members, their applications, the wires between them and a route collector, as processes.

Law: everything started here is ended here, by process id, whatever happens; everything it writes is below one folder.
"""

import asyncio
import contextlib
import json
import os
import shutil
import signal
import subprocess
import sys
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import aiohttp
import dns.asyncquery
import dns.edns
import dns.message
import dns.rdatatype

from anycastle.replicator import pki
from examples.demo.collector import Collector
from examples.demo.relay import Relays

EXAMPLES = Path(__file__).parents[1]
SITES = {"ams": "127.0.1.1", "nyc": "127.0.1.2", "sgp": "127.0.1.3"}
AS_NUMBERS = {"ams": 64501, "nyc": 64502, "sgp": 64503}
CLIENTS = {"ams": "10.1.7.0", "nyc": "10.2.7.0", "sgp": "10.3.7.0"}
"""A client network near each site (examples/networks.csv)."""
COLLECTOR = "127.0.1.254"
PREFIX = "198.51.100.0/24"
LINK_PORT, LINK_PORT_BEHIND, DNS_PORT, EDGE_PORT, APP_PORT = 7400, 7401, 5300, 8080, 8090


@dataclass(slots=True)
class Answer:
    """What an edge said."""

    status: int
    body: bytes
    verdict: str


@dataclass(slots=True)
class Cluster:
    """Everything that runs."""

    folder: Path
    relays: Relays
    collector: Collector
    http: aiohttp.ClientSession
    members: dict[str, subprocess.Popen[bytes]] = field(default_factory=dict)
    applications: dict[str, subprocess.Popen[bytes]] = field(default_factory=dict)

    @property
    def config(self) -> Path:
        return self.folder / "three-sites.toml"

    # -- processes ------------------------------------------------------------------------------------------------

    def start_member(self, site: str) -> None:
        log = (self.folder / f"{site}.log").open("ab")
        command = [sys.executable, "-m", "anycastle.cli", "serve", "--config", self.config, "--site", site]
        self.members[site] = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=log, stderr=log)
        log.close()

    def start_application(self, site: str) -> None:
        listen = f"{SITES[site]}:{APP_PORT}"
        command = [sys.executable, EXAMPLES / "demo" / "upload_app.py", "--listen", listen]
        command += ["--root", self.folder / "content" / site]
        self.applications[site] = subprocess.Popen(command, stdin=subprocess.DEVNULL)

    def kill(self, site: str) -> None:
        """SIGKILL: the member has no chance to say goodbye."""
        self.members[site].kill()
        self.members[site].wait()

    def stop(self, site: str) -> None:
        """SIGTERM, and wait."""
        self.members[site].send_signal(signal.SIGTERM)
        self.members[site].wait(timeout=30)

    # -- as a client ----------------------------------------------------------------------------------------------

    async def upload(self, site: str, customer: str, photo: str, body: bytes) -> Answer:
        return await self._ask("POST", site, customer, photo, body)

    async def get(self, site: str, customer: str, photo: str) -> Answer:
        return await self._ask("GET", site, customer, photo, None)

    async def _ask(self, method: str, site: str, customer: str, photo: str, body: bytes | None) -> Answer:
        url = f"http://{SITES[site]}:{EDGE_PORT}/{photo}"
        headers = {"Host": f"{customer}.photos.example.com"}
        async with self.http.request(method, url, data=body, headers=headers) as response:
            verdict = response.headers.get("X-Anycastle-Verdict", "")
            return Answer(response.status, await response.read(), verdict)

    async def upload_beside_the_edge(self, site: str, customer: str, photo: str, body: bytes) -> int:
        """Straight to the application, as cron or SFTP would: no edge, no fence."""
        url = f"http://{SITES[site]}:{APP_PORT}/{photo}"
        async with self.http.post(url, data=body, headers={"Host": f"{customer}.photos.example.com"}) as response:
            return response.status

    async def resolve(self, at: str, customer: str, near: str) -> str | None:
        """The site that the nameserver `at` gives to a client near `near`; None without an answer."""
        query = dns.message.make_query(
            f"{customer}.photos.example.com", "A", use_edns=0, options=[dns.edns.ECSOption(CLIENTS[near], 24)]
        )
        try:
            reply = await dns.asyncquery.udp(query, SITES[at], port=DNS_PORT, timeout=2.0)
        except (dns.exception.Timeout, OSError):
            return None
        addresses = [str(record) for rrset in reply.answer for record in rrset]
        return next((site for site, address in SITES.items() if [address] == addresses), None)

    def routes(self) -> set[str]:
        """The sites whose service route the collector has."""
        peers = {peer for peer, prefix in self.collector.table() if prefix == PREFIX}
        return {site for site, address in SITES.items() if address in peers}

    def photo_on_disk(self, site: str, customer: str, photo: str) -> bytes | None:
        try:
            return (self.folder / "content" / site / customer / photo).read_bytes()
        except FileNotFoundError:
            return None

    async def command(self, site: str, *words: str) -> dict[str, Any]:
        """`anycastle … --json` at a site."""
        command = [
            sys.executable,
            "-m",
            "anycastle.cli",
            *words,
            "--config",
            str(self.config),
            "--site",
            site,
            "--json",
        ]
        process = await asyncio.create_subprocess_exec(*command, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
        out, err = await process.communicate()
        if process.returncode not in (0, 1):
            raise RuntimeError(f"anycastle {' '.join(words)}: {err.decode().strip()}")
        answer: dict[str, Any] = json.loads(out)
        return answer


def _lay_out(folder: Path) -> None:
    """Configuration, zone, certificates and empty content."""
    for name in ("three-sites.toml", "networks.csv"):
        shutil.copy(EXAMPLES / name, folder / name)
    shutil.copytree(EXAMPLES / "zones", folder / "zones")
    pki.init(folder / "pki")
    for site in SITES:
        pki.issue(folder / "pki", site)
        (folder / "content" / site).mkdir(parents=True)


@contextlib.asynccontextmanager
async def cluster(folder: Path) -> AsyncIterator[Cluster]:
    """Three running sites below `folder`, which must be empty."""
    _lay_out(folder)
    relays = Relays(SITES, port=LINK_PORT, behind=LINK_PORT_BEHIND)
    await relays.start()
    peers = {address: AS_NUMBERS[site] for site, address in SITES.items()}
    collector = Collector(folder / "collector", COLLECTOR, 1790, asn=64499, peers=peers)
    timeout = aiohttp.ClientTimeout(total=120)
    try:
        async with aiohttp.ClientSession(timeout=timeout, connector=aiohttp.TCPConnector(limit=0)) as http:
            running = Cluster(folder, relays, collector, http)
            try:
                for site in SITES:
                    running.start_application(site)
                    running.start_member(site)
                yield running
            finally:
                _end([*running.members.values()], grace_seconds=20)
                _end([*running.applications.values()], grace_seconds=2)
    finally:
        collector.close()
        relays.close()


def _end(processes: list[subprocess.Popen[bytes]], *, grace_seconds: float) -> None:
    for process in processes:
        if process.poll() is None:
            process.send_signal(signal.SIGTERM)
    for process in processes:
        try:
            process.wait(grace_seconds)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def ports_in_use() -> str:
    """One line when something of the demo's addresses is taken, such as another demo; empty when all are free."""
    import socket

    for address in SITES.values():
        for port in (LINK_PORT, LINK_PORT_BEHIND, DNS_PORT, EDGE_PORT, APP_PORT, 9080):
            with socket.socket() as probe:
                probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
                try:
                    probe.bind((address, port))
                except OSError as error:
                    return f"{address}:{port}: {os.strerror(error.errno or 0)}: is another demo running?"
    return ""
