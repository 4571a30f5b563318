"""The HTTP face of a member: page, JSON API, event stream, metrics; on TCP for people, on a Unix socket for commands.

Laws: reading changes nothing and costs a bounded amount; who may do what is decided in `access` alone, by the Unix
socket's file or by a token in a header, which no foreign page can send; each change that was let in is in `audit`; each
path is in `openapi`. No answer loads anything from another host.
"""

import asyncio
import contextlib
from collections.abc import Awaitable, Callable, Iterator, Mapping
from pathlib import Path
from typing import Any, Protocol

import msgspec
from aiohttp import web

from anycastle.errors import AnycastleError
from anycastle.health import ask
from anycastle.health.access import Access, Caller
from anycastle.health.ask import Address
from anycastle.health.audit import SHOWN_MAX, Audit
from anycastle.health.event import Event
from anycastle.health.metrics import CONTENT_TYPE, Exporter
from anycastle.health.openapi import PATH as OPENAPI_PATH
from anycastle.health.openapi import document
from anycastle.health.report import ConflictReport, Snapshot
from anycastle.health.series import POINTS_MAX, HistoryReport
from anycastle.health.settings import Scope
from anycastle.health.timeline import SHOWN_MAX as TIMELINE_MAX
from anycastle.health.view import show_path

EVENT_PAUSE_SECONDS = 0.25
"""At most four pictures a second: faster is unreadable."""
EVENT_SILENCE_SECONDS_MAX = 5.0
"""A picture at least so often, so that a page knows that it is connected."""
EVENT_WRITE_SECONDS_MAX = 30.0
"""A reader that takes nothing for so long has gone."""
STREAMS_MAX = 64
BODY_BYTES_MAX = 16 * 1024
MAP_NETWORKS_MAX = 1000
"""On one page of the map, which is made at once: about 20 ms of the process that also replicates."""

PAGE = Path(__file__).parent / "page"
PAGE_TYPES = {".html": "text/html", ".js": "text/javascript", ".css": "text/css", ".svg": "image/svg+xml"}
PAGE_FILES = {
    "/" if file.name == "index.html" else f"/{file.name}": (file.name, PAGE_TYPES[file.suffix])
    for file in sorted(PAGE.iterdir())
    if file.suffix in PAGE_TYPES
}

SECURITY_HEADERS = {
    "Content-Security-Policy": "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; "
    "img-src 'self'; base-uri 'none'; form-action 'self'; frame-ancestors 'none'",
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
    "Referrer-Policy": "no-referrer",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Cache-Control": "no-store",
}

Json = Mapping[str, Any]
Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]


class DashboardPorts(Protocol):
    """What the dashboard needs of the application. Any `AnycastleError` raised here is answered 400 with its line."""

    def status(self) -> Snapshot: ...

    async def where(self, group: str, path: bytes) -> Json:
        """Which sites have which version of a path, and why one is withheld; `summary` is one sentence for people."""
        ...

    def explain(self, name: str, client: Address | None, type: str) -> Json:
        """What a client would get, with every reason; `summary` is one sentence for people."""
        ...

    def map(self, name: str, after: str, limit: int) -> Json:
        """The networks of the map for one name, at most `limit`; the mapping's `next` is the next page's `after`."""
        ...

    def conflicts(self) -> list[ConflictReport]:
        """All of them, the newest first."""
        ...

    def series(self, points: int) -> HistoryReport:
        """The newest so many points of each series of the last hour."""
        ...

    async def timeline(self, site: str, place: str, name: str, limit: int) -> list[Event]:
        """What happened, the newest first; `place` is the beginning of a GROUP:PATH. What is empty excludes nothing."""
        ...

    async def wait(self, group: str, path: bytes, sites: tuple[str, ...], timeout_seconds: float) -> Json:
        """Until landed at the sites (empty: all); must return by itself when the time is over."""
        ...

    def drain(self, site: str, group: str, drained: bool) -> Json:
        """`group` may be ALL_GROUPS."""
        ...

    def plan(self) -> Json:
        """What routers would be told next."""
        ...

    def freeze(self, reason: str) -> Json:
        """The routes of this member stay as they are until `thaw`."""
        ...

    def thaw(self) -> Json: ...

    def accept(self) -> Json:
        """What is refused as too many route changes at once may happen."""
        ...

    async def resync(self, group: str) -> Json:
        """`group` may be ALL_GROUPS; returns when it has begun."""
        ...

    async def conflict(self, id: int, keep: str) -> Json:
        """A conflict's bytes as base64 (`keep` is empty), or the end of it: `current` or `theirs` is kept."""
        ...

    async def reload(self) -> Json: ...

    async def restart(self) -> Json:
        """Returns when another process is about to take over."""
        ...

    def scrub(self, group: str | None) -> Json:
        """Begin to read all files of a group again (None: of all groups); how far it is, as `scrubbing`."""
        ...

    def scrubbing(self) -> Json:
        """How far the passes are."""
        ...

    async def changed(self, seen: int) -> int:
        """Returns once `status().generation` is not `seen` any more (`Changes.after`)."""
        ...


