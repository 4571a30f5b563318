"""Raw bytes that two programs might read differently: what reaches the application, and what the client is told.

Most of these the HTTP library refuses before the edge sees them, and answers 400 without a word of ours; the others are
`edge_request`'s. The table holds both, so that neither a new library nor a change of ours opens a gap unseen.
"""

import asyncio
import re

import pytest

from tests.replicator.edge_site import ALICE, Site, site

POST, GET, HOST_LINE = "POST /a.jpg HTTP/1.1\r\n", "GET /a.jpg HTTP/1.1\r\n", f"Host: {ALICE}\r\n"
CHUNKED = "0\r\n\r\n"
SMUGGLED = f"GET /smuggled HTTP/1.1\r\n{HOST_LINE}\r\n"


def post(*lines: str, body: str = CHUNKED) -> str:
    return POST + HOST_LINE + "".join(f"{line}\r\n" for line in lines) + "\r\n" + body


def get(*lines: str) -> str:
    return GET + HOST_LINE + "".join(f"{line}\r\n" for line in lines) + "\r\n"


REFUSED = {
    "a coding and a length": post("Content-Length: 5", "Transfer-Encoding: chunked"),
    "two lengths": post("Content-Length: 5", "Content-Length: 6", body="hello"),
    "two lengths alike": post("Content-Length: 5", "Content-Length: 5", body="hello"),
    "a list of lengths": post("Content-Length: 5, 5", body="hello"),
    "a length with a sign": post("Content-Length: +5", body="hello"),
    "a negative length": post("Content-Length: -5", body="hello"),
    "a length in hexadecimal": post("Content-Length: 0x5", body="hello"),
    "an empty length": post("Content-Length: ", body=""),
    "a length in two words": post("Content-Length: 5 0", body="hello"),
    "a length beyond numbers": post("Content-Length: 99999999999999999999999", body="hello"),
    "a coding that is none": post("Transfer-Encoding: xchunked"),
    "another coding": post("Transfer-Encoding: gzip", body="hello"),
    "another coding first": post("Transfer-Encoding: gzip, chunked"),
    "identity": post("Transfer-Encoding: identity", body=""),
    "chunked, not last": post("Transfer-Encoding: chunked, identity"),
    "a coding in quotes": post('Transfer-Encoding: "chunked"'),
    "a coding after a comma": post("Transfer-Encoding: ,chunked"),
    "an empty coding": post("Transfer-Encoding: ", body=""),
    "a coding after a vertical tab": post("Transfer-Encoding: \x0bchunked"),
    "two codings": post("Transfer-Encoding: chunked", "Transfer-Encoding: chunked"),
    "two codings, one identity": post("Transfer-Encoding: identity", "Transfer-Encoding: chunked"),
    "a coding in HTTP/1.0": f"POST / HTTP/1.0\r\n{HOST_LINE}Transfer-Encoding: chunked\r\n\r\n{CHUNKED}",
    "a folded field": get("X-A: b", " c"),
    "a folded coding": post("Transfer-Encoding:", " chunked"),
    "lines without CR": get().replace("\r\n", "\n"),
    "one line without CR": GET + f"Host: {ALICE}\nX: y\r\n\r\n",
    "a CR in a value": get("X: a\rb"),
    "a CR before CRLF": get("X: a\r"),
    "a space before the colon": get("X : y"),
    "a length with a space before the colon": post("Content-Length : 5", body="hello"),
    "NUL in a value": get("X: a\0b"),
    "NUL in a name": get("X\0: a"),
    "NUL in the path": f"GET /a\0b HTTP/1.1\r\n{HOST_LINE}\r\n",
    "a control character": get("X: a\x01b"),
    "DEL": get("X: a\x7fb"),
    "a field without a name": get(": a"),
    "a field without a colon": get("Xa"),
    "a space before the first field": GET + f" Host: {ALICE}\r\n\r\n",
    "a name beyond ASCII": get("X\xe9: a"),
    "two hosts": get("Host: bob.blogs.example.com"),
    "two hosts alike": get(f"Host: {ALICE}"),
    "no host": GET + "\r\n",
    "two hosts in one": GET + f"Host: {ALICE}, bob.blogs.example.com\r\n\r\n",
    "a user in the host": GET + f"Host: bob@{ALICE}\r\n\r\n",
    "another host in the target": f"GET http://bob.blogs.example.com/ HTTP/1.1\r\n{HOST_LINE}\r\n",
    "a target that is no URL": f"GET a.jpg HTTP/1.1\r\n{HOST_LINE}\r\n",
    "a target with a fragment": f"GET /a.jpg#x HTTP/1.1\r\n{HOST_LINE}\r\n",
    "a tab in the target": f"GET /a\tb HTTP/1.1\r\n{HOST_LINE}\r\n",
    "a space in the target": f"GET /a b HTTP/1.1\r\n{HOST_LINE}\r\n",
    "a method of other characters": f"G@T / HTTP/1.1\r\n{HOST_LINE}\r\n",
    "a version that is none": f"GET / HTTP/1.10\r\n{HOST_LINE}\r\n",
    "a name of the protocol in lower case": f"GET / http/1.1\r\n{HOST_LINE}\r\n",
    "CONNECT": f"CONNECT {ALICE}:80 HTTP/1.1\r\n{HOST_LINE}\r\n",
    "TRACE": f"TRACE / HTTP/1.1\r\n{HOST_LINE}\r\n",
    "HTTP/2 without asking": f"GET / HTTP/2.0\r\n{HOST_LINE}\r\n",
    "HTTP/0.9": "GET /\r\n\r\n",
}
STATUS = {"CONNECT": 405, "TRACE": 405, "HTTP/2 without asking": 505, "HTTP/0.9": 505}
BROKEN_BODIES = {
    "a chunk's size without CR": "5\nhello\r\n0\r\n\r\n",
    "an extension without CR": "5;\nhello\r\n0\r\n\r\n",
    "a chunk that ends without CR": "5\r\nhello\n0\r\n\r\n",
    "a chunk longer than it says": "3\r\nhello\r\n0\r\n\r\n",
    "a size with a prefix": "0x5\r\nhello\r\n0\r\n\r\n",
    "a size with a space": "5 \r\nhello\r\n0\r\n\r\n",
    "a size with a sign": "-5\r\nhello\r\n0\r\n\r\n",
    "a size beyond numbers": "ffffffffffffffffff5\r\nhello\r\n0\r\n\r\n",
}


