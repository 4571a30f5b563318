"""The story of the demo, as the page of a real member shows it."""

import asyncio

import pytest

from tests.anycastle.page_story import cluster, page_of, play
from tests.health.browser import CHROMIUM, opened


@pytest.mark.timeout(180)
@pytest.mark.skipif(CHROMIUM is None, reason="chromium is not installed")
async def test_the_page_tells_the_story() -> None:
    async def no_picture(name: str) -> None:
        await asyncio.sleep(0)

    with cluster() as made:
        async with opened(page_of(made)) as (page, complaints):
            await play(made, page, no_picture)
            # While the member was away, and nothing else: no other host was asked, and no script failed.
            assert all("net::ERR" in line or "503" in line for line in complaints), complaints
