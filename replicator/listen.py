"""Listening sockets and the HTTP servers on them, for links and edge alike.

Laws: a port that cannot be had is one clear error before anything has started; at most `connections_max` connections
are open, one more is told 503 and closed; when the server ends, so does every connection, within `shutdown_seconds`.
A listening socket of the process before is used as it is, with the connections that wait in it.
"""

import asyncio
import logging
import socket
import ssl
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager

from aiohttp import web

from anycastle.errors import AnycastleError

BACKLOG = 1024
"""All that may come in the second or two in which one process takes over from another."""
LOOK_SECONDS, LEAVE_LOOKS = 0.01, 30
"""At the end: for the request of a connection that was let in a moment ago, or has just had an answer. Closed with that
unread, the connection would be reset. Counted in looks, so that a machine without time for us takes nobody's turn."""
HANDSHAKE_SECONDS = 5.0
FULL_SECONDS = 1.0
FULL = (
    b"HTTP/1.1 503 Service Unavailable\r\nRetry-After: 1\r\nCache-Control: no-store\r\n"
    b"Connection: close\r\nContent-Length: 21\r\n\r\ntoo many connections\n"
)


Inherited = Callable[[socket.SocketKind, tuple[str, int]], tuple[socket.socket, ...]]
"""(kind, address) -> the sockets of the process before on that address, which are ours from then on."""


def none_inherited(kind: socket.SocketKind, address: tuple[str, int]) -> tuple[socket.socket, ...]:
    """There was no process before."""
    return ()


class _OncePerKind(logging.Filter):
    """Lets one record of each kind through: the HTTP library logs a traceback for every malformed request."""

    def __init__(self) -> None:
        super().__init__()
        self._seen: set[tuple[str, str]] = set()

    def filter(self, record: logging.LogRecord) -> bool:
        fault = record.exc_info[0] if record.exc_info else None
        kind = (str(record.msg), fault.__name__ if fault else "")
        if kind in self._seen:
            return False
        self._seen.add(kind)
        return True


HTTP_LOG = logging.getLogger("anycastle.replicator.http")
HTTP_LOG.addFilter(_OncePerKind())


class _Full(asyncio.Protocol):
    """A connection beyond the limit: the answer, time to read it, the end."""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        transport.write(FULL)
        asyncio.get_running_loop().call_later(FULL_SECONDS, transport.abort)


async def let_nobody_in(accepting: Sequence[asyncio.Server]) -> None:
    """Close listening sockets; what was accepted is a connection then.

    asyncio's `Server.close` forgets what was accepted in the same moment, and it would be reset.
    """
    loop = asyncio.get_running_loop()
    for server in accepting:
        for listener in server.sockets:
            loop.remove_reader(listener.fileno())
    await asyncio.sleep(LOOK_SECONDS)
    for server in accepting:
        server.close()


async def let_leave(open_connections: Callable[[], bool], busy: Callable[[], bool]) -> None:
    """Returns when no connection is open, or none is busy and all have had their time.

    Connections and their requests end, and time passes: there is no one event to wait for.
    """
    looks = 0
    while busy() or (looks < LEAVE_LOOKS and open_connections()):
        looks += 1
        await asyncio.sleep(LOOK_SECONDS)


def cut(request: web.BaseRequest) -> None:
    """End the client's connection at once: how it learns that an answer under way is not whole."""
    if request.transport is not None:
        request.transport.abort()


def bind_listener(
    address: tuple[str, int], what: str, fault: type[AnycastleError], inherited: Inherited = none_inherited
) -> socket.socket:
    """A listening TCP socket on `address`; raises `fault` with one clear line."""
    try:
        found = socket.getaddrinfo(*address, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)[0]
        host, port = found[4][:2]
        kept = inherited(socket.SOCK_STREAM, (str(host), int(port)))
        listener = kept[0] if kept else socket.create_server(address, family=found[0], backlog=BACKLOG)
    except OSError as error:
        raise fault(f"{address[0]}:{address[1]}: expected to listen there for {what}: {error}") from error
    listener.setblocking(False)
    return listener


@asynccontextmanager
async def serving(
    server: web.Server,
    listeners: Sequence[tuple[socket.socket, ssl.SSLContext | None]],
    *,
    connections_max: int,
    shutdown_seconds: float,
    connection: Callable[[], asyncio.Protocol] | None = None,
    finish: Callable[[], Awaitable[None]] | None = None,
) -> AsyncIterator[None]:
    """Accept on bound sockets, with TLS where they have it; they are closed at the end.

    `connection` makes the protocol of one, if it is not the server's usual; `finish` is waited for when nobody is let
    in any more and before connections are ended.
    """
    loop = asyncio.get_running_loop()

    def protocol() -> asyncio.Protocol:
        return (connection or server)() if len(server.connections) < connections_max else _Full()

    accepting = [
        await loop.create_server(
            protocol,
            sock=listener,
            ssl=tls,
            ssl_handshake_timeout=HANDSHAKE_SECONDS if tls is not None else None,
            backlog=BACKLOG,
        )
        for listener, tls in listeners
    ]
    try:
        yield
    finally:
        await let_nobody_in(accepting)
        if finish is not None:
            await finish()
        server.pre_shutdown()
        await server.shutdown(shutdown_seconds)
