"""nginx before an application of its own (`nginx-config` without --php), with a gate that says what the test wants."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import aiohttp
import pytest
from aiohttp import web

from anycastle.nginx import Wanted, nginx_config
from anycastle.replicator.edge_verdict import VerdictService
from anycastle.replicator.entry import NO_VERSION
from anycastle.replicator.gate import Forward, Refuse, Serve, Verdict, Wait
from anycastle.replicator.settings import EdgeSettings, GroupSettings, VerdictSettings
from tests.anycastle.nginx_sites import NGINX
from tests.ports import free_port
from tests.replicator.members import running

pytestmark = pytest.mark.skipif(not NGINX, reason="needs nginx (script/bootstrap)")
HOST = "www.example.com"


class Gate:
    def __init__(self) -> None:
        self.now: Verdict = Serve(None, NO_VERSION, "here")

    def judge(self, group: str, path: bytes | None, prefix: bytes) -> Verdict:
        return self.now

    async def admit(
        self, group: str, path: bytes | None, prefix: bytes, *, meanwhile: bool = True
    ) -> Serve | Forward | Refuse:
        assert not isinstance(self.now, Wait)
        return self.now


async def application(request: web.BaseRequest) -> web.StreamResponse:
    """Says what it was asked, and echoes a WebSocket."""
    if request.headers.get("Upgrade", "").lower() == "websocket":
        echo = web.WebSocketResponse()
        await echo.prepare(request)
        async for message in echo:
            await echo.send_str(message.data)
        return echo
    told = {
        name: request.headers.get(name, "") for name in ("Host", "X-Forwarded-For", "Forwarded", "X-Forwarded-Proto")
    }
    status = 403 if request.path == "/mine" else 500 if request.path == "/broken" else 200
    return web.json_response(told | {"path": request.raw_path}, status=status, headers={"X-From": "application"})


async def edge(request: web.BaseRequest) -> web.StreamResponse:
    return web.Response(status=418, text=f"{request.method} {request.raw_path}", headers={"X-From": "edge"})


@asynccontextmanager
async def listening(handler: object, port: int) -> AsyncIterator[None]:
    runner = web.ServerRunner(web.Server(handler, access_log=None), shutdown_timeout=0.1)  # type: ignore[arg-type]
    await runner.setup()
    try:
        await web.TCPSite(runner, "127.0.0.1", port).start()
        yield
    finally:
        await runner.cleanup()


@asynccontextmanager
async def nginx(folder: Path) -> AsyncIterator[tuple[Gate, str]]:
    """A gate, and the URL of the nginx that asks it."""
    front, behind, at_edge = free_port(), free_port(), free_port()
    group = GroupSettings(
        name="www",
        root=folder,
        hosts=(HOST,),
        document_root="",
        application=f"http://127.0.0.1:{behind}",
        prefix_depth=0,
    )
    verdict = VerdictSettings(site="ams", socket=folder / "v.sock", mode=0o666)
    gate = Gate()
    service = VerdictService(verdict, (group,), gate)
    wanted = Wanted(listen=(f"127.0.0.1:{front}",))
    (folder / "part.conf").write_text(
        nginx_config(EdgeSettings(site="ams", listen=(("127.0.0.1", at_edge),)), verdict, (group,), wanted)
    )
    temps = "".join(
        f"{kind}_temp_path {folder}/{kind}; " for kind in ("client_body", "proxy", "fastcgi", "uwsgi", "scgi")
    )
    top = f"daemon off; user root; pid {folder}/pid; events {{}}\nhttp {{ access_log off; {temps} include part.conf; }}"
    (folder / "nginx.conf").write_text(top)
    command = [NGINX, "-p", str(folder), "-e", str(folder / "error.log"), "-c", str(folder / "nginx.conf")]
    service.bind()
    async with listening(application, behind), listening(edge, at_edge), running(service.run()):
        process = await asyncio.create_subprocess_exec(*command)
        try:
            async with asyncio.timeout(10):
                while not await _open(front):
                    assert process.returncode is None, (folder / "error.log").read_text()
                    await asyncio.sleep(0.01)
            yield gate, f"http://127.0.0.1:{front}"
        finally:
            if process.returncode is None:
                process.terminate()
            await process.wait()


async def _open(port: int) -> bool:
    try:
        _, writer = await asyncio.open_connection("127.0.0.1", port)
    except OSError:
        return False
    writer.close()
    return True


async def test_an_application_behind_the_gate(tmp_path: Path) -> None:
    async with nginx(tmp_path) as (gate, url), aiohttp.ClientSession(headers={"Host": HOST}) as client:
        forged = {"X-Forwarded-For": "192.0.2.66", "Forwarded": "for=192.0.2.66", "X-Forwarded-Proto": "https"}
        async with client.get(f"{url}/a/b?c=%20d", headers=forged) as answer:
            assert answer.headers["X-Anycastle-Verdict"] == "serve"
            told = {"Host": HOST, "X-Forwarded-For": "127.0.0.1", "Forwarded": "", "X-Forwarded-Proto": "http"}
            assert await answer.json() == told | {"path": "/a/b?c=%20d"}
        for path, status in (("/mine", 403), ("/broken", 500)):
            async with client.get(f"{url}{path}") as answer:
                assert (answer.status, answer.headers["X-From"]) == (status, "application"), "its own word, not ours"
        for method in ("POST", "PUT", "DELETE", "PATCH"):
            async with client.request(method, f"{url}/a?b=%20c") as answer:
                assert (answer.status, answer.headers["X-From"]) == (418, "edge")
                assert await answer.text() == f"{method} /a?b=%20c"
        gate.now = Forward(("nyc",), "not landed")
        async with client.get(f"{url}/a?b") as answer:
            assert (answer.status, await answer.text()) == (418, "GET /a?b")
        gate.now = Refuse("no majority", 7)
        async with client.get(f"{url}/a") as answer:
            assert (answer.status, answer.headers["Retry-After"]) == (503, "7")
            assert answer.headers["X-Anycastle-Reason"] == "no majority"
            assert "X-From" not in answer.headers


async def test_a_websocket_passes_and_a_withheld_one_does_not(tmp_path: Path) -> None:
    async with nginx(tmp_path) as (gate, url), aiohttp.ClientSession(headers={"Host": HOST}) as client:
        async with client.ws_connect(f"{url}/talk") as talk:
            await talk.send_str("hello")
            assert await talk.receive_str(timeout=10) == "hello"
        gate.now = Refuse("no majority", 1)
        with pytest.raises(aiohttp.WSServerHandshakeError, match="503"):
            await client.ws_connect(f"{url}/talk")
