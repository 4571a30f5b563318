"""The edge with a real little application behind it and a gate that says what the test wants."""

import asyncio
import contextlib
from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path

import aiohttp
import pytest
from aiohttp import web

from anycastle.errors import AnycastleError
from anycastle.replicator.edge import EdgeError
from anycastle.replicator.edge_forward import ForwardError, ForwardRequest
from anycastle.replicator.entry import Version
from anycastle.replicator.gate import Forward, Refuse, Serve
from tests.ports import free_port
from tests.replicator.edge_site import ALICE, ETAG, KNOWN, SERVE, Application, Site, signed, site, two_sites
from tests.replicator.members import HOST, Member, link_settings, make_authority, meshed, running, until


@pytest.fixture
async def client() -> AsyncIterator[aiohttp.ClientSession]:
    async with aiohttp.ClientSession(headers={"Host": ALICE}, auto_decompress=False) as session:
        yield session


# -- reads -------------------------------------------------------------------------------------------------------------


async def test_serve(client: aiohttp.ClientSession) -> None:
    async with site() as ams:
        async with client.get(
            ams.url("/a.jpg"), headers={"X-Anycastle-Hop": "nyc", "Connection": "X-Odd", "X-Odd": "1"}
        ) as got:
            assert signed(got) == (200, "ams", "serve")
            assert await got.read() == b"old photo"
            assert got.headers["ETag"] == '"application"'
            assert got.headers["Content-Type"] == "image/jpeg"
        seen = ams.application.requests[0].headers
        assert seen["Host"] == seen["X-Forwarded-Host"] == ALICE
        assert seen["X-Forwarded-For"] == "127.0.0.1"
        assert seen["X-Forwarded-Proto"] == "http"
        assert "X-Anycastle-Hop" not in seen
        assert "X-Odd" not in seen
        assert ams.gate.asked == [("blogs", b"alice/htdocs/a.jpg", b"alice/")] * 2, "before and after the application"
        assert ams.heard == ["blogs"]
        assert ams.edge.answers == {"serve": 1}


async def test_serve_adds_to_what_a_proxy_before_us_said(client: aiohttp.ClientSession) -> None:
    async with site() as ams:
        told = {"X-Forwarded-For": "192.0.2.1", "X-Forwarded-Proto": "https", "Forwarded": "for=192.0.2.1"}
        async with client.get(ams.url(), headers=told) as got:
            assert got.status == 200
        seen = ams.application.requests[0].headers
        assert seen["X-Forwarded-For"] == "192.0.2.1, 127.0.0.1"
        assert seen["Forwarded"] == f"for=192.0.2.1, for=127.0.0.1;host={ALICE};proto=http"
        assert seen["X-Forwarded-Proto"] == "https"


@pytest.mark.parametrize("raw", ["/a%20b", "//a/./b", "/%C3%A9?q=%2F..%2F&&", "/x;y=1,2"])
async def test_the_application_gets_the_path_as_it_was(client: aiohttp.ClientSession, raw: str) -> None:
    async with site() as ams:
        reader, writer = await asyncio.open_connection(*ams.edge.addresses[0])
        writer.write(f"GET {raw} HTTP/1.1\r\nHost: {ALICE}\r\nConnection: close\r\n\r\n".encode())
        assert (await reader.read()).startswith(b"HTTP/1.1 404")
        writer.close()
        assert ams.application.requests[0].raw_path == raw


async def test_a_local_404_passes_and_is_not_cached(client: aiohttp.ClientSession) -> None:
    async with site() as ams, client.get(ams.url("/none.jpg")) as got:
        assert signed(got) == (404, "ams", "serve")
        assert await got.text() == "no such file"
        assert got.headers["Cache-Control"] == "no-store"


async def test_head_and_options(client: aiohttp.ClientSession) -> None:
    async with site() as ams:
        ams.gate.read = KNOWN
        async with client.head(ams.url()) as got:
            assert (got.status, got.headers["Content-Length"], got.headers["ETag"]) == (200, "9", ETAG)
            assert await got.read() == b""
        async with client.options(ams.url()) as got:
            assert got.headers["ETag"] == '"application"'
        assert [request.method for request in ams.application.requests] == ["HEAD", "OPTIONS"]
        assert len(ams.gate.asked) == 4


async def test_a_write_waits_for_what_it_would_be_made_over(client: aiohttp.ClientSession) -> None:
    async with site() as ams:
        ams.gate.behind = Refuse("what was written before has not landed here", 1)
        async with client.post(ams.url(), data=b"new") as got:
            assert signed(got) == (503, "ams", "refuse")
        assert ams.application.requests == []
        assert ams.gate.prefixes == [b"alice/"]


