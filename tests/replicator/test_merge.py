"""Trees that were populated before they met come together: nothing is copied that is there, nothing is lost."""

import asyncio
import os
import shutil
from pathlib import Path

import pytest

from anycastle.replicator import stable
from tests.replicator.cluster import GROUP, Site, alike, cluster, conflicts_kept
from tests.replicator.members import until

BIG = bytes(range(256)) * 2048
"""512 KiB: pulled, where it is not there."""
SAME_NS = 1_700_000_000_000_000_000


def put(root: Path, name: str, content: bytes) -> None:
    """The same file wherever it is put: as `rsync -a` leaves it."""
    path = root / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content)
    os.utime(path, ns=(SAME_NS, SAME_NS))


def fetched(*sites: Site) -> int:
    return sum(site.content.landing.pulls.fetched_bytes for site in sites)


def conflicts(*sites: Site) -> int:
    return sum(len(site.ledger.conflicts()) for site in sites)


def populate(site: Site) -> None:
    put(site.root, "same", b"same")
    put(site.root, "big", BIG)
    put(site.root, "d/page", b"as of " + site.name.encode())
    put(site.root, f"only-{site.name}", site.name.encode())
    (site.root / "link").symlink_to("same")
    os.utime(site.root / "link", ns=(SAME_NS, SAME_NS), follow_symlinks=False)


async def test_a_site_is_added_with_content_of_its_own(tmp_path: Path) -> None:
    async with cluster(tmp_path, start=False) as (ams, nyc, sgp):
        populate(ams)
        for site in (ams, nyc, sgp):
            await site.start()
        await ams.ready()
        await alike(ams, nyc, sgp)
        await sgp.stop()
        shutil.rmtree(sgp.state)
        sgp.root.mkdir(parents=True)
        populate(sgp)
        put(sgp.root, "d/mode", b"")
        before = fetched(ams, nyc)
        await sgp.start()
        await sgp.ready()
        tree = await alike(ams, nyc, sgp)
        assert tree["d/page"][-1] == b"as of ams", "what was announced beats what was found"
        assert {"only-ams", "only-sgp", "d/mode"} <= tree.keys(), "nothing is deleted"
        assert fetched(ams, nyc) == before
        assert fetched(sgp) == len(b"as of ams") + len(b"ams"), "only what it lacks is transferred"
        assert sgp.ledger.head(GROUP) == 2, "only what the others lack is announced"
        assert [(c.path, c.winner.origin) for c in sgp.ledger.conflicts()] == [(b"d/page", "ams")]
        assert conflicts(ams, nyc) == 0
        assert conflicts_kept(sgp.root) == [b"as of sgp"]


@pytest.mark.parametrize("seed", ["ams", "sgp"])
async def test_the_seed_wins_where_all_meet_for_the_first_time(tmp_path: Path, seed: str) -> None:
    async with cluster(tmp_path, start=False, seed=seed) as sites:
        for site in sites:
            populate(site)
        for site in sorted(sites, key=lambda site: site.name == seed):  # the seed comes last
            await site.start()
        for site in sites:
            await site.ready()
        tree = await alike(*sites)
        assert tree["d/page"][-1] == b"as of " + seed.encode()
        assert {"only-ams", "only-nyc", "only-sgp"} <= tree.keys()
        assert fetched(*sites) < 200, "nothing that is there already"
        others = [site for site in sites if site.name != seed]
        for site in others:
            assert [c.path for c in site.ledger.conflicts()] == [b"d/page"]
            assert conflicts_kept(site.root) == [b"as of " + site.name.encode()]
            assert site.ledger.head(GROUP) == 1
        assert conflicts(*sites) == 2


