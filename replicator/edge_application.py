"""The unmodified software behind the edge, as the edge sees it.

Law: it gets what the client sent, body streamed and paths unchanged; what goes wrong between us is told as one status
and one line. Reads share a pool of kept connections; a write opens its own, so it cannot fall into a stale one and be
sent twice.
"""

from collections.abc import AsyncIterator, Iterable
from contextlib import asynccontextmanager

import aiohttp
from multidict import CIMultiDict
from yarl import URL

from anycastle.replicator.edge_exchange import NO_AUTO_HEADERS, Exchange
from anycastle.replicator.edge_forward import raw_url
from anycastle.replicator.settings import EdgeSettings, GroupSettings

CONNECT_SECONDS = 2.0
IDLE_SECONDS = 10.0
"""A kept connection is let go after so long: before usual servers close it from their side."""


class ApplicationFault(Exception):
    """No answer to pass on; `status` and the text are ours to the client."""

    def __init__(self, status: int, line: str) -> None:
        super().__init__(line)
        self.status = status


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
        kept = aiohttp.TCPConnector(limit=0, keepalive_timeout=IDLE_SECONDS)
        fresh = aiohttp.TCPConnector(limit=0, force_close=True)
        async with self._session(kept) as self._reads, self._session(fresh) as self._writes:
            yield

    async def ask(self, exchange: Exchange, headers: CIMultiDict[str], *, write: bool) -> aiohttp.ClientResponse:
        """The start of the answer, whose body is the caller's to read. Raises ApplicationFault."""
        session = self._writes if write else self._reads
        assert session is not None, "Edge.run is not running"
        if exchange.body.too_long:
            raise _too_long(self._settings)
        group = exchange.target.group.name
        try:
            return await session.request(
                exchange.request.method,
                raw_url(self._origins[group], exchange.raw_path),
                headers=headers,
                skip_auto_headers=NO_AUTO_HEADERS,
                data=exchange.body.stream(),
                allow_redirects=False,
            )
        except (aiohttp.ClientError, OSError) as error:
            if exchange.body.too_long:
                raise _too_long(self._settings) from error
            if isinstance(error, TimeoutError):
                raise ApplicationFault(504, f"the application of {group} did not answer in time") from error
            raise ApplicationFault(502, f"the application of {group} does not answer") from error

    def _session(self, connector: aiohttp.TCPConnector) -> aiohttp.ClientSession:
        size = self._settings.header_bytes_max
        return aiohttp.ClientSession(
            connector=connector,
            cookie_jar=aiohttp.DummyCookieJar(),
            auto_decompress=False,
            max_line_size=size,
            max_field_size=size,
            timeout=aiohttp.ClientTimeout(
                total=None, sock_connect=CONNECT_SECONDS, sock_read=self._settings.application_timeout_seconds
            ),
        )


def _too_long(settings: EdgeSettings) -> ApplicationFault:
    return ApplicationFault(413, f"a request body may have at most {settings.body_bytes_max} bytes")
