"""The verdict service over its real socket, with a gate that says what the test wants."""

import asyncio
import math
import os
import stat
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace
from http.client import parse_headers
from io import BytesIO
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from anycastle.clock import SystemClock
from anycastle.replicator.edge_headers import entity_tag
from anycastle.replicator.edge_recall import Recall
from anycastle.replicator.edge_verdict import VerdictError, VerdictService
from anycastle.replicator.entry import NO_VERSION, Version
from anycastle.replicator.gate import Forward, Refuse, Serve, Verdict, Wait
from anycastle.replicator.settings import GroupSettings, VerdictSettings
from tests.replicator.members import running, until

DIGEST = bytes(range(32))
HOST = "alice.blogs.example.com"
GROUP = GroupSettings(
    name="blogs",
    root=Path("/srv/blogs"),
    hosts=("*.blogs.example.com",),
    document_root="{1}/htdocs",
    application="http://127.0.0.1:9",
    prefix_depth=1,
)


class Gate:
    """Says at once `now`; who waits is told `later`, when the test lets it."""

    def __init__(self) -> None:
        self.now: Verdict = Serve(DIGEST, Version(7, "ams"), "landed")
        self.later: Serve | Forward | Refuse = Refuse("it took too long", 1)
        self.over = asyncio.Event()
        self.asked: list[tuple[str, bytes | None, bytes]] = []
        self.waiting = 0

    def judge(self, group: str, path: bytes | None, prefix: bytes) -> Verdict:
        self.asked.append((group, path, prefix))
        return self.now

    async def admit(self, group: str, path: bytes | None, prefix: bytes) -> Serve | Forward | Refuse:
        self.waiting += 1
        try:
            await self.over.wait()
        finally:
            self.waiting -= 1
        return self.later


class Answer:
    def __init__(self, head: bytes) -> None:
        line, _, rest = head.partition(b"\r\n")
        self.status = int(line.split()[1])
        self.fields = parse_headers(BytesIO(rest))

    def __getitem__(self, name: str) -> str:
        return str(self.fields[f"X-Anycastle-{name}"])


class Client:
    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.reader, self.writer = reader, writer

    async def answer(self) -> Answer:
        return Answer(await asyncio.wait_for(self.reader.readuntil(b"\r\n\r\n"), 10))

    async def ask(self, uri: str = "/a.jpg", *more: str, method: str = "GET", host: str = HOST) -> Answer:
        self.writer.write(question(uri, *more, method=method, host=host))
        return await self.answer()

    async def closed(self) -> bool:
        return await asyncio.wait_for(self.reader.read(), 10) == b""


def question(uri: str = "/a.jpg", *more: str, method: str = "GET", host: str = HOST) -> bytes:
    lines = [f"{method} /verdict HTTP/1.1", f"Host: {host}", f"X-Original-URI: {uri}", *more, "", ""]
    return "\r\n".join(lines).encode("utf-8", "surrogateescape")


class Service:
    def __init__(self, settings: VerdictSettings) -> None:
        self.gate = Gate()
        self.heard: list[str] = []
        self.service = VerdictService(settings, (GROUP,), self.gate, on_request=self.heard.append)

    @asynccontextmanager
    async def client(self) -> AsyncIterator[Client]:
        reader, writer = await asyncio.open_unix_connection(str(self.service.settings.socket))
        try:
            yield Client(reader, writer)
        finally:
            writer.close()


@asynccontextmanager
async def service(folder: Path, **settings: object) -> AsyncIterator[Service]:
    made = Service(replace(VerdictSettings(site="ams", socket=folder / "verdict.sock"), **settings))  # type: ignore[arg-type]
    made.service.bind()
    try:
        async with running(made.service.run()):
            yield made
    finally:
        made.service.close()


