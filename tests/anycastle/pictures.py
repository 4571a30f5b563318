"""`script/pictures`: the dashboard's main states as PNG, seen while three real members play the story."""

import asyncio
import sys
from pathlib import Path

from playwright.async_api import ViewportSize

from tests.anycastle.page_story import cluster, drained, page_of, users, well, withheld
from tests.health.browser import opened

SIZE = ViewportSize(width=1200, height=900)
CHART_SECONDS = 45.0
"""So that the charts have something to show."""
USER_SECONDS = 0.7
BYTES_MAX = 150_000


async def take(folder: Path) -> None:
    with cluster() as made:
        async with users(made, pause_seconds=USER_SECONDS), opened(page_of(made), size=SIZE) as (page, _):

            async def picture(name: str) -> None:
                if name == "well":
                    await asyncio.sleep(CHART_SECONDS)
                await page.evaluate("scrollTo(0, 0)")
                file = folder / f"dashboard-{name}.png"
                shot = await page.screenshot(path=file)
                print(f"{file}: {len(shot)} bytes")
                assert len(shot) <= BYTES_MAX, f"expected at most {BYTES_MAX}"

            for chapter in (well, withheld, drained):
                await page.reload()
                await chapter(made, page, picture)


if __name__ == "__main__":
    asyncio.run(take(Path(sys.argv[1] if len(sys.argv) > 1 else "docs")))
