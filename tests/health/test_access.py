"""Who may do what, against a real server: scopes, where from, tokens that change, and the list of it all."""

import asyncio
import contextlib
import http.client
import json
import os
import pwd
import socket
from collections.abc import AsyncIterator, Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager
from pathlib import Path
from typing import TypeVar

import aiohttp
import pytest
from aiohttp import web
from pyroute2.netns import setns

from anycastle.clock import SystemClock
from anycastle.config_tokens import read_tokens
from anycastle.health.access import Access
from anycastle.health.audit import Audit
from anycastle.health.dashboard import make_app
from anycastle.health.settings import Reading
from tests.anycastle.members import until
from tests.health.picture import Ports
from tests.netns import segment

T = TypeVar("T")

READER, DRAINER, ROUTER, ADMIN = (f"{word}-0123456789abcdef" for word in ("reader", "drainer", "router", "admin"))
LINES = f"""\
# who       what          token
reader      read          {READER}
night       drain         {DRAINER}
network     routes,drain  {ROUTER}

root        admin         {ADMIN}
"""
ORDERS = {
    "drain": {"site": "ams"},
    "undrain": {"site": "ams"},
    "freeze": {"reason": "x"},
    "thaw": {},
    "accept": {},
    "reload": {},
    "scrub": {"group": None},
}


def bearer(token: str) -> dict[str, str]:
    return {"Authorization": f"Bearer {token}"}


class Face:
    """A running dashboard, and a session to it."""

    def __init__(self, folder: Path, session: aiohttp.ClientSession, port: int) -> None:
        self.tokens, self.list, self.session, self.port = folder / "tokens", folder / "audit.log", session, port

    async def order(self, name: str, token: str = "") -> tuple[int, str]:
        headers = bearer(token) if token else {}
        async with self.session.post(f"/api/v1/{name}", json=ORDERS[name], headers=headers) as response:
            return response.status, (await response.json()).get("error", "")

    async def look(self, path: str, token: str = "") -> int:
        async with self.session.get(path, headers=bearer(token) if token else {}) as response:
            return response.status

    def recorded(self) -> list[dict[str, str]]:
        return [json.loads(line) for line in self.list.read_text().splitlines()] if self.list.exists() else []


@asynccontextmanager
async def face(
    folder: Path,
    *,
    reading: Reading = Reading.OPEN,
    unix: Path | None = None,
    bound: socket.socket | None = None,
    hosts: tuple[str, ...] = (),
) -> AsyncIterator[Face]:
    (folder / "tokens").write_text(LINES)
    access = Access(folder / "tokens", read_tokens, reading, hosts=hosts)
    app = make_app(Ports(), access=access, audit=Audit(folder / "audit.log", SystemClock()))
    runner = web.AppRunner(app, shutdown_timeout=1.0, access_log=None)
    await runner.setup()
    try:
        connector = aiohttp.UnixConnector(str(unix)) if unix else aiohttp.TCPConnector()
        if bound is not None:
            await web.SockSite(runner, bound).start()
        else:
            await (web.UnixSite(runner, unix) if unix else web.TCPSite(runner, "127.0.0.1", 0)).start()
        port = 0 if unix else runner.addresses[0][1]
        async with aiohttp.ClientSession(f"http://127.0.0.1:{port}", connector=connector) as session:
            yield Face(folder, session, port)
    finally:
        await runner.cleanup()


async def test_each_scope_allows_its_own(tmp_path: Path) -> None:
    may = {
        "": set[str](),
        READER: set[str](),
        DRAINER: {"drain", "undrain"},
        ROUTER: {"drain", "undrain", "freeze", "thaw", "accept"},
        ADMIN: set(ORDERS),
    }
    async with face(tmp_path) as served:
        for token, allowed in may.items():
            for name in ORDERS:
                status, error = await served.order(name, token)
                assert status == (200 if name in allowed else 403 if token else 401), (token, name, error)
            assert await served.look("/api/v1/audit", token) == (200 if token == ADMIN else 403 if token else 401)
            assert await served.look("/api/v1/status", token) == 200
        assert await served.order("reload", DRAINER) == (403, "token night is for drain: expected one with admin")