async def test_a_seed_that_is_added_later_wins_over_those_who_ran_before(tmp_path: Path) -> None:
    async with cluster(tmp_path, start=False, seed="sgp") as (ams, nyc, sgp):
        put(sgp.root, "empty", b"")
        await sgp.start()
        await ams.start()
        await nyc.start()
        put(ams.root, "page", b"ams")
        await until(lambda: ams.ledger.head(GROUP) == 1, "journaled")
        await alike(ams, nyc, sgp)
        await sgp.stop()
        for file in sgp.state.glob("ledger.sqlite*"):
            file.unlink()
        put(sgp.root, "page", b"sgp")
        await sgp.start()
        await sgp.ready()
        tree = await alike(ams, nyc, sgp)
        assert tree["page"][-1] == b"ams", "it announced things before: it is no first contact"


async def test_without_a_seed_equal_trees_cost_nothing_and_others_go_by_version(tmp_path: Path) -> None:
    async with cluster(tmp_path, start=False) as sites:
        for site in sites:
            populate(site)
        for site in sites:
            await site.start()
        for site in sites:
            await site.ready()
        tree = await alike(*sites)
        winner = tree["d/page"][-1]
        assert fetched(*sites) < 200, "nothing that is there already"
        kept = [content for site in sites for content in conflicts_kept(site.root)]
        assert {*kept, winner} == {b"as of ams", b"as of nyc", b"as of sgp"}
        assert {c.path for site in sites for c in site.ledger.conflicts()} == {b"d/page"}
        inodes = [(site.root / "big").stat().st_ino for site in sites]
        assert len(set(inodes)) == 3


async def test_a_merge_that_was_cut_off_begins_again(tmp_path: Path) -> None:
    async with cluster(tmp_path, start=False, seed="sgp") as (ams, nyc, sgp):
        populate(ams)
        populate(sgp)
        await ams.start()
        await nyc.start()
        await until(lambda: ams.links.connected(), "under way")
        assert ams.reason()
        await ams.stop()
        await ams.start()
        await sgp.start()
        await ams.ready()
        tree = await alike(ams, nyc, sgp)
        assert tree["d/page"][-1] == b"as of sgp"


# Compaction, and who was away for longer than the retention


@pytest.fixture
def often(monkeypatch: pytest.MonkeyPatch) -> None:
    """Cuts come as soon as they can."""
    monkeypatch.setattr(stable, "PROPOSE_SECONDS", 0.2)


def rows(site: Site) -> tuple[int, int, int]:
    """Entries, places and candidates in the ledger."""
    db = site.ledger._store
    entries, places, spent = (db.rows(f"SELECT count(*) FROM {table}")[0][0] for table in ("entry", "place", "spent"))
    return entries, places, spent


async def churn(site: Site, rounds: int) -> None:
    for number in range(rounds):
        put(site.root, "page", b"%d" % number)
        put(site.root, f"temp/{number}", b"x%d" % number)
        assert await site.fence() is None
        (site.root / f"temp/{number}").unlink()
        assert await site.fence() is None


async def test_the_ledger_does_not_grow_with_every_change(tmp_path: Path, often: None) -> None:
    async with cluster(tmp_path, ("ams", "nyc", "wit"), sites=("ams", "nyc")) as (ams, nyc, wit):
        await churn(ams, 20)
        (nyc.root / "page").write_bytes(b"by nyc")
        assert await nyc.fence() is None
        await alike(ams, nyc)
        for site in (ams, nyc, wit):
            await until(lambda site=site: rows(site) == (2, 2, 0), f"compacted at {site.name}")  # the page, its folder
        await alike(ams, nyc)
        head = ams.ledger.head(GROUP)
        await ams.stop()
        await ams.start()
        await ams.ready()
        put(ams.root, "page", b"again")
        assert await ams.fence() is None
        assert ams.ledger.head(GROUP) == head + 1, "numbers go on"
        await alike(ams, nyc)


