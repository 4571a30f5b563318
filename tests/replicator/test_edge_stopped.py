"""A site that is stopped, not ended: its kernel still takes connections and bytes, and nothing ever comes back."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import aiohttp
import pytest

from anycastle.replicator.gate import Forward
from tests.replicator.edge_process import Apart, apart
from tests.replicator.edge_site import ALICE, Site, signed, site
from tests.replicator.members import Member, link_settings, listening, make_authority, until

SOON_SECONDS = 5.0
"""A link is given up after 3 s of silence."""


@pytest.fixture(scope="module")
def authority(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_authority(tmp_path_factory.mktemp("pki"))


@asynccontextmanager
async def two_sites(authority: Path) -> AsyncIterator[tuple[Site, Apart, aiohttp.ClientSession]]:
    """ams here, and nyc apart, to which all goes."""
    settings = link_settings(authority, ("ams", "nyc"))
    member = Member(settings["ams"])
    async with apart(authority, settings["nyc"]) as nyc, site("ams") as ams, listening(member):
        ams.forward = member.links.forward
        ams.gate.read = ams.gate.write = Forward(("nyc",), "nyc has it")
        await until(lambda: member.links.connected() == {"nyc"}, "linked")
        async with aiohttp.ClientSession(headers={"Host": ALICE}) as client:
            yield ams, nyc, client


async def body(*, before_rest: asyncio.Event) -> AsyncIterator[bytes]:
    yield b"half of "
    await before_rest.wait()
    yield b"a photo"


async def test_a_write_whose_body_was_not_sent_is_not_done(authority: Path) -> None:
    async with two_sites(authority) as (ams, nyc, client):
        loop = asyncio.get_running_loop()
        async with client.post(ams.url("/x"), data=b"photo") as got:
            assert signed(got) == (201, "ams", "forward nyc")
        nyc.stop()
        began = loop.time()
        async with client.post(ams.url("/x"), data=b"other") as got:
            assert signed(got) == (503, "ams", "refuse")
            assert got.headers["Retry-After"] == "1"
        assert loop.time() - began < SOON_SECONDS
        nyc.go_on()
        ams.gate.read = Forward(("nyc",), "nyc has it")

        async def content() -> bytes:
            async with client.get(ams.url("/x")) as got:
                return await got.read() if got.status == 200 else b""

        async with asyncio.timeout(10):
            while not (found := await content()):  # noqa: ASYNC110 - what is waited for has no event
                await asyncio.sleep(0.05)
        assert found == b"photo", "it never reached the application there, not even later"


async def test_a_write_whose_body_was_begun_has_an_unknown_outcome(authority: Path) -> None:
    async with two_sites(authority) as (ams, nyc, client):
        loop, rest = asyncio.get_running_loop(), asyncio.Event()
        async with asyncio.TaskGroup() as group:
            uploading = group.create_task(client.post(ams.url("/x"), data=body(before_rest=rest)))
            await asyncio.sleep(0.3)  # so that the other site has asked for it; if not, the answer below is another
            nyc.stop()
            began = loop.time()
            rest.set()
            got = await uploading
        assert signed(got) == (504, "ams", "fault")
        assert "may or may not have been done" in await got.text()
        assert loop.time() - began < SOON_SECONDS


async def test_a_write_without_a_body_has_an_unknown_outcome(authority: Path) -> None:
    async with two_sites(authority) as (ams, nyc, client):
        async with client.delete(ams.url("/x")) as got:
            assert got.status == 404
        nyc.stop()
        async with asyncio.timeout(SOON_SECONDS), client.delete(ams.url("/x")) as got:
            assert signed(got) == (504, "ams", "fault")


async def test_a_read_goes_to_the_next_site(authority: Path) -> None:
    async with two_sites(authority) as (ams, nyc, client):
        nyc.stop()
        async with asyncio.timeout(SOON_SECONDS), client.get(ams.url("/a.jpg")) as got:
            assert signed(got) == (503, "ams", "refuse")
            assert "nyc" in await got.text()


async def test_an_answer_under_way_breaks_off(authority: Path) -> None:
    async with two_sites(authority) as (ams, nyc, client), client.get(ams.url("/endless")) as got:
        assert signed(got) == (200, "ams", "forward nyc")
        assert await got.content.readexactly(100_000)
        nyc.stop()
        async with asyncio.timeout(SOON_SECONDS):
            with pytest.raises(aiohttp.ClientError):
                await got.read()
