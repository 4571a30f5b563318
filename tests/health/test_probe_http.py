"""The http probe against real servers: what counts as healthy, and what the reason says."""

import asyncio
import socket
from pathlib import Path

import pytest
from aiohttp import web

from anycastle.health.probe_http import BODY_BYTES_MAX
from anycastle.health.settings import DAY_SECONDS, HttpCheck
from tests.health.probing import look, patience, probe, probing
from tests.health.targets import certificate, http_server
from tests.ports import free_port

"Probes against real servers: what counts as healthy, what the reason says, and that nobody waits for a slow one."


async def page(request: web.Request) -> web.StreamResponse:
    match request.path:
        case "/moved":
            raise web.HTTPFound("/health")
        case "/down":
            return web.Response(status=503, text="all is well")
        case "/long":
            return web.Response(text="x" * BODY_BYTES_MAX + "all is well")
        case "/split":
            response = web.StreamResponse()
            await response.prepare(request)
            await response.write(b"all is ")
            await asyncio.sleep(0.02)
            await response.write(b"well")
            return response
        case "/hang":
            await asyncio.sleep(60)
    return web.Response(text=f"all is well at {request.host}")


@pytest.mark.parametrize(
    ("path", "extra", "ok", "reason"),
    [
        ("/health", {}, True, "status 200"),
        ("/health", {"match": "is well"}, True, "status 200 with the expected text"),
        ("/split", {"match": "is well"}, True, "status 200 with the expected text"),
        ("/health", {"match": "is bad"}, False, "status 200 without the text 'is bad'"),
        ("/long", {"match": "is well"}, False, "status 200 without the text 'is well'"),
        ("/down", {}, False, "status 503, expected 200"),
        ("/down", {"statuses": frozenset({200, 503})}, True, "status 503"),
        ("/moved", {"statuses": frozenset({200, 204})}, False, "status 302, expected 200 or 204"),
        ("/hang", {}, False, "no answer within 0.5 s"),
    ],
)
async def test_http(path: str, extra: dict[str, object], ok: bool, reason: str) -> None:
    async with http_server(page) as port:
        check = HttpCheck(url=f"http://127.0.0.1:{port}{path}", **extra)  # type: ignore[arg-type]
        assert await look(check, timeout_seconds=patience(reason)) == (ok, reason)


async def test_http_refused() -> None:
    assert await look(HttpCheck(url=f"http://127.0.0.1:{free_port()}/")) == (False, "connection refused")


async def test_tls_is_verified_under_the_name_of_the_url(tmp_path: Path) -> None:
    server, client = certificate(tmp_path, "www.example.com")
    async with http_server(page, tls=server) as port:
        check = HttpCheck(url=f"https://www.example.com:{port}/", address="127.0.0.1", match=f"www.example.com:{port}")
        assert await look(check, tls=client) == (True, "status 200 with the expected text")
        ok, reason = await look(check)
        assert not ok
        assert reason.startswith("certificate not trusted: ")
        ok, reason = await look(HttpCheck(url=f"https://other.example.com:{port}/", address="127.0.0.1"), tls=client)
        assert not ok
        assert "other.example.com" in reason
    async with http_server(page) as port:
        ok, reason = await look(HttpCheck(url=f"https://127.0.0.1:{port}/"))
        assert not ok
        assert reason.startswith("no TLS: ")


async def echo(request: web.Request) -> web.StreamResponse:
    """What it was asked, as text."""
    tls = request.transport.get_extra_info("ssl_object") if request.transport else None
    names = ("User-Agent", "X-Probe", "Host")
    said = [f"{name}={request.headers.get(name)}" for name in names]
    return web.Response(text="\n".join([request.method, *said, f"tls={tls is not None}"]))


