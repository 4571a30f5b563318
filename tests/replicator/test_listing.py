"""Pages of what is alive, as they are asked for and as a hostile member may send them."""

from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager

import aiohttp
import msgspec
import pytest
from aiohttp import web
from pyroaring import BitMap
from yarl import URL

from anycastle.replicator import listing
from anycastle.replicator.listing import Listing, ListingError, listing_path, read_listing, serve_listing

PAGE = Listing(upto=10, last=True, recorded={"ams": 10}, seqs=BitMap([1, 3]).serialize())


async def pages(group: str, origin: str, after: int) -> Listing | None:
    return msgspec.structs.replace(PAGE, upto=after + 10) if (group, origin) == ("a b", "ams") else None


@asynccontextmanager
async def answering(handler: Callable[[web.BaseRequest], Awaitable[web.Response]]) -> AsyncIterator[str]:
    """The address of a server."""
    runner = web.ServerRunner(web.Server(handler, access_log=None))
    await runner.setup()
    try:
        site = web.TCPSite(runner, "127.0.0.1", 0)
        await site.start()
        yield f"http://127.0.0.1:{runner.addresses[0][1]}"
    finally:
        await runner.cleanup()


async def asked(path: str) -> Listing:
    async with (
        answering(lambda request: serve_listing(request, pages)) as address,
        aiohttp.ClientSession() as session,
        session.get(URL(address + path, encoded=True)) as response,
    ):
        return await read_listing(response)


async def test_a_page_comes_as_it_was_sent() -> None:
    assert await asked(listing_path("a b", "ams", 5)) == msgspec.structs.replace(PAGE, upto=15)
    with pytest.raises(ListingError, match="answered 404"):
        await asked(listing_path("a b", "nyc", 5))


async def test_what_was_not_asked_for_like_that() -> None:
    for path in ("/listing/", "/listing/a/ams", "/listing/a/ams/x", "/listing/a/ams/12345678901", "/listing/a//1"):
        with pytest.raises(ListingError, match="answered 400"):
            await asked(path)


def test_alive() -> None:
    assert PAGE.alive() == BitMap([1, 3])
    with pytest.raises(ListingError, match="no roaring bitmap"):
        msgspec.structs.replace(PAGE, seqs=b"garbage").alive()


@pytest.mark.parametrize("body", [b"", b"\xc1", msgspec.msgpack.encode({"upto": "x"}), b"x" * 2000])
async def test_what_is_no_page_is_refused(body: bytes, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(listing, "PAGE_BYTES_MAX", 1000)

    async def say(request: web.BaseRequest) -> web.Response:
        return web.Response(body=body)

    async with (
        answering(say) as address,
        aiohttp.ClientSession() as session,
        session.get(address + "/listing/a/ams/0") as response,
    ):
        with pytest.raises(ListingError, match="a page of more than 1000 bytes" if len(body) > 1000 else "not a page"):
            await read_listing(response)
