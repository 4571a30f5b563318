"""A real secondary, Knot: it is told, transfers by TSIG, and serves what it got. And kdig, as an operator would ask."""

import asyncio
import base64
import contextlib
import dataclasses
import ipaddress
import shutil
import socket
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from anycastle.dns.difference import follow
from anycastle.dns.server import DnsServer
from anycastle.dns.settings import TransferSettings, ZoneFile
from anycastle.dns.tables import build_tables
from tests.dns.secondaries import KEY, SECRET
from tests.dns.test_server import kdig, serving, until
from tests.dns.world import make_settings
from tests.ports import free_port

KEY_OPTION = f"hmac-sha256:xfr:{base64.b64encode(SECRET).decode()}"
SERIAL = "2024010101"
KNOT = """\
server:
    rundir: {folder}
    listen: 127.0.0.1@{port}
database:
    storage: {folder}
key:
  - id: xfr
    algorithm: hmac-sha256
    secret: {secret}
remote:
  - id: anycastle
    address: {address}@{primary}
    key: xfr
acl:
  - id: told
    address: 127.0.0.1
    key: xfr
    action: notify
zone:
  - domain: example.com
    storage: {folder}
    master: anycastle
    acl: told
log:
  - target: stderr
    any: info
"""


def zone_with_secondary(folder: Path, port: int | None) -> ZoneFile:
    return ZoneFile(
        origin="example.com",
        file=folder / "example.com",
        transfer=TransferSettings(to=(ipaddress.ip_network("127.0.0.0/8"),), key="xfr"),
        notify=(("127.0.0.1", port),) if port else (),
    )


@contextlib.asynccontextmanager
async def knot(folder: Path, server: DnsServer, port: int) -> AsyncIterator[None]:
    program = shutil.which("knotd", path="/usr/sbin:/usr/bin")
    assert program is not None, "script/bootstrap installs knot"
    await asyncio.to_thread(folder.mkdir)
    address, primary = server.addresses[0]
    secret = base64.b64encode(SECRET).decode()
    config = folder / "knot.conf"
    config.write_text(KNOT.format(folder=folder, port=port, address=address, primary=primary, secret=secret))
    with (folder / "log").open("wb") as log:
        process = await asyncio.create_subprocess_exec(program, "-c", str(config), stdout=log, stderr=log)
        try:
            yield
        finally:
            process.terminate()
            await process.wait()


async def at_knot(port: int, *arguments: str) -> str:
    process = await asyncio.create_subprocess_exec(
        *("kdig", "@127.0.0.1", "-p", str(port), "+timeout=2", "+retry=0", "+short", *arguments),
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.DEVNULL,
    )
    output, _ = await process.communicate()
    return output.decode()


async def until_knot_says(port: int, name: str, expected: str) -> None:
    async with asyncio.timeout(20):
        while await at_knot(port, name, "A") != expected:  # noqa: ASYNC110 - it happens in another program
            await asyncio.sleep(0.1)


async def test_knot_transfers_by_tsig_serves_and_follows_a_notify(tmp_path: Path) -> None:
    port = free_port()
    zones = (zone_with_secondary(tmp_path, port),)
    async with serving(tmp_path, zones=zones, keys=(KEY,)) as server, knot(tmp_path / "knot", server, port):
        await until_knot_says(port, "www.example.com", "192.0.2.80\n")
        assert await at_knot(port, "shop.example.com", "A") == "192.0.2.10\n"
        assert await at_knot(port, "x.blogs.example.com", "A") == "192.0.2.10\n"
        assert (await at_knot(port, "many.example.com", "A")).count("198.51.100.") == 40
        await until(lambda: server.counters()["notifies_answered"] == 1)
        # a raised serial reaches it by NOTIFY alone: its own refresh is two hours away
        settings = make_settings(tmp_path, zones=zones, keys=(KEY,))
        before = build_tables(settings)
        zone = zones[0].file
        text = zone.read_text().replace("www          IN A   192.0.2.80", "www          IN A   192.0.2.81")
        zone.write_text(text.replace(SERIAL, "2024010102") + "added 60 IN A 192.0.2.123\n")
        await server.replace(follow(before, build_tables(settings)))
        await until_knot_says(port, "added.example.com", "192.0.2.123\n")
        assert await at_knot(port, "www.example.com", "A") == "192.0.2.81\n"
        assert await at_knot(port, "shop.example.com", "A") == "192.0.2.10\n"
        log = (tmp_path / "knot" / "log").read_text()
        assert log.count("AXFR, incoming, remote") == 2, log  # started and finished, at the beginning
        assert log.count("IXFR, incoming, remote") == 2, log
        await until(lambda: server.counters()["notifies_answered"] == 2)
        assert server.counters()["faults"] == 0