@pytest.mark.parametrize(
    ("host", "status"),
    [
        ("127.0.0.1:8080", 200),
        ("[::1]:8080", 200),
        ("localhost:8080", 200),
        ("ams.localhost", 200),
        ("ams", 200),
        (socket.gethostname().upper(), 200),
        ("status.example.com.", 200),
        ("Status.Example.com:8080", 200),
        ("evil.example.com", 421),
        ("evil.example.com:8080", 421),
        ("127.0.0.1.evil.example.com", 421),
        ("localhost.evil.example.com", 421),
        ("[evil.example.com]", 421),
    ],
)
async def test_by_a_public_name_nothing_is_told(tmp_path: Path, host: str, status: int) -> None:
    """A page of evil.example.com that has its name lead here could read what its user can reach."""
    async with face(tmp_path, hosts=("status.example.com",)) as served:
        async with served.session.get("/api/v1/status", headers={"Host": host}) as response:
            assert response.status == status
            assert ("dashboard.hosts" in await response.text()) == (status == 421)
        async with served.session.post(
            "/api/v1/thaw", json=ORDERS["thaw"], headers={**bearer(ADMIN), "Host": host}
        ) as response:
            assert response.status == status


async def test_the_file_counts_as_it_stands_now(tmp_path: Path) -> None:
    async with face(tmp_path) as served:
        assert (await served.order("thaw", ADMIN))[0] == 200
        served.tokens.write_text(LINES.replace(ADMIN, "another-0123456789"))
        assert (await served.order("thaw", ADMIN))[0] == 401
        assert (await served.order("thaw", "another-0123456789"))[0] == 200
        served.tokens.write_text("root nothing another-0123456789\nx read x")
        status, error = await served.order("thaw", "another-0123456789")
        assert (status, error.partition("line 1: ")[2]) == (
            503,
            "expected scopes joined by commas, of: read, drain, routes, admin",
        )
        served.tokens.unlink()
        assert (await served.order("thaw", ADMIN))[0] == 503
        served.tokens.write_text("alone-0123456789\n")
        assert (await served.order("reload", "alone-0123456789"))[0] == 200


async def test_what_was_let_in_is_recorded_and_nothing_else(tmp_path: Path) -> None:
    async with face(tmp_path) as served:
        await served.order("drain", DRAINER)
        await served.order("drain", "stranger-0123456789")
        await served.order("reload", DRAINER)
        wrong = {"site": "fra"}
        async with served.session.post("/api/v1/drain", json=wrong, headers=bearer(DRAINER)) as response:
            assert response.status == 400
        async with served.session.get("/api/v1/audit?limit=1", headers=bearer(ADMIN)) as response:
            newest = (await response.json())["changes"]
        first, second = served.recorded()
        assert newest == [second]
        assert first | {"at": ""} == {
            "at": "",
            "who": "token night",
            "origin": "127.0.0.1",
            "what": "drain",
            "order": '{"site": "ams"}',
            "outcome": "done",
        }
        assert first["at"].endswith("+00:00")
        assert second["outcome"] == "refused: site fra is not configured: expected one of ams, nyc, sgp"
        assert served.list.stat().st_mode & 0o777 == 0o600
        assert "0123456789" not in served.list.read_text(), "a token is never written down"


