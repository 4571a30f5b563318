"""The page in a real browser: what it shows, that it follows, and that hostile names stay text."""

import shutil
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
from aiohttp import web

from anycastle.clock import SystemClock
from anycastle.config_tokens import read_tokens
from anycastle.health.access import Access
from anycastle.health.audit import Audit
from anycastle.health.dashboard import make_app
from anycastle.health.view import Health
from tests.health.browser import Page, opened
from tests.health.picture import Ports, site

pytestmark = pytest.mark.skipif(shutil.which("chromium") is None, reason="chromium is not installed")

HOSTILE = "<img src=x onerror='document.title=1'>"


@asynccontextmanager
async def shown(ports: Ports, profile: Path, *, dark: bool = False) -> AsyncIterator[tuple[Page, web.AppRunner]]:
    runner = web.AppRunner(
        make_app(ports, access=Access(None, read_tokens), audit=Audit(profile / "audit", SystemClock())),
        shutdown_timeout=1.0,
        access_log=None,
    )
    await runner.setup()
    try:
        await web.TCPSite(runner, "127.0.0.1", 0).start()
        async with opened(f"http://127.0.0.1:{runner.addresses[0][1]}/", profile, dark=dark) as page:
            await page.until("#connection", "live")
            yield page, runner
    finally:
        await runner.cleanup()


async def ask(page: Page, form: str, **fields: str) -> None:
    """Fills in a form and presses Enter in its first field, as by keyboard."""
    for name, value in fields.items():
        await page.run(f"document.querySelector('#{form} [name={name}]').value = {value!r}")
    await page.run(f"document.querySelector('#{form} input').focus()")
    for kind in ("keyDown", "keyUp"):
        await page.call(
            "Input.dispatchKeyEvent", type=kind, key="Enter", code="Enter", windowsVirtualKeyCode=13, text="\r"
        )


async def test_the_page(tmp_path: Path) -> None:
    ports = Ports()
    ports.change(sgp=site(pending={b"alice/": 997.0}, load=3.0))
    async with shown(ports, tmp_path) as (page, runner):
        sites = await page.text("#sites")
        for words in ("ams", "nyc", "sgp", "▲ up", "gets users", "settled", "waiting", "alice/"):
            assert words in sites
        assert await page.run("document.querySelector('#map svg').getAttribute('aria-label')") == (
            "Sites: ams up, nyc up, sgp up"
        )
        assert "8 behind" not in await page.text("#lag")
        assert "5 behind" in await page.text("#lag")
        assert "198.51.100.0/24" in await page.text("#bgp")
        assert "blogs:alice/htdocs/photo.jpg" in await page.text("#flights")
        assert "9@ams won over 8@nyc" in await page.text("#conflicts")
        assert "No override" in await page.text("#drains")
        assert "sgp is down: no answer" in await page.text("#decisions")

        ports.change(nyc=site(Health.DOWN, f"2 of 3 observers: {HOSTILE}"))
        sites = await page.until("#sites", "▼ down")
        assert HOSTILE in sites
        assert await page.run("document.querySelectorAll('img').length") == 0
        assert "nyc down" in await page.run("document.querySelector('#map svg').getAttribute('aria-label')")

        ports.drain("ams", "*", True)
        await page.until("#drains", "ams")
        ports.isolated = True
        ports.change()
        await page.until("#warning", "has lost every other member")
        ports.isolated, ports.notes = False, ("roster change: wait for fra", HOSTILE)
        ports.change()
        said = await page.until("#warning", "wait for fra")
        assert HOSTILE in said
        assert "has lost" not in said

        await ask(page, "where", path="blogs:alice/photo.jpg")
        assert "8@nyc" in await page.until("#where-answer", "has landed at 1 of 2 sites")
        await ask(page, "where", path="photo.jpg")
        await page.until("#where-answer", "expected GROUP:PATH")
        await ask(page, "explain", name="alice.blogs.example.com", client="192.0.2.1", type="AAAA")
        answer = await page.until("#explain-answer", "192.0.2.1 asking for alice.blogs.example.com AAAA gets nyc")
        assert "closest, 120 km" in answer
        assert all("status of 400" in line for line in page.complaints), page.complaints
        assert len(page.complaints) == 1

        await runner.cleanup()
        await page.until("#connection", "connection lost, trying again")