def statuses(answer: bytes) -> list[int]:
    return [int(status) for status in re.findall(rb"HTTP/1\.[01] (\d{3}) ", answer)]


async def say(ams: Site, text: str) -> bytes:
    """Everything that is answered, to a client that then ends its side."""
    reader, writer = await asyncio.open_connection(*ams.edge.addresses[0])
    try:
        writer.write(text.encode("latin-1"))
        async with asyncio.timeout(5):
            return await reader.read()
    finally:
        writer.close()


@pytest.mark.parametrize("name", REFUSED)
async def test_refused_and_what_follows_is_not_read(name: str) -> None:
    async with site() as ams:
        answer = await say(ams, REFUSED[name] + SMUGGLED)
        assert int(answer.split()[1]) in (400, STATUS.get(name))
        assert len(statuses(answer)) == 1
        assert ams.application.requests == []
        assert ams.gate.asked == []


@pytest.mark.parametrize("name", BROKEN_BODIES)
async def test_a_body_that_is_broken_is_no_upload(name: str) -> None:
    async with site() as ams:
        answer = await say(ams, post("Transfer-Encoding: chunked", body=BROKEN_BODIES[name] + SMUGGLED))
        assert b" 201 " not in answer
        assert ams.application.files["/a.jpg"] == b"old photo"
        assert "/smuggled" not in [request.path for request in ams.application.requests]


@pytest.mark.parametrize(
    "trailers", ["X: y\r\n", "Host: bob.blogs.example.com\r\nContent-Length: 3\r\nX-Forwarded-For: 192.0.2.1\r\n"]
)
async def test_trailers_are_ignored(trailers: str) -> None:
    async with site() as ams:
        reader, writer = await asyncio.open_connection(*ams.edge.addresses[0])
        writer.write(
            post("Transfer-Encoding: chunked", "Trailer: X", body=f"5\r\nhello\r\n0\r\n{trailers}\r\n").encode()
        )
        status = int((await asyncio.wait_for(reader.readline(), 5)).split()[1])
        writer.close()
        if status == 201:
            assert ams.application.files["/a.jpg"] == b"hello"
            seen = ams.application.requests[0].headers
            assert (seen["Host"], "X" in seen, seen["X-Forwarded-For"]) == (ALICE, False, "127.0.0.1")
        else:
            assert status == 400
            assert ams.application.files["/a.jpg"] == b"old photo"


@pytest.mark.parametrize("trailers", ["", "X-Forwarded-For: 192.0.2.1\r\nCookie: a=b\r\n"])
async def test_trailers_do_not_become_fields_of_the_next_request(trailers: str) -> None:
    """As they do in aiohttp 3.14, whoever that request is of: so a connection ends with a chunked body."""
    async with site() as ams:
        text = post("Transfer-Encoding: ChUnKeD", body=f"5;x=y\r\nhello\r\n0\r\n{trailers}\r\n")
        answer = await say(ams, text + get())
        assert statuses(answer) == [201]
        assert b"\r\nConnection: close\r\n" in answer
        assert [request.method for request in ams.application.requests] == ["POST"]
        assert ams.application.files["/a.jpg"] == b"hello"


async def test_what_follows_an_upload_is_the_next_request() -> None:
    async with site() as ams:
        answer = await say(ams, post("Content-Length: 5", body="hello") + get("Connection: close"))
        assert statuses(answer) == [201, 200]
        assert answer.endswith(b"hello")


async def test_the_absolute_form_is_taken_for_the_same_host() -> None:
    async with site() as ams:
        answer = await say(ams, f"GET http://{ALICE.upper()}/a.jpg?x HTTP/1.1\r\n{HOST_LINE}Connection: close\r\n\r\n")
        assert answer.startswith(b"HTTP/1.1 200 ")
        assert ams.application.requests[0].raw_path == "/a.jpg?x"


async def test_names_that_cgi_would_confuse_do_not_get_through() -> None:
    async with site() as ams:
        await say(ams, get("Content_Length: 5", "X_Forwarded_For: 192.0.2.1", "Connection: close"))
        assert not [name for name in ams.application.requests[0].headers if "_" in name]


async def test_an_answer_cannot_be_split() -> None:
    """The application's fields pass the library twice: read leniently, written strictly."""

    async def hostile(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nX: a\rSet-Cookie: b\r\n\r\nok")
        await writer.drain()
        writer.close()

    server = await asyncio.start_server(hostile, "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    async with site(origin=f"http://127.0.0.1:{port}") as ams:
        answer = await say(ams, get("Connection: close"))
        assert answer.startswith(b"HTTP/1.1 502 ")
        assert b"Set-Cookie" not in answer
    server.close()
    await server.wait_closed()
