"""The story of the demo as an operator sees it: three real members, and the page of one of them in a real browser.

Law: the story waits for what the page shows and for nothing else; `picture` is called where somebody may want one.
"""

import asyncio
import contextlib
import functools
import signal
import urllib.request
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator

from playwright.async_api import Page

from anycastle.replicator.message import PROTOCOL
from examples.demo.collector import Collector
from tests.anycastle.members import ADDRESS, Members, prepared, until
from tests.health.browser import lacks, shows
from tests.ports import free_port

Picture = Callable[[str], Awaitable[None]]
TOKEN = "operator-0123456789abcdef"
PREFIX = "198.51.100.0/24"
ROUTER = "127.0.99.253"
COORDINATES = {"ams": "[52.37, 4.90]", "nyc": "[40.71, -74.01]", "sgp": "[1.35, 103.82]"}
BODY_RATE = "1MB/s"
BIG_BYTES = 8_000_000
"""On its way for some seconds at that rate: time enough to see it withheld."""
MORE = f'\n[[routes]]\nprefix = "{PREFIX}"\ngroup = "photos"\nallow_private = true\nhold_down = "0s"\n'


@contextlib.contextmanager
def cluster() -> Iterator[Members]:
    """Three members that are about to be ready; ams has a router, and a slow way to the others."""
    port = free_port(ROUTER)
    peer = f'peers = [{{ address = "{ROUTER}", port = {port}, as = 64499 }}]'
    with prepared(*COORDINATES, more=MORE) as made:
        (made.folder / "tokens").write_text(f"operator admin {TOKEN}\n")
        for name, place in COORDINATES.items():
            listen = f'dashboard = {{ listen = "{ADDRESS}:{made.sites[name].dashboard}"'
            made.change(f"{listen} }}", f'{listen}, token_file = "tokens" }}\ncoordinates = {place}')
        bgp = f'bgp = {{ router_id = "{ADDRESS}", local_as = 64501, {peer} }}'
        made.change("coordinates = [52", f'body_rate = "{BODY_RATE}"\n{bgp}\ncoordinates = [52')
        collector = Collector(made.folder / "router", ROUTER, port, asn=64499, peers={ADDRESS: 64501})
        try:
            made.start_applications()
            for name in COORDINATES:
                made.start(name)
            made.ready()
            yield made
        finally:
            made.close()
            collector.close()


def page_of(made: Members) -> str:
    return f"http://{ADDRESS}:{made.sites['ams'].dashboard}/"


def upload(made: Members, customer: str, photo: str, body: bytes) -> None:
    url, host = f"http://{ADDRESS}:{made.sites['ams'].edge}/{photo}", {"Host": f"{customer}.photos.example.com"}
    request = urllib.request.Request(url, data=body, method="POST", headers=host)
    with contextlib.suppress(OSError), urllib.request.urlopen(request, timeout=20):  # a refusal is an answer, too
        pass


@contextlib.asynccontextmanager
async def users(made: Members, *, pause_seconds: float = 0.1) -> AsyncIterator[None]:
    """A few, all the time."""

    async def go() -> None:
        number = 0
        while True:
            number += 1
            await asyncio.to_thread(upload, made, "alice", f"{number % 50}.jpg", b"photo" * 1000)
            with contextlib.suppress(Exception):  # a nameserver that is being restarted
                await asyncio.to_thread(made.lookup, "alice.photos.example.com")
            await asyncio.sleep(pause_seconds)

    async with asyncio.TaskGroup() as tasks:
        going = tasks.create_task(go())
        try:
            yield
        finally:
            going.cancel()


async def play(made: Members, page: Page, picture: Picture) -> None:
    """All chapters, on the page of ams."""
    async with users(made):
        for chapter in (well, withheld, killed, cut_off, drained, restarted):
            await chapter(made, page, picture)


async def well(made: Members, page: Page, picture: Picture) -> None:
    await lacks(page, "#sites", "gets nobody", "not current", "unknown")
    await shows(page, "#sites", "ams", "nyc", "sgp", "▲ up", "gets users", "settled")
    await shows(page, "#bgp", "▲ up", PREFIX, "normal", "acknowledged")
    await shows(page, "#lag", "all landed")
    await shows(page, "#chart-fence", "mean of writes", "ms")
    await shows(page, "#chart-queries", "DNS queries", "requests at the edge")
    await shows(page, "#timeline-answer", "ams starts, version", "nyc is up", "the link to nyc is up")
    await shows(page, "#probes", "tcp", "in time")
    await picture("well")


