"""Probes against real servers: what counts as healthy, what the reason says, and that nobody waits for a slow one."""

import asyncio
import ssl
import threading
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
from aiohttp import web

from anycastle.clock import SystemClock
from anycastle.health import lookup as lookup_module
from anycastle.health.observe import Result
from anycastle.health.probe import BODY_BYTES_MAX, Prober
from anycastle.health.settings import Check, CommandCheck, DnsCheck, HealthSettings, HttpCheck, Probe, TcpCheck
from tests.health.targets import certificate, http_server, nameserver
from tests.ports import free_port

DEADLINE_SECONDS = 10.0


def probe(check: Check, name: str = "it", *, timeout_seconds: float = 0.5, interval_seconds: float = 0.05) -> Probe:
    return Probe(
        site="ams",
        name=name,
        check=check,
        interval_seconds=interval_seconds,
        timeout_seconds=timeout_seconds,
        rise=1,
        fall=1,
    )


@asynccontextmanager
async def probing(
    *probes: Probe, tls: ssl.SSLContext | None = None, concurrency_max: int = 64
) -> AsyncIterator[list[Result]]:
    """Runs a prober up to its first round; the results so far."""
    results: list[Result] = []
    settings = HealthSettings(member="ams", sites=("ams",), probes=probes, concurrency_max=concurrency_max)
    prober = Prober(settings, clock=SystemClock(), on_result=results.append, tls=tls)
    async with asyncio.timeout(DEADLINE_SECONDS), asyncio.TaskGroup() as tasks:
        running = tasks.create_task(prober.run())
        await prober.first_round()
        try:
            yield results
        finally:
            running.cancel()


async def look(check: Check, *, tls: ssl.SSLContext | None = None, timeout_seconds: float = 0.5) -> tuple[bool, str]:
    async with probing(probe(check, timeout_seconds=timeout_seconds), tls=tls) as results:
        return results[0].ok, results[0].reason


async def until(condition: Callable[[], bool]) -> None:
    async with asyncio.timeout(DEADLINE_SECONDS):
        while not condition():  # noqa: ASYNC110 - the world outside has no event to wait for
            await asyncio.sleep(0.01)


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
        assert await look(check) == (ok, reason)


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


async def test_tcp() -> None:
    async with http_server(page) as port:
        assert await look(TcpCheck(host="127.0.0.1", port=port)) == (True, "connected")
        assert await look(TcpCheck(host="localhost", port=port)) == (True, "connected")
    assert await look(TcpCheck(host="127.0.0.1", port=free_port())) == (False, "connection refused")


@pytest.mark.parametrize(
    ("mood", "ok", "reason"),
    [
        ("good", True, "answered NOERROR"),
        ("garbage", True, "answered NOERROR"),
        ("lame", False, "answered NOERROR, not authoritative; expected an authoritative NOERROR"),
        ("refused", False, "answered REFUSED, authoritative; expected an authoritative NOERROR"),
        ("silent", False, "no answer within 0.2 s"),
    ],
)
async def test_dns(mood: str, ok: bool, reason: str) -> None:
    async with nameserver() as (port, server):
        server.mood = mood
        check = DnsCheck(host="127.0.0.1", port=port, name="www.example.com", type="A")
        assert await look(check, timeout_seconds=0.2) == (ok, reason)


async def test_dns_refused_by_the_host() -> None:
    check = DnsCheck(host="127.0.0.1", port=free_port(), name="example.com")
    assert await look(check) == (False, "connection refused")


async def test_a_slow_probe_delays_no_other() -> None:
    async with http_server(page) as port:
        slow = probe(HttpCheck(url=f"http://127.0.0.1:{port}/hang"), "slow", timeout_seconds=1.0)
        quick = probe(HttpCheck(url=f"http://127.0.0.1:{port}/health"), "quick")
        async with probing(slow, quick) as results:
            assert len([each for each in results if each.probe == "quick"]) >= 5
            assert [each.probe for each in results].count("slow") == 1


