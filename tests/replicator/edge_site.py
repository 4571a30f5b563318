"""An edge for tests: a gate that says what the test wants, and a real little application behind it."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Sequence
from contextlib import asynccontextmanager, contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import aiohttp
from aiohttp import web

from anycastle.errors import AnycastleError
from anycastle.replicator.edge import Edge
from anycastle.replicator.edge_forward import ForwardError, ForwardRequest
from anycastle.replicator.entry import NO_VERSION
from anycastle.replicator.gate import Forward, Refuse, Serve
from anycastle.replicator.settings import EdgeSettings, GroupSettings
from tests.ports import free_port
from tests.replicator.members import HOST, Member, link_settings, meshed, running

ALICE = "alice.blogs.example.com"
DIGEST = b"\x01" * 32
ETAG = f'"b3-{DIGEST.hex()}"'
SERVE = Serve(None, NO_VERSION, "settled")
KNOWN = Serve(DIGEST, NO_VERSION, "landed")


class Gate:
    """The port's second adapter: verdicts as values, and what was asked."""

    def __init__(self) -> None:
        self.read: Serve | Forward | Refuse = SERVE
        self.later: list[Serve | Forward | Refuse] = []
        """Said first, one after the other."""
        self.write: Forward | Refuse | None = None
        self.elsewhere: tuple[str, ...] = ()
        self.behind: Forward | Refuse | None = None
        self.prefixes: list[bytes] = []
        self.fenced: Refuse | AnycastleError | None = None
        self.fence_open = asyncio.Event()
        self.fence_open.set()
        self.asked: list[tuple[str, bytes | None, bytes]] = []
        self.fences_begun = self.fences_done = self.writes_under_way = 0

    async def admit(
        self, group: str, path: bytes | None, prefix: bytes, *, meanwhile: bool = True
    ) -> Serve | Forward | Refuse:
        self.asked.append((group, path, prefix))
        return self.later.pop(0) if self.later else self.read

    def may_write(self, group: str) -> Forward | Refuse | None:
        return self.write

    def others(self, group: str) -> tuple[str, ...]:
        return self.elsewhere

    async def before_write(self, group: str, prefix: bytes) -> Forward | Refuse | None:
        self.prefixes.append(prefix)
        return self.behind

    @contextmanager
    def writing(self, group: str) -> Iterator[None]:
        self.writes_under_way += 1
        try:
            yield
        finally:
            self.writes_under_way -= 1

    def waiting_for(self, group: str) -> str:
        return "sgp has not acknowledged"

    async def fence(self, group: str) -> Refuse | None:
        self.fences_begun += 1
        await self.fence_open.wait()
        self.fences_done += 1
        if isinstance(self.fenced, AnycastleError):
            raise self.fenced
        return self.fenced


class Application:
    """Unmodified software: keeps what is uploaded, and remembers what it was asked."""

    def __init__(self) -> None:
        self.files: dict[str, bytes] = {"/a.jpg": b"old photo"}
        self.requests: list[web.BaseRequest] = []
        self.broken_bodies = 0
        self.special: dict[str, Callable[[web.BaseRequest], Awaitable[web.StreamResponse]]] = {}

    async def __call__(self, request: web.BaseRequest) -> web.StreamResponse:
        self.requests.append(request)
        if request.path in self.special:
            return await self.special[request.path](request)
        if request.method in ("POST", "PUT"):
            try:
                body = await request.read()
            except Exception:
                self.broken_bodies += 1
                raise
            self.files[request.path] = body
            return web.Response(
                status=201, text="stored", headers={"Set-Cookie": "session=1", "X-Length": str(len(body))}
            )
        if request.path not in self.files:
            return web.Response(status=404, text="no such file")
        headers = {
            "ETag": '"application"',
            "Last-Modified": "Mon, 01 Jan 2024 00:00:00 GMT",
            "Content-Type": "image/jpeg",
        }
        return web.Response(body=self.files[request.path], headers=headers)


@asynccontextmanager
async def application_server(application: Application) -> AsyncIterator[str]:
    runner = web.ServerRunner(web.Server(application, access_log=None), shutdown_timeout=0.1)
    await runner.setup()
    try:
        site = web.TCPSite(runner, HOST, 0)
        await site.start()
        yield f"http://{HOST}:{site.port}"
    finally:
        await runner.cleanup()


class Site:
    """An edge, its gate and its application."""

    def __init__(self, name: str, origin: str, application: Application, **settings: Any) -> None:
        self.gate, self.application = Gate(), application
        self.forwarded: list[str] = []
        self.heard: list[str] = []
        round_trips: list[tuple[str, float]] = settings.pop("heard_round_trip", [])
        self.forward: Callable[[str, ForwardRequest], Awaitable[aiohttp.ClientResponse]] = self.nowhere
        self.group = group = replace(
            GroupSettings(
                name="blogs",
                root=Path("/srv/blogs"),
                hosts=("*.blogs.example.com",),
                document_root="{1}/htdocs",
                application=origin,
                prefix_depth=1,
            ),
            **settings.pop("group", {}),
        )
        self.eligible = settings.pop("eligible", lambda site, group, prefix: True)
        self.edge = Edge(
            replace(EdgeSettings(site=name, listen=((HOST, 0),)), **settings),
            (group,),
            self.gate,
            forward=lambda member, request: self.forward(member, request),
            on_request=self.heard.append,
            on_round_trip=lambda address, seconds: round_trips.append((address, seconds)),
            eligible=lambda site, group, prefix: self.eligible(site, group, prefix),
        )

    async def nowhere(self, member: str, request: ForwardRequest) -> aiohttp.ClientResponse:
        self.forwarded.append(member)
        raise ForwardError(f"no link with {member}", sent=False)

    def url(self, path: str = "/a.jpg") -> str:
        host, port = self.edge.addresses[0]
        return f"http://{host}:{port}{path}"


@asynccontextmanager
async def site(name: str = "ams", *, origin: str = "", **settings: Any) -> AsyncIterator[Site]:
    """`origin`: another application than the one that is made; `group`: its settings, the others are the edge's."""
    application = Application()
    async with application_server(application) as own:
        made = Site(name, origin or own, application, **settings)
        made.edge.bind()
        async with running(made.edge.run()):
            yield made


@asynccontextmanager
async def two_sites(authority: Path, *, down: Sequence[str] = (), **settings: Any) -> AsyncIterator[tuple[Site, Site]]:
    """ams and nyc, each with its own application, linked by real TLS; nobody listens for those that are `down`."""
    links = link_settings(authority)
    members = {name: Member(links[name]) for name in ("ams", "nyc")}
    origins = {name: f"http://{HOST}:{free_port()}" if name in down else "" for name in members}
    async with (
        site("ams", origin=origins["ams"], **settings) as ams,
        site("nyc", origin=origins["nyc"], **settings) as nyc,
    ):
        for one in (ams, nyc):
            member = members[one.edge.settings.site]
            one.forward = member.links.forward
            member.links.edge_handler = one.edge.handle_forwarded
        async with meshed(*members.values()):
            yield ams, nyc


def signed(response: aiohttp.ClientResponse) -> tuple[int, str, str]:
    return response.status, response.headers["X-Anycastle-Site"], response.headers["X-Anycastle-Verdict"]
