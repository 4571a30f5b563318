"""The whole nameserver: real worker processes, with kdig as the client."""

import asyncio
import math
import os
import re
import signal
import socket
import struct
from collections import Counter
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import dns.message
import msgspec
import pytest

from anycastle.clock import SystemClock
from anycastle.dns.errors import DnsError
from anycastle.dns.fastest import lay
from anycastle.dns.server import DnsServer
from anycastle.dns.settings import Policy, SteeredName
from anycastle.dns.tables import build_tables
from anycastle.health.view import View
from tests.asking import Asking, asking
from tests.dns.world import make_settings, make_view

DEADLINE_SECONDS = 15.0


def fresh_view(*, down: tuple[str, ...] = (), generation: int = 1) -> View:
    return make_view(down=down, generation=generation, now=SystemClock().now())


@asynccontextmanager
async def serving(folder: Path, **changes: Any) -> AsyncIterator[DnsServer]:
    settings = make_settings(folder, **changes)
    server = DnsServer(settings, clock=SystemClock())
    await server.start(build_tables(settings), fresh_view())
    try:
        async with asyncio.TaskGroup() as group:
            task = group.create_task(server.run())
            try:
                yield server
            finally:
                task.cancel()
    finally:
        await server.close()


async def kdig(server: DnsServer, *arguments: str, index: int = 0) -> str:
    address, port = server.addresses[index]
    process = await asyncio.create_subprocess_exec(
        *("kdig", f"@{address}", "-p", str(port), "+timeout=5", "+retry=0", "+nostats", "+noheader", *arguments),
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
    )
    output, _ = await process.communicate()
    if "+short" not in arguments:
        return output.decode()
    # "truncated, retrying over TCP" is a remark, not an answer
    return "".join(f"{line}\n" for line in output.decode().splitlines() if line and not line.startswith(";;"))


async def until(condition: Callable[[], bool]) -> None:
    async with asyncio.timeout(DEADLINE_SECONDS):
        # What is waited for happens in other processes, so there is no event to wait for.
        while not condition():  # noqa: ASYNC110
            await asyncio.sleep(0.02)


def worker_pids() -> list[int]:
    """Our children that are DNS workers."""
    children = [pid for task in Path("/proc/self/task").iterdir() for pid in (task / "children").read_text().split()]
    return sorted(int(pid) for pid in children if b"anycastle.dns.worker" in command_line(pid))


def command_line(pid: str) -> bytes:
    try:
        return Path(f"/proc/{pid}/cmdline").read_bytes()
    except OSError:  # it has ended
        return b""


async def test_kdig_gets_static_steered_and_truncated_answers(tmp_path: Path) -> None:
    listen = (("127.0.0.1", 0), ("::1", 0))
    async with serving(tmp_path, workers=2, listen=listen) as server:
        assert len(worker_pids()) == 2
        for index in range(2):
            assert await kdig(server, "+short", "www.example.com", "A", index=index) == "192.0.2.80\n"
            assert await kdig(server, "+short", "+tcp", "www.example.com", "A", index=index) == "192.0.2.80\n"
        steered = await kdig(server, "+subnet=10.2.3.0/24", "x.blogs.example.com", "A")
        assert "192.0.2.20" in steered
        assert "CLIENT-SUBNET: 10.2.3.0/24/16" in steered
        assert "NSID" not in steered
        # 40 addresses do not fit 512 bytes: kdig is told so, and comes again by TCP
        many = await kdig(server, "+short", "+noedns", "many.example.com", "A")
        assert len(many.splitlines()) == 40, many
        assert "ams" in await kdig(server, "+nsid", "www.example.com", "A")
        assert "status: REFUSED" in await kdig(server, "+header", "example.org", "A")
        assert "status: BADVERS" in await kdig(server, "+header", "+edns=1", "www.example.com", "A")
        await until(lambda: server.counters()["queries_tcp"] == 3 and server.counters()["truncated"] == 1)
        assert server.counters()["faults"] == 0
        assert server.healthy() == ""
    assert worker_pids() == []


async def test_views_and_tables_reach_the_workers(tmp_path: Path) -> None:
    async with serving(tmp_path) as server:
        question = ("+short", "+subnet=10.2.3.0/24", "shop.example.com", "A")
        assert await kdig(server, *question) == "192.0.2.20\n"
        for generation in range(2, 200):  # far more than a worker needs to see: the newest counts
            server.publish(fresh_view(generation=generation))
        server.publish(fresh_view(down=("nyc",), generation=200))
        async with asyncio.timeout(DEADLINE_SECONDS):
            while await kdig(server, *question) != "192.0.2.10\n":
                pass
        settings = make_settings(tmp_path)
        zone = settings.zones[0].file
        zone.write_text(zone.read_text() + "added 60 IN A 192.0.2.123\n")
        await server.replace(build_tables(settings))
        async with asyncio.timeout(DEADLINE_SECONDS):
            while await kdig(server, "+short", "added.example.com", "A") != "192.0.2.123\n":
                pass