async def test_a_read_that_raced_a_change_is_judged_and_read_again(client: aiohttp.ClientSession) -> None:
    async with site() as ams:
        ams.gate.later = [Serve(None, Version(1, "ams"), ""), Serve(None, Version(2, "ams"), "")]
        ams.gate.read = Serve(None, Version(2, "ams"), "")
        async with client.get(ams.url()) as got:
            assert signed(got) == (200, "ams", "serve")
        assert len(ams.application.requests) == 2
        assert ams.edge.answers == {"serve": 1}


async def test_a_read_that_races_changes_for_ever_is_refused(client: aiohttp.ClientSession) -> None:
    async with site() as ams:
        ams.gate.later = [Serve(None, Version(n, "ams"), "") for n in range(1, 20)]
        async with client.get(ams.url()) as got:
            assert signed(got) == (503, "ams", "refuse")
            assert "changed each time" in await got.text()


async def test_what_was_read_before_the_site_lost_its_leases_is_not_shown(client: aiohttp.ClientSession) -> None:
    async with site() as ams:
        ams.gate.later = [SERVE]
        ams.gate.read = Refuse("not current: no leases", 2)
        async with client.get(ams.url()) as got:
            assert signed(got) == (503, "ams", "refuse")
        assert len(ams.application.requests) == 1


async def test_the_content_hash_is_the_validator(client: aiohttp.ClientSession) -> None:
    async with site() as ams:
        ams.gate.read = KNOWN
        async with client.get(ams.url()) as got:
            assert got.headers["ETag"] == ETAG
        for held in (ETAG, f"W/{ETAG}", f'"x", {ETAG}', "*"):
            async with client.get(ams.url(), headers={"If-None-Match": held}) as got:
                assert signed(got) == (304, "ams", "serve")
                assert got.headers["ETag"] == ETAG
                assert await got.read() == b""
        for stale in ({"If-None-Match": '"b3-00"'}, {"If-Modified-Since": "Mon, 01 Jan 2035 00:00:00 GMT"}):
            async with client.get(ams.url(), headers=stale) as got:
                assert (got.status, await got.read()) == (200, b"old photo")
            assert not set(stale) & set(ams.application.requests[-1].headers)
        async with client.get(ams.url("/a.jpg?width=100"), headers={"If-None-Match": ETAG}) as got:
            assert (got.status, got.headers["ETag"]) == (200, '"application"')


async def test_a_range_holds_only_for_the_same_content(client: aiohttp.ClientSession) -> None:
    async with site() as ams:
        ams.gate.read = KNOWN
        for validator, kept in ((ETAG, True), ('"b3-00"', False)):
            async with client.get(ams.url(), headers={"Range": "bytes=2-", "If-Range": validator}) as got:
                assert got.status == 200
            seen = ams.application.requests[-1].headers
            assert ("Range" in seen, "If-Range" in seen) == (kept, False)


async def test_refuse(client: aiohttp.ClientSession) -> None:
    async with site() as ams:
        ams.gate.read = Refuse("1 of 2 leases needed", 2)
        async with client.get(ams.url()) as got:
            assert signed(got) == (503, "ams", "refuse")
            assert got.headers["Retry-After"] == "2"
            assert got.headers["Cache-Control"] == "no-store"
            assert await got.text() == "1 of 2 leases needed\n"
        assert ams.application.requests == []


async def test_every_request_of_a_connection_is_judged_anew(client: aiohttp.ClientSession) -> None:
    async with site() as ams:
        for verdict, status in ((SERVE, 200), (Refuse("", 1), 503), (SERVE, 200)):
            ams.gate.read = verdict
            async with client.get(ams.url()) as got:
                assert got.status == status


async def test_compressed_answers_go_through_as_they_are(client: aiohttp.ClientSession) -> None:
    async def compressed(request: web.BaseRequest) -> web.StreamResponse:
        return web.Response(body=b"\x1f\x8bnot really", headers={"Content-Encoding": "gzip"})

    async with site() as ams:
        ams.gate.read = KNOWN
        ams.application.special["/z"] = compressed
        async with client.get(ams.url("/z"), headers={"Accept-Encoding": "gzip"}) as got:
            assert await got.read() == b"\x1f\x8bnot really"
            assert got.headers["ETag"] == "W/" + ETAG
        async with client.get(ams.url(), skip_auto_headers=("Accept", "User-Agent", "Accept-Encoding")):
            pass
        assert not {"Accept", "User-Agent", "Accept-Encoding"} & set(ams.application.requests[-1].headers)