async def test_serve_tells_version_and_hash(tmp_path: Path) -> None:
    async with service(tmp_path) as made, made.client() as client:
        answer = await client.ask("/photos//a%2Ejpg")
        assert (answer.status, answer["Verdict"], answer["Site"], answer["Version"]) == (204, "serve", "ams", "7@ams")
        assert answer.fields["ETag"] == entity_tag(DIGEST)
        assert "Content-Length" not in answer.fields, "RFC 9110 section 8.6"
        assert made.gate.asked == [("blogs", b"alice/htdocs/photos/a.jpg", b"alice/")]
        assert made.heard == ["blogs"]


async def test_what_may_be_served_is_remembered_until_there_is_news(tmp_path: Path) -> None:
    async with service(tmp_path) as made, made.client() as client:
        recall = made.service.recall = Recall(clock=SystemClock(), clear_until=lambda group: math.inf)
        first, again = await client.ask(), await client.ask()
        assert first.fields.items() == again.fields.items()
        assert (made.heard, made.service.answers["serve"]) == (["blogs", "blogs"], 2)
        assert len(made.gate.asked) == 1
        await client.ask("/a.jpg?w=1")
        assert len(made.gate.asked) == 2, "another head"
        made.gate.now = Forward(("nyc",), "not landed")
        assert (await client.ask())["Verdict"] == "serve"
        recall.news("blogs")
        for count in (3, 4):
            assert (await client.ask())["Verdict"] == "forward"
            assert len(made.gate.asked) == count, "only what may be served is remembered"
        made.service.ending = True
        made.gate.now = Serve(DIGEST, Version(7, "ams"), "")
        assert (await client.ask()).fields["Connection"] == "close"
        assert await client.closed()


async def test_the_hash_is_told_of_files_only(tmp_path: Path) -> None:
    async with service(tmp_path) as made, made.client() as client:
        assert "ETag" not in (await client.ask("/a.jpg?w=100")).fields
        assert "ETag" not in (await client.ask(method="OPTIONS")).fields
        made.gate.now = Serve(None, NO_VERSION, "never announced")
        assert "ETag" not in (await client.ask()).fields


async def test_what_the_client_has_already_is_unchanged(tmp_path: Path) -> None:
    async with service(tmp_path) as made, made.client() as client:
        answer = await client.ask("/a.jpg", f'X-Original-If-None-Match: "x", W/{entity_tag(DIGEST)}')
        assert (answer.status, answer["Verdict"]) == (403, "unchanged")
        assert (await client.ask("/a.jpg", 'X-Original-If-None-Match: "x"')).status == 204
        made.gate.now = Forward(("nyc",), "not landed")
        assert (await client.ask("/a.jpg", "X-Original-If-None-Match: *"))["Verdict"] == "forward"


async def test_forward_names_the_sites(tmp_path: Path) -> None:
    async with service(tmp_path) as made, made.client() as client:
        made.gate.now = Forward(("nyc", "sgp"), "not\r\nlanded é")
        answer = await client.ask()
        assert (answer.status, answer["Verdict"], answer["Forward"]) == (403, "forward", "nyc, sgp")
        assert answer["Reason"] == "not??landed ?"


async def test_refuse_is_503_with_retry_after(tmp_path: Path) -> None:
    async with service(tmp_path) as made, made.client() as client:
        made.gate.now = Refuse("no majority", 2)
        answer = await client.ask()
        assert (answer.status, answer["Verdict"], answer.fields["Retry-After"]) == (503, "refuse", "2")


@pytest.mark.parametrize("method", ["POST", "PUT", "DELETE", "BREW"])
async def test_writes_are_sent_to_the_edge(tmp_path: Path, method: str) -> None:
    async with service(tmp_path) as made, made.client() as client:
        for answer in (
            await client.ask(method=method),
            await client.ask("/a.jpg", f"X-Original-Method: {method}"),
        ):
            assert (answer.status, answer["Verdict"], answer["Forward"]) == (403, "write", "ams")
        assert made.gate.asked == []


