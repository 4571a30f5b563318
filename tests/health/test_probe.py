"""Probes against real servers: what counts as healthy, what the reason says, and that nobody waits for a slow one."""

import asyncio
import threading

import pytest
from aiohttp import web

from anycastle.clock import SystemClock
from anycastle.health import lookup as lookup_module
from anycastle.health.observe import Result
from anycastle.health.probe import Prober
from anycastle.health.settings import DnsCheck, HealthSettings, HttpCheck, Probe, TcpCheck
from tests.health.probing import DEADLINE_SECONDS, probe, probing, until
from tests.health.targets import http_server, nameserver
from tests.ports import free_port


async def page(request: web.Request) -> web.StreamResponse:
    if request.path == "/hang":
        await asyncio.sleep(60)
    return web.Response(text="all is well")


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
        check = HttpCheck(url=f"http://127.0.0.1:{port}/")
        # None times out, however busy the machine: those that do have places of their own.
        probes = [probe(check, str(number), timeout_seconds=DEADLINE_SECONDS) for number in range(8)]
        async with probing(*probes, concurrency_max=3):
            pass
    assert most == 3


async def test_many_that_hang_take_no_places_from_those_that_answer() -> None:
    """After their first round, that is, and for as long as they hang."""
    async with http_server(page) as port:
        hanging = HttpCheck(url=f"http://127.0.0.1:{port}/hang")
        slow = [probe(hanging, f"slow {number}", timeout_seconds=0.3) for number in range(8)]
        quick = probe(HttpCheck(url=f"http://127.0.0.1:{port}/"), "quick", interval_seconds=0.02)
        async with probing(*slow, quick, concurrency_max=2) as results:
            before = len(results)
            # Four hang for 0.3 s each in each of the two places of those that hang.
            await until(lambda: sum(each.probe == "slow 7" for each in results[before:]) >= 2)
            rounds = sum(each.probe == "quick" for each in results[before:])
            assert all(each.ok for each in results if each.probe == "quick")
            assert rounds > 10, "in one queue with the others it would have had two or three"


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