async def test_answers_stream(client: aiohttp.ClientSession) -> None:
    more = asyncio.Event()

    async def slow(request: web.BaseRequest) -> web.StreamResponse:
        answer = web.StreamResponse()
        await answer.prepare(request)
        await answer.write(b"first")
        await more.wait()
        await answer.write(b"second")
        return answer

    async with site() as ams:
        ams.application.special["/slow"] = slow
        async with client.get(ams.url("/slow")) as got:
            assert await got.content.readany() == b"first"
            more.set()
            assert await got.read() == b"second"


async def test_an_answer_that_breaks_off_is_never_whole(client: aiohttp.ClientSession) -> None:
    async def broken(request: web.BaseRequest) -> web.StreamResponse:
        answer = web.StreamResponse()
        await answer.prepare(request)
        await answer.write(b"half")
        assert request.transport is not None
        request.transport.close()
        return answer

    async with site() as ams:
        ams.application.special["/broken"] = broken
        async with client.get(ams.url("/broken")) as got:
            with pytest.raises(aiohttp.ClientError):
                await got.read()
        async with client.get(ams.url()) as got:
            assert got.status == 200


async def test_an_application_that_is_down_or_slow(client: aiohttp.ClientSession) -> None:
    async def sleepy(request: web.BaseRequest) -> web.StreamResponse:
        await asyncio.sleep(5)
        return web.Response()

    async with site(application_timeout_seconds=0.2) as ams:
        ams.application.special["/sleepy"] = sleepy
        async with client.get(ams.url("/sleepy")) as got:
            assert signed(got) == (504, "ams", "fault")
    down = Site("ams", f"http://{HOST}:{free_port()}", Application())
    down.edge.bind()
    async with running(down.edge.run()):
        for method in ("GET", "POST"):
            async with client.request(method, down.url()) as got:
                assert signed(got) == (502, "ams", "fault")
                assert got.headers["Cache-Control"] == "no-store"
                assert await got.text() == "the application of blogs does not answer\n"
    assert down.gate.fences_begun == 0


# -- what the edge itself refuses --------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("request_text", "status"),
    [
        ("GET / HTTP/1.1\r\nHost: nobody.example.net\r\n\r\n", 421),
        ("GET / HTTP/1.1\r\n\r\n", 400),
        (f"GET / HTTP/1.1\r\nHost: {ALICE}\r\nHost: bob.blogs.example.com\r\n\r\n", 400),
        (f"GET /../x HTTP/1.1\r\nHost: {ALICE}\r\n\r\n", 400),
        (f"GET /a%2fb HTTP/1.1\r\nHost: {ALICE}\r\n\r\n", 400),
        (f"GET / HTTP/1.1\r\nHost: {ALICE}\r\n" + "".join(f"X-{n}: {'x' * 400}\r\n" for n in range(90)) + "\r\n", 431),
        (f"GET / HTTP/1.1\r\nHost: {ALICE}\r\nX: {'x' * 40_000}\r\n\r\n", 431),
        ("rubbish\r\n\r\n", 400),
    ],
)
async def test_hostile_requests(request_text: str, status: int) -> None:
    async with site() as ams:
        reader, writer = await asyncio.open_connection(*ams.edge.addresses[0])
        writer.write(request_text.encode())
        answer = await asyncio.wait_for(reader.readline(), 5)
        writer.close()
        assert int(answer.split()[1]) == status
        assert ams.application.requests == []
        assert ams.gate.asked == []


async def test_too_many_connections_are_told_so(client: aiohttp.ClientSession) -> None:
    async with site(connections_max=3) as ams:
        idle = [await asyncio.open_connection(*ams.edge.addresses[0]) for _ in range(3)]
        for _, writer in idle:
            writer.write(f"GET /a.jpg HTTP/1.1\r\nHost: {ALICE}\r\n\r\n".encode())
        for reader, _ in idle:
            assert (await reader.readline()).startswith(b"HTTP/1.1 200")
        async with client.get(ams.url()) as got:
            assert (got.status, got.headers["Retry-After"]) == (503, "1")
        for _, writer in idle:
            writer.close()


