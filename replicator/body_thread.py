"""Large bodies, read by a thread of their own: the event loop, which fences wait for, sees none of their bytes.

Laws: as `body`, on a connection that serves nothing else; while one piece is being used the next is on its way, and no
more than that is held; whoever leaves early waits until the thread is done.
"""

import asyncio
import contextlib
import http.client
import mmap
import socket
import ssl
from collections.abc import AsyncGenerator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass

from anycastle.replicator.body import FetchError

LARGE_BYTES = 4 * 1024 * 1024
"""What is smaller costs less on a connection that is open already."""
PIECE_BYTES = 1024 * 1024


@dataclass(frozen=True, slots=True, kw_only=True)
class Where:
    """Whom to ask, and how."""

    address: tuple[str, int]
    source_address: str | None
    tls: ssl.SSLContext
    name: str
    """What the certificate must say."""
    connect_seconds: float
    silence_seconds: float


class BodyReader:
    """One GET. All but `stop` blocks."""

    def __init__(self, where: Where, path: str, *, size: int, offset: int) -> None:
        self._where = where
        self._path = path
        self._left = size - offset
        self._offset = offset
        self._socket: ssl.SSLSocket | None = None
        self._response: http.client.HTTPResponse | None = None
        self._stopped = False
        self._buffers = [memoryview(mmap.mmap(-1, min(PIECE_BYTES, self._left))) for _ in range(2)]
        """In turn: fresh pages for each piece would cost more than all the rest of reading. And whole pages, so that
        they can go to the disk as they are (`stage`)."""

    def read(self) -> memoryview:
        """The next piece; empty at the end. Good until the next but one is read. Raises FetchError, OSError."""
        if self._response is None:
            self._response = self._ask()
        self._buffers.reverse()
        piece = self._buffers[0][: self._left]
        if not piece:
            return piece
        count = self._response.readinto(piece)
        if not count:
            raise FetchError(f"ended {self._left} bytes early")
        self._left -= count
        return piece[:count]

    def _ask(self) -> http.client.HTTPResponse:
        where = self._where
        source = (where.source_address, 0) if where.source_address is not None else None
        plain = socket.create_connection(where.address, where.connect_seconds, source)
        with contextlib.ExitStack() as undo:
            undo.callback(plain.close)
            self._socket = where.tls.wrap_socket(plain, server_hostname=where.name)
            undo.pop_all()
        if self._stopped:
            raise FetchError("not wanted any more")
        self._socket.settimeout(where.silence_seconds)
        wanted = f"Range: bytes={self._offset}-\r\n" if self._offset else ""
        head = f"GET {self._path} HTTP/1.1\r\nHost: {where.name}\r\n{wanted}Connection: close\r\n\r\n"
        self._socket.sendall(head.encode("ascii"))
        with contextlib.ExitStack() as undo:
            response = undo.enter_context(http.client.HTTPResponse(self._socket, method="GET"))
            try:
                response.begin()
            except http.client.HTTPException as error:
                raise FetchError(f"answered no HTTP: {error!r}") from error
            if response.status != (206 if self._offset else 200):
                raise FetchError(f"answered {response.status} {response.reason}")
            if response.length != self._left:
                raise FetchError(f"has {response.length} bytes from {self._offset} on, expected {self._left}")
            undo.pop_all()
        return response

    def stop(self) -> None:
        """A read under way ends soon, by an error."""
        self._stopped = True
        if self._socket is not None:
            with contextlib.suppress(OSError):
                self._socket.shutdown(socket.SHUT_RDWR)

    def close(self) -> None:
        for each in (self._response, self._socket):
            if each is not None:
                each.close()


async def pieces(reader: BodyReader, pool: ThreadPoolExecutor) -> AsyncGenerator[memoryview, None]:
    """All of the body, each piece good until the next one. Raises FetchError, OSError.

    Leave it early only through `contextlib.aclosing`.
    """
    reading = pool.submit(reader.read)
    try:
        while piece := await asyncio.wrap_future(reading):
            reading = pool.submit(reader.read)
            yield piece
    finally:
        reader.stop()
        await _over(reading)
        reader.close()


async def _over(reading: Future[memoryview]) -> None:
    reading.cancel()
    waiting = asyncio.wrap_future(reading)
    await asyncio.wait([waiting])
    if not waiting.cancelled():
        waiting.exception()  # seen
