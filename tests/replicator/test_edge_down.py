"""An application that nobody listens for: another site answers in its stead, and nothing is done twice."""

from collections.abc import AsyncIterator
from pathlib import Path

import aiohttp
import pytest

from anycastle.replicator.gate import Forward
from tests.replicator.edge_site import KNOWN, signed, two_sites
from tests.replicator.members import make_authority


@pytest.fixture(scope="module")
def authority(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_authority(tmp_path_factory.mktemp("pki"))


@pytest.fixture
async def client() -> AsyncIterator[aiohttp.ClientSession]:
    async with aiohttp.ClientSession(headers={"Host": "alice.blogs.example.com"}) as session:
        yield session


async def test_a_read_goes_to_another_site(client: aiohttp.ClientSession, authority: Path) -> None:
    async with two_sites(authority, down=("ams",)) as (ams, nyc):
        ams.gate.read = nyc.gate.read = KNOWN
        ams.gate.elsewhere = ("nyc",)
        async with client.get(ams.url("/a.jpg")) as got:
            assert signed(got) == (200, "ams", "forward nyc")
            assert await got.read() == b"old photo"
        assert ams.edge.counters()["reason_forward_application"] == 1
        ams.gate.elsewhere = ()
        async with client.get(ams.url("/a.jpg")) as got:
            assert signed(got) == (502, "ams", "fault"), "nobody else may answer"


async def test_a_write_goes_to_another_site_once(client: aiohttp.ClientSession, authority: Path) -> None:
    async with two_sites(authority, down=("ams",)) as (ams, nyc):
        ams.gate.elsewhere = ("nyc",)
        for body in (b"photo" * 50_000, None):
            async with client.post(ams.url("/new.jpg"), data=body) as got:
                assert signed(got) == (201, "ams", "forward nyc")
            assert nyc.application.files["/new.jpg"] == (body or b"")
        assert len(nyc.application.requests) == 2
        assert (ams.gate.fences_begun, nyc.gate.fences_done) == (0, 2)
        assert ams.gate.writes_under_way == 0


async def test_writers_in_order_are_not_passed_over(client: aiohttp.ClientSession, authority: Path) -> None:
    """Which of them writes is for all sites to agree on: by their probes, a moment later."""
    async with two_sites(authority, down=("ams",), group={"writes": ("ams", "nyc")}) as (ams, nyc):
        ams.gate.elsewhere = ("nyc",)
        async with client.post(ams.url("/new.jpg"), data=b"photo") as got:
            assert signed(got) == (502, "ams", "fault")
        assert nyc.application.requests == []


async def test_what_came_from_another_site_is_given_back(client: aiohttp.ClientSession, authority: Path) -> None:
    async with two_sites(authority, down=("nyc",)) as (ams, nyc):
        nyc.gate.elsewhere = ("ams",)
        ams.gate.read = ams.gate.write = Forward(("nyc",), "landed at nyc")
        async with client.get(ams.url("/a.jpg")) as got:
            assert signed(got) == (503, "ams", "refuse")
            assert "nyc refused" in await got.text()
        async with client.post(ams.url("/a.jpg"), data=b"photo") as got:
            assert got.status == 503
            assert "the application of blogs does not answer" in await got.text()
        assert ams.application.requests == [], "no loop"
