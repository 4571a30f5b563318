"""Ranges of bodies over plain HTTP: the same code as under TLS, without the certificates."""

import os
import tempfile
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import aiohttp
import pytest
from aiohttp import web

from anycastle.clock import SystemClock
from anycastle.replicator.body import FetchError, body_path, read_body, serve_body
from anycastle.replicator.pace import Pace
from tests.replicator.members import HOST

DIGEST = b"\xda" * 32
CONTENT = b"0123456789"


@asynccontextmanager
async def shelf() -> AsyncIterator[tuple[aiohttp.ClientSession, list[int]]]:
    """A server of one body in the group `photo blogs`; the descriptors that it handed out."""
    opened: list[int] = []

    async def bodies(group: str, digest: bytes) -> int | None:
        if (group, digest) != ("photo blogs", DIGEST):
            return None
        with tempfile.TemporaryFile() as file:
            file.write(CONTENT)
            file.flush()
            opened.append(os.dup(file.fileno()))
        return opened[-1]

    async def serve(request: web.BaseRequest) -> web.StreamResponse:
        return await serve_body(request, bodies, Pace(None), SystemClock())

    runner = web.ServerRunner(web.Server(serve, access_log=None), shutdown_timeout=0.1)
    await runner.setup()
    try:
        site = web.TCPSite(runner, HOST, 0)
        await site.start()
        async with aiohttp.ClientSession(f"http://{HOST}:{site.port}") as session:
            yield session, opened
    finally:
        await runner.cleanup()


@pytest.mark.parametrize(
    ("path", "asked", "status", "body"),
    [
        (body_path("photo blogs", DIGEST), None, 200, CONTENT),
        (body_path("photo blogs", DIGEST), "bytes=0-", 200, CONTENT),
        (body_path("photo blogs", DIGEST), "bytes=4-", 206, CONTENT[4:]),
        (body_path("photo blogs", DIGEST), "bytes=10-", 206, b""),
        (body_path("photo blogs", DIGEST), "bytes=11-", 416, None),
        (body_path("photo blogs", DIGEST), "bytes=-4", 400, None),
        (body_path("photo blogs", DIGEST), "bytes=1-2", 400, None),
        (body_path("photo blogs", DIGEST), "bytes=" + "9" * 30 + "-", 400, None),
        (body_path("other", DIGEST), None, 404, None),
        (body_path("photo blogs", b"\x00" * 32), None, 404, None),
        ("/body/blogs/da", None, 400, None),
        ("/body//" + "da" * 32, None, 400, None),
        ("/body/x/y/" + "da" * 32, None, 400, None),
    ],
)
async def test_ranges(path: str, asked: str | None, status: int, body: bytes | None) -> None:
    async with shelf() as (session, opened):
        async with session.get(path, headers={"Range": asked} if asked else {}) as got:
            assert got.status == status
            if body is not None:
                assert await got.read() == body
        for descriptor in opened:
            with pytest.raises(OSError, match="Bad file descriptor"):
                os.fstat(descriptor)


async def test_other_methods_are_refused() -> None:
    async with shelf() as (session, _), session.post(body_path("photo blogs", DIGEST), data=b"x") as got:
        assert got.status == 400


async def test_an_answer_that_is_not_what_was_asked_for() -> None:
    async with shelf() as (session, _):
        for path, size, offset, why in (
            (body_path("other", DIGEST), 10, 0, "answered 404"),
            (body_path("photo blogs", DIGEST), 9, 0, "expected 9"),
            (body_path("photo blogs", DIGEST), 10, 4, "answered 200"),
        ):
            async with session.get(path) as got:
                with pytest.raises(FetchError, match=why):
                    await anext(read_body(got, size=size, offset=offset))
