"""The HTTP face against a real server: who may do what, what bad questions get, and the event stream."""

import asyncio
import shutil
import tempfile
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import aiohttp
import msgspec
import pytest
from aiohttp import web

from anycastle.clock import SystemClock
from anycastle.config_tokens import read_tokens
from anycastle.health.access import Access
from anycastle.health.audit import Audit
from anycastle.health.dashboard import PAGE_FILES, make_app
from anycastle.health.event import Kind
from anycastle.health.report import Snapshot
from anycastle.health.series import Sample
from anycastle.health.view import ALL_GROUPS, Health
from tests.health.picture import Ports, site

SECRET = "s3cret-of-sixteen"
TOKEN = {"Authorization": f"Bearer {SECRET}"}


def app_of(ports: Ports, folder: Path, *, token: str | None = SECRET) -> web.Application:
    if token is not None:
        (folder / "tokens").write_text(token)
    access = Access(folder / "tokens" if token is not None else None, read_tokens)
    return make_app(ports, access=access, audit=Audit(folder / "audit.log", SystemClock()))


@asynccontextmanager
async def served(
    ports: Ports, *, token: str | None = SECRET, unix: Path | None = None
) -> AsyncIterator[aiohttp.ClientSession]:
    """A session whose URLs are relative to the running dashboard."""
    folder = Path(tempfile.mkdtemp(prefix="ac-"))
    runner = web.AppRunner(app_of(ports, folder, token=token), shutdown_timeout=2.0, access_log=None)
    await runner.setup()
    try:
        if unix is not None:
            await web.UnixSite(runner, str(unix)).start()
            connector: aiohttp.BaseConnector = aiohttp.UnixConnector(str(unix))
            base = "http://localhost"
        else:
            await web.TCPSite(runner, "127.0.0.1", 0).start()
            connector = aiohttp.TCPConnector(limit=0)
            base = f"http://127.0.0.1:{runner.addresses[0][1]}"
        async with aiohttp.ClientSession(base, connector=connector, timeout=aiohttp.ClientTimeout(total=20)) as session:
            yield session
    finally:
        await runner.cleanup()
        shutil.rmtree(folder)


async def get(session: aiohttp.ClientSession, url: str, *, status: int = 200) -> Any:
    async with session.get(url) as response:
        assert response.status == status, await response.text()
        return await response.json()


async def post(
    session: aiohttp.ClientSession, url: str, body: object, *, status: int = 200, headers: dict[str, str] | None = None
) -> Any:
    async with session.post(url, json=body, headers=headers) as response:
        assert response.status == status, await response.text()
        return await response.json()


async def test_status_is_the_snapshot() -> None:
    ports = Ports()
    async with served(ports) as session, session.get("/api/v1/status") as response:
        assert msgspec.json.decode(await response.read(), type=Snapshot) == ports.status()


async def test_the_parts_of_the_status() -> None:
    async with served(Ports()) as session:
        assert [each["name"] for each in (await get(session, "/api/v1/sites"))["sites"]] == ["ams", "nyc", "sgp"]
        assert (await get(session, "/api/v1/routes"))["sessions"][0]["routes"][0]["prefix"] == "198.51.100.0/24"
        lag = await get(session, "/api/v1/lag")
        assert (len(lag["groups"][0]["cells"]), lag["flights_total"]) == (9, 1)
        assert (await get(session, "/api/v1/conflicts"))["conflicts"][0]["winner"] == "9@ams"


async def test_the_questions() -> None:
    ports = Ports()
    async with served(ports) as session:
        where = await get(session, "/api/v1/where?path=blogs:alice/%E9t%C3%A9%3A1.jpg")
        assert where["sites"][0]["site"] == "ams"
        assert ports.asked == [b"alice/\xe9t\xc3\xa9:1.jpg"]
        explained = await get(session, "/api/v1/explain?name=Alice.Blogs.Example.com.&client=2001:db8::1&type=aaaa")
        assert explained["summary"] == "2001:db8::1 asking for alice.blogs.example.com AAAA gets nyc"
        assert (await get(session, "/api/v1/map?name=a.example.com&after=10.0.0.0/8&limit=7"))["next"] is None
        assert ports.asked[-1] == ("a.example.com", "10.0.0.0/8", 7)
        waited = await get(session, "/api/v1/wait?path=blogs:a&sites=ams,nyc&timeout=0.01")
        assert waited["landed"] is False
        assert ports.asked[-1] == ("blogs", b"a", ("ams", "nyc"), 0.01)


