"""One request through the edge, and the exchange with whoever answers it.

Laws: bodies stream, in both directions, a chunk at a time; a request body is read once, so it is sent once; an answer
that breaks off on its way to us breaks off on its way to the client, never ends as if it were whole.
"""

import math
from collections.abc import AsyncIterator
from dataclasses import dataclass

import aiohttp
from aiohttp import web
from multidict import CIMultiDict

from anycastle.replicator.edge_headers import uncached
from anycastle.replicator.edge_target import Target
from anycastle.replicator.listen import cut

CHUNK_BYTES = 64 * 1024
NO_AUTO_HEADERS = ("Accept", "Accept-Encoding", "User-Agent", "Content-Type")
"""The client library adds these unless told not to; a proxy has no wishes of its own."""


class BodyTooLong(Exception):
    """The request body passed its limit while it was read; answered 413."""


class RequestBody:
    """A client's request body, read as it is passed on."""

    def __init__(self, request: web.BaseRequest, *, bytes_max: int) -> None:
        self._request = request
        self._bytes_max = bytes_max
        self.started = False
        self.too_long = (request.content_length or 0) > bytes_max

    def stream(self) -> AsyncIterator[bytes] | None:
        """The chunks; None when the request has no body."""
        return self._chunks() if self._request.body_exists else None

    async def _chunks(self) -> AsyncIterator[bytes]:
        self.started = True
        count = 0
        if self._request.headers.get("Expect", "").lower() == "100-continue":
            await self._request.writer.write(b"HTTP/1.1 100 Continue\r\n\r\n")
            self._request.writer.output_size = 0  # that was not yet the answer
        async for chunk in self._request.content.iter_any():
            count += len(chunk)
            if count > self._bytes_max:
                self.too_long = True
                raise BodyTooLong
            yield chunk


@dataclass(frozen=True, slots=True, kw_only=True)
class Exchange:
    """A request that the edge has understood."""

    request: web.BaseRequest
    target: Target
    raw_path: str
    """As the client sent it, query included."""
    headers: CIMultiDict[str]
    """End to end, with what we know of the client."""
    body: RequestBody
    hops: str
    """Members that it passed before us; the empty string when it came from outside."""
    site: str

    def plain(self, status: int, verdict: str, line: str, *, retry_after_seconds: float | None = None) -> web.Response:
        """Our own answer: one line that says why, never cached."""
        return plain_answer(self.site, status, verdict, line, retry_after_seconds=retry_after_seconds)

    def answer_headers(self, headers: CIMultiDict[str], verdict: str) -> CIMultiDict[str]:
        """Of an answer that somebody else made."""
        return _signed(headers, self.site, verdict)

    async def relay(
        self, upstream: aiohttp.ClientResponse, headers: CIMultiDict[str], verdict: str
    ) -> web.StreamResponse:
        """Stream an answer to the client; when either side breaks off, so does the other."""
        answer = web.StreamResponse(
            status=upstream.status, reason=upstream.reason, headers=self.answer_headers(headers, verdict)
        )
        async with upstream:
            try:
                await answer.prepare(self.request)
                async for chunk in upstream.content.iter_chunked(CHUNK_BYTES):
                    await answer.write(chunk)
                await answer.write_eof()
            except (aiohttp.ClientError, OSError):
                cut(self.request)
        return answer


def plain_answer(
    site: str, status: int, verdict: str, line: str, *, retry_after_seconds: float | None = None
) -> web.Response:
    headers = _signed(uncached(CIMultiDict()), site, verdict)
    if retry_after_seconds is not None:
        headers["Retry-After"] = str(max(1, math.ceil(retry_after_seconds)))
    return web.Response(status=status, text=line + "\n", headers=headers)


async def read_held(upstream: aiohttp.ClientResponse, *, bytes_max: int) -> bytes | None:
    """The whole answer; None when it is longer than may be held."""
    held = bytearray()
    async for chunk in upstream.content.iter_chunked(CHUNK_BYTES):
        held += chunk
        if len(held) > bytes_max:
            return None
    return bytes(held)


def _signed(headers: CIMultiDict[str], site: str, verdict: str) -> CIMultiDict[str]:
    signed = headers.copy()
    signed["X-Anycastle-Site"] = site
    signed["X-Anycastle-Verdict"] = verdict
    signed.setdefault("Server", "anycastle")
    return signed
