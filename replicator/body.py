"""Bodies between members: one GET of a byte range each, over the members' TLS.

Whoever asks may take the content in pieces, each packed where that pays: 4 bytes in network order, of which the first
bit says "packed" and the others how many bytes follow. A piece is at most CHUNK_BYTES long, packed or not.

Laws: a body is asked for by its digest and checked against it by whoever lands it, so a wrong one costs time only; a
fetch that did not bring all that it promised says so (FetchError), and the caller goes on from where it stopped.
"""

import asyncio
import os
import re
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from urllib.parse import quote

import aiohttp
from aiohttp import web

from anycastle.clock import Clock
from anycastle.errors import AnycastleError
from anycastle.replicator.link_frame import DIGEST_BYTES
from anycastle.replicator.listen import cut
from anycastle.replicator.pace import Pace
from anycastle.replicator.packing import Packing, PackingError, unpack

CHUNK_BYTES = 256 * 1024
PLAIN_BYTES = 512 * 1024
"""Sent at a time of what is not packed: encrypting it keeps the event loop for a third of a millisecond."""
BODY_PATH = "/body/"
SMALL_PATH = "/bodies/"
SMALL_BYTES_MAX = 256 * 1024
"""Of one among many; what is larger has a fetch of its own."""
SMALL_MANY_MAX = 128
SMALL_TOTAL_BYTES_MAX = 8 * 1024 * 1024

BodySource = Callable[[str, bytes], Awaitable[int | None]]
"""(group, digest) -> a descriptor open for reading that the caller closes, or None when no such content is here."""

_PATH = re.compile(rf"{BODY_PATH}([^/]{{1,128}})/([0-9a-f]{{{2 * DIGEST_BYTES}}})")
_SMALL_PATH = re.compile(rf"{SMALL_PATH}([^/]{{1,128}})")
_LENGTH_BYTES = 4
_ABSENT = b"\xff" * _LENGTH_BYTES
PIECES = "application/x-anycastle-pieces"
LENGTH = "X-Anycastle-Length"
"""How many bytes of content the pieces hold."""
PACKED = 1 << 31

_RANGE = re.compile(r"bytes=([0-9]{1,19})-")


class FetchError(AnycastleError):
    """The body did not come, or not all of it."""


def body_path(group: str, digest: bytes) -> str:
    return f"{BODY_PATH}{quote(group, safe='')}/{digest.hex()}"


def asked(offset: int, *, packed: bool) -> dict[str, str]:
    """The headers of a fetch."""
    headers = {"Range": f"bytes={offset}-"} if offset else {}
    return headers | {"Accept": PIECES} if packed else headers


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
    in_pieces = request.headers.get("Accept") == PIECES
    if in_pieces:
        response.content_type = PIECES
        response.headers[LENGTH] = str(size - offset)
        response.enable_chunked_encoding()
    else:
        response.content_type = "application/octet-stream"
        response.content_length = size - offset
    if offset:
        response.headers["Content-Range"] = f"bytes {offset}-{max(offset, size - 1)}/{size}"
    try:
        await response.prepare(request)
        await _send(request, response, descriptor, (offset, size), pace, clock, Packing() if in_pieces else None)
        await response.write_eof()
    except OSError:
        cut(request)
    return response


async def _send(
    request: web.BaseRequest,
    response: web.StreamResponse,
    descriptor: int,
    span: tuple[int, int],
    pace: Pace,
    clock: Clock,
    packing: Packing | None,
) -> None:
    """The next piece is read while one is sent."""
    offset, size = span
    loop, most = asyncio.get_running_loop(), PLAIN_BYTES if packing is None else CHUNK_BYTES

    def read() -> asyncio.Future[tuple[int, bytes]]:
        count = min(pace.piece_bytes(most), size - offset)
        return loop.run_in_executor(None, _read_piece, descriptor, count, offset, packing)

    if offset >= size:
        return
    reading = read()
    try:
        while True:
            count, piece = await asyncio.shield(reading)
            if not count:
                cut(request)  # the file became shorter while it was sent
                return
            offset += count
            if offset < size:
                reading = read()
            delay = pace.delay(len(piece), now=clock.now())
            if delay:
                await asyncio.sleep(delay)
            await response.write(piece)
            if offset >= size:
                return
    finally:
        if not reading.done():  # then whoever called must not close the descriptor yet
            await asyncio.wait([reading])
        reading.exception()


def _read_piece(descriptor: int, most: int, offset: int, packing: Packing | None) -> tuple[int, bytes]:
    """How many bytes of the content, and what to send for them."""
    piece = os.pread(descriptor, most, offset)
    if packing is None:
        return len(piece), piece
    packed = packing.pack(piece)
    if packed is None:
        return len(piece), len(piece).to_bytes(4) + piece
    return len(piece), (len(packed) | PACKED).to_bytes(4) + packed


