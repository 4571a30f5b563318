"""A WebSocket through the edge: after the handshake bytes go both ways as they are, whatever extensions were agreed.

Laws: the handshake is a read and judged like one; what comes after it is not judged, and nothing that it changes is
waited for. Who does not take what is sent to it stops the other side; a tunnel in which nothing moves for
`websocket_silence_seconds_max` ends; when either side ends, so does the other.
"""

import asyncio
import contextlib
from collections import deque
from collections.abc import Mapping, Sequence

import aiohttp
from aiohttp import web
from aiohttp.abc import AbstractStreamWriter
from aiohttp.http import HttpVersion11, StreamWriter
from aiohttp.streams import EMPTY_PAYLOAD
from multidict import CIMultiDict

from anycastle.replicator.edge_exchange import Exchange

QUEUE_BYTES_MAX = 256 * 1024
"""On its way in one direction; the kernel has its own."""
LAST_SECONDS = 2.0
"""For what is under way when one side has ended."""
SWITCH = {"Connection": "Upgrade", "Upgrade": "websocket"}


def wanted(request: web.BaseRequest) -> CIMultiDict[str] | None:
    """The fields that ask for a WebSocket (RFC 6455 section 4.1), which end at each hop; None when it does not."""
    fields: Mapping[str, str] = request.headers
    named = {token.strip().lower() for token in fields.get("Connection", "").split(",")}
    if request.method != "GET" or request.version != HttpVersion11 or request.body_exists or "upgrade" not in named:
        return None
    return CIMultiDict(SWITCH) if fields.get("Upgrade", "").strip().lower() == "websocket" else None


class _Flow:
    """One direction: aiohttp's parser of what comes in on one side, and the task that writes it to the other."""

    def __init__(self, source: asyncio.Transport, quiet: asyncio.Timeout, silence_seconds: float) -> None:
        self.bytes = 0
        self._source, self._quiet, self._silence = source, quiet, silence_seconds
        self._waiting: deque[bytes] = deque()
        self._queued = 0
        self._moved = asyncio.Event()
        self._ended = False

    def feed_data(self, data: bytes) -> tuple[bool, bytes]:
        self._waiting.append(bytes(data))
        self._queued += len(data)
        self._moved.set()
        if self._queued > QUEUE_BYTES_MAX:
            self._source.pause_reading()
        if not self._quiet.expired():
            self._quiet.reschedule(asyncio.get_running_loop().time() + self._silence)
        return False, b""

    def feed_eof(self) -> None:
        self._ended = True
        self._moved.set()

    async def carry(self, writer: AbstractStreamWriter) -> None:
        """Until the source ends or the other side is gone."""
        while True:
            while self._waiting:
                data = self._waiting.popleft()
                await writer.write(data)
                await writer.drain()
                self.bytes += len(data)
                self._queued -= len(data)
                if self._queued <= QUEUE_BYTES_MAX and not self._ended:
                    self._source.resume_reading()
            if self._ended:
                return
            await self._moved.wait()
            self._moved.clear()


async def tunnel(
    exchange: Exchange,
    upstream: aiohttp.ClientResponse,
    headers: CIMultiDict[str],
    verdict: str,
    *,
    silence_seconds_max: float,
) -> web.StreamResponse:
    """From the 101 of `upstream` to the end of the connection; `headers` are end to end."""
    request, loop = exchange.request, asyncio.get_running_loop()
    signed = exchange.signed(headers, verdict)
    signed.update(SWITCH)
    answer = web.StreamResponse(status=101, headers=signed)
    connection = upstream.connection
    if connection is None or connection.protocol is None or connection.transport is None or request.transport is None:
        upstream.close()
        raise ConnectionResetError("gone before the tunnel was made")
    async with upstream:
        await answer.prepare(request)
        answer.force_close()
        connection.protocol.read_timeout = None
        with contextlib.suppress(TimeoutError, OSError, aiohttp.ClientError):
            async with asyncio.timeout(silence_seconds_max) as quiet:
                down = _Flow(connection.transport, quiet, silence_seconds_max)
                up = _Flow(request.transport, quiet, silence_seconds_max)
                connection.protocol.set_parser(down, EMPTY_PAYLOAD)
                request.protocol.set_parser(up)  # type: ignore[arg-type]  # all that it calls is there
                await _both(((down, request.writer), (up, StreamWriter(connection.protocol, loop))))
        for transport in (connection.transport, request.transport):
            if transport is not None and transport.get_write_buffer_size():
                transport.abort()  # closing would wait for somebody who takes nothing
        upstream.close()
    return answer


async def _both(flows: Sequence[tuple[_Flow, AbstractStreamWriter]]) -> None:
    """Until one ends; then the other may finish what it has."""
    async with asyncio.TaskGroup() as group:
        tasks = [group.create_task(_quietly(flow, writer)) for flow, writer in flows]
        await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
        for flow, _ in flows:
            flow.feed_eof()
        _, left = await asyncio.wait(tasks, timeout=LAST_SECONDS)
        for task in left:
            task.cancel()


async def _quietly(flow: _Flow, writer: AbstractStreamWriter) -> None:
    with contextlib.suppress(OSError, aiohttp.ClientError):
        await flow.carry(writer)