async def test_the_same_faults_as_at_the_edge(tmp_path: Path) -> None:
    async with service(tmp_path) as made, made.client() as client:
        assert (await client.ask(host="example.com")).status == 421
        assert (await client.ask("/.anycastle/../x")).status == 400
    async with service(tmp_path) as made, made.client() as client:
        client.writer.write(f"GET /b.jpg HTTP/1.1\r\nhost:{HOST}\r\n\r\n".encode())
        assert (await client.answer()).status == 204
        assert made.gate.asked == [("blogs", b"alice/htdocs/b.jpg", b"alice/")]
        assert made.service.answers == {"serve": 1}


async def test_questions_in_a_row_are_answered_in_order(tmp_path: Path) -> None:
    async with service(tmp_path) as made, made.client() as client:
        whole = question("/1") + question("/2") + question("/3")
        for end in range(0, len(whole), 7):
            client.writer.write(whole[end : end + 7])
            await asyncio.sleep(0)
        for _ in range(3):
            assert (await client.answer()).status == 204
        assert [path for _, path, _ in made.gate.asked] == [b"alice/htdocs/%d" % n for n in (1, 2, 3)]


async def test_who_waits_holds_its_own_connection_only(tmp_path: Path) -> None:
    async with service(tmp_path) as made, made.client() as client, made.client() as other:
        made.gate.now = Wait("on its way")
        client.writer.write(question("/1") + question("/2"))
        await until(lambda: made.gate.waiting, "it waits")
        assert len(made.gate.asked) == 1
        made.gate.now = Serve(None, NO_VERSION, "here")
        assert (await other.ask()).status == 204
        made.gate.over.set()
        assert (await client.answer()).status == 503
        assert (await client.answer()).status == 204


async def test_who_goes_away_waits_no_longer(tmp_path: Path) -> None:
    async with service(tmp_path) as made:
        made.gate.now = Wait("on its way")
        async with made.client() as client:
            client.writer.write(question())
            await until(lambda: made.gate.waiting, "it waits")
        await until(lambda: not made.gate.waiting, "the wait is given up")
        async with made.client() as client:
            made.gate.now = Serve(None, NO_VERSION, "here")
            assert (await client.ask()).status == 204


@pytest.mark.parametrize(
    "head",
    [
        b"nonsense\r\n\r\n",
        b"GET /a HTTP/2.0\r\n\r\n",
        b"GET  /a HTTP/1.1\r\n\r\n",
        b"GET /a b HTTP/1.1\r\nHost: h\r\n\r\n",
        question("/a", "Host: other.blogs.example.com"),
        question("/a", "X-Original-URI: /b"),
        question("/a", "Content-Length: 5"),
        question("/a", "Content-Length: 0", "Content-Length: 0"),
        question("/a", "Content-Length: +0"),
        question("/a", "Transfer-Encoding: chunked"),
        question("/a", "Host : x"),
        question("/a", " folded"),
        question("/a", "X: a\nHost: b"),
        question("/a", "X: a\rb"),
        question("/a", "X: a\0b"),
        question("/a", "no colon"),
    ],
)
async def test_what_is_not_plain_is_refused_and_the_connection_closed(tmp_path: Path, head: bytes) -> None:
    async with service(tmp_path) as made, made.client() as client:
        client.writer.write(head + question("/second"))
        answer = await client.answer()
        assert (answer.status, answer["Verdict"]) == (400, "fault")
        assert answer.fields["Connection"] == "close"
        assert await client.closed()
        assert made.gate.asked == []


@pytest.mark.parametrize("end", [b"", b"\r\n\r\n"])
async def test_a_head_without_end_is_refused(tmp_path: Path, end: bytes) -> None:
    async with service(tmp_path, header_bytes_max=1000) as made, made.client() as client:
        client.writer.write(b"GET /a HTTP/1.1\r\nX: " + b"x" * 1000 + end)
        assert (await client.answer()).status == 431
        assert await client.closed()
        assert made.gate.asked == []


