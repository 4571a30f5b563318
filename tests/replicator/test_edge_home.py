"""PHP sessions in local files at three sites: an unmodified page keeps its users, whichever site they come to."""

import asyncio
import shutil
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path

import aiohttp
import pytest

from anycastle.replicator.edge_affinity import COOKIE
from anycastle.replicator.gate import Forward, Refuse
from tests.ports import free_port
from tests.replicator.edge_site import ALICE, Site, signed, site
from tests.replicator.members import HOST, NAMES, Member, link_settings, make_authority, meshed

PAGE = """<?php
session_start();
if ($_SERVER["REQUEST_METHOD"] === "POST") { $_SESSION["cart"][] = $_POST["what"]; }
echo implode(",", $_SESSION["cart"] ?? []);
"""
KEYS = (b"k" * 32,)
pytestmark = pytest.mark.skipif(shutil.which("php") is None, reason="php is not installed")


@asynccontextmanager
async def php(folder: Path) -> AsyncIterator[str]:
    """The page, with sessions in files of its own."""
    (folder / "sessions").mkdir(parents=True)
    (folder / "index.php").write_text(PAGE)
    (folder / "plain.php").write_text("<?php echo 'no session';")
    port = free_port()
    process = await asyncio.create_subprocess_exec(
        *("php", "-d", f"session.save_path={folder / 'sessions'}", "-S", f"{HOST}:{port}", "-t", str(folder)),
        stdout=asyncio.subprocess.DEVNULL,
        stderr=asyncio.subprocess.DEVNULL,
    )
    try:
        async with asyncio.timeout(20):
            while True:
                try:
                    _, writer = await asyncio.open_connection(HOST, port)
                except OSError:
                    await asyncio.sleep(0.02)
                else:
                    writer.close()
                    break
        yield f"http://{HOST}:{port}"
    finally:
        process.terminate()
        await process.wait()


class Three:
    """Three sites, their eligibility as the test says, and users with cookies."""

    def __init__(self, sites: dict[str, Site]) -> None:
        self.sites = sites
        self.unusable: set[str] = set()

    def eligible(self, site: str, group: str, prefix: bytes) -> bool:
        return site not in self.unusable


@asynccontextmanager
async def three(folder: Path) -> AsyncIterator[Three]:
    settings = link_settings(make_authority(folder))
    members = {name: Member(settings[name]) for name in NAMES}
    made = Three({})
    async with AsyncExitStack() as stack:
        for name in NAMES:
            origin = await stack.enter_async_context(php(folder / name))
            here = await stack.enter_async_context(
                site(
                    name,
                    origin=origin,
                    group={"affinity_seconds": 600.0},
                    affinity_keys=KEYS,
                    eligible=made.eligible,
                )
            )
            here.forward = members[name].links.forward
            members[name].links.edge_handler = here.edge.handle_forwarded
            made.sites[name] = here
        await stack.enter_async_context(meshed(*members.values()))
        yield made


class User:
    """A browser: keeps cookies, goes where DNS leads it."""

    def __init__(self, three: Three, client: aiohttp.ClientSession) -> None:
        self.cookies: dict[str, str] = {}
        self._three, self._client = three, client

    async def ask(self, site: str, method: str = "GET", path: str = "/index.php", **data: str) -> tuple[str, str]:
        """What is seen, and the verdict."""
        line = "; ".join(f"{name}={value}" for name, value in self.cookies.items())
        headers = {"Cookie": line} if line else {}
        url = self._three.sites[site].url(path)
        async with self._client.request(method, url, headers=headers, data=data or None) as got:
            for name, morsel in got.cookies.items():
                self.cookies[name] = morsel.value
            assert got.status == 200, await got.text()
            return await got.text(), signed(got)[2]


@asynccontextmanager
async def user(folder: Path) -> AsyncIterator[tuple[Three, User]]:
    async with (
        three(folder) as made,
        aiohttp.ClientSession(headers={"Host": ALICE}, cookie_jar=aiohttp.DummyCookieJar()) as client,
    ):
        yield made, User(made, client)


async def test_a_session_is_kept_whichever_site_is_asked(tmp_path: Path) -> None:
    async with user(tmp_path) as (_, alice):
        assert await alice.ask("ams", "POST", what="apple") == ("apple", "write")
        assert alice.cookies[COOKIE].startswith("ams.")
        assert await alice.ask("nyc") == ("apple", "forward ams")
        assert await alice.ask("sgp", "POST", what="pear") == ("apple,pear", "forward ams")
        assert await alice.ask("ams") == ("apple,pear", "serve")
        assert alice.cookies[COOKIE].startswith("ams.")


async def test_without_a_session_nobody_is_marked(tmp_path: Path) -> None:
    async with user(tmp_path) as (_, alice):
        assert await alice.ask("ams", path="/plain.php") == ("no session", "serve")
        assert alice.cookies == {}


async def test_users_move_when_their_site_may_not_be_used(tmp_path: Path) -> None:
    async with user(tmp_path) as (made, alice):
        await alice.ask("ams", "POST", what="apple")
        made.unusable.add("ams")
        assert await alice.ask("nyc") == ("", "serve"), "the session stayed behind; a site that works is better"
        assert alice.cookies[COOKIE].startswith("nyc.")
        made.unusable.clear()
        assert await alice.ask("ams", "POST", what="pear") == ("pear", "forward nyc")


async def test_it_never_overrides_a_verdict(tmp_path: Path) -> None:
    async with user(tmp_path) as (made, alice):
        await alice.ask("ams", "POST", what="apple")
        ams, nyc = made.sites["ams"], made.sites["nyc"]
        ams.gate.read = ams.gate.write = Refuse("not current: 1 of 2 leases", 1)
        assert (await alice.ask("nyc"))[1] == "serve", "the user's site refuses, so this one answers"
        assert alice.cookies[COOKIE].startswith("ams."), "and gives the user back when it can"
        assert (await alice.ask("nyc", "POST", what="pear"))[1] == "write"
        ams.gate.read, ams.gate.write = Forward(("sgp",), "landed at sgp"), None
        assert (await alice.ask("ams"))[1] == "forward sgp"
        nyc.gate.write = Forward(("sgp", "ams"), "not current")
        assert (await alice.ask("nyc", "POST", what="fig"))[1] == "forward ams", "of those that may, the user's first"


async def test_the_site_that_takes_all_writes_takes_them(tmp_path: Path) -> None:
    async with user(tmp_path) as (made, alice):
        await alice.ask("ams", "POST", what="apple")
        nyc = made.sites["nyc"]
        nyc.gate.write = Forward(("sgp", "ams"), "writes go to sgp, ams")
        object.__setattr__(nyc.group, "writes", ("sgp", "ams"))
        assert (await alice.ask("nyc", "POST", what="pear"))[1] == "forward sgp"