async def test_nothing_is_compacted_before_a_member_that_is_away_has_passed_it(tmp_path: Path, often: None) -> None:
    async with cluster(tmp_path) as (ams, nyc, sgp):
        put(ams.root, "gone", b"gone")
        await alike(ams, nyc, sgp)
        await sgp.stop()
        (ams.root / "gone").unlink()
        await churn(ams, 3)
        await alike(ams, nyc)
        before = rows(ams)[0]
        await asyncio.sleep(1.0)  # several cuts would have been possible
        assert rows(ams)[0] == before
        await sgp.start()
        await sgp.ready()
        assert "gone" not in await alike(ams, nyc, sgp)
        await until(lambda: rows(ams) == rows(sgp) == (2, 2, 0), "compacted")


async def away_for_too_long(ams: Site, nyc: Site, sgp: Site) -> None:
    """What sgp has missed is compacted at the others."""
    put(ams.root, "stays", BIG)
    for number in range(5):
        put(ams.root, f"old/{number}", b"old %d" % number)
    put(ams.root, "edited", b"before")
    await alike(ams, nyc, sgp)
    await sgp.stop()
    for number in range(5):
        (ams.root / f"old/{number}").unlink()
    (ams.root / "old").rmdir()
    put(ams.root, "edited", b"after")
    await churn(ams, 3)
    await until(lambda: ams.replica.compaction.absent.get(GROUP) == {"sgp"}, "given up")
    for site in (ams, nyc):
        await until(lambda site=site: rows(site) == (4, 4, 0), f"compacted at {site.name}")


async def test_who_was_away_for_too_long_is_told_to_resync_and_copies_nothing(tmp_path: Path, often: None) -> None:
    async with cluster(tmp_path, retention=1.0) as (ams, nyc, sgp):
        await away_for_too_long(ams, nyc, sgp)
        put(sgp.root, "new-here", b"made while it was away")
        (sgp.root / "old/3").write_bytes(b"edited while it was away")
        await sgp.start()
        await until(lambda: "anycastle resync blogs" in sgp.reason(), "told what to do")
        assert (sgp.root / "old/1").exists()
        await sgp.replica.resync([GROUP])
        await sgp.ready()
        tree = await alike(ams, nyc, sgp)
        assert tree.keys() == {"stays", "edited", "page", "temp", "new-here", "old", "old/3"}
        assert tree["edited"][-1] == b"after"
        assert tree["old/3"][-1] == b"edited while it was away", "a delete takes only what it knew"
        assert fetched(sgp) < 100, "what is here is not copied"
        assert conflicts(ams, nyc, sgp) == 0


async def test_a_restart_in_a_resync_goes_on_with_it(tmp_path: Path, often: None) -> None:
    async with cluster(tmp_path, retention=1.0) as (ams, nyc, sgp):
        await away_for_too_long(ams, nyc, sgp)
        await sgp.start()
        await until(lambda: "anycastle resync blogs" in sgp.reason(), "told what to do")
        await sgp.replica.resync([GROUP])
        await sgp.stop()
        await sgp.start()
        await sgp.ready()
        tree = await alike(ams, nyc, sgp)
        assert tree.keys() == {"stays", "edited", "page", "temp"}


async def test_a_new_disk_is_filled_from_compacted_journals(tmp_path: Path, often: None) -> None:
    async with cluster(tmp_path) as (ams, nyc, sgp):
        await churn(sgp, 5)
        put(ams.root, "photo", BIG)
        before = await alike(ams, nyc, sgp)
        await until(lambda: rows(ams)[0] == 3, "compacted")
        head = sgp.ledger.head(GROUP)
        await sgp.stop()
        for file in sgp.state.glob("ledger.sqlite*"):
            file.unlink()
        shutil.rmtree(sgp.root)
        sgp.root.mkdir()
        await sgp.start()
        await sgp.ready()
        assert await alike(ams, nyc, sgp) == before
        put(sgp.root, "more", b"more")
        assert await sgp.fence() is None
        assert sgp.ledger.head(GROUP) == head + 1
        await alike(ams, nyc, sgp)