@pytest.mark.parametrize(
    ("url", "expected"),
    [
        ("/api/v1/where", "path is '': expected GROUP:PATH, as in blogs:alice/photo.jpg"),
        ("/api/v1/where?path=photo.jpg", "path is 'photo.jpg': expected GROUP:PATH, as in blogs:alice/photo.jpg"),
        ("/api/v1/where?path=:x", "path is ':x': expected GROUP:PATH, as in blogs:alice/photo.jpg"),
        ("/api/v1/where?path=wiki:x", "group wiki is not configured: expected blogs"),
        ("/api/v1/where?path=a:b&path=a:c", "parameter path is given twice: expected once"),
        ("/api/v1/where?pth=a:b", "unknown parameter 'pth': expected path"),
        ("/api/v1/status?x=1", "unknown parameter 'x': expected none"),
        ("/api/v1/explain?client=192.0.2.1", "name is '': expected a DNS name, as in www.example.com"),
        ("/api/v1/explain?name=a%20b", "name is 'a b': expected a DNS name, as in www.example.com"),
        ("/api/v1/explain?name=%ff", "name is '\\udcff': expected a DNS name, as in www.example.com"),
        (
            "/api/v1/explain?name=a&client=here",
            "client is 'here': expected an IP address, as in 192.0.2.1 or 2001:db8::1",
        ),
        ("/api/v1/explain?name=a&type=1", "type is '1': expected a record type, as in A or AAAA"),
        ("/api/v1/timeline?site=a%20b", "site is 'a b': expected a site's name"),
        ("/api/v1/timeline?path=alice", "path is 'alice': expected GROUP:PATH, as in blogs:alice/photo.jpg"),
        ("/api/v1/timeline?limit=1001", "limit is '1001': expected a number from 1 to 1000"),
        ("/api/v1/map", "name is '': expected a DNS name, as in www.example.com"),
        ("/api/v1/map?name=a&limit=1001", "limit is '1001': expected a number from 1 to 1000"),
        ("/api/v1/map?name=a&limit=-1", "limit is '-1': expected a number from 1 to 1000"),
        ("/api/v1/wait?path=a:b&timeout=soon", "timeout is 'soon': expected seconds from 0 to 3600"),
        ("/api/v1/wait?path=a:b&timeout=nan", "timeout is 'nan': expected seconds from 0 to 3600"),
        ("/api/v1/wait?path=a:b&sites=ams,,", "sites is 'ams,,': expected all, or names with commas, as in ams,nyc"),
    ],
)
async def test_a_bad_question_gets_one_line(url: str, expected: str) -> None:
    async with served(Ports()) as session:
        assert await get(session, url, status=400) == {"error": expected}


async def test_too_many_parameters_are_refused() -> None:
    async with served(Ports()) as session:
        refused = await get(session, "/api/v1/where?" + "&".join(f"a{n}=1" for n in range(30)), status=400)
        assert "expected at most 20 parameters" in refused["error"]


@pytest.mark.parametrize(
    "url", ["/api/v1/drain", "/api/v1/undrain", "/api/v1/reload", "/api/v1/freeze", "/api/v1/thaw", "/api/v1/accept"]
)
async def test_changes_need_the_token(url: str) -> None:
    ports = Ports()
    async with served(ports) as session:
        for headers in (
            {},
            {"Authorization": "Bearer wrong"},
            {"Authorization": f"Basic {SECRET}"},
            {"Authorization": SECRET},
        ):
            refused = await post(session, url, {"site": "ams"}, status=401, headers=headers)
            assert "expected the header Authorization: Bearer" in refused["error"]
        await get(session, url, status=405)
    async with served(ports, token=None) as session:
        refused = await post(session, url, {"site": "ams"}, status=403, headers=TOKEN)
        assert refused["error"].startswith("changes are refused over TCP: expected a token")
    assert (ports.drains.overrides(), ports.reloads) == ((), 0)


async def test_drain_and_undrain_with_the_token() -> None:
    ports = Ports()
    async with served(ports) as session:
        await post(session, "/api/v1/drain", {"site": "nyc"}, headers=TOKEN)
        assert ports.drains.drained("nyc") == {ALL_GROUPS}
        assert (await get(session, "/api/v1/status"))["drains"] == [{"site": "nyc", "group": "*", "by": "ams"}]
        await post(session, "/api/v1/undrain", {"site": "nyc"}, headers=TOKEN)
        assert ports.drains.drained("nyc") == frozenset()
        await post(session, "/api/v1/drain", {"site": "nyc", "group": "blogs"}, headers=TOKEN)
        assert ports.drains.drained("nyc") == {"blogs"}
        assert (await post(session, "/api/v1/reload", None, headers=TOKEN))["summary"] == "reloaded"