def small_path(group: str) -> str:
    return f"{SMALL_PATH}{quote(group, safe='')}"


async def serve_small(request: web.BaseRequest, bodies: BodySource, pace: Pace, clock: Clock) -> web.StreamResponse:
    """Answer a POST of digests: for each the length in 4 bytes and the content, or a length of all ones."""
    asked = _SMALL_PATH.fullmatch(request.path)
    said = await _read_at_most(request, SMALL_MANY_MAX * DIGEST_BYTES)
    if request.method != "POST" or asked is None or said is None or len(said) % DIGEST_BYTES:
        return web.Response(status=400, text=f"expected POST {SMALL_PATH}<group> of at most {SMALL_MANY_MAX} digests\n")
    answer = bytearray()
    for start in range(0, len(said), DIGEST_BYTES):
        content = await _small(await bodies(asked[1], said[start : start + DIGEST_BYTES]))
        if content is None or len(answer) + len(content) > SMALL_TOTAL_BYTES_MAX:
            answer += _ABSENT
        else:
            answer += len(content).to_bytes(_LENGTH_BYTES, "big") + content
    delay = pace.delay(len(answer), now=clock.now())
    if delay:
        await asyncio.sleep(delay)
    return web.Response(body=bytes(answer), content_type="application/octet-stream")


async def _read_at_most(request: web.BaseRequest, size: int) -> bytes | None:
    said = b""
    while chunk := await request.content.read(size + 1 - len(said)):
        said += chunk
        if len(said) > size:
            return None
    return said


async def _small(descriptor: int | None) -> bytes | None:
    if descriptor is None:
        return None
    try:
        content = await asyncio.to_thread(os.pread, descriptor, SMALL_BYTES_MAX + 1, 0)
    except OSError:
        return None
    finally:
        os.close(descriptor)
    return content if len(content) <= SMALL_BYTES_MAX else None


async def read_small(response: aiohttp.ClientResponse, digests: Sequence[bytes]) -> dict[bytes, bytes]:
    """The contents in an answer to such a POST, unchecked. Raises FetchError when it is none."""
    if response.status != 200:
        raise FetchError(f"answered {response.status} {response.reason}")
    most = SMALL_TOTAL_BYTES_MAX + SMALL_MANY_MAX * _LENGTH_BYTES
    if response.content_length is None or response.content_length > most:
        raise FetchError(f"gives {response.content_length} bytes: expected at most {most}")
    answer, at = await response.read(), 0
    found: dict[bytes, bytes] = {}
    for digest in digests:
        said, at = answer[at : at + _LENGTH_BYTES], at + _LENGTH_BYTES
        if said != _ABSENT:
            size = int.from_bytes(said, "big")
            found[digest] = answer[at : at + size]
            at += size
        if at > len(answer):
            raise FetchError("ended in the middle of a body")
    return found


async def read_body(response: aiohttp.ClientResponse, *, size: int, offset: int) -> AsyncIterator[bytes]:
    """The chunks of an answer to a fetch, at most CHUNK_BYTES each. Raises FetchError unless all of it comes."""
    if response.status != (206 if offset else 200):
        raise FetchError(f"answered {response.status} {response.reason}")
    if response.content_type == PIECES:
        async for piece in _read_pieces(response, size=size, offset=offset):
            yield piece
        return
    if response.content_length != size - offset:
        raise FetchError(f"has {response.content_length} bytes from {offset} on, expected {size - offset}")
    left = size - offset
    async for chunk in response.content.iter_chunked(CHUNK_BYTES):
        left -= len(chunk)
        yield chunk
    if left:
        raise FetchError(f"ended {left} bytes early")


async def _read_pieces(response: aiohttp.ClientResponse, *, size: int, offset: int) -> AsyncIterator[bytes]:
    left = size - offset
    if response.headers.get(LENGTH) != str(left):
        raise FetchError(f"has {response.headers.get(LENGTH)!s:.20} bytes from {offset} on, expected {left}")
    while left:
        try:
            head = int.from_bytes(await response.content.readexactly(4))
            count = head & ~PACKED
            if not 0 < count <= CHUNK_BYTES:
                raise FetchError(f"sent a piece of {count} bytes: expected 1 to {CHUNK_BYTES}")
            piece = await response.content.readexactly(count)
            if head & PACKED:
                piece = unpack(piece, bytes_max=min(CHUNK_BYTES, left))
        except asyncio.IncompleteReadError as error:
            raise FetchError(f"ended {left} bytes early") from error
        except PackingError as error:
            raise FetchError(f"sent a piece that cannot be: {error}") from error
        if not 0 < len(piece) <= left:
            raise FetchError(f"sent {len(piece)} bytes where {left} were left")
        left -= len(piece)
        yield piece