def test_a_port_in_use_is_one_clear_line() -> None:
    one = Site("ams", "http://127.0.0.1:1", Application())
    one.edge.bind()
    port = one.edge.addresses[0][1]
    other = Site("ams", "http://127.0.0.1:1", Application(), listen=((HOST, port),))
    with pytest.raises(EdgeError, match=rf"127\.0\.0\.1:{port}: expected to listen there for the edge"):
        other.edge.bind()
    one.edge.close()


# -- writes ------------------------------------------------------------------------------------------------------------


async def test_a_write_is_held_until_it_is_fenced(client: aiohttp.ClientSession) -> None:
    async with site() as ams:
        ams.gate.fence_open.clear()
        released = False

        async def upload() -> aiohttp.ClientResponse:
            nonlocal released
            got = await client.post(ams.url("/new.jpg"), data=b"photo" * 100_000)
            released = True
            return got

        async with asyncio.TaskGroup() as group:
            uploading = group.create_task(upload())
            await until(lambda: ams.gate.fences_begun == 1, "the application has answered")
            assert ams.application.files["/new.jpg"] == b"photo" * 100_000
            await asyncio.sleep(0.1)
            assert not released
            ams.gate.fence_open.set()
        got = uploading.result()
        assert signed(got) == (201, "ams", "write")
        assert (await got.text(), got.headers["Set-Cookie"]) == ("stored", "session=1")


@pytest.mark.parametrize("fenced", [Refuse("sgp has not acknowledged", 3), AnycastleError("the barrier is stuck")])
async def test_a_write_that_is_not_fenced_is_no_success(
    client: aiohttp.ClientSession, fenced: Refuse | AnycastleError
) -> None:
    async with site() as ams:
        ams.gate.fenced = fenced
        async with client.post(ams.url("/new.jpg"), data=b"photo") as got:
            assert signed(got) == (503, "ams", "refuse")
            assert int(got.headers["Retry-After"]) >= 1
            assert "has not acknowledged" in await got.text() or "barrier is stuck" in await got.text()
        ams.gate.fenced = None
        async with client.put(ams.url("/new.jpg"), data=b"photo") as got:
            assert got.status == 201


async def test_a_get_of_a_writing_path_is_held_like_any_write(client: aiohttp.ClientSession) -> None:
    async with site(group={"writing": ("*.php",)}) as ams:
        ams.application.files["/delete.php"] = b"deleted"
        async with client.get(ams.url("/delete.php?id=7")) as got:
            assert (signed(got), await got.text()) == ((200, "ams", "write"), "deleted")
        assert (ams.gate.fences_done, ams.gate.asked) == (1, [])
        ams.gate.fenced = Refuse("sgp has not acknowledged", 3)
        async with client.get(ams.url("/delete.php?id=8")) as got:
            assert signed(got) == (503, "ams", "refuse")
        async with client.get(ams.url("/a.jpg")) as got:
            assert signed(got) == (200, "ams", "serve")


async def test_a_write_may_be_refused_before_the_application_sees_it(client: aiohttp.ClientSession) -> None:
    async with site() as ams:
        ams.gate.write = Refuse("not current", 1)
        async with client.post(ams.url("/new.jpg"), data=b"photo") as got:
            assert signed(got) == (503, "ams", "refuse")
        assert ams.application.requests == []
        assert ams.gate.fences_begun == 0


async def test_a_client_that_goes_away_does_not_stop_the_fence() -> None:
    async with site() as ams:
        ams.gate.fence_open.clear()
        _, writer = await asyncio.open_connection(*ams.edge.addresses[0])
        writer.write(f"POST /new.jpg HTTP/1.1\r\nHost: {ALICE}\r\nContent-Length: 5\r\n\r\nphoto".encode())
        await until(lambda: ams.gate.fences_begun == 1, "held")
        writer.transport.abort()
        await asyncio.sleep(0.1)
        assert ams.gate.fences_done == 0
        ams.gate.fence_open.set()
        await until(lambda: ams.gate.fences_done == 1, "fenced")


async def test_an_answer_too_long_to_hold(client: aiohttp.ClientSession) -> None:
    async def long(request: web.BaseRequest) -> web.StreamResponse:
        return web.Response(body=b"x" * 1001)

    async with site(response_held_bytes_max=1000) as ams:
        ams.application.special["/long"] = long
        async with client.post(ams.url("/long")) as got:
            assert signed(got) == (502, "ams", "fault")
        async with client.get(ams.url("/long")) as got:
            assert len(await got.read()) == 1001


