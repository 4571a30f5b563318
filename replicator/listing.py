"""What is alive in a journal at another member, a page at a time: one GET over the members' TLS.

A member that was away for longer than the retention asks this: entries whose deletes were compacted away are those that
it holds as the newest of their paths and that are not alive. A page is a bitmap, so a million files take some 100 KB.
"""

import re
from collections.abc import Awaitable, Callable
from urllib.parse import quote

import aiohttp
import msgspec
from aiohttp import web
from pyroaring import BitMap

from anycastle.errors import AnycastleError

LISTING_PATH = "/listing/"
PAGE_SEQS = 1 << 22
"""A bitmap of so many is 512 KiB at most."""
PAGE_BYTES_MAX = 4 * 1024 * 1024

_PATH = re.compile(rf"{LISTING_PATH}([^/]{{1,128}})/([^/]{{1,128}})/([0-9]{{1,10}})")


class ListingError(AnycastleError):
    """No such page came."""


class Listing(msgspec.Struct, frozen=True):
    """Of the entries `after` < seq ≤ `upto` of a journal, those that are the newest of a path that is there."""

    upto: int
    last: bool
    """The journal ends there."""
    recorded: dict[str, int]
    """All that the answering member held when it looked: whoever holds as much can judge by this page."""
    seqs: bytes
    """A serialised roaring bitmap."""

    def alive(self) -> BitMap:
        """Raises ListingError."""
        try:
            return BitMap.deserialize(self.seqs)
        except (ValueError, IndexError) as error:
            raise ListingError(f"a page of {len(self.seqs)} bytes is no roaring bitmap") from error


ListingSource = Callable[[str, str, int], Awaitable[Listing | None]]
"""(group, origin, after) -> a page, or None when this member cannot tell."""

_encoder = msgspec.msgpack.Encoder()
_decoder = msgspec.msgpack.Decoder(Listing)


def listing_path(group: str, origin: str, after: int) -> str:
    return f"{LISTING_PATH}{quote(group, safe='')}/{quote(origin, safe='')}/{after}"


async def serve_listing(request: web.BaseRequest, listings: ListingSource) -> web.Response:
    """Answer one member's GET."""
    asked = _PATH.fullmatch(request.path)
    if request.method != "GET" or asked is None:
        return web.Response(status=400, text="expected GET /listing/<group>/<origin>/<after>\n")
    page = await listings(asked[1], asked[2], int(asked[3]))
    if page is None:
        return web.Response(status=404, text="this member cannot tell\n")
    return web.Response(body=_encoder.encode(page), content_type="application/octet-stream")


async def read_listing(response: aiohttp.ClientResponse) -> Listing:
    """Raises ListingError."""
    if response.status != 200:
        raise ListingError(f"answered {response.status} {response.reason}")
    body = bytearray()
    async for chunk in response.content.iter_chunked(64 * 1024):
        body += chunk
        if len(body) > PAGE_BYTES_MAX:
            raise ListingError(f"a page of more than {PAGE_BYTES_MAX} bytes")
    try:
        return _decoder.decode(bytes(body))
    except msgspec.MsgspecError as error:
        raise ListingError(f"not a page: {error}") from error
