"""A real resolver in front: unbound asks our nameserver with 0x20 and by TCP, and its clients get the answers.

Debian's unbound 1.17 sends no cookies to nameservers; kdig does that in test_server.py.
"""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from anycastle.dns.server import DnsServer
from tests.dns.test_server import fresh_view, serving, until
from tests.ports import free_port

UNBOUND = "/usr/sbin/unbound"
DEADLINE_SECONDS = 20.0

CONFIGURATION = """\
server:
    interface: 127.0.0.1
    port: {port}
    do-daemonize: no
    username: ""
    chroot: ""
    directory: "{folder}"
    pidfile: ""
    use-syslog: no
    num-threads: 1
    module-config: "iterator"
    do-not-query-localhost: no
    use-caps-for-id: yes
    tcp-upstream: {tcp_upstream}
    cache-max-ttl: 0
    cache-max-negative-ttl: 0
stub-zone:
    name: "example.com"
    stub-addr: {address}@{server_port}
"""


async def dig(port: int, *arguments: str) -> str:
    process = await asyncio.create_subprocess_exec(
        *("kdig", "@127.0.0.1", "-p", str(port), "+timeout=5", "+retry=0", "+header", "+nostats", *arguments),
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
    )
    output, _ = await process.communicate()
    return output.decode()


@asynccontextmanager
async def resolving(folder: Path, server: DnsServer, *, tcp_upstream: str = "no") -> AsyncIterator[int]:
    """The port of an unbound that sends example.com to `server`."""
    port = free_port()
    address, server_port = server.addresses[0]
    file = folder / "unbound.conf"
    file.write_text(
        CONFIGURATION.format(
            port=port, folder=folder, address=address, server_port=server_port, tcp_upstream=tcp_upstream
        )
    )
    process = await asyncio.create_subprocess_exec(
        *(UNBOUND, "-d", "-p", "-c", str(file)), stdout=asyncio.subprocess.DEVNULL, stderr=asyncio.subprocess.DEVNULL
    )
    try:
        async with asyncio.timeout(DEADLINE_SECONDS):
            while "status: NOERROR" not in await dig(port, "www.example.com", "A"):
                assert process.returncode is None, "unbound ended"
                await asyncio.sleep(0.05)
        yield port
    finally:
        if process.returncode is None:
            process.terminate()
        await process.wait()


@pytest.mark.parametrize("tcp_upstream", ["no", "yes"])
async def test_unbound_resolves_static_and_steered_names(tmp_path: Path, tcp_upstream: str) -> None:
    async with serving(tmp_path) as server, resolving(tmp_path, server, tcp_upstream=tcp_upstream) as port:
        assert "192.0.2.80" in await dig(port, "WwW.eXample.com", "A")
        steered = await dig(port, "shop.example.com", "A")
        # The resolver's own address is in no map, so any site may be the answer, but always the same one.
        chosen = [site for site in ("192.0.2.10", "192.0.2.20", "192.0.2.30") if site in steered]
        assert len(chosen) == 1, steered
        assert chosen[0] in await dig(port, "shop.example.com", "A")
        assert "status: NXDOMAIN" in await dig(port, "nothing.example.com", "A")
        assert "192.0.2.11" in await dig(port, "x.old.example.com", "A")
        await until(lambda: server.counters()["queries"] > 0)
        assert (server.counters()["queries_tcp"] > 0) is (tcp_upstream == "yes")
        assert server.counters()["faults"] == 0


async def test_unbound_comes_again_by_tcp_after_a_truncated_answer(tmp_path: Path) -> None:
    async with serving(tmp_path, udp_payload_bytes_max=512) as server, resolving(tmp_path, server) as port:
        async with asyncio.timeout(DEADLINE_SECONDS):  # on a busy machine unbound may give up on a first try
            while (await dig(port, "+tcp", "many.example.com", "A")).count("198.51.100.") != 40:
                pass
        await until(lambda: server.counters()["truncated"] > 0 and server.counters()["queries_tcp"] > 0)


async def test_unbound_follows_the_health_of_a_site(tmp_path: Path) -> None:
    async with serving(tmp_path) as server, resolving(tmp_path, server) as port:
        server.publish(fresh_view(down=("ams", "nyc"), generation=2))
        async with asyncio.timeout(DEADLINE_SECONDS):
            while "192.0.2.30" not in await dig(port, "shop.example.com", "A"):
                pass