async def test_a_killed_worker_is_started_anew_with_what_is_in_force(tmp_path: Path) -> None:
    async with serving(tmp_path) as server:
        server.publish(fresh_view(down=("nyc",), generation=2))
        await until(lambda: server.counters().get("queries", -1) == 0)
        assert await kdig(server, "+short", "www.example.com", "A") == "192.0.2.80\n"
        await until(lambda: server.counters()["queries"] == 1)
        (pid,) = worker_pids()
        os.kill(pid, signal.SIGKILL)
        await until(lambda: server.healthy() != "")
        # asked while nobody is there: the query waits in the socket, which is ours, and is answered by the next worker
        answer = await kdig(server, "+short", "+subnet=10.2.3.0/24", "shop.example.com", "A")
        assert answer == "192.0.2.10\n"
        await until(lambda: server.healthy() == "" and server.counters()["queries"] == 2)
        assert server.counters()["worker_restarts"] == 1
        assert worker_pids() != [pid]


async def test_a_worker_started_anew_knows_what_is_measured(tmp_path: Path) -> None:
    rules = (SteeredName(name="shop.example.com", policy=Policy.FASTEST),)
    question = ("+short", "+subnet=10.1.7.0/24", "shop.example.com", "A")
    async with serving(tmp_path, names=rules) as server:
        tables = build_tables(make_settings(tmp_path, names=rules))
        known = {
            site: {bytes((10, 1, 7)): (math.log(seconds), 50.0, 0.0)}
            for site, seconds in (("ams", 0.09), ("nyc", 0.01))
        }
        assert await kdig(server, *question) == "192.0.2.10\n"
        server.publish_measured(msgspec.msgpack.encode(lay(tables.steering.geo, known, now=0.0)[0]))
        async with asyncio.timeout(DEADLINE_SECONDS):
            while await kdig(server, *question) != "192.0.2.20\n":
                pass
        (pid,) = worker_pids()
        os.kill(pid, signal.SIGKILL)
        await until(lambda: server.counters()["worker_restarts"] == 1)
        async with asyncio.timeout(DEADLINE_SECONDS):
            while await kdig(server, *question) != "192.0.2.20\n":
                pass
        await server.replace(tables)
        async with asyncio.timeout(DEADLINE_SECONDS):
            while await kdig(server, *question) != "192.0.2.10\n":
                pass


async def test_a_stopped_worker_is_not_healthy(tmp_path: Path) -> None:
    async with serving(tmp_path) as server:
        (pid,) = worker_pids()
        os.kill(pid, signal.SIGSTOP)
        try:
            await until(lambda: "has not reported for" in server.healthy())
            server.publish(fresh_view(generation=2))  # does not wait for it
        finally:
            os.kill(pid, signal.SIGCONT)
        await until(lambda: server.healthy() == "")


@pytest.mark.parametrize("kind", [socket.SOCK_DGRAM, socket.SOCK_STREAM])
@pytest.mark.parametrize("share", [False, True])
async def test_a_port_in_use_is_one_clear_error(tmp_path: Path, kind: socket.SocketKind, share: bool) -> None:
    """Also when the other one shares its port: a part of the queries would be answered by it."""
    with socket.socket(socket.AF_INET, kind) as other:
        if share:
            other.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        other.bind(("127.0.0.1", 0))
        if kind is socket.SOCK_STREAM:
            other.listen()
        port = other.getsockname()[1]
        settings = make_settings(tmp_path, listen=(("127.0.0.1", 0), ("127.0.0.1", port)))
        server = DnsServer(settings, clock=SystemClock())
        with pytest.raises(DnsError, match=rf"127\.0\.0\.1:{port} \((UDP|TCP)\): Address already in use"):
            await server.start(build_tables(settings), fresh_view())
        assert worker_pids() == []
        await server.close()


@pytest.mark.parametrize(
    ("address", "said"),
    [("0.0.0.0", "each address by itself"), ("::", "each address by itself"), ("localhost", "expected an IP address"),
     ("192.0.2.1", "Cannot assign requested address")],
)  # fmt: skip
async def test_addresses_that_cannot_be_listened_on(tmp_path: Path, address: str, said: str) -> None:
    settings = make_settings(tmp_path, listen=((address, 0),))
    with pytest.raises(DnsError, match=said):
        await DnsServer(settings, clock=SystemClock()).start(build_tables(settings), fresh_view())


