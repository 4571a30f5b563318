"""How an edge ends, what its answers say of it, and what it holds: settling, slow fences, drains."""

import asyncio
import logging

import aiohttp
import pytest
from aiohttp import web

from anycastle.replicator import edge_answer
from anycastle.replicator.entry import Version
from anycastle.replicator.gate import Refuse, Serve
from tests.replicator.edge_site import ALICE, Application, Site, application_server, signed, site
from tests.replicator.members import until


async def test_what_is_under_way_ends_in_order() -> None:
    go_on = asyncio.Event()

    async def slow(request: web.BaseRequest) -> web.StreamResponse:
        await go_on.wait()
        return web.Response(text="done")

    application = Application()
    application.special["/slow"] = slow
    async with application_server(application) as origin, aiohttp.ClientSession(headers={"Host": ALICE}) as client:
        ams = Site("ams", origin, application)
        ams.edge.bind()
        again = f"GET /a.jpg HTTP/1.1\r\nHost: {ALICE}\r\n\r\n".encode()
        async with asyncio.TaskGroup() as group:
            serving = group.create_task(ams.edge.run())
            idle_reader, idle = await asyncio.open_connection(*ams.edge.addresses[0])
            idle.write(again)
            assert b"200 OK" in await idle_reader.readuntil(b"photo")
            reading = group.create_task(_get(client, ams.url("/slow")))
            await until(lambda: len(application.requests) == 2, "under way")
            address = ams.edge.addresses[0]
            serving.cancel()
            await until_refused(address)
            idle.write(again)
            kept = await asyncio.wait_for(idle_reader.read(), 5)
            assert kept.startswith(b"HTTP/1.1 200 ")
            assert b"\r\nConnection: close\r\n" in kept
            go_on.set()
            assert await reading == (200, "done", "close")
            idle.close()


async def until_refused(address: tuple[str, int]) -> None:
    """Nobody is let in any more."""
    async with asyncio.timeout(5):
        while True:
            try:
                _, writer = await asyncio.open_connection(*address)
            except ConnectionError:
                return
            writer.close()


async def _get(client: aiohttp.ClientSession, url: str) -> tuple[int, str, str | None]:
    async with client.get(url) as got:
        return got.status, await got.text(), got.headers.get("Connection")


async def test_answers_need_not_say_who_gave_them() -> None:
    async with site(verdict_headers=False) as ams, aiohttp.ClientSession(headers={"Host": ALICE}) as client:
        for verdict in (Serve(None, Version(7, "ams"), ""), Refuse("not current", 1)):
            ams.gate.read = verdict
            async with client.get(ams.url()) as got:
                assert not [name for name in got.headers if name.lower().startswith("x-anycastle")]


async def test_reasons_are_counted() -> None:
    async with site() as ams, aiohttp.ClientSession(headers={"Host": ALICE}) as client:
        ams.gate.read = Refuse("not current: 1 of 2 leases needed", 1)
        async with client.get(ams.url()) as got:
            assert signed(got) == (503, "ams", "refuse")
        counters = ams.edge.counters()
        assert (counters["refuse"], counters["reason_refuse_not_current"]) == (1, 1)
        ((host, count),) = ams.edge.hosts.busiest(5)
        assert (host, count.requests, count.writes, count.refused) == (ALICE, 1, 0, 1)


async def test_a_fence_waits_for_what_comes_after_the_answer() -> None:
    async with site(group={"settle_seconds": 0.3}) as ams:
        loop = asyncio.get_running_loop()
        async with aiohttp.ClientSession(headers={"Host": ALICE}) as client:
            began = loop.time()
            async with client.post(ams.url("/new.jpg"), data=b"photo") as got:
                assert signed(got) == (201, "ams", "write")
            assert loop.time() - began >= 0.3


async def test_a_slow_fence_names_who_is_waited_for(
    caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(edge_answer, "SLOW_FENCE_SECONDS", 0.05)
    with caplog.at_level(logging.WARNING, "anycastle.replicator.edge"):
        async with site() as ams, aiohttp.ClientSession(headers={"Host": ALICE}) as client:
            ams.gate.fence_open.clear()
            uploading = client.post(ams.url("/new.jpg"), data=b"photo")
            async with asyncio.TaskGroup() as group:
                held = group.create_task(uploading.__aenter__())
                await until(lambda: ams.edge.counters()["slow_fences"] == 1, "told")
                ams.gate.fence_open.set()
            (await held).close()
            counters = ams.edge.counters()
            assert counters["fences"] == 1
            assert 50_000 <= counters["fence_microseconds"] < 20_000_000
    assert "event=slow-fence group=blogs seconds=0.05 waits_for='sgp has not acknowledged'" in caplog.text


@pytest.mark.parametrize("answers_100", [True, False])
async def test_expect_goes_through_to_the_application(answers_100: bool) -> None:
    """The client sends its body when the application has asked for it; or never, when it refuses by the fields."""
    heard: list[bytes] = []

    async def strict(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        heard.append(await reader.readuntil(b"\r\n\r\n"))
        if answers_100:
            writer.write(b"HTTP/1.1 100 Continue\r\n\r\n")
            heard.append(await reader.readexactly(5))
            writer.write(b"HTTP/1.1 201 Created\r\nContent-Length: 2\r\n\r\nok")
        else:
            writer.write(b"HTTP/1.1 403 Forbidden\r\nContent-Length: 2\r\n\r\nno")
        await writer.drain()
        writer.close()

    server = await asyncio.start_server(strict, "127.0.0.1", 0)
    async with site(origin=f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}") as ams:
        reader, writer = await asyncio.open_connection(*ams.edge.addresses[0])
        head = f"POST /x HTTP/1.1\r\nHost: {ALICE}\r\nContent-Length: 5\r\nExpect: 100-continue\r\n\r\n"
        writer.write(head.encode())
        first = await asyncio.wait_for(reader.readuntil(b"\r\n\r\n"), 5)
        if answers_100:
            assert first == b"HTTP/1.1 100 Continue\r\n\r\n"
            assert len(heard) == 1
            writer.write(b"hello")
            rest = await asyncio.wait_for(reader.readuntil(b"ok"), 5)
            assert rest.startswith(b"HTTP/1.1 201 ")
            assert heard[1] == b"hello"
        else:
            assert first.startswith(b"HTTP/1.1 403 ")
            assert await asyncio.wait_for(reader.read(), 5) == b"no", "and the connection ends"
        writer.close()
    server.close()
    await server.wait_closed()
