"""A site that cannot see changes says so, vouches for nothing, and sees again by itself."""

import asyncio
import os
import shutil
from pathlib import Path

import pytest

from anycastle.replicator import sight
from anycastle.replicator.gate import Refuse
from tests.replicator.cluster import GROUP, Site, cluster
from tests.replicator.members import until


@pytest.fixture(autouse=True)
def _quickly(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sight, "REOPEN_SECONDS", 0.2)


def blind(site: Site) -> bool:
    return site.reason().startswith("cannot see changes: ")


async def test_the_cookie_folder_is_made_again(tmp_path: Path) -> None:
    async with cluster(tmp_path, ("ams",)) as (site,):
        os.rmdir(site.root / ".anycastle/cookies")
        (site.root / "a").write_bytes(b"a")
        heard = site.replica.counters()["watch_events"]
        refused = await site.fence()
        assert isinstance(refused, Refuse)
        assert "cookie" in refused.reason
        await site.ready()
        assert (site.root / ".anycastle/cookies").is_dir()
        assert await site.fence() is None
        assert site.ledger.newest(GROUP, b"a") is not None
        assert site.replica.counters()["watch_events"] > heard, "of the watcher before, too"


async def test_root_moved_away_and_back(tmp_path: Path) -> None:
    async with cluster(tmp_path, ("ams",)) as (site,):
        (site.root / "a").write_bytes(b"a")
        assert await site.fence() is None
        head = site.ledger.head(GROUP)
        away = site.root.with_name("away")
        site.root.rename(away)
        await until(lambda: blind(site), "the site is withheld")
        assert isinstance(site.replica.gate.may_write(GROUP), Refuse)
        assert isinstance(await site.fence(), Refuse)
        (away / "b").write_bytes(b"b")
        (away / "a").unlink()
        assert site.ledger.head(GROUP) == head
        away.rename(site.root)
        await site.ready()
        assert await site.fence() is None
        assert {entry.path for entry in site.ledger.entries(GROUP, "ams", head, 10)} == {b"a", b"b"}


async def test_another_folder_at_the_roots_place_is_not_the_tree(tmp_path: Path) -> None:
    """An unmounted disk leaves an empty mount point: nothing of it may look like a great delete."""
    async with cluster(tmp_path, ("ams",)) as (site,):
        (site.root / "a").write_bytes(b"a")
        assert await site.fence() is None
        head = site.ledger.head(GROUP)
        away = site.root.with_name("away")
        site.root.rename(away)
        site.root.mkdir()
        await until(lambda: "another folder" in site.reason(), "told from the true root")
        assert site.ledger.head(GROUP) == head
        shutil.rmtree(site.root)
        away.rename(site.root)
        await site.ready()
        assert site.ledger.head(GROUP) == head


async def test_a_fence_under_way_is_refused_at_once_when_sight_is_lost(tmp_path: Path) -> None:
    async with cluster(tmp_path, ("ams",)) as (site,):
        settle = site.content.settle
        async with asyncio.TaskGroup() as tasks:
            # A cookie whose event will never come: its folder goes away together with the root.
            site.root.rename(site.root.with_name("away"))
            fence = tasks.create_task(site.fence())
            await until(lambda: blind(site), "blind")
            async with asyncio.timeout(2):
                refused = await fence
        assert isinstance(refused, Refuse)
        assert settle._cookies == {}


async def test_the_member_ends_in_order_while_it_is_blind(tmp_path: Path) -> None:
    async with cluster(tmp_path, ("ams",)) as (site,):
        site.root.rename(site.root.with_name("away"))
        await until(lambda: blind(site), "blind")
        await site.stop()
