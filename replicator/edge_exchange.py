"""One request through the edge, and the exchange with whoever answers it.

Laws: bodies stream, in both directions, a chunk at a time; a request body is read once, so it is sent once; an answer
that breaks off on its way to us breaks off on its way to the client, never ends as if it were whole.
"""

import asyncio
import math
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass

import aiohttp
from aiohttp import web
from multidict import CIMultiDict

from anycastle.replicator.edge_headers import uncached
from anycastle.replicator.edge_target import Target
from anycastle.replicator.entry import NO_VERSION, Version
from anycastle.replicator.listen import cut
from anycastle.replicator.settings import EdgeSettings

CHUNK_BYTES = 64 * 1024
VERDICT = web.RequestKey("verdict", str)
"""Of a request, for the access log."""
NO_AUTO_HEADERS = ("Accept", "Accept-Encoding", "User-Agent", "Content-Type")
"""The client library adds these unless told not to; a proxy has no wishes of its own."""


class NoAnswer(Exception):
    """There is nothing to pass on; `status` and the text are ours to the client."""

    def __init__(self, status: int, line: str) -> None:
        super().__init__(line)
        self.status = status


class RequestBody:
    """A client's request body, read as it is passed on."""

    def __init__(self, request: web.BaseRequest, settings: EdgeSettings) -> None:
        self._request = request
        self._settings = settings
        self._first = b""
        self.exists = bool(request.body_exists)
        self.expects = self.exists and request.headers.get("Expect", "").lower() == "100-continue"
        """The client waits for a word before it sends (RFC 9110 section 10.1.1)."""
        self.started = False
        """Something of it was read: it cannot be sent again."""
        self.on_start: Callable[[], None] = lambda: None
        self.fault: NoAnswer | None = None
        """Why it cannot be had whole."""
        if (request.content_length or 0) > settings.body_bytes_max:
            self.fault = self._too_long()

    def stream(self) -> AsyncIterator[bytes] | None:
        """The chunks; None when the request has no body."""
        return self._chunks() if self.exists else None

    async def begin(self) -> None:
        """Wait for the first chunk, so that nobody is asked for a request that is given up before. Raises NoAnswer."""
        if self.exists and not self.started:
            self._first = await self._read()

    async def _chunks(self) -> AsyncIterator[bytes]:
        """What is raised here reaches the caller as the client library likes; `fault` says what it was."""
        chunk = self._first or await self._read()
        count = 0
        while chunk:
            count += len(chunk)
            if count > self._settings.body_bytes_max:
                self.fault = self._too_long()
                raise self.fault
            yield chunk
            chunk = await self._read()

    async def _read(self) -> bytes:
        if not self.started:
            self.started = True
            self.on_start()
            if self.expects:
                await self._request.writer.write(b"HTTP/1.1 100 Continue\r\n\r\n")
                self._request.writer.output_size = 0  # that was not yet the answer
        try:
            async with asyncio.timeout(self._settings.silence_seconds_max):
                return await self._request.content.readany()
        except TimeoutError:
            line = f"nothing of the request body came for {self._settings.silence_seconds_max:g} s"
            self.fault = NoAnswer(408, line)
            raise self.fault from None

    def _too_long(self) -> NoAnswer:
        return NoAnswer(413, f"a request body may have at most {self._settings.body_bytes_max} bytes")


@dataclass(slots=True)
class Voice:
    """How answers speak for us."""

    site: str
    told: bool
    """They say who gave them and why."""
    last: bool = False
    """Each ends its connection, for the edge is ending."""

    def signed(self, headers: CIMultiDict[str], verdict: str, version: Version | str | None = None) -> CIMultiDict[str]:
        signed = headers.copy()
        if self.told:
            signed["X-Anycastle-Site"] = self.site
            signed["X-Anycastle-Verdict"] = verdict
            if version and version != NO_VERSION:
                signed["X-Anycastle-Version"] = str(version)
        signed.setdefault("Server", "anycastle")
        return signed

    def plain(self, status: int, verdict: str, line: str, *, retry_after_seconds: float | None = None) -> web.Response:
        """Our own answer: one line that says why, never cached."""
        headers = self.signed(uncached(CIMultiDict()), verdict)
        if retry_after_seconds is not None:
            headers["Retry-After"] = str(max(1, math.ceil(retry_after_seconds)))
        return web.Response(status=status, text=line + "\n", headers=headers)


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
    voice: Voice

    def plain(self, status: int, verdict: str, line: str, *, retry_after_seconds: float | None = None) -> web.Response:
        """Our own answer."""
        self.request[VERDICT] = verdict
        answer = self.voice.plain(status, verdict, line, retry_after_seconds=retry_after_seconds)
        self.end_connection(answer)
        return answer

    def end_connection(self, answer: web.StreamResponse) -> None:
        """After this answer, if there is a reason to: the edge ends; nobody knows whether the body still comes; or the
        HTTP library would take the trailers of a chunked body for fields of the request that follows.
        """
        unsure = self.body.expects and not self.body.started
        if self.voice.last or unsure or "Transfer-Encoding" in self.request.headers:
            answer.force_close()

    def signed(self, headers: CIMultiDict[str], verdict: str, version: Version | str | None = None) -> CIMultiDict[str]:
        """Of an answer that somebody else made, or a file."""
        self.request[VERDICT] = verdict
        return self.voice.signed(headers, verdict, version)

    async def relay(
        self,
        upstream: aiohttp.ClientResponse,
        headers: CIMultiDict[str],
        verdict: str,
        version: Version | str | None = None,
    ) -> web.StreamResponse:
        """Stream an answer to the client; when either side breaks off, so does the other."""
        signed = self.signed(headers, verdict, version)
        answer = web.StreamResponse(status=upstream.status, reason=upstream.reason, headers=signed)
        self.end_connection(answer)
        async with upstream:
            try:
                await answer.prepare(self.request)
                async for chunk in upstream.content.iter_chunked(CHUNK_BYTES):
                    await answer.write(chunk)
                await answer.write_eof()
            except (aiohttp.ClientError, OSError):
                cut(self.request)
            except ValueError as error:  # so aiohttp says that a field would split the answer
                raise NoAnswer(502, "the answer has a field that cannot be passed on") from error
        return answer


async def read_held(upstream: aiohttp.ClientResponse, *, bytes_max: int) -> bytes | None:
    """The whole answer; None when it is longer than may be held."""
    held = bytearray()
    async for chunk in upstream.content.iter_chunked(CHUNK_BYTES):
        held += chunk
        if len(held) > bytes_max:
            return None
    return bytes(held)
