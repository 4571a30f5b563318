"""The tcp probe against real listeners."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest
from aiohttp import web

from anycastle.health.probe_tcp import EXPECT_BYTES_MAX
from anycastle.health.settings import TcpCheck
from tests.health.probing import look, patience
from tests.health.targets import http_server
from tests.ports import free_port


@asynccontextmanager
async def speaker() -> AsyncIterator[int]:
    """Says `ready`, in two pieces; answers PING with PONG, talks without end at TALK, closes at anything else."""

    async def talk(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b"220 re")
        await asyncio.sleep(0.01)
        writer.write(b"ady\r\n")
        match await reader.readline():
            case b"PING\r\n":
                writer.write(b"+PONG\r\n")
                await reader.read()
            case b"TALK\r\n":
                writer.write(b"x" * 2 * EXPECT_BYTES_MAX)
                await reader.read()
        writer.close()

    server = await asyncio.start_server(talk, "127.0.0.1", 0)
    async with server:
        yield server.sockets[0].getsockname()[1]


async def nothing(request: web.Request) -> web.StreamResponse:
    return web.Response()


async def test_tcp() -> None:
    async with http_server(nothing) as port:
        assert await look(TcpCheck(host="127.0.0.1", port=port)) == (True, "connected")
        assert await look(TcpCheck(host="localhost", port=port)) == (True, "connected")
    assert await look(TcpCheck(host="127.0.0.1", port=free_port())) == (False, "connection refused")


@pytest.mark.parametrize(
    ("send", "expect", "ok", "reason"),
    [
        (b"", b"ready", True, "connected, and it says what is expected"),
        (b"PING\r\n", b"+PONG", True, "connected, and it says what is expected"),
        (b"QUIT\r\n", b"+PONG", False, "closed before it said b'+PONG'; it said b'220 ready\\r\\n'"),
        (b"TALK\r\n", b"+PONG", False, "did not say b'+PONG' in its first 4096 bytes"),
        (b"", b"+PONG", False, "no answer within 0.5 s"),
        (b"PING\r\n", b"", True, "connected"),
    ],
)
async def test_what_is_said(send: bytes, expect: bytes, ok: bool, reason: str) -> None:
    async with speaker() as port:
        check = TcpCheck(host="127.0.0.1", port=port, send=send, expect=expect)
        assert await look(check, timeout_seconds=patience(reason)) == (ok, reason)


async def test_tcp_ipv6() -> None:
    async with http_server(nothing, host="::1") as port:
        assert await look(TcpCheck(host="::1", port=port)) == (True, "connected")
