"""Links between real members over real TLS, and what strangers and liars get."""

import asyncio
import contextlib
import hashlib
import os
import ssl
import time
from collections.abc import AsyncIterator
from contextlib import aclosing, asynccontextmanager
from dataclasses import replace
from pathlib import Path

import aiohttp
import msgspec
import pytest
from aiohttp import web
from multidict import CIMultiDict

from anycastle.replicator import peer, pki
from anycastle.replicator.body import FetchError
from anycastle.replicator.body_thread import PIECE_BYTES as BODY_PIECE_BYTES
from anycastle.replicator.edge_forward import ForwardError, ForwardRequest
from anycastle.replicator.entry import Entry, Kind, Version
from anycastle.replicator.event import LinkDown, LinkUp, Received
from anycastle.replicator.link_frame import PIECE, PIECE_BYTES, WHOLE, FrameError, encode
from anycastle.replicator.listen import cut
from anycastle.replicator.message import Entries, Fenced, FenceQuery, Gossip, Hello, Message
from anycastle.replicator.peer import LinkError, Links, redial_seconds
from tests.replicator.members import Member, hello, link_settings, listening, make_authority, meshed, tls, until

DIGEST = b"d" * 32
OUTSIDE = Entry("ams", 1, "blogs", b"../../etc/passwd", 1, Kind.ABSENT, Version(0, ""))


