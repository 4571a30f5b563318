"""Listening sockets: one clear error, a bounded number of connections, an end."""

import asyncio
import logging
from typing import Any

import aiohttp
import pytest
from aiohttp import web

from anycastle.errors import AnycastleError
from anycastle.replicator.listen import HTTP_LOG, bind_listener, cut, serving

HOST = "127.0.0.1"


@pytest.mark.parametrize("address", [("203.0.113.1", 80), ("no.such.host.invalid", 80)])
def test_an_address_that_cannot_be_had(address: tuple[str, int]) -> None:
    with pytest.raises(AnycastleError, match="expected to listen there for tests"):
        bind_listener(address, "tests", AnycastleError)


async def test_ipv6_too() -> None:
    with bind_listener(("::1", 0), "tests", AnycastleError) as listener:
        assert listener.getsockname()[0] == "::1"


async def test_a_connection_too_many_and_then_room_again() -> None:
    async def answer(request: web.BaseRequest) -> web.StreamResponse:
        return web.Response(text="ok")

    listener = bind_listener((HOST, 0), "tests", AnycastleError)
    server = web.Server(answer, access_log=None)
    async with serving(server, [(listener, None)], connections_max=1, shutdown_seconds=0.1):
        address = listener.getsockname()
        reader, writer = await asyncio.open_connection(*address)
        writer.write(b"GET / HTTP/1.1\r\nHost: h\r\n\r\n")
        assert (await reader.readline()).startswith(b"HTTP/1.1 200")
        async with aiohttp.ClientSession() as session:
            async with session.get(f"http://{HOST}:{address[1]}/") as got:
                assert (got.status, await got.text()) == (503, "too many connections\n")
            writer.close()
            await writer.wait_closed()
            async with asyncio.timeout(5):
                while (await session.get(f"http://{HOST}:{address[1]}/")).status != 200:  # noqa: ASYNC110
                    await asyncio.sleep(0.01)
    with pytest.raises(ConnectionRefusedError):
        await asyncio.open_connection(*address)


async def test_cut_is_seen_as_a_break() -> None:
    async def half(request: web.BaseRequest) -> web.StreamResponse:
        answer = web.StreamResponse()
        await answer.prepare(request)
        await answer.write(b"half")
        cut(request)
        return answer

    listener = bind_listener((HOST, 0), "tests", AnycastleError)
    async with (
        serving(web.Server(half, access_log=None), [(listener, None)], connections_max=9, shutdown_seconds=0.1),
        aiohttp.ClientSession() as session,
    ):
        with pytest.raises(aiohttp.ClientError):
            await (await session.get(f"http://{HOST}:{listener.getsockname()[1]}/")).read()


def test_malformed_requests_are_logged_once_per_kind(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.ERROR, logger=HTTP_LOG.name):
        for fault in (KeyError("a"), KeyError("b"), IndexError("c")):
            details: Any = (type(fault), fault, None)
            HTTP_LOG.error("a kind only this test has", exc_info=details)
    assert len(caplog.records) == 2
