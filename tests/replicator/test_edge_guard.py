"""Clients that take their time, and those that take too much."""

import asyncio
from ipaddress import IPv4Network

from aiohttp import web

from tests.replicator.edge_site import ALICE, Site, site
from tests.replicator.members import until

HEAD = f"GET /a.jpg HTTP/1.1\r\nHost: {ALICE}\r\n"


async def connect(ams: Site) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
    return await asyncio.open_connection(*ams.edge.addresses[0])


async def ends(reader: asyncio.StreamReader) -> bytes:
    """All that comes until the connection is ended from the other side."""
    try:
        async with asyncio.timeout(5):
            return await reader.read()
    except ConnectionResetError:
        return b""


async def test_a_head_that_comes_drop_by_drop() -> None:
    async with site(head_seconds_max=0.3) as ams:
        reader, writer = await connect(ams)
        idle_reader, idle = await connect(ams)

        async def drip() -> None:
            for char in HEAD + "X: " + "y" * 1000:
                writer.write(char.encode())
                await asyncio.sleep(0.02)

        async with asyncio.TaskGroup() as group:
            dripping = group.create_task(drip())
            assert await ends(reader) == b""
            dripping.cancel()
        assert ams.edge.counters()["clients_too_slow"] == 1
        idle.write(f"{HEAD}Connection: close\r\n\r\n".encode())
        assert (await ends(idle_reader)).startswith(b"HTTP/1.1 200 "), "who has said nothing yet is not slow"
        for each in (writer, idle):
            each.close()


async def test_the_second_head_of_a_connection_counts_too() -> None:
    async with site(head_seconds_max=0.3) as ams:
        reader, writer = await connect(ams)
        writer.write(f"{HEAD}\r\n".encode())
        assert b"old photo" in await reader.readuntil(b"photo")
        writer.write(HEAD.encode())
        assert await ends(reader) == b""
        writer.close()


async def test_a_body_that_stops_coming() -> None:
    async with site(silence_seconds_max=0.2) as ams:
        reader, writer = await connect(ams)
        writer.write(f"POST /new.jpg HTTP/1.1\r\nHost: {ALICE}\r\nContent-Length: 50\r\n\r\nphoto".encode())
        assert (await asyncio.wait_for(reader.readline(), 5)).startswith(b"HTTP/1.1 408 ")
        await until(lambda: ams.application.broken_bodies == 1, "broken off there too")
        writer.close()


async def test_a_client_that_reads_nothing() -> None:
    async def long(request: web.BaseRequest) -> web.StreamResponse:
        answer = web.StreamResponse()
        await answer.prepare(request)
        for _ in range(400):
            await answer.write(b"x" * 100_000)
        return answer

    async with site(silence_seconds_max=0.3) as ams:
        ams.application.special["/a.jpg"] = long
        _, writer = await connect(ams)
        writer.write(f"{HEAD}\r\n".encode())
        await until(lambda: ams.edge.counters()["clients_too_slow"] == 1, "cut off")
        await until(lambda: ams.edge.levels(wall=0)["open_requests"] == 0, "given up")
        writer.close()


async def test_one_client_cannot_have_all_connections() -> None:
    async with site(connections_per_client_max=2, trusted_proxies=()) as ams:
        first, second = await connect(ams), await connect(ams)
        reader, writer = await connect(ams)
        assert (await ends(reader)).startswith(b"HTTP/1.1 503 ")
        first[1].close()
        await first[1].wait_closed()
        assert ams.edge.counters()["clients_turned_away"] == 1

        async def again() -> bytes:
            reader, writer = await connect(ams)
            writer.write(f"{HEAD}Connection: close\r\n\r\n".encode())
            try:
                return await ends(reader)
            finally:
                writer.close()

        async with asyncio.timeout(5):
            while not (await again()).startswith(b"HTTP/1.1 200 "):
                pass
        for each in (second[1], writer):
            each.close()


async def test_trusted_proxies_bring_many_clients() -> None:
    async with site(connections_per_client_max=1, trusted_proxies=(IPv4Network("127.0.0.1"),)) as ams:
        several = [await connect(ams) for _ in range(5)]
        for reader, writer in several:
            writer.write(f"{HEAD}Connection: close\r\n\r\n".encode())
            assert (await ends(reader)).startswith(b"HTTP/1.1 200 ")
            writer.close()
