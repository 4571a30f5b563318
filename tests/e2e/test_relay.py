"""The demo's wires carry everything, slow down, and can be cut; ends of connections pass through them."""

import asyncio
import contextlib
from collections.abc import AsyncIterator

import pytest

from examples.demo.relay import Relays
from tests.ports import free_port

MEMBERS = {"ams": "127.0.98.1", "nyc": "127.0.98.2"}
BYTES = 200_000
GONE = (ConnectionError, asyncio.IncompleteReadError)


@contextlib.asynccontextmanager
async def relayed() -> AsyncIterator[tuple[Relays, int]]:
    """Wires between two members, and a server behind each that sends back what it hears."""
    port, behind = free_port("127.0.98.1"), free_port("127.0.98.1")
    relays = Relays(MEMBERS, port=port, behind=behind)
    await relays.start()
    servers = [await asyncio.start_server(_echo, address, behind) for address in MEMBERS.values()]
    try:
        yield relays, port
    finally:
        relays.close()
        for server in servers:
            server.close()
        await asyncio.sleep(0.05)  # what was cut ends


async def _echo(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    with contextlib.suppress(OSError):
        while heard := await reader.read(65536):
            writer.write(heard)
            await writer.drain()
    writer.close()


async def _connect(source: str, target: str, port: int) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
    return await asyncio.open_connection(MEMBERS[target], port, local_addr=(MEMBERS[source], 0))


async def _round(source: str, target: str, port: int, data: bytes) -> bytes:
    """Say it, close that direction, hear it again."""
    reader, writer = await _connect(source, target, port)
    try:
        writer.write(data)
        writer.write_eof()
        return await asyncio.wait_for(reader.read(), 20)
    finally:
        writer.close()


async def test_everything_passes_in_both_directions() -> None:
    async with relayed() as (_, port):
        data = bytes(range(256)) * (BYTES // 256)
        for source, target in (("ams", "nyc"), ("nyc", "ams")):
            assert await _round(source, target, port, data) == data


async def test_only_what_leaves_a_slow_member_is_slow() -> None:
    async with relayed() as (relays, port):
        clock = asyncio.get_running_loop().time
        relays.slow_down("ams", BYTES * 2.0)
        began = clock()
        assert len(await _round("ams", "nyc", port, bytes(BYTES))) == BYTES
        assert clock() - began >= 0.45
        relays.slow_down("ams", None)
        assert all(wire.bytes_per_second is None for wire in relays.wires.values())
        relays.slow_down("nyc", 1000.0)
        assert relays.wires["ams", "nyc"].bytes_per_second is None
        assert relays.wires["nyc", "ams"].bytes_per_second == 1000.0


async def test_connections_share_one_wire() -> None:
    async with relayed() as (relays, port):
        clock = asyncio.get_running_loop().time
        relays.slow_down("ams", BYTES * 2.0)
        began = clock()
        await asyncio.gather(*(_round("ams", "nyc", port, bytes(BYTES // 2)) for _ in range(2)))
        assert clock() - began >= 0.45


async def test_a_cut_drops_what_is_open_and_takes_nothing_new_until_it_heals() -> None:
    async with relayed() as (relays, port):
        reader, writer = await _connect("ams", "nyc", port)
        writer.write(b"x")
        assert await asyncio.wait_for(reader.readexactly(1), 5) == b"x"
        relays.cut("nyc", True)
        with pytest.raises(GONE):
            await asyncio.wait_for(reader.readexactly(1), 5)
        writer.close()
        reader, writer = await _connect("ams", "nyc", port)
        with pytest.raises(GONE):
            await asyncio.wait_for(reader.readexactly(1), 5)
        writer.close()
        relays.cut("nyc", False)
        assert await _round("ams", "nyc", port, b"hello") == b"hello"