async def chunks(count: int, size: int = 1000) -> AsyncIterator[bytes]:
    for _ in range(count):
        yield b"x" * size
        await asyncio.sleep(0)


async def test_connections_to_the_application_are_kept(client: aiohttp.ClientSession) -> None:
    async with site() as ams:
        ports: dict[str, set[int]] = {"GET": set(), "PUT": set()}

        async def note(request: web.BaseRequest) -> web.StreamResponse:
            ports[request.method].add(request.get_extra_info("peername")[1])
            return web.Response()

        ams.application.special["/x"] = note
        for method in ("GET", "PUT") * 3:
            async with client.request(method, ams.url("/x"), data=b"x" if method == "PUT" else None) as got:
                assert got.status == 200
        assert {method: len(seen) for method, seen in ports.items()} == {"GET": 1, "PUT": 1}


async def test_too_long_a_body_is_413_announced_or_not(client: aiohttp.ClientSession) -> None:
    async with site(body_bytes_max=10_000) as ams:
        async with client.post(ams.url("/new.jpg"), data=b"x" * 10_001) as got:
            assert signed(got) == (413, "ams", "fault")
        assert ams.application.requests == []
        async with client.post(ams.url("/new.jpg"), data=chunks(11)) as got:
            assert signed(got) == (413, "ams", "fault")
        assert "/new.jpg" not in ams.application.files
        async with client.post(ams.url("/new.jpg"), data=chunks(10)) as got:
            assert signed(got) == (201, "ams", "write")
        assert ams.application.files["/new.jpg"] == b"x" * 10_000


async def test_expect_100_continue(client: aiohttp.ClientSession) -> None:
    async with site() as ams:
        async with client.post(ams.url("/new.jpg"), data=b"photo", expect100=True) as got:
            assert got.status == 201
        assert ams.application.files["/new.jpg"] == b"photo"
        assert ams.application.requests[0].headers["Expect"] == "100-continue"


async def test_an_upload_that_breaks_off_stores_nothing() -> None:
    async with site() as ams:
        _, writer = await asyncio.open_connection(*ams.edge.addresses[0])
        writer.write(f"POST /new.jpg HTTP/1.1\r\nHost: {ALICE}\r\nContent-Length: 50\r\n\r\nphoto".encode())
        await until(lambda: ams.application.requests, "begun")
        writer.transport.abort()
        await until(lambda: ams.application.broken_bodies == 1, "broken off there too")
        assert "/new.jpg" not in ams.application.files


async def test_the_application_hears_a_write_once_though_it_hangs_up(client: aiohttp.ClientSession) -> None:
    async def hang_up(request: web.BaseRequest) -> web.StreamResponse:
        await request.read()
        assert request.transport is not None
        request.transport.close()
        return web.Response()

    async with site() as ams:
        ams.application.special["/new.jpg"] = hang_up
        for method in ("POST", "PUT"):
            ams.application.requests.clear()
            async with client.request(method, ams.url("/new.jpg"), data=b"photo") as got:
                assert signed(got) == (502, "ams", "fault")
            assert len(ams.application.requests) == 1
        assert ams.gate.fences_begun == 0


# -- across two edges --------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def authority(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_authority(tmp_path_factory.mktemp("pki"))


async def test_a_read_is_forwarded(client: aiohttp.ClientSession, authority: Path) -> None:
    async with two_sites(authority) as (ams, nyc):
        ams.gate.read = Forward(("sgp", "nyc"), "landed at nyc")
        nyc.gate.read = KNOWN
        nyc.application.files["/new.jpg"] = b"new photo" * 100_000
        async with client.get(ams.url("/new.jpg"), headers={"Cookie": "a=b"}) as got:
            assert signed(got) == (200, "ams", "forward nyc")
            assert got.headers["Cache-Control"] == "no-store"
            assert got.headers["ETag"] == ETAG
            assert await got.read() == b"new photo" * 100_000
        async with client.get(ams.url("/new.jpg"), headers={"If-None-Match": ETAG}) as got:
            assert got.status == 304
        assert ams.application.requests == []
        seen = nyc.application.requests[0]
        assert seen.raw_path == "/new.jpg"
        assert seen.headers["Host"] == ALICE
        assert seen.headers["X-Forwarded-For"] == "127.0.0.1"
        assert seen.headers["Cookie"] == "a=b"
        assert "X-Anycastle-Hop" not in seen.headers