def make_app(ports: DashboardPorts, *, access: Access, audit: Audit, page: bool = True) -> web.Application:
    """The whole application of one listener."""
    dashboard = _Dashboard(ports, access, audit)
    app = web.Application(middlewares=[_errors], client_max_size=BODY_BYTES_MAX)
    app.on_response_prepare.append(_secure)
    app.on_shutdown.append(dashboard.close)
    if page:
        for url, (file, content_type) in PAGE_FILES.items():
            app.router.add_get(url, _static((PAGE / file).read_bytes(), content_type))
    app.router.add_get("/healthz", dashboard.healthz)
    app.router.add_get(OPENAPI_PATH, _static(msgspec.json.encode(document()), "application/json"))
    reading = {
        "/metrics": dashboard.metrics,
        "/api/v1/status": dashboard.status,
        "/api/v1/sites": dashboard.sites,
        "/api/v1/routes": dashboard.routes,
        "/api/v1/plan": dashboard.plan,
        "/api/v1/lag": dashboard.lag,
        "/api/v1/conflicts": dashboard.conflicts,
        "/api/v1/series": dashboard.series,
        "/api/v1/timeline": dashboard.timeline,
        "/api/v1/where": dashboard.where,
        "/api/v1/explain": dashboard.explain,
        "/api/v1/map": dashboard.map,
        "/api/v1/scrub": dashboard.scrubbing,
    }
    for path, read in reading.items():
        app.router.add_get(path, dashboard.admitted(Scope.READ, read))
    app.router.add_get("/api/v1/audit", dashboard.admitted(Scope.ADMIN, dashboard.changes))
    # HEAD of what never ends, or ends when a file lands, has no use.
    app.router.add_get("/api/v1/wait", dashboard.admitted(Scope.READ, dashboard.wait), allow_head=False)
    app.router.add_get("/api/v1/events", dashboard.admitted(Scope.READ, dashboard.events), allow_head=False)
    changing = {
        "drain": (Scope.DRAIN, dashboard.drain),
        "undrain": (Scope.DRAIN, dashboard.undrain),
        "freeze": (Scope.ROUTES, dashboard.freeze),
        "thaw": (Scope.ROUTES, dashboard.thaw),
        "accept": (Scope.ROUTES, dashboard.accept),
        "reload": (Scope.ADMIN, dashboard.reload),
        "restart": (Scope.ADMIN, dashboard.restart),
        "scrub": (Scope.ADMIN, dashboard.scrub),
        "resync": (Scope.ADMIN, dashboard.resync),
        "conflict": (Scope.ADMIN, dashboard.conflict),
    }
    for name, (scope, change) in changing.items():
        app.router.add_post(f"/api/v1/{name}", dashboard.recorded(name, scope, change))
    return app


