"""Ranges of bodies over plain HTTP: the same code as under TLS, without the certificates."""

import os
import tempfile
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import aiohttp
import pytest
from aiohttp import web

from anycastle.clock import SystemClock
from anycastle.replicator.body import (
    SMALL_MANY_MAX,
    SMALL_PATH,
    FetchError,
    body_path,
    read_body,
    read_small,
    serve_body,
    serve_small,
    small_path,
)
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
        answer = serve_small if request.path.startswith(SMALL_PATH) else serve_body
        return await answer(request, bodies, Pace(None), SystemClock())

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


async def test_many_small_bodies_in_one_answer_and_what_is_not_there_is_left_out() -> None:
    wanted = [b"\x01" * 32, DIGEST, b"\x02" * 32, DIGEST]
    async with shelf() as (session, _), session.post(small_path("photo blogs"), data=b"".join(wanted)) as got:
        assert await read_small(got, wanted) == {DIGEST: CONTENT}


@pytest.mark.parametrize("data", [b"x" * 31, bytes(32 * (SMALL_MANY_MAX + 1)), bytes(2**20)])
async def test_what_is_no_list_of_digests_is_refused(data: bytes) -> None:
    async with shelf() as (session, _), session.post(small_path("photo blogs"), data=data) as got:
        assert got.status == 400
        with pytest.raises(FetchError, match="answered 400"):
            await read_small(got, [DIGEST])


async def test_an_answer_that_ends_early_is_refused() -> None:
    async with shelf() as (session, _), session.post(small_path("photo blogs"), data=DIGEST) as got:
        with pytest.raises(FetchError, match="in the middle"):
            await read_small(got, [DIGEST, DIGEST])
