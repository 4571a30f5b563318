"""Between a client's socket and the HTTP library: how long anything may take, and how much one client may have.

Laws: the fields of a request are whole within `head_seconds_max` of their first byte; who takes nothing of its answer
for `silence_seconds_max` is cut off; one client has at most `connections_per_client_max` connections, and one more is
told 503. An idle connection is the HTTP library's matter.
"""

import asyncio
from collections import Counter
from collections.abc import Callable
from http import HTTPStatus
from typing import Any

from aiohttp import web
from aiohttp.web_protocol import RequestHandler

from anycastle.replicator.edge_client import Proxies, network_of
from anycastle.replicator.edge_exchange import Voice
from anycastle.replicator.listen import FULL, FULL_SECONDS
from anycastle.replicator.settings import EdgeSettings


class Crowd:
    """The connections of all clients."""

    def __init__(self, settings: EdgeSettings, proxies: Proxies) -> None:
        self.settings = settings
        self.turned_away = self.too_slow = 0
        self._proxies = proxies
        self._open: Counter[str] = Counter()

    def enter(self, address: str) -> str | None:
        """What to `leave` by; None when that client has enough. The empty string is not counted."""
        if not address or self._proxies.trusts(address):
            return ""
        client = network_of(address)
        if self._open[client] >= self.settings.connections_per_client_max:
            self.turned_away += 1
            return None
        self._open[client] += 1
        return client

    def leave(self, client: str) -> None:
        if client:
            self._open[client] -= 1
            if not self._open[client]:
                del self._open[client]


class Guard(asyncio.Protocol):
    """One connection; hands everything on to the HTTP library's protocol."""

    def __init__(self, crowd: Crowd, inner: RequestHandler) -> None:
        self._crowd = crowd
        self._inner: RequestHandler | None = inner
        self._client: str | None = None
        self._transport: asyncio.Transport | None = None
        self._head: asyncio.TimerHandle | None = None
        self._unread: asyncio.TimerHandle | None = None
        self._busy = False
        self.open = True
        """Until the connection is lost; from before it is made."""

    def begun(self) -> None:
        """A request is whole: its fields at least."""
        self._busy = True
        _cancel(self._head)
        self._head = None

    def ended(self) -> None:
        """Its answer is made; what comes now is another request."""
        self._busy = False

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self._transport = transport
        self._client = self._crowd.enter((transport.get_extra_info("peername") or ("",))[0])
        if self._client is None:
            self._inner = None
            transport.write(FULL)
            self._later(FULL_SECONDS, transport.abort)
            return
        assert self._inner is not None
        self._inner.connection_made(transport)

    def data_received(self, data: bytes) -> None:
        if self._inner is None:
            return
        if not self._busy and self._head is None:
            self._head = self._later(self._crowd.settings.head_seconds_max, self._too_slow)
        self._inner.data_received(data)

    def eof_received(self) -> None:
        if self._inner is not None:
            self._inner.eof_received()

    def pause_writing(self) -> None:
        if self._inner is not None:
            self._unread = self._later(self._crowd.settings.silence_seconds_max, self._too_slow)
            self._inner.pause_writing()

    def resume_writing(self) -> None:
        _cancel(self._unread)
        if self._inner is not None:
            self._inner.resume_writing()

    def connection_lost(self, exc: Exception | None) -> None:
        self.open = False
        _cancel(self._head)
        _cancel(self._unread)
        if self._inner is not None:
            self._inner.connection_lost(exc)
            self._inner = None
        if self._client is not None:
            self._crowd.leave(self._client)

    def _too_slow(self) -> None:
        self._crowd.too_slow += 1
        assert self._transport is not None
        self._transport.abort()

    def _later(self, seconds: float, call: Callable[[], None]) -> asyncio.TimerHandle:
        return asyncio.get_running_loop().call_later(seconds, call)


class Connection(RequestHandler):
    """The HTTP library's protocol; what it refuses by itself is answered in our voice, and not with what was sent."""

    def __init__(self, server: web.Server, *, voice: Voice, **options: Any) -> None:
        super().__init__(server, **options)
        self._voice = voice

    def handle_error(
        self, request: web.BaseRequest, status: int = 500, exc: BaseException | None = None, message: str | None = None
    ) -> web.StreamResponse:
        super().handle_error(request, status, exc, message)  # which logs it, and raises when an answer has begun
        line = "expected an HTTP/1.1 request" if status == HTTPStatus.BAD_REQUEST else "this edge failed"
        answer = self._voice.plain(status, "fault", line)
        answer.force_close()
        return answer


def guard_of(request: web.BaseRequest) -> Guard | None:
    """The guard of a request's connection; None for one between members, or when it is gone."""
    protocol = request.transport.get_protocol() if request.transport is not None else None
    return protocol if isinstance(protocol, Guard) else None


def _cancel(timer: asyncio.TimerHandle | None) -> None:
    if timer is not None:
        timer.cancel()