async def test_not_started_is_not_healthy(tmp_path: Path) -> None:
    assert DnsServer(make_settings(tmp_path), clock=SystemClock()).healthy() == "the nameserver is not started"


async def test_limited_clients_are_told_to_use_tcp(tmp_path: Path) -> None:
    async with serving(tmp_path, responses_per_second_max=0.001) as server:
        assert await kdig(server, "+short", "www.example.com", "A") == "192.0.2.80\n"
        # the second query is truncated; kdig comes again by TCP, which cannot be forged
        assert await kdig(server, "+short", "www.example.com", "A") == "192.0.2.80\n"
        await until(lambda: server.counters()["limited"] == 1 and server.counters()["queries_tcp"] == 1)


async def test_rfc7873_5_2_5_a_client_with_a_valid_cookie_is_not_limited(tmp_path: Path) -> None:
    """The request is known to come from where it says: kdig gets a cookie, and needs no TCP."""
    async with serving(tmp_path, responses_per_second_max=0.001, workers=1) as server:
        first = await kdig(server, "+cookie=2464c4abcf10c957", "www.example.com", "A")
        server_cookie = re.search(r"COOKIE: ([0-9A-Fa-f]{48})", first)
        assert server_cookie, first
        for _ in range(4):
            answer = await kdig(server, f"+cookie={server_cookie[1]}", "+ignore", "www.example.com", "A")
            assert "192.0.2.80" in answer
            assert server_cookie[1] in answer
        forged = server_cookie[1][:-1] + ("0" if server_cookie[1][-1] != "0" else "1")
        refused = await kdig(server, f"+cookie={forged}", "+ignore", "+header", "www.example.com", "A")
        assert "tc" in refused.split("Flags:")[1].split(";")[0], refused
        await until(lambda: server.counters()["limited"] == 1 and server.counters()["queries_tcp"] == 0)


async def test_tcp_takes_queries_in_pieces_and_in_bunches(tmp_path: Path) -> None:
    async with serving(tmp_path) as server:
        reader, writer = await asyncio.open_connection(*server.addresses[0])
        names = [f"host{1 + n % 3}.example.com" for n in range(30)]
        queries = [dns.message.make_query(name, "A") for name in names]
        stream = b"".join(struct.pack("!H", len(query.to_wire())) + query.to_wire() for query in queries)
        for piece in (stream[:1], stream[1:40], stream[40:]):
            writer.write(piece)
            await writer.drain()
            await asyncio.sleep(0.01)  # only so that the pieces arrive apart; nothing depends on it
        writer.write_eof()  # what was asked before the end is answered all the same
        async with asyncio.timeout(DEADLINE_SECONDS):
            for query in queries:
                (length,) = struct.unpack("!H", await reader.readexactly(2))
                assert query.is_response(dns.message.from_wire(await reader.readexactly(length)))
            assert await reader.read() == b""
        writer.close()
        await writer.wait_closed()


@pytest.mark.parametrize(("before", "after"), [(2, 2), (2, 1), (1, 3)])
async def test_the_next_server_takes_over_the_same_sockets_and_no_query_is_lost(
    tmp_path: Path, before: int, after: int
) -> None:
    settings = make_settings(tmp_path, workers=before)
    tables = build_tables(settings)
    first = DnsServer(settings, clock=SystemClock())
    await first.start(tables, fresh_view())
    settings = make_settings(tmp_path, workers=after, listen=first.addresses)
    with asking() as asked:
        asked.ask_dns(first.addresses[0], "www.example.com")
        await until(lambda: len(asked.answered) == 3)
        handed = [sock.dup() for sock in first.sockets]
        second = DnsServer(settings, clock=SystemClock(), inherited=lambda kind, _: _of(kind, handed))
        await second.start(tables, fresh_view())
        assert second.addresses == first.addresses
        await asyncio.sleep(0.3)  # both read the same sockets; nothing is decided by it
        await first.close(seconds_max=5)
        assert len(worker_pids()) == after
        assert not first.sockets
        so_far = Counter(asked.answered)
        await until(lambda: _all_more(asked, so_far))
    try:
        assert asked.lost == []
        assert len(second.sockets) == 2 * max(before, after)
    finally:
        await second.close()


def _of(kind: socket.SocketKind, handed: list[socket.socket]) -> tuple[socket.socket, ...]:
    return tuple(sock for sock in handed if sock.type == kind)


def _all_more(asked: Asking, so_far: Counter[str]) -> bool:
    return all(count > so_far[kind] + 20 for kind, count in asked.answered.items())