class _Dashboard:
    def __init__(self, ports: DashboardPorts, access: Access, audit: Audit) -> None:
        self._ports = ports
        self._access = access
        self._audit = audit
        self._exporter = Exporter(ports.status)
        self._long: set[asyncio.Task[Any]] = set()

    # ---- who may -----------------------------------------------------------------------------------------------------

    def admitted(self, scope: Scope, handler: Handler) -> Handler:
        async def guarded(request: web.Request) -> web.StreamResponse:
            self._access.admit(request, scope)
            return await handler(request)

        return guarded

    def recorded(self, name: str, scope: Scope, handler: Handler) -> Handler:
        async def guarded(request: web.Request) -> web.StreamResponse:
            caller = self._access.admit(request, scope)
            order = (await request.read()).decode("utf-8", "backslashreplace")
            return await self._recording(caller, name, order, handler(request))

        return guarded

    async def _recording(
        self, caller: Caller, name: str, order: str, answer: Awaitable[web.StreamResponse]
    ) -> web.StreamResponse:
        outcome = "broken off: who asked has gone"
        try:
            response = await answer
            outcome = "done"
        except AnycastleError as error:
            outcome = f"refused: {error}"
            raise
        except web.HTTPException as error:
            outcome = f"refused: {error.text or error.reason}"
            raise
        except Exception as error:
            outcome = f"failed: {error!r}"
            raise
        finally:
            self._audit.record(caller, name, order, outcome)
        return response

    # ---- reading ---------------------------------------------------------------------------------------------------

    async def healthz(self, request: web.Request) -> web.Response:
        return web.Response(text="ok\n")

    async def metrics(self, request: web.Request) -> web.Response:
        return web.Response(body=self._exporter.text(), headers={"Content-Type": CONTENT_TYPE})

    async def status(self, request: web.Request) -> web.Response:
        ask.parameters(request)
        return _json(self._ports.status())

    async def sites(self, request: web.Request) -> web.Response:
        ask.parameters(request)
        status = self._ports.status()
        return _json({"member": status.member, "isolated": status.isolated, "sites": status.sites})

    async def routes(self, request: web.Request) -> web.Response:
        ask.parameters(request)
        status = self._ports.status()
        return _json({"member": status.member, "sessions": status.sessions, "holds": status.holds})

    async def plan(self, request: web.Request) -> web.Response:
        ask.parameters(request)
        return _json(self._ports.plan())

    async def lag(self, request: web.Request) -> web.Response:
        ask.parameters(request)
        status = self._ports.status()
        flights = {"flights": status.flights, "flights_total": status.flights_total}
        return _json({"member": status.member, "groups": status.groups, **flights})

    async def conflicts(self, request: web.Request) -> web.Response:
        ask.parameters(request)
        return _json({"conflicts": self._ports.conflicts()})

    async def series(self, request: web.Request) -> web.Response:
        ask.parameters(request)
        return _json(self._ports.series(POINTS_MAX))

    async def timeline(self, request: web.Request) -> web.Response:
        found = ask.parameters(request, "site", "path", "name", "limit")
        limit, name = ask.page_limit(found, TIMELINE_MAX), ask.name(found) if "name" in found else ""
        place = ask.place(found) if "path" in found else None
        told = f"{place.group}:{show_path(place.path)}" if place is not None else ""
        return _json({"events": await self._ports.timeline(ask.site(found), told, name, limit)})

    async def where(self, request: web.Request) -> web.Response:
        place = ask.place(ask.parameters(request, "path"))
        return _json(await self._ports.where(place.group, place.path))

    async def explain(self, request: web.Request) -> web.Response:
        found = ask.parameters(request, "name", "client", "type")
        return _json(self._ports.explain(ask.name(found), ask.client(found), ask.record_type(found)))

    async def map(self, request: web.Request) -> web.Response:
        found = ask.parameters(request, "name", "after", "limit")
        limit = ask.page_limit(found, MAP_NETWORKS_MAX)
        return _json(self._ports.map(ask.name(found), found.get("after", ""), limit))

    async def scrubbing(self, request: web.Request) -> web.Response:
        ask.parameters(request)
        return _json(self._ports.scrubbing())

    async def changes(self, request: web.Request) -> web.Response:
        limit = ask.page_limit(ask.parameters(request, "limit"), SHOWN_MAX)
        return _json({"changes": await asyncio.to_thread(self._audit.newest, limit)})

    async def wait(self, request: web.Request) -> web.Response:
        found = ask.parameters(request, "path", "sites", "timeout")
        place = ask.place(found)
        with self._long_request():
            return _json(await self._ports.wait(place.group, place.path, ask.sites(found), ask.seconds(found)))

    async def events(self, request: web.Request) -> web.StreamResponse:
        """Server-sent events: the whole picture on each change, and each new point of the series.

        The reader's browser reconnects by itself, and then asks for the series anew.
        """
        ask.parameters(request)
        with self._long_request():
            response = web.StreamResponse(headers={"Content-Type": "text/event-stream"})
            await response.prepare(request)
            await response.write(b"retry: 1000\n\n")
            # A reader that left, or that takes nothing any more, ends the stream and is no fault of ours.
            with contextlib.suppress(ConnectionResetError):
                await self._send_pictures(response)
            return response

    async def _send_pictures(self, response: web.StreamResponse) -> None:
        """One now, then one for each change or long silence; returns when the reader is too slow."""
        point = 0
        while True:
            status, newest = self._ports.status(), self._ports.series(1)
            events = b"id: %d\nevent: status\ndata: %b\n\n" % (status.generation, msgspec.json.encode(status))
            if newest.number != point:
                point = newest.number
                events += b"event: point\ndata: %b\n\n" % msgspec.json.encode(newest)
            try:
                async with asyncio.timeout(EVENT_WRITE_SECONDS_MAX):
                    await response.write(events)
            except TimeoutError:
                return
            await asyncio.sleep(EVENT_PAUSE_SECONDS)
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(EVENT_SILENCE_SECONDS_MAX - EVENT_PAUSE_SECONDS):
                    await self._ports.changed(status.generation)

    # ---- changing --------------------------------------------------------------------------------------------------

    async def drain(self, request: web.Request) -> web.Response:
        order = ask.drain_order(await request.read())
        return _json(self._ports.drain(order.site, order.group, True))

    async def undrain(self, request: web.Request) -> web.Response:
        order = ask.drain_order(await request.read())
        return _json(self._ports.drain(order.site, order.group, False))

    async def freeze(self, request: web.Request) -> web.Response:
        return _json(self._ports.freeze(ask.freeze_reason(await request.read())))

    async def thaw(self, request: web.Request) -> web.Response:
        return _json(self._ports.thaw())

    async def accept(self, request: web.Request) -> web.Response:
        return _json(self._ports.accept())

    async def resync(self, request: web.Request) -> web.Response:
        return _json(await self._ports.resync(ask.group_order(await request.read())))

    async def conflict(self, request: web.Request) -> web.Response:
        order = ask.conflict_order(await request.read())
        return _json(await self._ports.conflict(order.id, order.keep))

    async def reload(self, request: web.Request) -> web.Response:
        return _json(await self._ports.reload())

    async def restart(self, request: web.Request) -> web.Response:
        return _json(await self._ports.restart())

    async def scrub(self, request: web.Request) -> web.Response:
        return _json(self._ports.scrub(ask.scrub_order(await request.read()).group))

    # ---- the end ---------------------------------------------------------------------------------------------------

    @contextlib.contextmanager
    def _long_request(self) -> Iterator[None]:
        """Counts a request that may last, so that there are not too many and a shutdown need not wait for them."""
        if len(self._long) >= STREAMS_MAX:
            raise web.HTTPServiceUnavailable(
                text=f"more than {STREAMS_MAX} long requests: expected fewer", headers={"Retry-After": "5"}
            )
        task = asyncio.current_task()
        assert task is not None
        self._long.add(task)
        try:
            yield
        finally:
            self._long.discard(task)

    async def close(self, app: web.Application) -> None:
        for task in tuple(self._long):
            task.cancel()


def _static(body: bytes, content_type: str) -> Handler:
    async def serve(request: web.Request) -> web.Response:
        return web.Response(body=body, content_type=content_type, charset="utf-8")

    return serve


def _json(value: object, status: int = 200) -> web.Response:
    return web.Response(body=msgspec.json.encode(value), status=status, content_type="application/json")


def _error(status: int, line: str) -> web.Response:
    return _json({"error": line}, status)


@web.middleware
async def _errors(request: web.Request, handler: Handler) -> web.StreamResponse:
    """Every refusal is JSON with one line."""
    try:
        return await handler(request)
    except AnycastleError as error:
        return _error(400, str(error))
    except web.HTTPException as error:
        refusal = _error(error.status, (error.text or error.reason).splitlines()[0])
        for name in ("Allow", "Retry-After", "WWW-Authenticate"):
            if name in error.headers:
                refusal.headers[name] = error.headers[name]
        return refusal


async def _secure(request: web.Request, response: web.StreamResponse) -> None:
    response.headers.update(SECURITY_HEADERS)