async def withheld(made: Members, page: Page, picture: Picture) -> None:
    uploading = asyncio.to_thread(upload, made, "bob", "big.jpg", b"x" * BIG_BYTES)
    async with asyncio.TaskGroup() as tasks:
        tasks.create_task(uploading)
        await shows(page, "#flights", "photos:bob/big.jpg", "7.6 MiB", "fenced")
        await shows(page, "#sites", "withheld", "bob/")
        await shows(page, "#lag", "behind")
        await shows(page, "#timeline-answer", "photos:bob/ is withheld at nyc", "photos:bob/ is withheld at sgp")
        await page.get_by_label("Group and path").first.fill("photos:bob/big.jpg")
        await page.keyboard.press("Enter")
        await shows(page, "#where-summary", "has landed at ams; not at nyc, sgp")
        await shows(
            page, "#where-answer", "photos:bob/ has a change that has not landed there", "is fenced and has landed"
        )
        await picture("withheld")
        await page.get_by_label("Name", exact=True).fill("bob.photos.example.com")
        await page.keyboard.press("Enter")
        await shows(page, "#explain-answer", "photos:bob/ has a change that has not landed there")
    await shows(
        page, "#timeline-answer", "photos:bob/ has landed at nyc, after", "photos:bob/ has landed at sgp, after"
    )
    await lacks(page, "#flights", "bob/big.jpg")


async def killed(made: Members, page: Page, picture: Picture) -> None:
    await asyncio.to_thread(made.stop, "nyc", signal.SIGKILL)
    await shows(page, "#links", "▼ down")
    await shows(page, "#sites", "not current")
    await shows(page, "#timeline-answer", "the link to nyc is down", "nyc is not current for photos")
    made.start("nyc")
    await lacks(page, "#links", "▼ down")
    await shows(page, "#links tr:has-text('nyc') td:last-child", str(PROTOCOL))
    await lacks(page, "#sites", "not current")


async def cut_off(made: Members, page: Page, picture: Picture) -> None:
    others = [made.processes[name] for name in ("nyc", "sgp")]
    try:
        for process in others:
            process.send_signal(signal.SIGSTOP)
        await shows(page, "#warning", "ams has lost every other member and suspects itself")
        await shows(page, "#timeline-answer", "this member lost all others")
    finally:
        for process in others:
            process.send_signal(signal.SIGCONT)
    await lacks(page, "#sites", "not current")
    await lacks(page, "#warning", "has lost every other member")


async def drained(made: Members, page: Page, picture: Picture) -> None:
    await page.get_by_role("button", name="Drain nyc …").click()
    await page.get_by_role("dialog").get_by_label("Token").fill(TOKEN)
    await page.keyboard.press("Enter")
    await shows(page, "#sites", "gets nobody: drained by an operator")
    await shows(page, "#drains", "nyc", "all")
    await shows(page, "#timeline-answer", "nyc is drained for all groups")
    there = functools.partial(made.run, "status", "--json", site="sgp")
    await asyncio.to_thread(until, lambda: there().json["drains"], "the other members know of it", 5.0)
    await page.get_by_label("Token with the scope admin").fill(TOKEN)
    await page.keyboard.press("Enter")
    await shows(page, "#audit-answer", "token operator", "drain", "done")
    await picture("drained")
    await page.get_by_role("button", name="Undrain nyc …").click()
    await page.keyboard.press("Enter")
    await lacks(page, "#sites", "drained")


async def restarted(made: Members, page: Page, picture: Picture) -> None:
    await asyncio.to_thread(made.stop, "ams", signal.SIGTERM)
    await shows(page, "#connection", "connection lost")
    made.start("ams")
    await shows(page, "#connection", "live")
    await shows(page, "#sites", "gets users")
    await shows(page, "#timeline-answer", "ams stops, as it was told to", "nyc is drained for all groups")
    await page.locator("#timeline").get_by_label("Or name").fill("bob.photos.example.com")
    await page.keyboard.press("Enter")
    await shows(page, "#timeline-answer", "photos:bob/ is withheld at nyc", "nyc is drained for all groups")
    await lacks(page, "#timeline-answer", "BGP session")