async def test_kdig_gets_the_zone_with_the_key_alone(tmp_path: Path) -> None:
    async with serving(tmp_path, zones=(zone_with_secondary(tmp_path, None),), keys=(KEY,)) as server:
        whole = await kdig(server, "-y", KEY_OPTION, "example.com", "AXFR")
        assert whole.count("\tSOA\t") == 2, whole
        assert "ns.deleg.example.com." in whole
        assert whole.count("198.51.100.") == 40
        assert (await kdig(server, "-y", KEY_OPTION, "example.com", "IXFR=1")).count("\tSOA\t") == 2
        assert (await kdig(server, "-y", KEY_OPTION, "example.com", f"IXFR={SERIAL}")).count("\tSOA\t") == 1
        assert "REFUSED" in await kdig(server, "example.com", "AXFR")
        wrong = KEY_OPTION.replace(":xfr:", ":other:")
        assert "BADKEY" in await kdig(server, "-y", wrong, "+header", "+tcp", "example.com", "SOA")
        signed = await kdig(server, "-y", KEY_OPTION, "example.com", "SOA")
        assert "TSIG" in signed
        await until(lambda: server.counters()["transfers"] == 3 and server.counters()["transfers_refused"] == 1)


async def test_kdig_gets_differences_by_tcp_and_by_udp(tmp_path: Path) -> None:
    zones = (zone_with_secondary(tmp_path, None),)
    async with serving(tmp_path, zones=zones, keys=(KEY,)) as server:
        settings = make_settings(tmp_path, zones=zones, keys=(KEY,))
        before = build_tables(settings)
        zone = zones[0].file
        zone.write_text(zone.read_text().replace(SERIAL, "2024010102") + "added 60 IN A 192.0.2.123\n")
        await server.replace(follow(before, build_tables(settings)))
        async with asyncio.timeout(10):
            while "2024010102" not in await kdig(server, "+short", "example.com", "SOA"):  # noqa: ASYNC110
                await asyncio.sleep(0.05)
        for transport in ("+tcp", "+notcp"):
            found = await kdig(server, "-y", KEY_OPTION, transport, "example.com", f"IXFR={SERIAL}")
            assert found.count("\tSOA\t") == 4, found
            assert found.count("added.example.com.") == 1
            assert "www.example.com." not in found


async def test_a_notify_that_nobody_answers_is_sent_again(tmp_path: Path) -> None:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as deaf:
        deaf.bind(("127.0.0.1", 0))
        deaf.setblocking(False)
        zones = (dataclasses.replace(zone_with_secondary(tmp_path, deaf.getsockname()[1]), transfer=None),)
        async with serving(tmp_path, zones=zones) as server:
            await until(lambda: server.counters()["notifies"] == 2)
            assert server.counters()["notifies_answered"] == 0


@pytest.mark.parametrize("rrtype", ["AXFR", "IXFR=1"])
async def test_after_transfers_the_server_answers_as_before(tmp_path: Path, rrtype: str) -> None:
    async with serving(tmp_path, zones=(zone_with_secondary(tmp_path, None),), keys=(KEY,)) as server:
        for _ in range(2):
            assert "SOA" in await kdig(server, "-y", KEY_OPTION, "example.com", rrtype)
        assert await kdig(server, "+short", "+tcp", "www.example.com", "A") == "192.0.2.80\n"