async def test_routes_are_frozen_thawed_and_accepted() -> None:
    ports = Ports()
    async with served(ports) as session:
        assert await get(session, "/api/v1/plan") == {"changes": [], "held": []}
        assert await post(session, "/api/v1/freeze", {"reason": "works"}, headers=TOKEN) == {
            "frozen": True,
            "reason": "works",
        }
        refused = await post(session, "/api/v1/freeze", {"why": "works"}, status=400, headers=TOKEN)
        assert "the body cannot be read" in refused["error"]
        await post(session, "/api/v1/accept", None, headers=TOKEN)
        await post(session, "/api/v1/thaw", None, headers=TOKEN)
        assert (await get(session, "/api/v1/routes"))["holds"] == []
    assert ports.asked == [("freeze", "works"), "accept", "thaw"]


async def test_the_unix_socket_is_guarded_by_its_file(tmp_path: Path) -> None:
    ports = Ports()
    async with served(ports, token=None, unix=tmp_path / "control") as session:
        await post(session, "/api/v1/drain", {"site": "nyc"})
        await post(session, "/api/v1/reload", None)
    assert (ports.drains.drained("nyc"), ports.reloads) == ({ALL_GROUPS}, 1)


@pytest.mark.parametrize(
    ("body", "expected"),
    [
        ([], "the body cannot be read"),
        ({}, "the body cannot be read"),
        ({"site": "nyc", "grop": "blogs"}, "the body cannot be read"),
        ({"site": ""}, "site is '': expected a site's name"),
        ({"site": "nyc", "group": "a b"}, "group is 'a b': expected a group's name, or * for all"),
        ({"site": "fra"}, "site fra is not configured: expected one of ams, nyc, sgp"),
    ],
)
async def test_a_bad_order_changes_nothing(body: object, expected: str) -> None:
    ports = Ports()
    async with served(ports) as session:
        refused = await post(session, "/api/v1/drain", body, status=400, headers=TOKEN)
        assert refused["error"].startswith(expected)
    assert ports.drains.overrides() == ()


async def test_a_long_body_is_refused() -> None:
    async with served(Ports()) as session:
        refused = await post(session, "/api/v1/drain", {"site": "x" * 100_000}, status=413, headers=TOKEN)
        assert "\n" not in refused["error"]


async def test_what_is_not_there() -> None:
    async with served(Ports()) as session:
        assert await get(session, "/api/v1/nothing", status=404) == {"error": "404: Not Found"}
        assert await get(session, "/../view.py", status=404) == {"error": "404: Not Found"}


async def test_health_and_metrics() -> None:
    async with served(Ports()) as session:
        async with session.get("/healthz") as response:
            assert (response.status, await response.text()) == (200, "ok\n")
        async with session.get("/metrics") as response:
            assert response.content_type == "text/plain"
            assert 'anycastle_health_site_state_bool{site="ams",state="up"} 1.0' in await response.text()


async def test_the_page_loads_nothing_from_elsewhere_and_every_answer_is_guarded() -> None:
    async with served(Ports()) as session:
        assert {"/", "/dashboard.js", "/style.css", "/icon.svg"} <= set(PAGE_FILES)
        for url in (*PAGE_FILES, "/api/v1/status", "/nothing"):
            async with session.get(url) as response:
                text = (await response.text()).replace("http://www.w3.org/", "")
                assert response.headers["Content-Security-Policy"].startswith("default-src 'none'; script-src 'self'")
                assert response.headers["X-Content-Type-Options"] == "nosniff"
                assert response.headers["X-Frame-Options"] == "DENY"
                assert "http://" not in text
                assert "https://" not in text
                assert "innerHTML" not in text


