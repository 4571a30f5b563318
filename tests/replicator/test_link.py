"""One link, spoken to by hand over a plain WebSocket: the same code as under TLS, without the certificates."""

import asyncio
import socket
import struct
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path

import aiohttp
import msgspec
import pytest
from aiohttp import web

from anycastle.replicator.entry import Entry, Kind, Version
from anycastle.replicator.link import Link, LinkFault, message_bytes_max
from anycastle.replicator.link_frame import LAST, PIECE, WHOLE, encode
from anycastle.replicator.message import PROTOCOL, Entries, Gossip, Hello, Message
from anycastle.replicator.settings import LinkSettings, Tls
from tests.replicator.members import HOST, hello, until

NOWHERE = Path("/nonexistent")
SETTINGS = LinkSettings(
    member="nyc",
    listen=(HOST, 0),
    peers={},
    tls=Tls(authority=NOWHERE, certificate=NOWHERE, key=NOWHERE),
    frame_bytes_max=300_000,
    hello_timeout_seconds=0.5,
    silence_seconds_max=1.0,
)
Peer = aiohttp.ClientWebSocketResponse


class Accepted:
    """What the accepting end made of one link."""

    def __init__(self) -> None:
        self.link: Link | None = None
        self.heard: list[Message] = []
        self.end: asyncio.Future[str] = asyncio.get_running_loop().create_future()

    async def __call__(self, request: web.BaseRequest) -> web.StreamResponse:
        websocket = web.WebSocketResponse(timeout=0.5, max_msg_size=message_bytes_max(SETTINGS), autoclose=False)
        await websocket.prepare(request)
        link = Link("ams", websocket, SETTINGS)
        try:
            await link.open(hello("nyc"), lambda theirs: "" if "nyc" in theirs.members else "no nyc")
            self.link = link
            self.end.set_result(await link.run(self.heard.append))
        except LinkFault as fault:
            self.end.set_exception(fault)
            await link.shut(str(fault))
        else:
            await link.shut()
        return websocket


@asynccontextmanager
async def linked(first: Message | None) -> AsyncIterator[tuple[Accepted, Peer]]:
    accepted = Accepted()
    runner = web.ServerRunner(web.Server(accepted, access_log=None), shutdown_timeout=0.1)
    await runner.setup()
    site = web.TCPSite(runner, HOST, 0)
    await site.start()
    try:
        async with aiohttp.ClientSession() as session, session.ws_connect(f"http://{HOST}:{site.port}/") as peer:
            assert (await peer.receive_bytes(timeout=5))[:1] == WHOLE
            if first is not None:
                await say(peer, first)
            yield accepted, peer
    finally:
        await runner.cleanup()


async def say(peer: Peer, message: Message) -> None:
    await peer.send_bytes(WHOLE + encode(message, frame_bytes_max=10**7))


async def test_messages_go_up_in_order_and_pieces_are_joined() -> None:
    entry = Entry("ams", 1, "blogs", b"a", 1, Kind.FILE, Version(0, ""), b"d" * 32)
    bulky = Entries("blogs", "ams", (entry,), {b"d" * 32: b"x" * 1000})
    frame = encode(bulky, frame_bytes_max=10**7)
    async with linked(hello("ams")) as (accepted, peer):
        await peer.send_bytes(PIECE + frame[:500])
        await say(peer, Gossip(b"urgent"))
        await peer.send_bytes(LAST + frame[500:])
        await until(lambda: len(accepted.heard) == 2, "heard")
        assert accepted.heard == [Gossip(b"urgent"), bulky]
        await peer.close()
        assert await asyncio.wait_for(accepted.end, 5) == "closed by the peer"


async def test_the_longest_frame_passes_and_one_byte_more_does_not() -> None:
    longest = Gossip(b"x" * (SETTINGS.frame_bytes_max - 30))
    while len(encode(longest, frame_bytes_max=10**7)) < SETTINGS.frame_bytes_max:
        longest = Gossip(longest.payload + b"x")
    async with linked(hello("ams")) as (accepted, peer):
        await say(peer, longest)
        await until(lambda: accepted.heard == [longest], "heard")
        await say(peer, Gossip(longest.payload + b"x"))
        with pytest.raises(LinkFault, match="bad frame") as caught:
            await asyncio.wait_for(accepted.end, 5)
        assert caught.value.kind == "frame"