@pytest.mark.parametrize(
    ("extra", "ok", "reason"),
    [
        ({"match": "GET\nUser-Agent=anycastle-probe\n"}, True, "status 200 with the expected text"),
        ({"method": "POST", "match": "POST"}, True, "status 200 with the expected text"),
        ({"method": "HEAD"}, True, "status 200"),
        ({"headers": (("x-probe", "1"),), "match": "X-Probe=1"}, True, "status 200 with the expected text"),
        ({"headers": (("user-agent", "me"),), "match": "User-Agent=me"}, True, "status 200 with the expected text"),
        ({"headers": (("Host", "www.example.com"),), "pattern": "(?m)^Host=www[.]example[.]com$"}, True, None),
        ({"pattern": "GE[A-Z]"}, True, "status 200 with the expected text"),
        ({"pattern": "^PUT"}, False, "status 200 without a match for '^PUT'"),
        ({"match": "GET", "pattern": "^PUT"}, False, "status 200 without a match for '^PUT'"),
    ],
)
async def test_requests_and_bodies(extra: dict[str, object], ok: bool, reason: str | None) -> None:
    async with http_server(echo) as port:
        found, why = await look(HttpCheck(url=f"http://127.0.0.1:{port}/", **extra))  # type: ignore[arg-type]
    assert found is ok, why
    assert reason is None or why == reason


async def test_a_pattern_that_takes_for_ever_on_some_page_fails_and_holds_up_nobody() -> None:
    async def page_of_a(request: web.Request) -> web.Response:
        return web.Response(text="a" * 5000)

    async with http_server(page_of_a) as port:
        check = HttpCheck(url=f"http://127.0.0.1:{port}/", pattern="(a|aa)+$b")
        found, why = await look(check, timeout_seconds=5.0)
    assert (found, why) == (False, "status 200; the pattern took longer than 0.05 s on it")


@pytest.mark.skipif(not socket.has_ipv6, reason="no IPv6")
async def test_ipv6() -> None:
    async with http_server(echo, host="::1") as port:
        assert await look(HttpCheck(url=f"http://[::1]:{port}/")) == (True, "status 200")
        check = HttpCheck(url=f"http://www.example.com:{port}/", address="::1", match=f"Host=www.example.com:{port}")
        assert await look(check) == (True, "status 200 with the expected text")


async def test_an_authority_of_its_own_and_a_name_apart_from_host_and_address(tmp_path: Path) -> None:
    server, _ = certificate(tmp_path, "inner.example.net", days=100)
    authority = tmp_path / "site.pem"
    async with http_server(echo, tls=server) as port:
        url = f"https://127.0.0.1:{port}/"
        good = HttpCheck(
            url=url,
            authority=authority,
            server_name="inner.example.net",
            headers=(("Host", "www.example.com"),),
            match="Host=www.example.com\ntls=True",
        )
        assert await look(good) == (True, "status 200 with the expected text")
        found, why = await look(HttpCheck(url=url, authority=authority))
        assert not found
        assert "IP address mismatch" in why
        found, why = await look(HttpCheck(url=url, authority=tmp_path / "none.pem"))
        assert (found, why) == (False, f"authority {tmp_path}/none.pem cannot be read: No such file or directory")
        (tmp_path / "junk.pem").write_text("junk")
        found, why = await look(HttpCheck(url=url, authority=tmp_path / "junk.pem"))
        assert not found
        assert why.startswith(f"authority {tmp_path}/junk.pem cannot be read")


@pytest.mark.parametrize(("days", "warns"), [(3.5, True), (30.0, False)])
async def test_a_certificate_that_ends_soon_is_told_and_no_failure(tmp_path: Path, days: float, warns: bool) -> None:
    server, _ = certificate(tmp_path, "www.example.com", days=days)
    async with http_server(echo, tls=server) as port:
        check = HttpCheck(
            url=f"https://www.example.com:{port}/",
            address="127.0.0.1",
            authority=tmp_path / "site.pem",
            warn_before_seconds=14 * DAY_SECONDS,
        )
        async with probing(probe(check)) as results:
            assert results[0].ok, results[0].reason
            assert results[0].warning.startswith("its certificate ends in 3 days, at 2") is warns


async def test_an_expired_certificate_is_a_failure(tmp_path: Path) -> None:
    server, _ = certificate(tmp_path, "www.example.com", days=-1)
    async with http_server(echo, tls=server) as port:
        check = HttpCheck(url=f"https://www.example.com:{port}/", address="127.0.0.1", authority=tmp_path / "site.pem")
        found, why = await look(check)
    assert not found
    assert "expired" in why