class Events:
    """Reads an event stream, across whatever chunks it comes in."""

    def __init__(self, response: aiohttp.ClientResponse) -> None:
        self._response = response
        self._rest = b""

    async def next(self, kind: bytes = b"status") -> dict[str, Any]:
        """The next picture, or what else is asked for."""
        while True:
            while b"\n\n" not in self._rest:
                chunk = await self._response.content.readany()
                assert chunk, "the stream ended"
                self._rest += chunk
            block, self._rest = self._rest.split(b"\n\n", 1)
            lines = dict(line.split(b": ", 1) for line in block.split(b"\n"))
            if lines.get(b"event") == kind:
                picture: dict[str, Any] = msgspec.json.decode(lines[b"data"])
                assert kind != b"status" or int(lines[b"id"]) == picture["generation"]
                return picture


async def test_a_change_is_pushed() -> None:
    ports = Ports()
    async with served(ports) as session, session.get("/api/v1/events") as response:
        assert response.content_type == "text/event-stream"
        events = Events(response)
        assert [each["health"] for each in (await events.next())["sites"]] == ["up", "up", "up"]
        ports.change(nyc=site(Health.DOWN, "silence"))
        assert [each["health"] for each in (await events.next())["sites"]] == ["up", "down", "up"]


async def test_each_new_point_of_the_series_is_pushed_once() -> None:
    ports = Ports()
    lag = ("lag_seconds", "nyc")
    ports.sample(Sample(levels={lag: 1.0}), points=3)
    async with served(ports) as session, session.get("/api/v1/events") as response:
        events = Events(response)
        assert (await events.next(b"point"))["number"] == 3
        ports.change()
        await events.next()
        ports.sample(Sample(levels={lag: 2.5}))
        pushed = await events.next(b"point")
        assert (pushed["number"], pushed["series"]) == (4, [{"name": "lag_seconds", "label": "nyc", "values": [2.5]}])
        whole = await get(session, "/api/v1/series")
        assert whole["series"][0]["values"] == [1.0, 1.0, 1.0, 2.5]
        assert {**whole, "series": pushed["series"]} == pushed


async def test_the_timeline_is_searched() -> None:
    ports = Ports()
    ports.tell(Kind.DRAIN, "nyc is drained", site="nyc")
    ports.tell(Kind.CONTENT, "withheld", site="sgp", place="blogs:alice/")
    ports.tell(Kind.TROUBLE, "the disk is full", site="ams")
    async with served(ports) as session:

        async def told(query: str) -> list[str]:
            return [each["text"] for each in (await get(session, f"/api/v1/timeline{query}"))["events"]]

        assert await told("") == ["the disk is full", "withheld", "nyc is drained"]
        assert await told("?limit=1") == ["the disk is full"]
        assert await told("?site=nyc") == ["nyc is drained"]
        assert await told("?path=blogs:alice/p.jpg") == ["withheld"]
        assert await told("?name=alice.blogs.example.com&site=sgp") == ["withheld"]


async def test_many_changes_become_few_events() -> None:
    ports = Ports()
    loop = asyncio.get_running_loop()
    async with served(ports) as session, session.get("/api/v1/events") as response:
        events, started, received = Events(response), loop.time(), []
        while loop.time() - started < 1.0:
            ports.change()
            await asyncio.sleep(0.005)
        ended, last = loop.time(), ports.changes.generation
        while not received or received[-1]["generation"] != last:
            received.append(await events.next())
        assert last > 50
        assert 3 <= len(received) <= (loop.time() - started) / 0.25 + 2
        assert loop.time() - ended < 5.0


async def test_without_a_change_there_is_a_sign_of_life(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("anycastle.health.dashboard.EVENT_SILENCE_SECONDS_MAX", 0.4)
    async with served(Ports()) as session, session.get("/api/v1/events") as response:
        events = Events(response)
        assert [(await events.next())["generation"] for _ in range(3)] == [0, 0, 0]


async def test_streams_are_limited(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("anycastle.health.dashboard.STREAMS_MAX", 1)
    async with served(Ports()) as session, session.get("/api/v1/events") as response:
        await Events(response).next()
        refused = await get(session, "/api/v1/events", status=503)
        assert refused == {"error": "more than 1 long requests: expected fewer"}


async def test_the_server_ends_although_somebody_listens(tmp_path: Path) -> None:
    loop = asyncio.get_running_loop()
    app = app_of(Ports(), tmp_path)
    runner = web.AppRunner(app, shutdown_timeout=5.0, access_log=None)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    base = f"http://127.0.0.1:{runner.addresses[0][1]}"
    async with aiohttp.ClientSession(base) as session, session.get("/api/v1/events") as response:
        await Events(response).next()
        started = loop.time()
        await runner.cleanup()
        assert loop.time() - started < 3.0