async def test_at_most_so_many_at_once() -> None:
    under_way = most = 0

    async def count(request: web.Request) -> web.StreamResponse:
        nonlocal under_way, most
        under_way += 1
        most = max(most, under_way)
        await asyncio.sleep(0.02)
        under_way -= 1
        return web.Response()

    async with http_server(count) as port:
        probes = [probe(HttpCheck(url=f"http://127.0.0.1:{port}/"), str(number)) for number in range(8)]
        async with probing(*probes, concurrency_max=3):
            pass
    assert most == 3


async def test_a_change_is_seen() -> None:
    async with nameserver() as (port, server):
        check = DnsCheck(host="127.0.0.1", port=port, name="example.com")
        async with probing(probe(check)) as results:
            assert results[-1].ok
            server.mood = "refused"
            await until(lambda: not results[-1].ok)
            server.mood = "good"
            await until(lambda: results[-1].ok)


async def test_the_first_round_lasts_until_every_probe_is_decided() -> None:
    settings = HealthSettings(
        member="ams",
        sites=("ams",),
        probes=(
            Probe(site="ams", name="down", check=TcpCheck(host="127.0.0.1", port=free_port()), interval_seconds=60.0),
        ),
    )
    results: list[Result] = []
    prober = Prober(settings, clock=SystemClock(), on_result=results.append)
    async with asyncio.timeout(DEADLINE_SECONDS), asyncio.TaskGroup() as tasks:
        running = tasks.create_task(prober.run())
        await prober.first_round()
        running.cancel()
    assert [each.ok for each in results] == [False, False, False]
    assert (prober.rounds, prober.failures) == (3, 3)


async def test_without_probes_the_first_round_is_over_at_once() -> None:
    async with probing() as results:
        assert results == []


async def test_a_hanging_resolver_holds_one_thread_and_no_other_probe(monkeypatch: pytest.MonkeyPatch) -> None:
    hang, asked = threading.Event(), []

    def stuck(host: str, port: int) -> list[str]:
        asked.append(host)
        hang.wait(DEADLINE_SECONDS)
        return ["127.0.0.1"]

    monkeypatch.setattr(lookup_module, "_getaddrinfo", stuck)
    try:
        async with http_server(page) as port:
            stuck_probe = probe(TcpCheck(host="stuck.example", port=port), "stuck", timeout_seconds=0.05)
            quick = probe(TcpCheck(host="127.0.0.1", port=port), "quick")
            async with probing(stuck_probe, quick) as results:
                await until(lambda: sum(not each.ok for each in results) >= 3)
                assert asked == ["stuck.example"]
                assert all(each.ok for each in results if each.probe == "quick")
                hang.set()
                await until(lambda: results[-1].ok and results[-1].probe == "stuck")
    finally:
        hang.set()


@pytest.mark.parametrize(
    ("command", "ok", "reason"),
    [
        ("true", True, "status 0"),
        ("exit 3", False, "status 3"),
        ("echo first >&2; echo nobody listens >&2; exit 1", False, "status 1: nobody listens"),
        ("kill -TERM $$", False, "ended by signal 15"),
        ("no-such-program", False, "status 127"),
        ("yes", False, "no answer within 0.5 s"),
    ],
)
async def test_a_command(command: str, ok: bool, reason: str) -> None:
    found, why = await look(CommandCheck(command=command))
    assert found is ok
    assert why.startswith(reason)


async def test_a_command_that_hangs_is_ended_with_all_that_it_started(tmp_path: Path) -> None:
    pids = tmp_path / "pids"
    line = f"sleep 60 & echo $! >> {pids}; echo $$ >> {pids}; wait"
    assert await look(CommandCheck(command=line)) == (False, "no answer within 0.5 s")
    started = [int(pid) for pid in pids.read_text().split()]
    assert len(started) >= 2
    await until(lambda: not any(Path(f"/proc/{pid}").exists() for pid in started[:2]))
