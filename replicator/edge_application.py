"""The unmodified software behind the edge, as the edge sees it.

Laws: it gets what the client sent, body streamed and paths unchanged; what goes wrong between us is told as one status
and one line. Connections are kept and used again; a request that may have changed something is never sent twice, so
writes use only connections that rested for less than a second: those a server closes just then are few.
"""

import asyncio
import socket
from collections.abc import AsyncIterator, Iterable
from contextlib import asynccontextmanager

import aiohttp
from aiohttp.client_middlewares import ClientHandlerType
from multidict import CIMultiDict
from yarl import URL

from anycastle.replicator.edge_exchange import NO_AUTO_HEADERS, Exchange, NoAnswer
from anycastle.replicator.edge_forward import once, raw_url
from anycastle.replicator.settings import EdgeSettings, GroupSettings

CONNECT_SECONDS = 2.0
IDLE_SECONDS = 10.0
"""A kept connection is let go after so long: before usual servers close it from their side."""
WRITE_IDLE_SECONDS = 1.0
CONTINUE_SECONDS = 1.0
"""A server that knows nothing of 100-continue gets the body after so long (RFC 9110 section 10.1.1)."""


class ApplicationDown(NoAnswer):
    """Nobody listens there: nothing was asked, so another site may be."""


class Applications:
    """One per group, on this site."""

    def __init__(self, settings: EdgeSettings, groups: Iterable[GroupSettings]) -> None:
        self._settings = settings
        self._origins = {group.name: URL(group.application) for group in groups}
        self._reads: aiohttp.ClientSession | None = None
        self._writes: aiohttp.ClientSession | None = None

    @asynccontextmanager
    async def open(self) -> AsyncIterator[None]:
        """The time in which they can be asked."""
        reads = self._session(IDLE_SECONDS, _patient)
        writes = self._session(WRITE_IDLE_SECONDS, once, _patient)
        async with reads as self._reads, writes as self._writes:
            yield

    async def ask(
        self, exchange: Exchange, headers: CIMultiDict[str], *, write: bool, upgrade: bool = False
    ) -> aiohttp.ClientResponse:
        """The start of the answer, whose body is the caller's to read. Raises NoAnswer, ApplicationDown."""
        session = self._writes if write else self._reads
        assert session is not None, "Edge.run is not running"
        body, group = exchange.body, exchange.target.group.name
        if body.fault is not None:
            raise body.fault
        if body.expects and not body.started:
            headers = headers.copy()
            headers["Expect"] = "100-continue"
        try:
            answer = await session.request(
                exchange.request.method,
                raw_url(self._origins[group], exchange.raw_path),
                headers=headers,
                skip_auto_headers=NO_AUTO_HEADERS,
                data=body.stream(),
                allow_redirects=False,
                read_until_eof=not upgrade,
            )
            _acknowledge(answer)
            return answer
        except (aiohttp.ClientConnectorError, aiohttp.ConnectionTimeoutError) as error:
            raise ApplicationDown(502, f"the application of {group} does not answer") from error
        except (aiohttp.ClientError, OSError) as error:
            if body.fault is not None:
                raise body.fault from error
            unknown = "; the request may or may not have been done" if write else ""
            if isinstance(error, TimeoutError):
                raise NoAnswer(504, f"the application of {group} did not answer in time{unknown}") from error
            raise NoAnswer(502, f"the application of {group} broke off{unknown}") from error

    def _session(self, idle_seconds: float, *middlewares: aiohttp.ClientMiddlewareType) -> aiohttp.ClientSession:
        size = self._settings.header_bytes_max
        return aiohttp.ClientSession(
            connector=aiohttp.TCPConnector(limit=0, keepalive_timeout=idle_seconds),
            cookie_jar=aiohttp.DummyCookieJar(),
            auto_decompress=False,
            middlewares=middlewares,
            max_line_size=size,
            max_field_size=size,
            timeout=aiohttp.ClientTimeout(
                total=None, sock_connect=CONNECT_SECONDS, sock_read=self._settings.application_timeout_seconds
            ),
        )


def _acknowledge(answer: aiohttp.ClientResponse) -> None:
    """The head of an answer, at once (tcp(7), TCP_QUICKACK).

    Many applications write the body by itself, and their kernel keeps a short one back until then: for 40 ms, on a
    connection that was used before.
    """
    transport = answer.connection.transport if answer.connection is not None else None
    connection: socket.socket | None = transport.get_extra_info("socket") if transport is not None else None
    if connection is not None:
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_QUICKACK, 1)


async def _patient(request: aiohttp.ClientRequest, handler: ClientHandlerType) -> aiohttp.ClientResponse:
    """A middleware: the client library would wait for a 100 for ever, and offers no other place to say how long."""
    told: asyncio.Future[bool] | None = request._continue
    if told is None:
        return await handler(request)
    timer = asyncio.get_running_loop().call_later(CONTINUE_SECONDS, _go_on, told)
    try:
        return await handler(request)
    finally:
        timer.cancel()


def _go_on(told: "asyncio.Future[bool]") -> None:
    if not told.done():
        told.set_result(True)