@pytest.fixture(scope="module")
def authority(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_authority(tmp_path_factory.mktemp("pki"))


def entries(first: int, count: int, body_bytes: int = 0) -> Entries:
    made = tuple(
        Entry("ams", seq, "blogs", b"a/%d" % seq, seq, Kind.FILE, Version(0, ""), DIGEST, body_bytes)
        for seq in range(first, first + count)
    )
    return Entries("blogs", "ams", made, {DIGEST: b"x" * body_bytes} if body_bytes else {})


# -- the mesh ----------------------------------------------------------------------------------------------------------


async def test_three_members_hear_each_other_in_order(authority: Path) -> None:
    members = [Member(settings, incarnation=7) for settings in link_settings(authority).values()]
    async with meshed(*members):
        for sender in members:
            for number in range(50):
                for other in sender.links.connected():
                    assert sender.links.send(other, FenceQuery("blogs", sender.name, number))
        for member in members:
            await until(lambda member=member: len(member.received()) == 100, f"{member.name} heard all")
        for member in members:
            others = {other.name for other in members} - {member.name}
            assert {event.member for event in member.ups()} == others
            assert {event.incarnation for event in member.ups()} == {7}
            for other in others:
                own = [event for event in member.heard if event.member == other]
                assert own[0] == LinkUp(other, 7)
                assert own[1:] == [Received(other, FenceQuery("blogs", other, number)) for number in range(50)]
    for member in members:
        assert {event.member for event in member.downs()} == {other.name for other in members} - {member.name}
        assert not member.links.connected()
        assert not member.links.refused


async def test_a_member_that_comes_back_is_linked_again(authority: Path) -> None:
    settings = link_settings(authority)
    ams, nyc = Member(settings["ams"]), Member(settings["nyc"])
    async with listening(ams):
        for incarnation in (1, 2, 3):
            nyc = Member(settings["nyc"], incarnation=incarnation)
            async with listening(nyc):
                await until(lambda n=incarnation: len(ams.ups()) == n and ams.links.connected(), "linked")
                assert ams.links.send("nyc", Gossip(b"%d" % incarnation))
                await until(nyc.received, "heard")
            await until(lambda: not ams.links.connected(), "unlinked")
            assert not ams.links.send("nyc", Gossip(b"lost"))
        kinds = [type(event) for event in ams.heard if event.member == "nyc"]
    assert kinds == [LinkUp, LinkDown] * 3
    assert [event.incarnation for event in ams.ups()] == [1, 2, 3]


async def test_a_new_link_replaces_an_older_one(authority: Path) -> None:
    nyc = Member(link_settings(authority)["nyc"])
    async with listening(nyc), dialled(authority, nyc, "ams") as first:
        await talk(first, hello("ams"))
        await until(nyc.links.connected, "linked")
        async with dialled(authority, nyc, "ams") as second:
            await talk(second, hello("ams", incarnation=2))
            await until(lambda: len(nyc.ups()) == 2, "linked anew")
            with contextlib.suppress(aiohttp.ClientError):
                await send(first, Gossip(b"from the past"))
            await send(second, Gossip(b"now"))
            await until(nyc.received, "heard")
            assert nyc.heard == [
                LinkUp("ams", 1),
                LinkDown("ams", "replaced by a new link"),
                LinkUp("ams", 2),
                Received("ams", Gossip(b"now")),
            ]


async def test_urgent_overtakes_bulk_and_bulk_is_bounded(authority: Path) -> None:
    settings = link_settings(authority, queue_bytes_max=4_000_000, compress=False)
    ams, nyc = Member(settings["ams"]), Member(settings["nyc"])
    async with meshed(ams, nyc):
        accepted = 0
        while ams.links.send("nyc", entries(1, 1, 1_000_000)):
            accepted += 1
        assert accepted == 3
        assert ams.links.send("nyc", Fenced({}))
        await until(lambda: len(nyc.received()) == accepted + 1, "heard all")
        kinds = [type(event.message) for event in nyc.received()]
        assert kinds == [Fenced] + [Entries] * accepted
        assert ams.links.send("nyc", entries(1, 1, 1_000_000))  # there is room again
        with pytest.raises(FrameError):
            ams.links.send("nyc", Gossip(b"x" * settings["ams"].frame_bytes_max))
        assert not ams.links.send("sgp", Fenced({}))


async def test_outgoing_links_use_the_source_address(authority: Path) -> None:
    settings = link_settings(authority)
    ams = Member(replace(settings["ams"], source_address="127.0.0.9"))
    nyc = Member(settings["nyc"])
    seen: list[str | None] = []

    async def edge(request: web.BaseRequest) -> web.StreamResponse:
        seen.append(request.remote)
        return web.Response()

    nyc.links.edge_handler = edge
    async with meshed(ams, nyc):
        (await ams.links.forward("nyc", forwarded("/"))).release()
    assert seen == ["127.0.0.9"]


async def test_a_fault_behind_on_event_ends_run(authority: Path) -> None:
    settings = link_settings(authority)
    ams, nyc = Member(settings["ams"]), Member(settings["nyc"])

    class Broken(Exception):
        pass

    def broken(event: object) -> None:
        raise Broken

    links = Links(
        settings["nyc"],
        hello("nyc"),
        compatible=lambda hello: "",
        on_event=broken,
        bodies=nyc.links._bodies,
        clock=nyc.links._clock,
    )
    async with listening(ams):
        with pytest.raises(ExceptionGroup) as caught:
            await asyncio.wait_for(links.run(), 10)
    assert caught.group_contains(Broken)


def test_a_port_in_use_is_one_clear_line(authority: Path) -> None:
    settings = link_settings(authority)["ams"]
    one, other = Member(settings), Member(settings)
    one.links.bind()
    try:
        with pytest.raises(LinkError, match=rf"127\.0\.0\.1:{settings.listen[1]}: expected to listen there"):
            other.links.bind()
    finally:
        assert one.links._listener is not None
        one.links._listener.close()


# -- strangers and liars -----------------------------------------------------------------------------------------------


@asynccontextmanager
async def dialled(
    authority: Path, target: Member, certified: str, path: str = "/link"
) -> AsyncIterator[aiohttp.ClientWebSocketResponse]:
    """A WebSocket to `target` with the certificate of `certified`, spoken by hand."""
    context = pki.client_context(tls(authority, certified))
    host, port = target.links.settings.listen
    async with (
        aiohttp.ClientSession() as session,
        session.ws_connect(
            f"https://{host}:{port}{path}", ssl=context, server_hostname=pki.server_name(target.name), max_msg_size=0
        ) as websocket,
    ):
        yield websocket


async def send(websocket: aiohttp.ClientWebSocketResponse, message: Message) -> None:
    await websocket.send_bytes(WHOLE + encode(message, frame_bytes_max=2**24))


async def talk(websocket: aiohttp.ClientWebSocketResponse, first: Message) -> None:
    """Hear the Hello, say something."""
    got = await websocket.receive_bytes(timeout=5)
    assert got[:1] == WHOLE
    assert isinstance(msgspec.msgpack.decode(got[1:], type=Message), Hello)
    await send(websocket, first)


async def closed(websocket: aiohttp.ClientWebSocketResponse) -> int | None:
    """Wait for the other end to close; its code."""
    async with asyncio.timeout(5):
        while (await websocket.receive()).type not in (aiohttp.WSMsgType.CLOSE, aiohttp.WSMsgType.CLOSED):
            pass
    return websocket.close_code


@pytest.mark.parametrize(
    ("first", "kind"),
    [
        (hello("sgp"), "hello"),
        (msgspec.structs.replace(hello("ams"), protocol=99), "protocol"),
        (Gossip(b""), "hello"),
        (msgspec.structs.replace(hello("ams"), members=("ams",)), "roster"),
    ],
    ids=["another's name", "protocol", "no hello", "roster"],
)
async def test_a_bad_hello_opens_nothing(
    authority: Path, first: Message, kind: str, caplog: pytest.LogCaptureFixture
) -> None:
    def compatible(theirs: Hello) -> str:
        return "" if "nyc" in theirs.members else f"its roster {theirs.members} lacks nyc"

    nyc = Member(link_settings(authority)["nyc"], compatible=compatible)
    async with listening(nyc):
        for _ in range(3):
            async with dialled(authority, nyc, "ams") as websocket:
                await talk(websocket, first)
                assert await closed(websocket) == aiohttp.WSCloseCode.POLICY_VIOLATION
        await until(lambda: nyc.links.refused[kind] == 3, "counted")
    assert nyc.heard == []
    assert sum(f"ams ({kind})" in record.getMessage() for record in caplog.records) == 1


@pytest.mark.parametrize(
    "garbage",
    [
        b"",
        WHOLE + b"\xff\xff",
        b"?" + b"x" * 10,
        PIECE,
        WHOLE + msgspec.msgpack.encode(entries(1, 1, 0))[:-3],
        WHOLE + msgspec.msgpack.encode(hello("ams")),
        WHOLE + msgspec.msgpack.encode(Entries("blogs", "ams", (OUTSIDE,))),
        WHOLE + b"x" * 200_001,
        "text",
    ],
    ids=["empty", "msgpack", "tag", "piece", "cut", "second hello", "traversal", "oversized", "text"],
)
async def test_a_bad_frame_ends_the_link(authority: Path, garbage: bytes | str) -> None:
    nyc = Member(link_settings(authority, frame_bytes_max=200_000)["nyc"])
    async with listening(nyc), dialled(authority, nyc, "ams") as websocket:
        await talk(websocket, hello("ams"))
        await send(websocket, Gossip(b"good"))
        if isinstance(garbage, str):
            await websocket.send_str(garbage)
        else:
            await websocket.send_bytes(garbage)
        await closed(websocket)
        await until(nyc.downs, "down")
        assert nyc.links.refused == {"frame": 1}
        assert [type(event) for event in nyc.heard] == [LinkUp, Received, LinkDown]


async def test_an_oversized_frame_in_pieces_ends_the_link(authority: Path) -> None:
    nyc = Member(link_settings(authority, frame_bytes_max=200_000)["nyc"])
    async with listening(nyc), dialled(authority, nyc, "ams") as websocket:
        await talk(websocket, hello("ams"))
        for _ in range(200_000 // PIECE_BYTES + 1):
            await websocket.send_bytes(PIECE + b"x" * PIECE_BYTES)
        await closed(websocket)
        await until(lambda: nyc.links.refused == {"frame": 1}, "counted")


async def test_silence_ends_the_link_and_pings_keep_it(authority: Path) -> None:
    settings = link_settings(authority, silence_seconds_max=0.9)
    ams, nyc = Member(settings["ams"]), Member(settings["nyc"])
    async with meshed(ams, nyc):
        await asyncio.sleep(2.0)  # more than two silences: nobody says anything but pings
        assert len(ams.heard) == len(nyc.heard) == 1
    sgp = Member(settings["sgp"])
    async with listening(sgp), dialled(authority, sgp, "ams") as websocket:
        await talk(websocket, hello("ams"))
        await until(sgp.ups, "up")
        await until(sgp.downs, "down")  # nothing is read here, so nothing answers its pings
        assert sgp.downs()[0].reason == "silent for 0.9 s"


async def test_no_hello_in_time(authority: Path) -> None:
    nyc = Member(link_settings(authority, hello_timeout_seconds=0.2)["nyc"])
    async with listening(nyc), dialled(authority, nyc, "ams"):
        await until(lambda: nyc.links.refused == {"hello": 1}, "refused")


async def test_the_greater_name_may_not_dial(authority: Path) -> None:
    ams = Member(link_settings(authority)["ams"])
    async with listening(ams):
        with pytest.raises(aiohttp.WSServerHandshakeError):
            async with dialled(authority, ams, "nyc"):
                pass
    assert ams.links.refused == {"dial": 1}


def test_redials_back_off_to_two_seconds_and_scatter() -> None:
    assert [redial_seconds(failures, 1.0) for failures in range(5)] == [0.05, 0.1, 0.2, 0.4, 0.8]
    assert redial_seconds(1000, 1.0) == 2.0
    assert redial_seconds(1000, 0.5) == 1.0


async def test_who_cannot_be_reached_is_told_once_in_plain_words(
    authority: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    settings = link_settings(authority)
    ams = Member(settings["ams"])
    (host, port) = settings["ams"].peers["nyc"]
    async with listening(ams):
        await until(lambda: ams.links.reconnects >= 4, "nyc and sgp were dialled again")
        told = [record.message for record in caplog.records if record.message.startswith("nyc (unreachable)")]
        assert told == [
            f"nyc (unreachable): {host}:{port}: Connection refused; further ones of this kind are only counted"
        ]


async def test_who_answers_with_a_certificate_of_others_is_told_so(
    authority: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    settings = link_settings(authority)
    other = make_authority(tmp_path / "other", ("nyc",))
    ams, impostor = Member(settings["ams"]), Member(replace(settings["nyc"], tls=tls(other, "nyc")))
    async with listening(impostor), listening(ams):
        await until(lambda: "nyc (unreachable)" in caplog.text, "dialled")
        assert "certificate verify failed" in caplog.text
        assert "object at" not in caplog.text


async def test_a_certificate_of_one_member_speaks_for_no_other(authority: Path) -> None:
    """In the Hello, and in anything that is said later: who speaks is who dialled."""
    sgp = Member(link_settings(authority)["sgp"])
    async with listening(sgp):
        async with dialled(authority, sgp, "nyc") as impostor:
            await talk(impostor, hello("ams"))
            await until(lambda: sgp.links.refused == {"hello": 1}, "refused")
        assert sgp.heard == []
        async with dialled(authority, sgp, "nyc") as honest:
            await talk(honest, hello("nyc"))
            await send(honest, Gossip(b"ams speaking"))
            await until(sgp.received, "heard")
        assert sgp.received() == [Received("nyc", Gossip(b"ams speaking"))]


async def test_tls_strangers(authority: Path, tmp_path: Path) -> None:
    """No certificate, another authority's, and a name that is not in the roster."""
    nyc = Member(link_settings(authority)["nyc"])
    host, port = nyc.links.settings.listen
    other = make_authority(tmp_path / "other", ("ams",))
    impostor = pki.client_context(tls(other, "ams"))
    impostor.load_verify_locations(authority / "ca.pem")
    nobody = ssl.create_default_context(cafile=str(authority / "ca.pem"))
    if not (authority / "fra.pem").exists():
        pki.issue(authority, "fra")
    stranger = pki.client_context(tls(authority, "fra"))
    async with listening(nyc), aiohttp.ClientSession() as session:
        for path in ("/link", f"/body/blogs/{DIGEST.hex()}", "/edge/"):
            for context in (impostor, nobody):
                with pytest.raises(aiohttp.ClientError):
                    await session.get(
                        f"https://{host}:{port}{path}", ssl=context, server_hostname=pki.server_name("nyc")
                    )
            async with session.get(
                f"https://{host}:{port}{path}", ssl=stranger, server_hostname=pki.server_name("nyc")
            ) as response:
                assert response.status == 403
    assert nyc.links.refused == {"stranger": 3}
    assert nyc.heard == []


async def test_a_listener_that_is_another_member_is_not_linked(authority: Path) -> None:
    """ams dials nyc's address, where sgp's certificate answers."""
    settings = link_settings(authority)
    ams = Member(settings["ams"])
    wrong = Member(replace(settings["sgp"], listen=settings["nyc"].listen))
    async with listening(wrong, ams):
        await until(lambda: ams.links.reconnects > 3, "tried")
        assert ams.heard == wrong.heard == []


# -- bodies ------------------------------------------------------------------------------------------------------------


class Shelf:
    """A BodySource over a folder."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def put(self, content: bytes) -> bytes:
        digest = hashlib.sha256(content).digest()
        (self.folder / digest.hex()).write_bytes(content)
        return digest

    async def __call__(self, group: str, digest: bytes) -> int | None:
        try:
            return os.open(self.folder / digest.hex(), os.O_RDONLY)
        except FileNotFoundError:
            return None


async def pulled(links: Links, digest: bytes, size: int, offset: int = 0) -> bytes:
    got = b""
    async with aclosing(links.fetch("nyc", "blogs", digest, size, offset)) as chunks:
        async for chunk in chunks:
            assert len(chunk) <= BODY_PIECE_BYTES
            got += chunk
    return got


@pytest.fixture(params=[1, 1 << 40], ids=["by threads", "by the loop"])
def large_bytes(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(peer, "LARGE_BYTES", request.param)


@pytest.mark.usefixtures("large_bytes")
async def test_bodies_whole_ranged_and_missing(authority: Path, tmp_path: Path) -> None:
    settings = link_settings(authority)
    shelf = Shelf(tmp_path)
    content = os.urandom(3_000_001)
    digest, empty = shelf.put(content), shelf.put(b"")
    ams, nyc = Member(settings["ams"]), Member(settings["nyc"], bodies=shelf)
    async with meshed(ams, nyc):
        assert await pulled(ams.links, digest, len(content)) == content
        assert await pulled(ams.links, digest, len(content), 1_000_000) == content[1_000_000:]
        assert await pulled(ams.links, digest, len(content), len(content)) == b""
        assert await pulled(ams.links, empty, 0) == b""
        for wrong, size, offset, why in (
            (DIGEST, 5, 0, "answered 404"),
            (digest, len(content) - 1, 0, "expected 3000000"),
            (digest, 5_000_000, 4_000_000, "answered 416"),
        ):
            with pytest.raises(FetchError, match=why):
                await pulled(ams.links, wrong, size, offset)
        with pytest.raises(FetchError, match="sgp"):
            async for _ in ams.links.fetch("sgp", "blogs", digest, 5, 0):
                pass
        # A fetch that is left early gives its place back.
        for _ in range(2 * settings["ams"].fetches_max):
            async with aclosing(ams.links.fetch("nyc", "blogs", digest, len(content), 0)) as chunks:
                assert await anext(chunks)


async def test_a_large_fetch_ends_at_once_when_nobody_wants_it(authority: Path, tmp_path: Path) -> None:
    """Its thread waits for a slow sender, and does not keep the member from stopping."""
    settings = link_settings(authority, body_bytes_per_second=100_000)
    shelf = Shelf(tmp_path)
    content = bytes(2 * peer.LARGE_BYTES)
    digest = shelf.put(content)
    ams, nyc = Member(settings["ams"]), Member(settings["nyc"], bodies=shelf)
    async with meshed(ams, nyc):
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(pulled(ams.links, digest, len(content)), 1.0)
        began = time.monotonic()
    assert time.monotonic() - began < 5.0


@pytest.mark.usefixtures("large_bytes")
async def test_a_fetch_that_breaks_is_resumed(authority: Path, tmp_path: Path) -> None:
    """The file is cut short under the sender: what came is kept, the rest comes later from where it stopped."""
    settings = link_settings(authority, body_bytes_per_second=4_000_000)
    shelf = Shelf(tmp_path)
    content = os.urandom(6_000_000)
    digest = shelf.put(content)
    ams, nyc = Member(settings["ams"]), Member(settings["nyc"], bodies=shelf)
    async with meshed(ams, nyc):
        got = b""

        async def pull_while_it_is_cut() -> None:
            nonlocal got
            async with aclosing(ams.links.fetch("nyc", "blogs", digest, len(content), 0)) as chunks:
                async for chunk in chunks:
                    got += chunk
                    os.truncate(tmp_path / digest.hex(), 3_000_000)

        with pytest.raises(FetchError):
            await asyncio.wait_for(pull_while_it_is_cut(), 5)
        assert 0 < len(got) <= 3_000_000
        shelf.put(content)
        got += await pulled(ams.links, digest, len(content), len(got))
        assert got == content


async def test_bodies_are_paced_for_each_peer(authority: Path, tmp_path: Path) -> None:
    settings = link_settings(authority, body_bytes_per_second=1_000_000)
    shelf = Shelf(tmp_path)
    content = os.urandom(600_000)
    digest = shelf.put(content)
    ams, nyc = Member(settings["ams"]), Member(settings["nyc"], bodies=shelf)
    async with meshed(ams, nyc):
        began = time.monotonic()
        both = await asyncio.gather(*(pulled(ams.links, digest, len(content)) for _ in range(2)))
        took = time.monotonic() - began
    assert both == [content, content]
    assert 1.0 <= took < 4.0  # 1.2 MB at 1 MB/s, less the first piece


async def test_what_is_bulky_is_packed_between_members_that_both_can(authority: Path, tmp_path: Path) -> None:
    settings = link_settings(authority)
    settings["sgp"] = replace(settings["sgp"], compress=False)
    shelf = Shelf(tmp_path)
    text, photo = b"<p>a page of text</p>\n" * 50_000, os.urandom(700_000)
    digests = shelf.put(text), shelf.put(photo)
    members = [Member(each, bodies=shelf) for each in settings.values()]
    async with meshed(*members):
        ams, nyc, sgp = members
        for other in ("nyc", "sgp"):
            assert ams.links.send(other, entries(1, 200, 100_000))
        for member in (nyc, sgp):
            await until(member.received, "heard")
            assert member.received()[0].message == entries(1, 200, 100_000)
        assert ams.links.saved_bytes("nyc") > 90_000
        assert ams.links.saved_bytes("sgp") == 0
        for member in (ams, sgp):
            for digest, content in zip(digests, (text, photo), strict=True):
                assert await pulled(member.links, digest, len(content)) == content
                assert await pulled(member.links, digest, len(content), 300_001) == content[300_001:]


async def test_announcements_are_paced_too_and_urgent_ones_pass_them(authority: Path) -> None:
    settings = link_settings(authority, body_bytes_per_second=400_000, compress=False)
    ams, nyc = Member(settings["ams"]), Member(settings["nyc"])
    async with meshed(ams, nyc):
        began = time.monotonic()
        for number in range(4):
            assert ams.links.send("nyc", entries(number + 1, 1, 150_000))
        await until(nyc.received, "the first")
        assert ams.links.send("nyc", Fenced({}))
        await until(lambda: len(nyc.received()) == 5, "all")
        took = time.monotonic() - began
    assert isinstance(nyc.received()[1].message, Fenced), "after the one that was under way"
    assert 1.3 <= took < 5.0  # 600 KB at 400 KB/s


async def test_a_peer_that_takes_nothing_costs_bounded_memory(authority: Path) -> None:
    """It answers pings no more either: then its link ends and everything that waited for it is given up."""
    settings = link_settings(authority, queue_bytes_max=2_000_000, compress=False, silence_seconds_max=1.0)
    nyc = Member(settings["nyc"])
    async with listening(nyc), dialled(authority, nyc, "ams") as deaf:
        await talk(deaf, hello("ams"))
        await until(nyc.links.connected, "linked")
        sent, refused, most = 0, 0, 0
        while refused < 50 and nyc.links.connected():
            if nyc.links.send("ams", entries(sent + 1, 1, 100_000)):
                sent += 1
            else:
                refused += 1
                await asyncio.sleep(0.01)
            most = max(most, nyc.links.queued_bytes("ams"))
        assert refused, "the sender was told to wait"
        assert most <= 2_000_000
        await until(nyc.downs, "given up")
        assert nyc.links.queued_bytes("ams") == 0


# -- forwarding --------------------------------------------------------------------------------------------------------


def forwarded(raw_path: str, method: str = "GET", body: AsyncIterator[bytes] | None = None) -> ForwardRequest:
    headers = CIMultiDict({"Host": "alice.blogs.example.com", "X-Anycastle-Hop": "ams"})
    return ForwardRequest(method=method, raw_path=raw_path, headers=headers, body=body, silence_seconds_max=5.0)


@pytest.mark.parametrize("raw_path", ["/", "/a%20b//c/./%2e?x=%2F&y", "//x/../y", "/a?b?c", "/'()*:@!$&+,;=~"])
async def test_forwarded_requests_arrive_unchanged(authority: Path, raw_path: str) -> None:
    settings = link_settings(authority)
    ams, nyc = Member(settings["ams"]), Member(settings["nyc"])
    seen: list[tuple[str, str, str | None, bytes]] = []

    async def edge(request: web.BaseRequest) -> web.StreamResponse:
        seen.append((request.method, request.raw_path, request.headers.get("Host"), await request.read()))
        return web.Response(status=201, text="made", headers={"Set-Cookie": "a=b"})

    async def body() -> AsyncIterator[bytes]:
        yield b"one "
        yield b"two"

    nyc.links.edge_handler = edge
    async with meshed(ams, nyc):
        async with await ams.links.forward("nyc", forwarded(raw_path, "POST", body())) as response:
            assert (response.status, await response.text()) == (201, "made")
        with pytest.raises(ForwardError, match="no link with sgp") as caught:
            await ams.links.forward("sgp", forwarded("/"))
        assert not caught.value.sent
    assert seen == [("POST", "/edge" + raw_path, "alice.blogs.example.com", b"one two")]


async def test_a_forward_that_breaks_after_it_was_sent_says_so(authority: Path) -> None:
    settings = link_settings(authority)
    ams, nyc = Member(settings["ams"]), Member(settings["nyc"])

    async def edge(request: web.BaseRequest) -> web.StreamResponse:
        await request.read()
        cut(request)
        return web.Response()

    nyc.links.edge_handler = edge
    async with meshed(ams, nyc):
        with pytest.raises(ForwardError) as caught:
            await ams.links.forward("nyc", forwarded("/", "POST"))
    assert caught.value.sent


async def test_a_forward_ends_with_its_link(authority: Path) -> None:
    settings = link_settings(authority)
    ams, nyc = Member(settings["ams"]), Member(settings["nyc"])
    reached = asyncio.Event()

    async def edge(request: web.BaseRequest) -> web.StreamResponse:
        reached.set()
        await asyncio.sleep(30)
        return web.Response()

    async def lose_the_link() -> None:
        await reached.wait()
        ams.links._links["nyc"].close("lost")

    nyc.links.edge_handler = edge
    async with meshed(ams, nyc), asyncio.TaskGroup() as group:
        group.create_task(lose_the_link())
        with pytest.raises(ForwardError) as caught:
            await asyncio.wait_for(ams.links.forward("nyc", forwarded("/")), 5)
    assert caught.value.sent


async def test_nothing_but_the_three_is_answered(authority: Path) -> None:
    nyc = Member(link_settings(authority)["nyc"])
    host, port = nyc.links.settings.listen
    context = pki.client_context(tls(authority, "ams"))
    async with listening(nyc), aiohttp.ClientSession() as session:
        for path, status in (("/", 404), ("/edge/x", 404), ("/body/blogs/xyz", 400), ("/link", 400)):
            async with session.get(
                f"https://{host}:{port}{path}", ssl=context, server_hostname=pki.server_name("nyc")
            ) as response:
                assert response.status == status