async def test_http_1_0_and_close_end_the_connection(tmp_path: Path) -> None:
    async with service(tmp_path) as made:
        async with made.client() as client:
            client.writer.write(question().replace(b"HTTP/1.1", b"HTTP/1.0"))
            assert (await client.answer()).status == 204
            assert await client.closed()
        async with made.client() as client:
            assert (await client.ask("/a", "Connection: Close")).status == 204
            assert await client.closed()


async def test_one_connection_too_many(tmp_path: Path) -> None:
    async with service(tmp_path, connections_max=1) as made, made.client() as client:
        assert (await client.ask()).status == 204
        async with made.client() as second:
            assert (await second.answer()).status == 503
            assert b"too many" in await asyncio.wait_for(second.reader.read(), 10)
        assert (await client.ask()).status == 204
    assert not made.service.connections


@given(st.lists(st.binary(max_size=60), max_size=5))
def test_no_bytes_whatever_break_it(parts: list[bytes]) -> None:
    """Whatever comes, the answer is a well-formed head or silence, and nobody is let through by it."""
    gate = _Judge()
    service = VerdictService(VerdictSettings(site="ams", socket=Path("/nowhere")), (GROUP,), gate)
    connection, transport = service.protocol(), _Transport()
    connection.connection_made(transport)
    for part in parts:
        if not transport.closed:
            connection.take(part)
    assert not transport.written.count(b"204")
    for head in transport.written.split(b"\r\n\r\n")[:-1]:
        assert Answer(head + b"\r\n\r\n").status in (400, 421, 431)


class _Judge:
    def judge(self, group: str, path: bytes | None, prefix: bytes) -> Verdict:
        raise AssertionError("random bytes were understood")

    async def admit(self, group: str, path: bytes | None, prefix: bytes) -> Serve | Forward | Refuse:
        raise AssertionError


class _Transport(asyncio.Transport):
    def __init__(self) -> None:
        super().__init__()
        self.written, self.closed = b"", False

    def write(self, data: bytes | bytearray | memoryview) -> None:
        self.written += bytes(data)

    def close(self) -> None:
        self.closed = True


async def test_rights_and_owner_of_the_socket(tmp_path: Path) -> None:
    async with service(tmp_path, mode=0o640) as made:
        found = made.service.settings.socket.stat()
        assert stat.S_IMODE(found.st_mode) == 0o640
        assert os.listdir(tmp_path) == ["verdict.sock"]
    assert os.listdir(tmp_path) == []


@pytest.mark.skipif(os.geteuid() != 0, reason="needs root to give a file away")
async def test_the_socket_is_given_away(tmp_path: Path) -> None:
    async with service(tmp_path, owner="nobody:nogroup", mode=0o660) as made:
        found = made.service.settings.socket.stat()
        assert (found.st_uid, found.st_gid) == (65534, 65534)


def test_an_owner_who_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(VerdictError, match=r"owner nobody:else: there is no such account"):
        Service(VerdictSettings(site="ams", socket=tmp_path / "s", owner="nobody:else")).service.bind()


async def test_only_what_a_killed_run_left_is_replaced(tmp_path: Path) -> None:
    settings = VerdictSettings(site="ams", socket=tmp_path / "verdict.sock")
    async with service(tmp_path):
        with pytest.raises(VerdictError, match="somebody listens there already"):
            Service(settings).service.bind()
    killed = Service(settings).service
    killed.bind()
    assert killed._listener is not None
    killed._listener.close()
    async with service(tmp_path) as made, made.client() as client:
        assert (await client.ask()).status == 204
    settings.socket.write_text("precious")
    with pytest.raises(VerdictError, match="something else is there"):
        Service(settings).service.bind()
    assert settings.socket.read_text() == "precious"