async def test_a_change_whose_asker_left_is_recorded(tmp_path: Path) -> None:
    class Slow(Ports):
        began = asyncio.Event()

        async def reload(self) -> dict[str, str]:
            self.began.set()
            await asyncio.Event().wait()
            raise AssertionError

    ports = Slow()
    app = make_app(ports, access=Access(None, read_tokens), audit=Audit(tmp_path / "audit.log", SystemClock()))
    runner = web.AppRunner(app, handler_cancellation=True, access_log=None)
    await runner.setup()
    try:
        await web.UnixSite(runner, tmp_path / "socket").start()
        _, writer = await asyncio.open_unix_connection(tmp_path / "socket")
        writer.write(b"POST /api/v1/reload HTTP/1.1\r\nHost: x\r\nContent-Length: 0\r\n\r\n")
        async with asyncio.timeout(10):
            await ports.began.wait()
            writer.close()
            await asyncio.to_thread(until, (tmp_path / "audit.log").exists, "the change is recorded", 10.0)
        assert json.loads((tmp_path / "audit.log").read_text())["outcome"] == "broken off: who asked has gone"
    finally:
        await runner.cleanup()


async def test_over_the_unix_socket_the_kernel_says_who(tmp_path: Path) -> None:
    async with face(tmp_path, unix=tmp_path / "socket", reading=Reading.TOKEN) as served:
        assert await served.look("/api/v1/status") == 200
        assert await served.look("/api/v1/audit") == 200
        assert await served.order("drain") == (200, "")
        (only,) = served.recorded()
        assert (only["who"], only["origin"]) == (
            f"user {pwd.getpwuid(os.getuid()).pw_name}",
            f"unix socket, process {os.getpid()}",
        )


async def test_reading_by_token_leaves_loopback_open(tmp_path: Path) -> None:
    async with face(tmp_path, reading=Reading.TOKEN) as served:
        for path in ("/api/v1/status", "/metrics", "/", "/healthz"):
            assert await served.look(path) == 200


@pytest.mark.skipif(os.geteuid() != 0, reason="makes network namespaces")
@pytest.mark.parametrize("reading", list(Reading))
async def test_off_loopback_nothing_is_changed_in_the_clear(tmp_path: Path, reading: Reading) -> None:
    with segment({"member": ["198.51.100.1/24"], "desk": ["198.51.100.2/24"]}) as hosts:
        bound = await asyncio.to_thread(_bound, hosts.namespace("member"))
        async with face(tmp_path, bound=bound, reading=reading) as served:

            async def ask(method: str, path: str, token: str = "") -> tuple[int, str]:
                return await asyncio.to_thread(_ask, hosts.namespace("desk"), served.port, method, path, token)

            for name in ORDERS:
                status, answer = await ask("POST", f"/api/v1/{name}", ADMIN)
                assert (status, answer.partition(",")[0]) == (
                    403,
                    '{"error":"changes over plain HTTP are refused from 198.51.100.2',
                )
            assert (await ask("GET", "/api/v1/audit", ADMIN))[0] == 403
            for path in ("/api/v1/status", "/metrics", "/api/v1/where?path=blogs:a"):
                assert (await ask("GET", path))[0] == (200 if reading is Reading.OPEN else 401)
                assert (await ask("GET", path, READER))[0] == 200
            assert served.recorded() == []


def _bound(namespace: str) -> socket.socket:
    """A socket belongs to the namespace in which its thread made it. To be run in a thread that ends afterwards."""
    return _inside(namespace, lambda: socket.create_server(("198.51.100.1", 0)))


def _ask(namespace: str, port: int, method: str, path: str, token: str) -> tuple[int, str]:
    def ask() -> tuple[int, str]:
        connection = http.client.HTTPConnection("198.51.100.1", port, timeout=10)
        connection.request(method, path, body=b"{}", headers=bearer(token) if token else {})
        answer = connection.getresponse()
        with contextlib.closing(connection):
            return answer.status, answer.read().decode()

    return _inside(namespace, ask)


def _inside(namespace: str, act: Callable[[], T]) -> T:
    """In a thread of its own, which is the only one that moves."""

    def moved() -> T:
        setns(namespace)
        return act()

    with ThreadPoolExecutor(1) as thread:
        return thread.submit(moved).result()
