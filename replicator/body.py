"""Bodies between members: one GET of a byte range each, over the members' TLS.

Laws: a body is asked for by its digest and checked against it by whoever lands it, so a wrong one costs time only; a
fetch that did not bring all that it promised says so (FetchError), and the caller goes on from where it stopped.
"""

import asyncio
import os
import re
from collections.abc import AsyncIterator, Awaitable, Callable
from urllib.parse import quote

import aiohttp
from aiohttp import web

from anycastle.clock import Clock
from anycastle.errors import AnycastleError
from anycastle.replicator.link_frame import DIGEST_BYTES
from anycastle.replicator.listen import cut
from anycastle.replicator.pace import Pace

CHUNK_BYTES = 256 * 1024
BODY_PATH = "/body/"

BodySource = Callable[[str, bytes], Awaitable[int | None]]
"""(group, digest) -> a descriptor open for reading that the caller closes, or None when no such content is here."""

_PATH = re.compile(rf"{BODY_PATH}([^/]{{1,128}})/([0-9a-f]{{{2 * DIGEST_BYTES}}})")
_RANGE = re.compile(r"bytes=([0-9]{1,19})-")


class FetchError(AnycastleError):
    """The body did not come, or not all of it."""


def body_path(group: str, digest: bytes) -> str:
    return f"{BODY_PATH}{quote(group, safe='')}/{digest.hex()}"


async def serve_body(request: web.BaseRequest, bodies: BodySource, pace: Pace, clock: Clock) -> web.StreamResponse:
    """Answer one member's GET: the content from an offset on, no faster than `pace` lets."""
    asked = _PATH.fullmatch(request.path)
    if request.method != "GET" or asked is None:
        return web.Response(status=400, text="expected GET /body/<group>/<digest>\n")
    offset = _offset(request.headers.get("Range"))
    if offset is None:
        return web.Response(status=400, text="expected Range: bytes=<offset>-\n")
    descriptor = await bodies(asked[1], bytes.fromhex(asked[2]))
    if descriptor is None:
        return web.Response(status=404, text="no such content here\n")
    try:
        return await _stream(request, descriptor, offset, pace, clock)
    finally:
        os.close(descriptor)


def _offset(header: str | None) -> int | None:
    if header is None:
        return 0
    matched = _RANGE.fullmatch(header)
    return int(matched[1]) if matched else None


async def _stream(
    request: web.BaseRequest, descriptor: int, offset: int, pace: Pace, clock: Clock
) -> web.StreamResponse:
    size = os.fstat(descriptor).st_size
    if offset > size:
        return web.Response(status=416, headers={"Content-Range": f"bytes */{size}"})
    response = web.StreamResponse(status=206 if offset else 200)
    response.content_type = "application/octet-stream"
    response.content_length = size - offset
    if offset:
        response.headers["Content-Range"] = f"bytes {offset}-{max(offset, size - 1)}/{size}"
    try:
        await response.prepare(request)
        await _send(request, response, descriptor, offset, pace, clock)
        await response.write_eof()
    except OSError:
        cut(request)
    return response


async def _send(
    request: web.BaseRequest, response: web.StreamResponse, descriptor: int, offset: int, pace: Pace, clock: Clock
) -> None:
    size = offset + (response.content_length or 0)
    piece_bytes = pace.piece_bytes(CHUNK_BYTES)
    while offset < size:
        piece = await asyncio.to_thread(os.pread, descriptor, min(piece_bytes, size - offset), offset)
        if not piece:
            cut(request)  # the file became shorter while it was sent
            break
        delay = pace.delay(len(piece), now=clock.now())
        if delay:
            await asyncio.sleep(delay)
        await response.write(piece)
        offset += len(piece)


async def read_body(response: aiohttp.ClientResponse, *, size: int, offset: int) -> AsyncIterator[bytes]:
    """The chunks of an answer to a fetch, at most CHUNK_BYTES each. Raises FetchError unless all of it comes."""
    if response.status != (206 if offset else 200):
        raise FetchError(f"answered {response.status} {response.reason}")
    if response.content_length != size - offset:
        raise FetchError(f"has {response.content_length} bytes from {offset} on, expected {size - offset}")
    left = size - offset
    async for chunk in response.content.iter_chunked(CHUNK_BYTES):
        left -= len(chunk)
        yield chunk
    if left:
        raise FetchError(f"ended {left} bytes early")