async def test_a_write_is_forwarded_and_held_there(client: aiohttp.ClientSession, authority: Path) -> None:
    async with two_sites(authority) as (ams, nyc):
        ams.gate.write = Forward(("nyc",), "nyc takes writes")
        async with client.post(ams.url("/new.jpg"), data=chunks(500)) as got:
            assert signed(got) == (201, "ams", "forward nyc")
            assert await got.text() == "stored"
        assert nyc.application.files["/new.jpg"] == b"x" * 500_000
        assert (ams.gate.fences_done, nyc.gate.fences_done) == (0, 1)


async def test_no_loop_can_form(client: aiohttp.ClientSession, authority: Path) -> None:
    async with two_sites(authority) as (ams, nyc):
        ams.gate.read = ams.gate.write = Forward(("nyc",), "nyc has it")
        nyc.gate.read = nyc.gate.write = Forward(("ams",), "ams has it")
        async with client.get(ams.url()) as got:
            assert signed(got) == (503, "ams", "refuse")
            assert await got.text() == "nyc has it: nyc refused\n"
        async with client.post(ams.url(), data=b"x") as got:
            assert got.status == 503
            assert await got.text() == "nyc has it: nyc refused\n"
        assert ams.gate.asked == nyc.gate.asked
        assert len(ams.gate.asked) == 1
        assert ams.application.requests == nyc.application.requests == []


async def test_nobody_can_be_reached(client: aiohttp.ClientSession) -> None:
    async with site() as ams:
        ams.gate.read = ams.gate.write = Forward(("nyc", "sgp"), "landed elsewhere")
        for method in ("GET", "POST"):
            async with client.request(method, ams.url(), data=b"x" if method == "POST" else None) as got:
                assert signed(got) == (503, "ams", "refuse")
                assert await got.text() == "landed elsewhere: no link with nyc; no link with sgp\n"
        assert ams.forwarded == ["nyc", "sgp"] * 2


async def test_a_forwarded_write_is_not_sent_twice(client: aiohttp.ClientSession) -> None:
    tried: list[str] = []

    async def breaks(member: str, request: ForwardRequest) -> aiohttp.ClientResponse:
        tried.append(member)
        if request.body is not None:
            await anext(request.body)
        raise ForwardError(f"{member} did not answer", sent=True)

    async with site() as ams:
        ams.gate.read = ams.gate.write = Forward(("nyc", "sgp"), "elsewhere")
        ams.forward = breaks
        for body in (b"photo", None):
            async with client.post(ams.url(), data=body) as got:
                assert signed(got) == (504, "ams", "fault")
                assert "may or may not have been done" in await got.text()
        assert tried == ["nyc", "nyc"]
        async with client.get(ams.url()) as got:
            assert got.status == 503
        assert tried == ["nyc", "nyc", "nyc", "sgp"]


async def test_too_long_a_body_is_not_forwarded(client: aiohttp.ClientSession, authority: Path) -> None:
    async with two_sites(authority) as (ams, nyc):
        ams.edge.settings = replace(ams.edge.settings, body_bytes_max=10_000)
        ams.gate.write = Forward(("nyc",), "nyc takes writes")
        for data in (b"x" * 10_001, chunks(11)):
            async with client.post(ams.url("/new.jpg"), data=data) as got:
                assert signed(got) == (413, "ams", "fault")
        assert nyc.application.files.keys() == {"/a.jpg"}


async def test_an_edge_that_does_not_run_says_so(client: aiohttp.ClientSession, authority: Path) -> None:
    settings = link_settings(authority)
    ams, nyc = Member(settings["ams"]), Member(settings["nyc"])
    idle = Site("nyc", "http://127.0.0.1:1", Application())
    nyc.links.edge_handler = idle.edge.handle_forwarded
    async with meshed(ams, nyc), site("ams") as front:
        front.gate.read = Forward(("nyc",), "landed at nyc")
        front.forward = ams.links.forward
        async with client.get(front.url()) as got:
            assert signed(got) == (503, "ams", "refuse")


async def test_run_ends_in_time_with_a_held_write() -> None:
    async with site(drain_seconds_max=0.2) as ams:
        ams.gate.fence_open.clear()
        _, writer = await asyncio.open_connection(*ams.edge.addresses[0])
        writer.write(f"POST /new.jpg HTTP/1.1\r\nHost: {ALICE}\r\nContent-Length: 0\r\n\r\n".encode())
        await until(lambda: ams.gate.fences_begun == 1, "held")
        loop = asyncio.get_running_loop()
        began = loop.time()
    assert loop.time() - began < 5
    with contextlib.suppress(OSError):
        writer.close()
