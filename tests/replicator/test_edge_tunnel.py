"""WebSockets through one edge and through two: real client, real server, and raw bytes for the rest."""

import asyncio
import base64
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import aiohttp
import pytest
from aiohttp import web

from anycastle.replicator.gate import Forward, Refuse
from tests.replicator.edge_site import ALICE, Site, signed, site
from tests.replicator.members import Member, link_settings, make_authority, meshed, until

ASK = (
    f"GET /chat HTTP/1.1\r\nHost: {ALICE}\r\nConnection: keep-alive, Upgrade\r\nUpgrade: websocket\r\n"
    f"Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: {base64.b64encode(b'x' * 16).decode()}\r\n\r\n"
)


class Chat:
    """Says everything back, twice as long."""

    def __init__(self) -> None:
        self.open = 0

    async def __call__(self, request: web.BaseRequest) -> web.StreamResponse:
        if "Upgrade" not in request.headers:
            return web.Response(status=426, text="expected a WebSocket")
        if request.query_string == "secret":
            return web.Response(status=403, text="not for you")
        websocket = web.WebSocketResponse(protocols=("chat",), max_msg_size=0)
        websocket.headers["Set-Cookie"] = "room=1"
        await websocket.prepare(request)
        self.open += 1
        try:
            await websocket.send_str(f"welcome to {request.host}")
            async for message in websocket:
                if message.type is aiohttp.WSMsgType.BINARY:
                    await websocket.send_bytes(message.data * 2)
                elif message.data == "leave":
                    await websocket.close(code=4000, message=b"left")
        finally:
            self.open -= 1
        return websocket


@asynccontextmanager
async def chat(**settings: object) -> AsyncIterator[tuple[Site, Chat, aiohttp.ClientSession]]:
    there = Chat()
    async with site(**settings) as ams, aiohttp.ClientSession(headers={"Host": ALICE}) as client:
        ams.application.special["/chat"] = there
        yield ams, there, client


async def test_both_ways() -> None:
    async with chat() as (ams, there, client):
        async with client.ws_connect(ams.url("/chat"), protocols=("chat",), max_msg_size=0, compress=15) as websocket:
            assert websocket.protocol == "chat"
            assert await websocket.receive_str() == f"welcome to {ALICE}"
            for size in (0, 1, 125, 70_000, 3_000_000):
                await websocket.send_bytes(b"x" * size)
                assert len(await websocket.receive_bytes()) == 2 * size
            assert ams.edge.levels(wall=0)["websocket_connections"] == 1
            await websocket.ping()
            await websocket.send_str("leave")
            assert (await websocket.receive()).type is aiohttp.WSMsgType.CLOSE
            assert websocket.close_code == 4000
        await until(lambda: there.open == 0, "ended there")
        await until(lambda: ams.edge.levels(wall=0)["websocket_connections"] == 0, "ended here")
        assert (ams.edge.answers["websocket"], len(ams.gate.asked)) == (1, 2)


async def test_a_side_that_is_gone_takes_the_other_with_it() -> None:
    async with chat() as (ams, there, client):
        websocket = await client.ws_connect(ams.url("/chat"))
        await until(lambda: there.open == 1, "open")
        connection = websocket._response.connection
        assert connection is not None
        assert connection.transport is not None
        connection.transport.abort()
        await until(lambda: there.open == 0, "ended there")
        await websocket.close()


async def test_what_is_no_101_is_an_answer_like_others() -> None:
    async with chat() as (ams, _, client):
        with pytest.raises(aiohttp.WSServerHandshakeError) as caught:
            await client.ws_connect(ams.url("/chat?secret"))
        assert caught.value.status == 403
        async with client.get(ams.url("/chat"), headers={"Upgrade": "h2c", "Connection": "Upgrade"}) as got:
            assert (got.status, await got.text()) == (426, "expected a WebSocket")
        ams.gate.read = Refuse("not current", 1)
        async with client.get(ams.url("/chat"), headers={"Upgrade": "websocket", "Connection": "Upgrade"}) as got:
            assert signed(got) == (503, "ams", "refuse")


async def test_bytes_that_come_with_the_handshake_are_not_lost() -> None:
    async with chat() as (ams, _, _):
        reader, writer = await asyncio.open_connection(*ams.edge.addresses[0])
        close = b"\x88\x80\x00\x00\x00\x00"
        writer.write(ASK.encode() + b"\x82\x81\x00\x00\x00\x00y" + close)
        head = await reader.readuntil(b"\r\n\r\n")
        assert head.startswith(b"HTTP/1.1 101 ")
        assert b"\r\nX-Anycastle-Verdict: serve\r\n" in head
        assert b"\r\nSet-Cookie: room=1\r\n" in head
        rest = await asyncio.wait_for(reader.read(), 5)
        assert b"welcome to" in rest
        assert b"\x82\x02yy" in rest
        writer.close()


async def test_silence_ends_it() -> None:
    async with chat(websocket_silence_seconds_max=0.2) as (ams, there, client):
        async with client.ws_connect(ams.url("/chat")) as websocket:
            assert await websocket.receive_str()
            for _ in range(8):
                await asyncio.sleep(0.05)
                await websocket.send_bytes(b"x")
                assert await websocket.receive_bytes() == b"xx"
            assert (await websocket.receive(timeout=5)).type in (aiohttp.WSMsgType.CLOSED, aiohttp.WSMsgType.CLOSE)
        await until(lambda: there.open == 0, "ended there")


async def test_there_is_a_limit() -> None:
    async with chat(websockets_max=1) as (ams, _, client), client.ws_connect(ams.url("/chat")):
        with pytest.raises(aiohttp.WSServerHandshakeError) as caught:
            await client.ws_connect(ams.url("/chat"))
        assert caught.value.status == 503


async def test_who_does_not_read_stops_the_other_side() -> None:
    async with chat() as (ams, there, _):
        reader, writer = await asyncio.open_connection(*ams.edge.addresses[0], limit=1024)
        writer.write(ASK.encode())
        await reader.readuntil(b"\r\n\r\n")
        sent, frame = 0, b"\x82\xff" + (1_000_000).to_bytes(8, "big") + bytes(4) + b"x" * 1_000_000
        try:
            async with asyncio.timeout(3):
                for _ in range(200):
                    writer.write(frame)
                    await writer.drain()
                    sent += 1
        except TimeoutError:
            pass
        assert sent < 100, "it is taken as long as kernels and queues have room, and no longer"
        writer.transport.abort()
        await until(lambda: there.open == 0, "ended there")


async def test_through_another_site(tmp_path: Path) -> None:
    settings = link_settings(make_authority(tmp_path))
    members = {name: Member(settings[name]) for name in ("ams", "nyc")}
    async with chat() as (ams, here, client), site("nyc") as nyc:
        there = nyc.application.special["/chat"] = Chat()
        members["nyc"].links.edge_handler = nyc.edge.handle_forwarded
        ams.forward = members["ams"].links.forward
        ams.gate.read = Forward(("nyc",), "landed at nyc")
        async with meshed(*members.values()):
            async with client.ws_connect(ams.url("/chat"), max_msg_size=0) as websocket:
                assert await websocket.receive_str() == f"welcome to {ALICE}"
                await websocket.send_bytes(b"x" * 500_000)
                assert len(await websocket.receive_bytes()) == 1_000_000
                assert (there.open, here.open) == (1, 0)
            await until(lambda: there.open == 0, "ended there")