async def test_closing_from_our_side_says_why() -> None:
    async with linked(hello("ams")) as (accepted, peer):
        await until(lambda: accepted.link, "open")
        assert accepted.link is not None
        accepted.link.close("replaced")
        accepted.link.close("again")
        assert await asyncio.wait_for(accepted.end, 5) == "replaced"
        assert (await peer.receive(timeout=5)).type is aiohttp.WSMsgType.CLOSE


async def test_what_is_done_while_open_ends_with_it() -> None:
    async with linked(hello("ams")) as (accepted, _):
        await until(lambda: accepted.link, "open")
        link = accepted.link
        assert link is not None
        async with link.while_open():
            pass
        began = asyncio.Event()

        async def wait_for_ever() -> None:
            async with link.while_open():
                began.set()
                await asyncio.sleep(60)

        async with asyncio.TaskGroup() as group:
            waiting = group.create_task(expect(TimeoutError, wait_for_ever))
            await began.wait()
            link.lost()
            await asyncio.wait_for(waiting, 5)


async def expect(fault: type[Exception], act: Callable[[], object]) -> None:
    with pytest.raises(fault):
        await act()  # type: ignore[misc]


@pytest.mark.parametrize(
    ("first", "kind"),
    [
        (None, "hello"),
        (Gossip(b""), "hello"),
        (hello("sgp"), "hello"),
        (Hello("ams", 1, 1, ("ams", "sgp"), ()), "roster"),
        (Hello("ams", 1, -1, ("ams", "nyc"), ()), "frame"),
    ],
)
async def test_what_does_not_open_a_link(first: Message | None, kind: str) -> None:
    async with linked(first) as (accepted, peer):
        with pytest.raises(LinkFault) as caught:
            await asyncio.wait_for(accepted.end, 5)
        assert caught.value.kind == kind
        closing = await peer.receive(timeout=5)
        assert (closing.type, closing.data) == (aiohttp.WSMsgType.CLOSE, aiohttp.WSCloseCode.POLICY_VIOLATION)
        assert accepted.heard == []


async def test_a_peer_that_pings_and_vanishes_ends_the_link_and_nothing_else() -> None:
    """The answers to its pings meet a connection that is gone."""
    for pings in (1, 50, 500):
        async with linked(hello("ams")) as (accepted, peer):
            await until(lambda: accepted.link, "open")
            for _ in range(pings):
                await peer.ping()
            connection = peer.get_extra_info("socket")
            connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            peer.get_extra_info("socket").shutdown(socket.SHUT_RDWR)
            assert await asyncio.wait_for(accepted.end, 5)


async def test_what_only_a_newer_peer_knows_is_counted_and_ignored() -> None:
    newer = msgspec.structs.replace(hello("ams"), newest=PROTOCOL + 1)
    async with linked(newer) as (accepted, peer):
        await peer.send_bytes(WHOLE + msgspec.msgpack.encode({"type": "forecast", "rain": True}))
        await say(peer, Gossip(b"after it"))
        await until(lambda: accepted.heard, "what comes afterwards is heard")
        assert accepted.heard == [Gossip(b"after it")]
        assert accepted.link is not None
        assert (accepted.link.version, accepted.link.unknown) == (PROTOCOL, 1)


async def test_a_peer_of_the_same_version_that_says_something_unknown_breaks_the_rules() -> None:
    async with linked(hello("ams")) as (accepted, peer):
        await peer.send_bytes(WHOLE + msgspec.msgpack.encode({"type": "forecast", "rain": True}))
        with pytest.raises(LinkFault, match="bad frame"):
            await accepted.end


async def test_a_peer_of_no_common_version_hears_what_to_upgrade() -> None:
    far = msgspec.structs.replace(hello("ams"), protocol=PROTOCOL + 1, newest=PROTOCOL + 2)
    async with linked(far) as (accepted, peer):
        with pytest.raises(LinkFault, match="nyc speaks 1 to 2, ams speaks 3 to 4; upgrade nyc") as caught:
            await accepted.end
        assert caught.value.kind == "protocol"
        closed = await peer.receive(timeout=5)
        assert closed.type is aiohttp.WSMsgType.CLOSE
        assert str(closed.extra).startswith("no common protocol version: nyc speaks 1 to 2")
